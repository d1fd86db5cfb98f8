/* As root: the first key call of all comes when the program has changed its root,
 * its network or its user, or may not make or connect sockets any more. */
#include "common.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>

static void forbid_sockets(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };
	must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
	must(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
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
