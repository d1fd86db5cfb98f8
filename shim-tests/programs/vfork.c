/* Children that run in their parent's memory make key calls, and the parent goes
 * on as if nothing had been. */
#include "common.h"

static long session, key;
static volatile int verdict;

static int look(void)
{
	if (KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) != session)
		return 1;
	if (KEYCTL(GET_KEYRING_ID, THREAD, 0, 0, 0) != -1)
		return 2;
	if (!holds(key, "parent's"))
		return 3;
	if (KEYCTL(GET_KEYRING_ID, PROCESS, 1, 0, 0) < 0)
		return 4;
	if (add_user("vforked", "v", PROCESS) < 0)
		return 5;
	if (KEYCTL(SEARCH, PROCESS, "user", "vforked", 0) < 0)
		return 6;
	if (KEYCTL(JOIN, 0, 0, 0, 0) < 0)
		return 7;
	return 0;
}

static int child_main(void *unused)
{
	verdict = look();
	return 0;
}

static void unharmed(const char *after)
{
	printf("after %s: %s, %s, %s\n", after,
		KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) == session ? "same session" : "OTHER SESSION",
		KEYCTL(GET_KEYRING_ID, THREAD, 0, 0, 0) > 0 ? "thread keyring" : "NO THREAD KEYRING",
		holds(key, "parent's") ? "key" : "NO KEY");
}

static void by_vfork(const char *what)
{
	verdict = -1;
	pid_t child = vfork();
	if (!child) {
		verdict = look();
		_exit(0);
	}
	reap(child, what);
	printf("%s: verdict %d\n", what, verdict);
}

int main(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	setvbuf(stdout, NULL, _IOLBF, 0);

	/* The very first key call of all is made by such a child. */
	pid_t child = vfork();
	if (!child) {
		verdict = KEYCTL(GET_KEYRING_ID, PROCESS, 1, 0, 0) > 0;
		verdict += KEYCTL(GET_KEYRING_ID, PROCESS, 0, 0, 0) > 0;
		_exit(0);
	}
	reap(child, "first call");
	printf("first call: %d\n", verdict);

	own_session();
	session = KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0);
	key = add_user("parent's", "parent's", SESSION);
	must(KEYCTL(GET_KEYRING_ID, THREAD, 1, 0, 0) > 0, "thread keyring");
	int before = open_descriptors();
	for (int i = 0; i < 20; i++)
		by_vfork("vfork");
	unharmed("vfork");

	child = clone(child_main, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
	must(child > 0, "clone");
	reap(child, "CLONE_VM");
	printf("CLONE_VM: verdict %d\n", verdict);
	unharmed("CLONE_VM");

	child = clone(child_main, stack + sizeof stack, CLONE_VM | CLONE_FILES | SIGCHLD, NULL);
	reap(child, "CLONE_VM and CLONE_FILES");
	printf("CLONE_FILES: verdict %d\n", verdict);
	unharmed("CLONE_FILES");

	child = fork();
	if (!child) {
		/* A forked process whose first call is its vforked child's. */
		by_vfork("vfork in a child");
		_exit(holds(key, "parent's") ? 0 : 1);
	}
	reap(child, "fork and vfork");
	unharmed("fork and vfork");
	printf("descriptors %s\n", open_descriptors() <= before ? "flat" : "leak");
	return 0;
}
