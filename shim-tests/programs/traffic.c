/* Eight processes of four threads make key calls without a pause until there is no
 * key service any more. Says its number when all are at it, and at the end how it was. */
#include "common.h"

enum { PROCESSES = 8, THREADS = 4 };

struct shared {
	volatile int busy, ended, wrong;
};
static struct shared *shared;

static void *work(void *argument)
{
	char desc[32];
	int counted = 0;
	snprintf(desc, sizeof desc, "t%d", (int)syscall(SYS_gettid));
	for (;;) {
		long key = add_user(desc, desc, SESSION);
		char text[32];
		if (key < 0 || KEYCTL(READ, key, text, sizeof text, 0) < 0)
			break;
		if (!counted++)
			__sync_fetch_and_add(&shared->busy, 1);
	}
	if (errno != ENOSYS)
		shared->wrong = errno;
	__sync_fetch_and_add(&shared->ended, 1);
	return argument;
}

static int work_all(void)
{
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		must(!pthread_create(&threads[i], NULL, work, NULL), "thread");
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	/* A new task as well. */
	pid_t child = fork();
	if (!child)
		_exit(!(KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) == -1 && errno == ENOSYS));
	int status;
	waitpid(child, &status, 0);
	return status != 0;
}

int main(void)
{
	pid_t children[PROCESSES];
	shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	own_session();
	for (int i = 0; i < PROCESSES; i++) {
		children[i] = fork();
		if (!children[i])
			_exit(work_all());
	}
	while (shared->busy < PROCESSES * THREADS)
		usleep(1000);
	printf("%d\n", getpid());
	fflush(stdout);
	int bad = 0;
	for (int i = 0; i < PROCESSES; i++) {
		int status;
		waitpid(children[i], &status, 0);
		bad += status != 0;
	}
	printf("%d ended, %d processes bad, %s\n", shared->ended, bad,
		shared->wrong ? strerrorname_np(shared->wrong) : "ENOSYS");
	return 0;
}
