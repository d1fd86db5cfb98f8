/* A request that a signal interrupts while it waits begins anew behind the handler: what it
 * would have been answered with meanwhile does not count, least of all if that key has died.
 * Keys are named keyshim-tests:NAME:PID; the helper takes as long as the callout says. */
#include "common.h"
#include <sys/time.h>
#include <time.h>

static char description[64];
static int *first_key;
static pid_t *has_it;
static volatile pid_t first;
static volatile sig_atomic_t handled;

static void rest(double seconds)
{
	struct timespec time = { (time_t)seconds, (long)((seconds - (long)seconds) * 1e9) };
	while (nanosleep(&time, &time) == -1 && errno == EINTR)
		;
}

/* Takes until the key has been made and has died, and makes no key call. */
static void handler(int signal)
{
	int status, error = errno;
	(void)signal;
	handled++;
	if (first)
		waitpid(first, &status, 0);
	errno = error;
}

static void alarm_in(double seconds)
{
	struct sigaction act = { .sa_handler = handler, .sa_flags = SA_RESTART };
	struct itimerval once = { { 0, 0 }, { 0, (suseconds_t)(seconds * 1e6) } };
	handled = 0;
	sigaction(SIGALRM, &act, NULL);
	setitimer(ITIMER_REAL, &once, NULL);
}

/* Always from the same place and with the same registers, and so the same call. */
static __attribute__((noinline)) long request(const char *callout, long ring)
{
	return syscall(SYS_request_key, "user", description, callout, ring, 0L);
}

static void name_key(const char *name)
{
	snprintf(description, sizeof description, "keyshim-tests:%s:%d", name, (int)getpid());
}

static void tell(const char *what, long key)
{
	say(what, key);
	printf("handler ran %d times, the key of the first request %d, alive %d\n", (int)handled,
	       key == *first_key, key > 0 && holds(key, "made by the helper"));
}

/* Another one's request makes the key, for which we wait, and who then does that to it. */
static void second(const char *name, long (*end)(long key))
{
	name_key(name);
	first = fork();
	if (!first) {
		*first_key = REQUEST("user", description, "1", SESSION);
		_exit(*first_key > 0 && end(*first_key) == 0 ? 0 : 1);
	}
	rest(0.4);
	alarm_in(0.2);
	tell(name, request("0", 0));
}

static long leave(long key)
{
	(void)key;
	return 0;
}

static long invalidate_it(long key)
{
	long done = KEYCTL(INVALIDATE, key, 0, 0, 0);
	/* The kernel takes its time to collect it. */
	rest(0.5);
	return done;
}

static long revoke_it(long key)
{
	return KEYCTL(REVOKE, key, 0, 0, 0);
}

static long unlink_it(long key)
{
	long done = KEYCTL(UNLINK, key, SESSION, 0, 0);
	rest(0.5);
	return done;
}

/* A process that has the key, where we do not search. */
static void keep(long key)
{
	int kept[2];
	char byte = 0;
	must(!pipe(kept), "pipe");
	pid_t child = fork();
	if (!child) {
		must(!KEYCTL(LINK, key, PROCESS, 0, 0) && write(kept[1], &byte, 1) == 1, "keep it");
		pause();
		_exit(0);
	}
	must(read(kept[0], &byte, 1) == 1, "wait until it is kept");
	*has_it = child;
}

static long keep_elsewhere(long key)
{
	keep(key);
	return KEYCTL(UNLINK, key, SESSION, 0, 0);
}

static long let_expire(long key)
{
	long done = KEYCTL(SET_TIMEOUT, key, 1, 0, 0);
	rest(2.2);
	return done;
}

/* What the interrupted call was once answered with is no answer to a later one. */
static void later(void)
{
	name_key("later");
	first = 0;
	alarm_in(0.3);
	long key = request("0.8", SESSION);
	*first_key = key;
	tell("request with an alarm", key);
	keep(key);
	say("unlink it", KEYCTL(UNLINK, key, SESSION, 0, 0));
	tell("the same request later", request("0.8", SESSION));
	kill(*has_it, SIGKILL);
	reap(*has_it, "who kept it");
}

/* The same for the one whose request makes the key, where a signal interrupts that one too. */
static void causing(void)
{
	name_key("causing");
	first = fork();
	if (!first) {
		while ((*first_key = KEYCTL(SEARCH, SESSION, "user", description, 0)) < 0)
			rest(0.05);
		_exit(invalidate_it(*first_key) ? 1 : 0);
	}
	alarm_in(0.3);
	tell("caused", request("1", SESSION));
}

/* With an argument only what no kernel does. */
int main(int argc, char **argv)
{
	(void)argv;
	first_key = mmap(NULL, sizeof *first_key, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	has_it = mmap(NULL, sizeof *has_it, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	own_session();
	if (argc > 1) {
		causing();
		return 0;
	}
	second("left alone", leave);
	second("invalidated", invalidate_it);
	second("revoked", revoke_it);
	second("unlinked", unlink_it);
	second("kept elsewhere", keep_elsewhere);
	kill(*has_it, SIGKILL);
	second("expired", let_expire);
	later();
	return 0;
}
