/* What a child has of its parent's keyrings, whichever way it was made. */
#include "common.h"
#include <spawn.h>

static long session, key;

/* In a child: the session is there, the parent's other rings are not. */
static int look(void)
{
	if (KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) != session)
		return 1;
	if (KEYCTL(GET_KEYRING_ID, THREAD, 0, 0, 0) != -1 || errno != ENOKEY)
		return 2;
	if (KEYCTL(GET_KEYRING_ID, PROCESS, 0, 0, 0) != -1 || errno != ENOKEY)
		return 3;
	if (!holds(key, "parent's"))
		return 4;
	long own = add_user("child's", "c", SESSION);
	if (own < 0 || !holds(own, "c"))
		return 5;
	if (KEYCTL(JOIN, 0, 0, 0, 0) < 0)
		return 6;
	if (KEYCTL(SEARCH, SESSION, "user", "parent's", 0) != -1)
		return 7;
	return 0;
}

static void unharmed(void)
{
	must(KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) == session, "session kept");
	must(KEYCTL(GET_KEYRING_ID, THREAD, 0, 0, 0) > 0, "thread keyring kept");
	must(KEYCTL(GET_KEYRING_ID, PROCESS, 0, 0, 0) > 0, "process keyring kept");
	must(holds(key, "parent's"), "key kept");
}

static void *from_a_thread(void *unused)
{
	pid_t child = fork();
	if (!child)
		_exit(look());
	reap(child, "fork in a thread");
	return unused;
}

static void daemon_like(void)
{
	int pipe_fds[2];
	char result;
	must(!pipe(pipe_fds), "pipe");
	pid_t child = fork();
	if (!child) {
		setsid();
		if (fork())
			_exit(0);
		close_range(0, pipe_fds[1] - 1, 0);
		close_range(pipe_fds[1] + 1, ~0u, 0);
		usleep(20000);
		result = look();
		must(write(pipe_fds[1], &result, 1) == 1, "tell");
		_exit(0);
	}
	reap(child, "first child of a daemon");
	must(read(pipe_fds[0], &result, 1) == 1, "hear");
	printf("daemon: %d\n", result);
}

static void generations(void)
{
	/* The middle one makes no key call, so nobody has heard of it. */
	pid_t child = fork();
	if (!child) {
		pid_t grandchild = fork();
		if (!grandchild)
			_exit(look());
		int status;
		waitpid(grandchild, &status, 0);
		_exit(WEXITSTATUS(status));
	}
	reap(child, "grandchild");
}

static void while_both_live(void)
{
	int go[2];
	must(!pipe(go), "pipe");
	pid_t children[20];
	for (int i = 0; i < 20; i++) {
		children[i] = fork();
		if (!children[i]) {
			char desc[16], byte;
			close(go[1]);
			must(read(go[0], &byte, 1) == 0, "wait");
			for (int n = 0; n < 50; n++) {
				snprintf(desc, sizeof desc, "c%d.%d", i, n % 3);
				long own = add_user(desc, desc, PROCESS);
				if (own < 0 || !holds(own, desc))
					_exit(1);
			}
			_exit(0);
		}
	}
	close(go[1]);
	for (int n = 0; n < 200; n++)
		must(holds(key, "parent's"), "parent goes on");
	int failed = 0;
	for (int i = 0; i < 20; i++) {
		int status;
		waitpid(children[i], &status, 0);
		failed += status != 0;
	}
	printf("20 children at once: %d failed\n", failed);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1) {
		session = atol(argv[1]);
		key = atol(argv[2]);
		_exit(look());
	}
	own_session();
	session = KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0);
	/* Before the first: a child whose parent nobody has asked about. */
	key = add_user("parent's", "parent's", SESSION);
	must(KEYCTL(GET_KEYRING_ID, THREAD, 1, 0, 0) > 0, "thread keyring");
	must(KEYCTL(GET_KEYRING_ID, PROCESS, 1, 0, 0) > 0, "process keyring");

	pid_t child = fork();
	if (!child)
		_exit(look());
	reap(child, "fork");
	unharmed();

	child = syscall(SYS_fork);
	if (!child)
		_exit(look());
	reap(child, "the system call itself");
	unharmed();

	pthread_t thread;
	pthread_create(&thread, NULL, from_a_thread, NULL);
	pthread_join(thread, NULL);
	unharmed();

	generations();
	daemon_like();
	unharmed();
	while_both_live();
	unharmed();

	char serials[2][16];
	snprintf(serials[0], 16, "%ld", session);
	snprintf(serials[1], 16, "%ld", key);
	char *arguments[] = { argv[0], serials[0], serials[1], NULL };
	extern char **environ;
	must(!posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ), "spawn");
	reap(child, "posix_spawn");
	unharmed();
	child = fork();
	if (!child)
		execv("/proc/self/exe", arguments);
	reap(child, "fork and exec");
	unharmed();
	execv("/proc/self/exe", arguments);
	return 1;
}
