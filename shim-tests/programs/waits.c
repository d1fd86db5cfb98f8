/* Waiting for a key that a slow helper makes: who is interrupted by which signal, and
 * what becomes of the call and of the key. Keys are named keyshim-tests:NAME:PID; the
 * helper takes as long as the callout says. */
#include "common.h"
#include <sys/time.h>
#include <time.h>

static volatile sig_atomic_t handled;
static char description[64];

static void handler(int signal)
{
	(void)signal;
	handled++;
}

static void name_key(const char *name)
{
	snprintf(description, sizeof description, "keyshim-tests:%s:%d", name, (int)getpid());
}

static void rest(double seconds)
{
	struct timespec time = { (time_t)seconds, (long)((seconds - (long)seconds) * 1e9) };
	while (nanosleep(&time, &time) == -1 && errno == EINTR)
		;
}

/* The first request, by a child that tells how it came out. */
static pid_t first(const char *callout)
{
	pid_t child = fork();
	if (child)
		return child;
	long key = REQUEST("user", description, callout, SESSION);
	_exit(key > 0 ? 0 : errno);
}

static void alarm_in(double seconds, int flags, void (*action)(int))
{
	struct sigaction act = { .sa_handler = action, .sa_flags = flags };
	struct itimerval once = { { 0, 0 }, { 0, (suseconds_t)(seconds * 1e6) } };
	handled = 0;
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &once, NULL);
}

/* A second request while the key is being made. */
static void second(const char *name, int flags, void (*action)(int))
{
	name_key(name);
	pid_t child = first("0.8");
	rest(0.3);
	alarm_in(0.2, flags, action);
	char text[64];
	snprintf(text, sizeof text, "second request, %s", name);
	long key = say(text, REQUEST("user", description, "", 0));
	printf("handler ran %d times, payload %s\n", (int)handled,
	       key > 0 && holds(key, "made by the helper") ? "right" : "none");
	reap(child, "first request");
}

/* A signal for whoever caused the upcall comes after it. */
static void uninterrupted(void)
{
	name_key("caused");
	alarm_in(0.2, 0, handler);
	say("first request with an alarm", REQUEST("user", description, "0.6", SESSION));
	printf("handler ran %d times\n", (int)handled);
}

static void stopped(void)
{
	name_key("stopped");
	pid_t child = first("0.8");
	rest(0.2);
	pid_t waiter = fork();
	if (!waiter) {
		long key = REQUEST("user", description, "", 0);
		_exit(key > 0 ? 0 : errno);
	}
	rest(0.1);
	int status;
	kill(waiter, SIGSTOP);
	printf("stops: %d\n", waitpid(waiter, &status, WUNTRACED) == waiter && WIFSTOPPED(status));
	kill(waiter, SIGCONT);
	reap(waiter, "a stopped waiter");
	reap(child, "first request");
}

static void reading(void)
{
	name_key("read");
	pid_t child = first("0.8");
	rest(0.3);
	long key = KEYCTL(SEARCH, SESSION, "user", description, 0);
	say("search of a key that is being made", key);
	char line[512];
	FILE *keys = fopen("/proc/keys", "r");
	while (key == -1 && fgets(line, sizeof line, keys))
		if (strstr(line, description))
			key = strtol(line, NULL, 16);
	fclose(keys);
	alarm_in(0.2, 0, handler);
	char buffer[64];
	say("read with an alarm", KEYCTL(READ, key, buffer, sizeof buffer, 0));
	say("describe does not wait", KEYCTL(DESCRIBE, key, NULL, 0, 0) > 0);
	say("read without one", KEYCTL(READ, key, buffer, sizeof buffer, 0));
	reap(child, "first request");
}

static void killed(void)
{
	name_key("killed");
	pid_t child = first("0.5");
	rest(0.2);
	kill(child, SIGKILL);
	long key = say("a request after its first one was killed",
		       REQUEST("user", description, "", 0));
	printf("payload %s\n", key > 0 && holds(key, "made by the helper") ? "right" : "none");
	reap(child, "killed");
}

int main(void)
{
	own_session();
	second("EINTR", 0, handler);
	second("SA_RESTART", SA_RESTART, handler);
	second("ignored", 0, SIG_IGN);
	uninterrupted();
	stopped();
	reading();
	killed();
	return 0;
}
