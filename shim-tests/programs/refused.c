/* Payloads that their length alone refuses: a million calls, as keyutils' suite
 * makes them. Prints what they answer; with an argument, what one costs. */
#include "common.h"
#include <time.h>

int main(int argc, char **argv)
{
	struct timespec from, to;
	int wrong = 0;
	own_session();
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < 1000000; i++)
		wrong += ADD("user", "d", "p", (1 << 20) + i, SESSION) != -1 || errno != EINVAL;
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("a million: %d wrong\n", wrong);
	double ns = (to.tv_sec - from.tv_sec) * 1e9 + (to.tv_nsec - from.tv_nsec);
	if (argc > 1)
		fprintf(stderr, "%.1f ns each (%s)\n", ns / 1e6, argv[1]);
	return 0;
}
