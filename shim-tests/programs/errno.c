/* errno is left alone by what succeeds, and set by what fails. */
#include "common.h"

static void kept(const char *what, long result)
{
	printf("%s: %s, errno %d\n", what, result < 0 ? "failed" : "ok", errno);
}

int main(void)
{
	char buffer[4096];
	struct stat status;
	errno = 4242;
	kept("join", KEYCTL(JOIN, 0, 0, 0, 0));
	long key = add_user("e", "p", SESSION);
	kept("add", key);
	kept("read", KEYCTL(READ, key, buffer, sizeof buffer, 0));
	kept("describe", KEYCTL(DESCRIBE, key, buffer, sizeof buffer, 0));
	kept("getpid", syscall(SYS_getpid));
	int fd = open("/proc/keys", O_RDONLY);
	kept("open", fd);
	close(fd);
	kept("stat", stat("/proc/keys", &status));
	kept("access", access("/proc/keys", R_OK));
	kept("unlink", KEYCTL(UNLINK, key, SESSION, 0, 0));
	kept("a failure", KEYCTL(SEARCH, SESSION, "user", "no such key", 0) < 0 ? -1 : 0);
	errno = 4242;
	kept("too long", ADD("user", "d", "p", 2 << 20, SESSION));
	kept("too long an update", KEYCTL(UPDATE, SESSION, "p", 4097, 0));
	return 0;
}
