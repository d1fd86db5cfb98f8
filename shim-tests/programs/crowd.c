/* A thousand threads that wait for one key, and what they cost our parent, who answers
 * them. Then signals for some of them, which nobody else hears. The key is made by a rule,
 * a few seconds after it was asked for. */
#include "common.h"
#include <time.h>

enum { WAITERS = 1000, SIGNALLED = 40 };

static int outcomes[WAITERS];
static volatile int answered, asking;

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* Seconds for which our parent has had a processor. */
static double busy(void)
{
	char path[64];
	unsigned long user = 0, system = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)getppid());
	FILE *stat = fopen(path, "r");
	must(stat && fscanf(stat, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
			    &user, &system) == 2, "look at our parent");
	fclose(stat);
	return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

static void handler(int signal)
{
	(void)signal;
}

static void *waits(void *number)
{
	__sync_fetch_and_add(&asking, 1);
	long key = REQUEST("user", "crowd", "", 0);
	outcomes[(long)number] = key > 0 && holds(key, "made by a rule") ? 0 : errno;
	__sync_fetch_and_add(&answered, 1);
	return NULL;
}

static void start(pthread_t threads[WAITERS])
{
	pthread_attr_t small;
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 * 1024);
	for (long i = 0; i < WAITERS; i++)
		must(!pthread_create(&threads[i], &small, waits, (void *)i), "a thread");
	while (asking < WAITERS)
		usleep(1000);
	usleep(500000);
}

int main(void)
{
	static pthread_t threads[WAITERS];
	struct sigaction action = { .sa_handler = handler };
	own_session();
	sigaction(SIGUSR1, &action, NULL);
	pid_t first = fork();
	if (!first)
		_exit(REQUEST("user", "crowd", "", SESSION) > 0 ? 0 : errno);
	usleep(100000);
	start(threads);
	double begun = now(), begun_busy = busy();
	usleep(1500000);
	double share = (busy() - begun_busy) / (now() - begun);
	if (share < 0.1)
		printf("they cost next to nothing\n");
	else
		printf("they cost %.0f %% of a processor\n", share * 100);
	printf("%d answered before it was made\n", answered);
	for (int i = 0; i < SIGNALLED; i++)
		pthread_kill(threads[i * (WAITERS / SIGNALLED)], SIGUSR1);
	for (int i = 0; i < 3000 && answered < SIGNALLED; i++)
		usleep(1000);
	printf("%d answered early\n", answered);
	int interrupted = 0, right = 0;
	for (int i = 0; i < WAITERS; i++) {
		pthread_join(threads[i], NULL);
		int is_signalled = i % (WAITERS / SIGNALLED) == 0;
		interrupted += is_signalled && outcomes[i] == EINTR;
		right += !is_signalled && outcomes[i] == 0;
	}
	printf("%d interrupted, %d right\n", interrupted, right);
	reap(first, "first request");
	return 0;
}
