/* A caller whose buffer is a page that nobody fills waits for a key, together with another
 * one. When the key is there, the other one has it, a further key is made, and a signal for
 * one who waits for that is seen; the first one goes on waiting until it is killed. Keys are
 * made by rules, one after the other, each a few seconds after its turn has come. */
#include "common.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/time.h>

/* A page to which whoever touches it waits for ever: in our own process or not. */
static char *bottomless(void)
{
	long page = sysconf(_SC_PAGESIZE);
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	struct uffdio_api api = { .api = UFFD_API };
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api)) {
		printf("skipped: no userfaultfd (%s)\n", strerrorname_np(errno));
		exit(0);
	}
	char *at = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register range = {
		.range = { (uintptr_t)at, page }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	must(!ioctl(fd, UFFDIO_REGISTER, &range), "ask for its faults");
	return at;
}

static pid_t requests(const char *description)
{
	pid_t child = fork();
	if (!child)
		_exit(REQUEST("user", description, "", SESSION) > 0 ? 0 : errno);
	return child;
}

static void handler(int signal)
{
	(void)signal;
}

/* The same, with a signal soon. */
static pid_t is_interrupted(const char *description)
{
	struct sigaction action = { .sa_handler = handler };
	struct itimerval soon = { { 0, 0 }, { 0, 300000 } };
	pid_t child = fork();
	if (child)
		return child;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &soon, NULL);
	_exit(REQUEST("user", description, "", 0) == -1 && errno == EINTR ? 0 : 1);
}

static pid_t reads(int key, char *buffer)
{
	pid_t child = fork();
	if (child)
		return child;
	long len = KEYCTL(READ, key, buffer ? buffer : bottomless(), 64, 0);
	_exit(len == 14 && !memcmp(buffer, "made by a rule", 14) ? 0 : 1);
}

/* How a child ends that is to do so soon. */
static void expect(pid_t child, const char *what)
{
	int status;
	for (int i = 0; i < 1000; i++) {
		if (waitpid(child, &status, WNOHANG) == child) {
			printf("%s: status %d\n", what, status);
			return;
		}
		usleep(10000);
	}
	printf("%s: hangs\n", what);
	kill(child, SIGKILL);
	reap(child, what);
}

int main(void)
{
	char buffer[64];
	int key, status;
	bottomless();
	own_session();
	pid_t first = requests("stuck");
	while (KEYCTL(READ, SESSION, &key, sizeof key, 0) != sizeof key)
		usleep(10000);
	pid_t stuck = reads(key, NULL);
	usleep(200000);
	pid_t other = reads(key, buffer), next = requests("next");
	expect(first, "first request");
	expect(other, "another reader");
	expect(is_interrupted("next"), "one with a signal");
	expect(next, "another request");
	printf("the first reader waits: %d\n", waitpid(stuck, &status, WNOHANG) == 0);
	kill(stuck, SIGKILL);
	reap(stuck, "the first reader");
	return 0;
}
