/*
 * agent_churn SOCKET COUNT WIDTH: a runtime of containers without anything around them.
 *
 * Each is one process under a filter of its own, which hands its listener to the agent,
 * makes a key and a session, and ends; WIDTH at a time. Exits 1 when a call failed.
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void fail(const char *what)
{
    perror(what);
    _exit(1);
}

/* add_key, request_key and keyctl have neighbouring numbers. */
static int enter_filter(void)
{
    struct sock_filter steps[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, __NR_add_key, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, __NR_keyctl, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof steps / sizeof *steps, steps };
    int listener;

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    listener = syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0)
        fail("seccomp");
    return listener;
}

static void hand_over(const char *path, int listener, int number)
{
    char text[256], beside[CMSG_SPACE(sizeof listener)];
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct iovec data = { .iov_base = text };
    struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = beside,
                              .msg_controllen = sizeof beside };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    int connection = socket(AF_UNIX, SOCK_STREAM, 0);

    data.iov_len = snprintf(text, sizeof text,
                            "{\"ociVersion\":\"1.0.2\",\"fds\":[\"seccompFd\"],\"pid\":%d,\"state\":{\"id\":\"c%d\"}}",
                            getpid(), number);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof listener);
    memcpy(CMSG_DATA(rights), &listener, sizeof listener);
    if (connect(connection, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    if (sendmsg(connection, &message, 0) != (ssize_t)data.iov_len)
        fail("sendmsg");
    close(connection);
    close(listener);
}

static _Noreturn void contain(const char *path, int number)
{
    hand_over(path, enter_filter(), number);
    if (syscall(__NR_add_key, "user", "a", "payload", 7, KEY_SPEC_USER_KEYRING) < 0)
        fail("add_key");
    if (syscall(__NR_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0)
        fail("keyctl");
    _exit(0);
}

int main(int argc, char **argv)
{
    int number, running = 0, status, failed = 0;

    if (argc != 4) {
        fprintf(stderr, "usage: agent_churn SOCKET COUNT WIDTH\n");
        return 2;
    }
    for (number = 0; number < atoi(argv[2]); number++) {
        if (running == atoi(argv[3])) {
            failed |= wait(&status) < 0 || status != 0;
            running--;
        }
        switch (fork()) {
            case -1: fail("fork");
            case 0: contain(argv[1], number);
            default: running++;
        }
    }
    while (wait(&status) > 0)
        failed |= status != 0;
    return failed;
}
