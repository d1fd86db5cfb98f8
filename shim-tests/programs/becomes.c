/* A process that becomes another program while one of its threads waits for a key: who
 * caused the upcall, and who came later. Keys are named keyshim-tests:NAME:PID; the helper
 * takes as long as the callout says. */
#include "common.h"
#include <time.h>

static char description[64];

static void rest_ms(long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&time, NULL);
}

static void *ask(void *callout)
{
	REQUEST("user", description, callout, SESSION);
	return NULL;
}

static int after(const char *what, const char *name)
{
	long key = say(what, REQUEST("user", name, "", SESSION));
	printf("payload %s\n", key > 0 && holds(key, "made by the helper") ? "right" : "none");
	return 0;
}

/* A child whose thread asks, and which becomes this program again meanwhile. */
static void becomes(char *self, char *what, char *callout)
{
	pid_t child = fork();
	if (child) {
		reap(child, what);
		return;
	}
	pthread_t asker;
	must(!pthread_create(&asker, NULL, ask, callout), "start a thread");
	rest_ms(300);
	execv(self, (char *[]){ self, what, description, NULL });
	must(0, "become a program");
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return after(argv[1], argv[2]);
	own_session();
	snprintf(description, sizeof description, "keyshim-tests:first:%d", (int)getpid());
	becomes(argv[0], "after the first request", "0.9");
	snprintf(description, sizeof description, "keyshim-tests:later:%d", (int)getpid());
	pid_t first = fork();
	if (!first) {
		ask("1.2");
		return 0;
	}
	rest_ms(200);
	becomes(argv[0], "after a later request", "");
	reap(first, "first request");
	return 0;
}
