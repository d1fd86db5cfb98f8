/* As root: after chroot, in another network namespace, with other ids, a child and
 * a thread that have never made a key call still find the key service. */
#include "common.h"

static long session;

static void *from_a_thread(void *result)
{
	*(long *)result = KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) == session;
	return NULL;
}

static void see(const char *where)
{
	pthread_t thread;
	long well = 0;
	fflush(stdout);
	pid_t child = fork();
	if (!child)
		_exit(KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) != session);
	reap(child, where);
	pthread_create(&thread, NULL, from_a_thread, &well);
	pthread_join(thread, NULL);
	printf("%s: thread %s, self %s\n", where, well ? "well" : "LOST",
		KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) == session ? "well" : "LOST");
}

int main(void)
{
	clearenv();
	own_session();
	session = KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0);
	see("without an environment");
	must(!unshare(CLONE_NEWNET), "network namespace");
	see("in another network namespace");
	must(!unshare(CLONE_NEWNS), "mount namespace");
	char empty[] = "/tmp/empty.XXXXXX";
	must(mkdtemp(empty) != NULL, "directory");
	int here = open("/", O_RDONLY | O_DIRECTORY);
	must(!chroot(empty) && !chdir("/"), "chroot");
	see("in an empty root");
	must(!fchdir(here) && !chroot("."), "out");
	must(!rmdir(empty), "remove");
	must(!setegid(65534) && !seteuid(65534), "ids");
	say("as nobody, root's session by number", KEYCTL(DESCRIBE, session, 0, 0, 0) > 0 ? 0 : -1);
	must(!seteuid(0) && !setegid(0), "ids back");
	must(!setresgid(65534, 65534, 65534) && !setresuid(65534, 65534, 65534), "ids for good");
	long key = add_user("nobody's", "n", PROCESS);
	must(key > 0 && holds(key, "n"), "a key of nobody's");
	char text[256] = "";
	must(KEYCTL(DESCRIBE, key, text, sizeof text, 0) > 0, "describe");
	printf("owner: %s\n", text);
	return 0;
}
