/*
 * outer HOW PROGRAM ARGS: runs a program under a filter that was there first, as a
 * container runtime, a sandbox or another supervisor puts it there.
 *
 *   eperm, enosys   the three key calls give that error
 *   kill			they are the death of whoever makes them
 *   listener		they are allowed, and this process holds a listener
 */
#include "common.h"

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define IF_AT_LEAST(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, value, yes, no)
#define ANSWER(value) BPF_STMT(BPF_RET | BPF_K, value)

/* One gate will do. */
static int put(uint32_t action, unsigned flags, unsigned first, unsigned last)
{
	struct sock_filter program[] = {
		LOAD(nr),
		IF_AT_LEAST(first, 0, 2),
		IF_AT_LEAST(last + 1, 1, 0),
		ANSWER(action),
		ANSWER(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof program / sizeof *program, program };
	long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);

	if (fd < 0 && errno == EACCES && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
	if (fd < 0) {
		perror("outer: cannot set the filter");
		exit(2);
	}
	return fd;
}

int main(int argc, char **argv)
{
	int status;
	pid_t child;

	if (argc < 3) {
		fprintf(stderr, "usage: outer HOW PROGRAM [ARGS]\n");
		return 2;
	}
	/* The three key calls have neighbouring numbers. */
	if (strcmp(argv[1], "eperm") == 0)
		put(SECCOMP_RET_ERRNO | EPERM, 0, __NR_add_key, __NR_keyctl);
	else if (strcmp(argv[1], "enosys") == 0)
		put(SECCOMP_RET_ERRNO | ENOSYS, 0, __NR_add_key, __NR_keyctl);
	else if (strcmp(argv[1], "kill") == 0)
		put(SECCOMP_RET_KILL_PROCESS, 0, __NR_add_key, __NR_keyctl);
	else if (strcmp(argv[1], "sealed") == 0)
		put(SECCOMP_RET_ERRNO | EPERM, 0, __NR_seccomp, __NR_seccomp);
	else
		put(SECCOMP_RET_ALLOW, SECCOMP_FILTER_FLAG_NEW_LISTENER, 0, 0);
	child = fork();
	if (child == 0) {
		/* A listener is closed on execve. */
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return 2;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
