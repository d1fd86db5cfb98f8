/* A request that waits while its broker is killed. */
#include "common.h"
#include <time.h>

int main(void)
{
	own_session();
	time_t began = time(NULL);
	pid_t child = fork();
	if (!child) {
		say("request that waits", REQUEST("user", "bereft", "x", SESSION));
		say("request after it", REQUEST("user", "bereft", "x", SESSION));
		return 0;
	}
	struct timespec half = { 0, 500000000 };
	nanosleep(&half, NULL);
	must(!kill(getppid(), SIGKILL), "kill the broker");
	reap(child, "requester");
	printf("%s\n", time(NULL) - began < 10 ? "at once" : "late");
	return 0;
}
