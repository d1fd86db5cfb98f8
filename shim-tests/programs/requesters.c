/* Many processes that request keys at once: "one" the same key, "each" one of their own.
 * Tells how many got which answer. Arguments: how many, and which. */
#include "common.h"

int main(int argc, char **argv)
{
	must(argc == 3, "two arguments");
	int count = atoi(argv[1]), each = !strcmp(argv[2], "each");
	int *serials = mmap(NULL, count * sizeof *serials, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int start[2];
	own_session();
	must(!pipe(start), "pipe");
	for (int i = 0; i < count; i++) {
		pid_t child = fork();
		must(child >= 0, "fork");
		if (child)
			continue;
		char description[64], byte;
		close(start[1]);
		must(read(start[0], &byte, 1) == 0, "wait for the others");
		snprintf(description, sizeof description, "many:%d", each ? i : 0);
		long key = REQUEST("user", description, "x", SESSION);
		serials[i] = key > 0 ? (int)key : -errno;
		_exit(key > 0 && !holds(key, "made by the helper"));
	}
	close(start[1]);
	int right = 0, distinct = 0, status;
	while (wait(&status) > 0)
		right += WIFEXITED(status) && !WEXITSTATUS(status);
	for (int i = 0; i < count; i++) {
		int seen = serials[i] <= 0;
		for (int j = 0; j < i && !seen; j++)
			seen = serials[j] == serials[i];
		distinct += !seen;
		must(serials[i] > 0, "an answer");
	}
	printf("%d answers, %d keys\n", right, distinct);
	return 0;
}
