/* A storm of signals whose handlers make key calls, and leave by siglongjmp, while
 * the main flow counts that each of its own was carried out exactly once. With an
 * argument a call that says EINTR is made again. */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

static int repeats;
#define syscall(...) ({ \
	long result_; \
	do \
		result_ = syscall(__VA_ARGS__); \
	while (repeats && result_ == -1 && errno == EINTR); \
	result_; \
})
#include "common.h"
#include <setjmp.h>
#include <sys/time.h>

static volatile sig_atomic_t handled, wrong;
static sigjmp_buf back;
static volatile sig_atomic_t may_jump;

static void handler(int signal)
{
	int error = errno;
	char text[16];
	(void)signal;
	snprintf(text, sizeof text, "h%d", (int)handled % 10);
	long key = add_user("handler's", text, PROCESS);
	if (key < 0 || !holds(key, text))
		wrong = 1;
	handled++;
	errno = error;
	if (may_jump) {
		may_jump = 0;
		siglongjmp(back, 1);
	}
}

static long links(long ring)
{
	int serials[1024];
	long len = KEYCTL(READ, ring, serials, sizeof serials, 0);
	return len / 4;
}

static void start_storm(int restart)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = restart ? SA_RESTART : 0 };
	struct itimerval every = { { 0, 300 }, { 0, 300 } };
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
}

static void stop_storm(void)
{
	struct itimerval none = { { 0, 0 }, { 0, 0 } };
	setitimer(ITIMER_REAL, &none, NULL);
}

static void count_rounds(int restart)
{
	char desc[32], text[32];
	long ring = ADD("keyring", "counted", NULL, 0, SESSION);
	start_storm(restart);
	for (int round = 0; round < 2000; round++) {
		snprintf(desc, sizeof desc, "k%d", round % 100);
		snprintf(text, sizeof text, "text %d", round);
		long key = add_user(desc, text, ring);
		if (key < 0)
			must(0, "add in the storm");
		must(holds(key, text), "read in the storm");
		if (round % 100 == 99)
			must(links(ring) == 100, "a hundred links");
		if (round % 100 == 99)
			must(KEYCTL(CLEAR, ring, 0, 0, 0) == 0, "clear in the storm");
	}
	stop_storm();
	printf("2000 rounds, handlers %s\n", wrong ? "WRONG" : handled ? "right" : "never ran");
}

static void leave_by_jump(void)
{
	volatile int jumps = 0;
	start_storm(1);
	while (jumps < 50) {
		if (sigsetjmp(back, 1)) {
			jumps++;
			continue;
		}
		may_jump = 1;
		for (;;)
			must(KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) > 0, "call");
	}
	may_jump = 0;
	stop_storm();
	long key = add_user("after", "after", SESSION);
	printf("50 jumps: %s\n", holds(key, "after") ? "all well" : "BROKEN");
}

static void stay_fatal(void)
{
	pid_t child = fork();
	if (!child) {
		for (;;)
			KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0);
	}
	usleep(30000);
	kill(child, SIGTERM);
	reap(child, "a signal without a handler");
}

int main(int argc, char **argv)
{
	sigset_t mask;
	repeats = argc > 1 && !strcmp(argv[1], "again");
	own_session();
	must(KEYCTL(GET_KEYRING_ID, PROCESS, 1, 0, 0) > 0, "process keyring");
	count_rounds(0);
	count_rounds(1);
	leave_by_jump();
	sigprocmask(SIG_SETMASK, NULL, &mask);
	printf("mask: %s\n", sigisemptyset(&mask) ? "empty" : "LEFT BLOCKED");
	fflush(stdout);
	stay_fatal();
	return 0;
}
