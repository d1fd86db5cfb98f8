/*
 * fence [--low] PROGRAM ARGS: runs a program whose key calls the real kernel refuses.
 *
 * A filter answers add_key, request_key and keyctl with EUCLEAN, an error that no
 * key call ever gives, on every way into the kernel that x86-64 has. What works
 * behind the fence has therefore not been done by the kernel. Needs no root.
 *
 * A supervisor's filter comes after such an answer. With --low the fence asks a tracer,
 * which does not exist: that gives ENOSYS, and gives way to a supervisor.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_EQUAL(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, yes, no)
#define IF_AT_LEAST(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, value, yes, no)
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)

#ifdef __x86_64__
/* add_key, request_key and keyctl have neighbouring numbers in each table. */
static struct sock_filter program[] = {
    LOAD(arch),
    IF_EQUAL(AUDIT_ARCH_I386, 4, 0),
    LOAD(nr),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~0x40000000u), /* the bit of x32 */
    IF_AT_LEAST(__NR_add_key, 0, 5),
    IF_AT_LEAST(__NR_keyctl + 1, 4, 3),
    LOAD(nr),
    IF_AT_LEAST(286, 0, 2),
    IF_AT_LEAST(289, 1, 0),
    ANSWER(SECCOMP_RET_ERRNO | EUCLEAN),
    ANSWER(SECCOMP_RET_ALLOW),
};
#else
static struct sock_filter program[] = {
    LOAD(nr),
    IF_AT_LEAST(__NR_add_key, 0, 2),
    IF_AT_LEAST(__NR_keyctl + 1, 1, 0),
    ANSWER(SECCOMP_RET_ERRNO | EUCLEAN),
    ANSWER(SECCOMP_RET_ALLOW),
};
#endif

int main(int argc, char **argv)
{
    struct sock_fprog filter = { sizeof program / sizeof *program, program };
    int refusal = EUCLEAN;

    if (argc > 1 && strcmp(argv[1], "--low") == 0) {
        for (unsigned i = 0; i < filter.len; i++)
            if (program[i].k == (SECCOMP_RET_ERRNO | EUCLEAN))
                program[i].k = SECCOMP_RET_TRACE;
        refusal = ENOSYS;
        argc--, argv++;
    }
    if (argc < 2) {
        fprintf(stderr, "usage: fence [--low] PROGRAM [ARGS]\n");
        return 2;
    }
    /* Root keeps the right to run set-uid programs; others must give it up. */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0 &&
        (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)) {
        perror("fence: cannot set the filter");
        return 2;
    }
    if (syscall(SYS_keyctl, 0, -3, 0) != -1 || errno != refusal) {
        fprintf(stderr, "fence: a key call still reaches the kernel\n");
        return 2;
    }
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    return 127;
}
