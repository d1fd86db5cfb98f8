/* caller READS ROOM: that many reads of a key into a buffer of that size. Prints
 * each result, and what the bytes add up to. */
#include "common.h"

int main(int argc, char **argv)
{
	long room = argc > 2 ? atol(argv[2]) : 0;
	unsigned char *buffer = calloc(1, room + 1);
	for (long i = 0; argc > 1 && i < atol(argv[1]); i++) {
		long result = KEYCTL(READ, 1, buffer, room, 0);
		unsigned long sum = 0;
		for (long at = 0; at < room; at++)
			sum = sum * 31 + buffer[at];
		if (result < 0)
			printf("%s\n", strerrorname_np(errno));
		else
			printf("%ld bytes, sum %lu\n", result, sum);
		fflush(stdout);
	}
	return 0;
}
