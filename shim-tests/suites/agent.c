/*
 * agent COMMAND: key calls without libc's wrappers, for a container's static program.
 *
 *   once DESCRIPTION   adds a key, reads it back and compares; prints `same`
 *   narrow             asks for @u by the 32-bit gate as well; prints `same`
 *   stall              adds a key whose payload nobody will ever let be read
 *   signals            adds and unlinks keys while signals come; an unlink that is done
 *                      twice finds no key any more. One in a thousand may be: a signal
 *                      can reach the caller right after the answer, and the kernel tells
 *                      nobody. Prints `each once`
 *   until-enosys       asks for @u until there is no answer, then prints `ENOSYS`
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/keyctl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static int once(const char *description)
{
    char copy[16] = "";
    long key = syscall(SYS_add_key, "user", description, "payload", 7, KEY_SPEC_USER_KEYRING);

    if (key < 0 || syscall(SYS_keyctl, KEYCTL_READ, key, copy, sizeof copy) != 7) {
        perror("agent: add or read");
        return 1;
    }
    puts(memcmp(copy, "payload", 7) == 0 ? "same" : "different");
    return 0;
}

/* What a 64-bit program does with int 0x80 is a call of i386. */
static int narrow(void)
{
    long wide = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1), serial = wide;
#ifdef __x86_64__
    __asm__ volatile("int $0x80"
                     : "=a"(serial)
                     : "a"(288L), "b"((long)KEYCTL_GET_KEYRING_ID), "c"((long)KEY_SPEC_USER_KEYRING), "d"(1L)
                     : "memory", "r8", "r9", "r10", "r11");
#endif
    if (wide > 0 && (int)serial == (int)wide)
        return puts("same") < 0;
    printf("%ld by one gate, %d by the other\n", wide, (int)serial);
    return 1;
}

/* Whoever reads the payload waits for us to provide the page, which we do not. */
static int stall(void)
{
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register all = { .range.len = 4096, .mode = UFFDIO_REGISTER_MODE_MISSING };
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int faults = syscall(SYS_userfaultfd, 0);

    all.range.start = (unsigned long)page;
    if (page == MAP_FAILED || faults < 0 || ioctl(faults, UFFDIO_API, &api) != 0 ||
        ioctl(faults, UFFDIO_REGISTER, &all) != 0) {
        perror("agent: cannot have faults of its own");
        return 1;
    }
    syscall(SYS_add_key, "user", "stalled", page, 16, KEY_SPEC_USER_KEYRING);
    puts("the payload was read");
    return 1;
}

static volatile long signals_taken;

static void take(int signal)
{
    (void)signal;
    signals_taken++;
}

static int signals(void)
{
    struct sigaction action = { .sa_handler = take, .sa_flags = SA_RESTART };
    struct itimerval often = { { 0, 300 }, { 0, 300 } };
    int turn, doubles = 0;

    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    for (turn = 0; turn < 20000 && (turn < 2000 || signals_taken < 1000); turn++) {
        long key = syscall(SYS_add_key, "user", "brief", "payload", 7, KEY_SPEC_USER_KEYRING);

        if (key > 0 && syscall(SYS_keyctl, KEYCTL_UNLINK, key, KEY_SPEC_USER_KEYRING) == 0)
            continue;
        doubles++;
        if (key < 0 || errno != ENOKEY || doubles * 1000 > turn + 1000) {
            fprintf(stderr, "turn %d, %d done twice: %s\n", turn, doubles, strerror(errno));
            return 1;
        }
    }
    setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
    fprintf(stderr, "%d turns, %ld signals, %d done twice\n", turn, signals_taken, doubles);
    puts(signals_taken > 0 ? "each once" : "no signal came");
    return 0;
}

static int until_enosys(void)
{
    while (syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_USER_KEYRING, 1) >= 0)
        usleep(10000);
    puts(errno == ENOSYS ? "ENOSYS" : strerror(errno));
    return errno != ENOSYS;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "once") == 0)
        return once(argv[2]);
    if (argc == 2 && strcmp(argv[1], "narrow") == 0)
        return narrow();
    if (argc == 2 && strcmp(argv[1], "stall") == 0)
        return stall();
    if (argc == 2 && strcmp(argv[1], "signals") == 0)
        return signals();
    if (argc == 2 && strcmp(argv[1], "until-enosys") == 0)
        return until_enosys();
    fprintf(stderr, "usage: agent once DESCRIPTION | narrow | stall | signals | until-enosys\n");
    return 2;
}
