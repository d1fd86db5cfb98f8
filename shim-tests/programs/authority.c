/* For helpers that are scripts: assumes the authority over a key and becomes a program,
 * as request-key does. */
#include "common.h"

int main(int argc, char **argv)
{
	must(argc > 2, "a key and a program");
	must(KEYCTL(ASSUME_AUTHORITY, atoi(argv[1]), 0, 0, 0) > 0, "assume the authority");
	execvp(argv[2], argv + 2);
	must(0, argv[2]);
	return 0;
}
