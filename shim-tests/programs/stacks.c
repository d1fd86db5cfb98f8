/* Key calls from a handler on a small alternate stack, with a guard page below. */
#include "common.h"
#include <sys/auxv.h>

static volatile int well;

static void handler(int signal)
{
	(void)signal;
	static char big[20000];
	long key = ADD("user", "small", big, sizeof big, SESSION);
	well = key > 0 && KEYCTL(READ, key, big, sizeof big, 0) == sizeof big;
	well &= KEYCTL(DESCRIBE, key, big, sizeof big, 0) > 0;
	well &= ADD("user", (char *)8, "p", 1, SESSION) == -1 && errno == EFAULT;
	int fd = open("/proc/keys", O_RDONLY);
	well &= fd >= 0 && read(fd, big, 1) == 1;
	close(fd);
}

int main(void)
{
	/* What the kernel needs for the frame, and 4 KiB for us. */
	unsigned long frame = getauxval(AT_MINSIGSTKSZ) ? getauxval(AT_MINSIGSTKSZ) : 2048;
	size_t len = (frame + 4096 + 4095) & ~4095ul;
	char *pages = mmap(0, len + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(pages, 4096, PROT_NONE);
	char *low = pages + 4096 + len - (frame + 4096);
	stack_t stack = { .ss_sp = low, .ss_size = frame + 4096 };
	memset(low, 0x5a, frame + 4096);
	must(!sigaltstack(&stack, NULL), "sigaltstack");
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	sigaction(SIGUSR1, &action, NULL);
	own_session();
	raise(SIGUSR1);
	unsigned long untouched = 0;
	while (untouched < frame + 4096 && low[untouched] == 0x5a)
		untouched++;
	printf("small stack: %s, %s\n", well ? "works" : "FAILS", untouched ? "room left" : "FULL");
	if (getenv("SHOW_ROOM"))
		fprintf(stderr, "%lu of %lu bytes untouched\n", untouched, frame + 4096);
	return 0;
}
