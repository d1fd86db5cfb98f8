/* What every program here needs: key calls by way of libc's syscall(), and output
 * that is the same on the kernel and under keyshim. Serials are never printed. */
#ifndef COMMON_H
#define COMMON_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREAD = -1, PROCESS = -2, SESSION = -3, USER = -4, USER_SESSION = -5 };
enum {
	GET_KEYRING_ID, JOIN, UPDATE, REVOKE, CHOWN, SETPERM, DESCRIBE, CLEAR, LINK, UNLINK,
	SEARCH, READ, INSTANTIATE, NEGATE, SET_REQKEY_KEYRING, SET_TIMEOUT, ASSUME_AUTHORITY,
	GET_SECURITY, SESSION_TO_PARENT, REJECT, INSTANTIATE_IOV, INVALIDATE, GET_PERSISTENT,
	RESTRICT_KEYRING = 29, MOVE, CAPABILITIES
};

#define ADD(type, desc, payload, len, ring) \
	syscall(SYS_add_key, (type), (desc), (payload), (size_t)(len), (ring))
#define REQUEST(type, desc, callout, ring) \
	syscall(SYS_request_key, (type), (desc), (callout), (ring))
#define KEYCTL(op, a, b, c, d) syscall(SYS_keyctl, (op), (a), (b), (c), (d))

/* One line: what was done, and "ok", or the value if it is small, or the error. */
static inline long say(const char *what, long result)
{
	int error = errno;
	if (result == -1)
		printf("%s: %s\n", what, strerrorname_np(error));
	else if (result >= 0 && result < 4096)
		printf("%s: %ld\n", what, result);
	else
		printf("%s: ok\n", what);
	fflush(stdout);
	return result;
}

static inline void must(int condition, const char *what)
{
	if (!condition) {
		printf("BROKEN: %s (%s)\n", what, strerrorname_np(errno));
		fflush(stdout);
		_exit(99);
	}
}

/* A universe of one's own, on the kernel as well. */
static inline void own_session(void)
{
	must(KEYCTL(JOIN, 0, 0, 0, 0) > 0, "join a new session");
}

static inline long add_user(const char *desc, const char *payload, long ring)
{
	return ADD("user", desc, payload, strlen(payload), ring);
}

/* True when the key can be read and holds that text. */
static inline int holds(long key, const char *text)
{
	char buffer[256];
	long len = KEYCTL(READ, key, buffer, sizeof buffer, 0);
	return len == (long)strlen(text) && !memcmp(buffer, text, len);
}

/* Waits for a child and tells how it ended. */
static inline void reap(pid_t child, const char *what)
{
	int status = 0;
	must(waitpid(child, &status, 0) == child, "wait for a child");
	if (WIFEXITED(status))
		printf("%s: exit %d\n", what, WEXITSTATUS(status));
	else
		printf("%s: signal %d\n", what, WTERMSIG(status));
	fflush(stdout);
}

/* From here on two system calls fail with that error, in this thread and its children. */
static inline void forbid(long one, long other, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, one, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, other, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof code / sizeof *code, code };
	must(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges");
	must(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
}

static inline int open_descriptors(void)
{
	int count = 0;
	struct rlimit limit;
	getrlimit(RLIMIT_NOFILE, &limit);
	long max = limit.rlim_cur < 65536 ? (long)limit.rlim_cur : 65536;
	for (int fd = 0; fd < max; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}
#endif
