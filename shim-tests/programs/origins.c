/* Makes a key call from every kind of task, in a fixed order. What they say of
 * themselves is noted by the broker that the test puts in the place of a real one. */
#include "common.h"

static void call(void)
{
	KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0);
}

static void *in_thread(void *unused)
{
	call();
	call();
	return unused;
}

static void in_child(pid_t child)
{
	if (!child) {
		call();
		call();
		_exit(0);
	}
	waitpid(child, NULL, 0);
}

static int with_our_memory(void *unused)
{
	call();
	return unused != NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	static char stack[65536] __attribute__((aligned(16)));
	call();
	call();
	if (argc > 1)
		return 0;
	pthread_create(&thread, NULL, in_thread, NULL);
	pthread_join(thread, NULL);
	in_child(fork());
	in_child(syscall(SYS_fork));
	pid_t child = vfork();
	if (!child) {
		call();
		_exit(0);
	}
	waitpid(child, NULL, 0);
	child = clone(with_our_memory, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
	waitpid(child, NULL, 0);
	close_range(3, ~0u, 0);
	call();
	call();
	child = fork();
	if (!child)
		in_child(fork()), _exit(0);
	waitpid(child, NULL, 0);
	char *arguments[] = { argv[0], "again", NULL };
	execv("/proc/self/exe", arguments);
	return 1;
}
