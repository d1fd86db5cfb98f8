/* Signals of a kind that Go's runtime sends itself, about 10,000 a second, while keyrings
 * are made: each call makes one keyring, however often it was interrupted. The handler
 * makes one, too, now and then. With the argument "rare" one call in a thousand may be
 * carried out twice. */
#include "common.h"

enum { ROUNDS = 4000, HANDLED = 500, EVERY_NS = 100000, OWN_EVERY = 16 };

static volatile sig_atomic_t over, sent, handled, made_by_handler;
static volatile long handlers_ring;
static pthread_t target;
static int doubles, calls, doubles_per_mille;

/* What shows that a call was carried out twice. */
static void once(int is_so, const char *what)
{
	calls++;
	doubles += !is_so;
	must(doubles * 1000 <= (calls + 1000) * doubles_per_mille, what);
}

static void *storm(void *unused)
{
	struct timespec next;
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!over) {
		pthread_kill(target, SIGURG);
		sent++;
		next.tv_nsec += EVERY_NS;
		if (next.tv_nsec >= 1000000000)
			next.tv_nsec -= 1000000000, next.tv_sec++;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	return unused;
}

static void handler(int signal)
{
	int error = errno;
	char desc[32];
	(void)signal;
	handled++;
	if (handled % OWN_EVERY == 0) {
		snprintf(desc, sizeof desc, "h%d", (int)made_by_handler);
		must(ADD("keyring", desc, NULL, 0, handlers_ring) > 0, "add in the handler");
		made_by_handler++;
	}
	errno = error;
}

static long links(long ring)
{
	return KEYCTL(READ, ring, NULL, 0, 0) / 4;
}

/* A new keyring of the same name displaces the old one: a second making would show in
 * the serial that is linked. */
static void make(long ring, int round)
{
	char desc[32];
	snprintf(desc, sizeof desc, "k%d", round % 50);
	long key = ADD("keyring", desc, NULL, 0, ring);
	must(key > 0, "add a keyring");
	once(KEYCTL(SEARCH, ring, "keyring", desc, 0) == key, "the keyring that was made is linked");
}

int main(int argc, char **argv)
{
	pthread_t thread;
	doubles_per_mille = argc > 1 && !strcmp(argv[1], "rare");
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	own_session();
	long ring = ADD("keyring", "made", NULL, 0, SESSION);
	handlers_ring = ADD("keyring", "handler's", NULL, 0, SESSION);
	target = pthread_self();
	sigaction(SIGURG, &action, NULL);
	must(!pthread_create(&thread, NULL, storm, NULL), "thread");
	for (int round = 0; round < ROUNDS || handled < HANDLED; round++) {
		make(ring, round);
		if (round % 50 == 49) {
			must(links(ring) == 50, "fifty keyrings");
			/* Once only: the second time there would be nothing to unlink. */
			long first = KEYCTL(SEARCH, ring, "keyring", "k0", 0);
			once(KEYCTL(UNLINK, first, ring, 0, 0) == 0, "unlinked once");
			must(KEYCTL(CLEAR, ring, 0, 0, 0) == 0, "clear");
			must(KEYCTL(CLEAR, handlers_ring, 0, 0, 0) == 0, "clear the handler's");
		}
		if (round % 10 == 9) {
			long key = add_user("revoked", "p", ring);
			once(KEYCTL(REVOKE, key, 0, 0, 0) == 0, "revoked once");
			once(KEYCTL(UNLINK, key, ring, 0, 0) == 0, "away with it");
		}
	}
	over = 1;
	pthread_join(thread, NULL);
	printf("%d rounds, %d signals, each keyring made once\n", ROUNDS, HANDLED);
	if (getenv("SHOW_COUNT"))
		fprintf(stderr, "%d sent, %d handled, %d made, %d of %d calls twice\n", sent, handled,
			made_by_handler, doubles, calls);
	return 0;
}
