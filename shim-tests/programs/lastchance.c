/* As root: the first key call of all comes when the program has changed its root,
 * its network or its user, or may not make or connect sockets any more. */
#include "common.h"

static void forbid_sockets(void)
{
	forbid(SYS_socket, SYS_connect, EACCES);
}

static void change_root(void)
{
	char empty[] = "/tmp/empty.XXXXXX";
	must(mkdtemp(empty) != NULL, "directory");
	must(!chdir(empty) && !rmdir(empty) && !chroot("."), "chroot");
}

static void change_root_by_number(void)
{
	must(!syscall(SYS_chroot, "/proc/self/fdinfo") && !chdir("/"), "chroot");
}

static void change_network(void)
{
	must(!unshare(CLONE_NEWNET | CLONE_NEWNS), "unshare");
}

static void change_user(void)
{
	must(!setresgid(65534, 65534, 65534) && !setresuid(65534, 65534, 65534), "setresuid");
}

static void in_a_child(const char *what, void (*change)(void))
{
	pid_t child = fork();
	if (!child) {
		change();
		long key = add_user("first", "text", PROCESS);
		_exit(!(key > 0 && holds(key, "text")));
	}
	reap(child, what);
}

int main(void)
{
	in_a_child("another root", change_root);
	in_a_child("another root by number", change_root_by_number);
	in_a_child("another network", change_network);
	in_a_child("another user", change_user);
	in_a_child("no sockets", forbid_sockets);
	long key = add_user("here", "text", PROCESS);
	printf("nothing changed: %s\n", holds(key, "text") ? "well" : "LOST");
	return 0;
}
