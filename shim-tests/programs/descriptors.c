/* Programs that close everything, that put their own files where something else
 * was, that have no standard descriptors, and that may have only a few. */
#include "common.h"

static void *from_a_thread(void *result)
{
	*(long *)result = KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0);
	return NULL;
}

static long in_a_thread(void)
{
	pthread_t thread;
	long result = -1;
	pthread_create(&thread, NULL, from_a_thread, &result);
	pthread_join(thread, NULL);
	return result;
}

static void after_closefrom(long session, long thread_ring)
{
	for (int i = 0; i < 10; i++) {
		close_range(3, ~0u, 0);
		must(KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) == session, "session after closefrom");
		must(KEYCTL(GET_KEYRING_ID, THREAD, 0, 0, 0) == thread_ring, "@t after closefrom");
	}
	close_range(3, ~0u, 0);
	must(in_a_thread() == session, "a new thread after closefrom");
	printf("closefrom: same rings\n");
}

/* Puts a file of our own under every number above 2 and looks whether it stays. */
static void foreign_descriptors(long session)
{
	char path[] = "/tmp/foreign.XXXXXX", byte;
	int file = mkstemp(path), pair[2];
	unlink(path);
	must(!pipe(pair), "pipe");
	struct stat own, now;
	fstat(file, &own);
	for (int fd = 3; fd < 1100; fd++)
		if (fd != file && fd != pair[0] && fd != pair[1])
			must(dup2(file, fd) == fd || errno == EBADF, "dup2");
	must(KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) == session, "call among foreign files");
	must(in_a_thread() == session, "a thread among foreign files");
	int lost = 0;
	for (int fd = 3; fd < 1024; fd++)
		if (fd != pair[0] && fd != pair[1])
			lost += fstat(fd, &now) || now.st_ino != own.st_ino;
	fstat(file, &now);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	printf("foreign files: %d lost, %ld bytes in them, pipe %s\n", lost, (long)now.st_size,
		read(pair[0], &byte, 1) == -1 ? "empty" : "WRITTEN TO");
	close_range(3, ~0u, 0);
}

static void without_standard(long session)
{
	fflush(stdout);
	int saved = fcntl(1, F_DUPFD, 500), low = 0;
	close(0), close(1), close(2);
	int well = KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) == session && in_a_thread() == session;
	/* A bad pointer takes the long way of finding out. */
	well &= ADD("user", (char *)8, "p", 1, SESSION) == -1 && errno == EFAULT;
	for (int fd = 0; fd < 3; fd++)
		low += fcntl(fd, F_GETFD) >= 0;
	dup2(saved, 1);
	close(saved);
	printf("without 0 to 2: %s, %d of them taken\n", well ? "works" : "FAILS", low);
}

static void with_few(long session)
{
	fflush(stdout);
	pid_t child = fork();
	if (!child) {
		struct rlimit few = { 16, 16 };
		must(!setrlimit(RLIMIT_NOFILE, &few), "setrlimit");
		must(KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) == session, "call with few descriptors");
		must(in_a_thread() == session, "a thread with few descriptors");
		_exit(0);
	}
	reap(child, "16 descriptors");
}

int main(void)
{
	own_session();
	long session = KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0);
	long thread_ring = KEYCTL(GET_KEYRING_ID, THREAD, 1, 0, 0);
	int fd = open("/dev/null", O_RDONLY);
	printf("lowest free: %d\n", fd);
	close(fd);
	after_closefrom(session, thread_ring);
	foreign_descriptors(session);
	after_closefrom(session, thread_ring);
	without_standard(session);
	with_few(session);
	return 0;
}
