/* Whose session a task has, where nobody could have asked before it was too late:
 * parents that are dead, or have joined another session, before its first call. */
#include "common.h"
#include <limits.h>
#include <spawn.h>
#include <sys/fsuid.h>

extern char **environ;
/* What is spawned: this program, or the same one built otherwise. */
static char *sibling = "/proc/self/exe";

static long joined(void)
{
	long session = KEYCTL(JOIN, 0, 0, 0, 0);
	must(session > 0, "join a new session");
	return session;
}

static long session_now(void)
{
	return KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0);
}

static void tell(int fd, long value)
{
	must(write(fd, &value, sizeof value) == sizeof value, "tell");
}

static long hear(int fd)
{
	long value;
	must(read(fd, &value, sizeof value) == sizeof value, "hear");
	return value;
}

static void show(const char *what, long got, long expected)
{
	printf("%s: %s\n", what, got == expected ? "its own" : got > 0 ? "ANOTHER" : "NONE");
}

struct pipes {
	int to_us[2], to_them[2];
};

static struct pipes pipes(void)
{
	struct pipes p;
	must(!pipe(p.to_us) && !pipe(p.to_them), "pipe");
	return p;
}

static void done(struct pipes p)
{
	for (int i = 0; i < 2; i++) {
		close(p.to_us[i]);
		close(p.to_them[i]);
	}
}

/* Waits until a process has gone that is not ours to wait for. */
static void outlive(pid_t process)
{
	while (!kill(process, 0))
		usleep(1000);
}

/* A parent that joins; a child without any call; a grandchild that calls when both
 * have gone. With setsid, nothing but descent connects them. */
static void daemon_of_the_dead(int with_setsid)
{
	struct pipes p = pipes();
	pid_t parent = fork();
	if (!parent) {
		tell(p.to_us[1], joined());
		pid_t child = fork();
		if (!child) {
			pid_t middle = getpid(), first = getppid();
			if (with_setsid)
				setsid();
			if (!fork()) {
				hear(p.to_them[0]);
				outlive(middle);
				outlive(first);
				tell(p.to_us[1], session_now());
			}
			_exit(0);
		}
		waitpid(child, NULL, 0);
		_exit(0);
	}
	waitpid(parent, NULL, 0);
	long expected = hear(p.to_us[0]);
	tell(p.to_them[1], 0);
	show(with_setsid ? "daemon of the dead, setsid" : "daemon of the dead", hear(p.to_us[0]), expected);
	done(p);
}

static pid_t spawned(struct pipes p)
{
	char out[16], in[16];
	pid_t child;
	snprintf(out, sizeof out, "%d", p.to_us[1]);
	snprintf(in, sizeof in, "%d", p.to_them[0]);
	char *arguments[] = { sibling, "report", in, out, NULL };
	must(!posix_spawn(&child, sibling, NULL, NULL, arguments, environ), "spawn");
	return child;
}

static void parent_joins_right_after(int by_spawn)
{
	struct pipes p = pipes();
	long before = joined();
	pid_t child;
	if (by_spawn) {
		child = spawned(p);
	} else {
		child = fork();
		if (!child) {
			hear(p.to_them[0]);
			tell(p.to_us[1], session_now());
			_exit(0);
		}
	}
	long after = joined();
	tell(p.to_them[1], 0);
	show(by_spawn ? "spawned before a join" : "forked before a join", hear(p.to_us[0]), before);
	show("and its parent", session_now(), after);
	waitpid(child, NULL, 0);
	done(p);
}

static void parent_killed(void)
{
	struct pipes p = pipes();
	pid_t parent = fork();
	if (!parent) {
		long session = joined();
		if (!fork()) {
			hear(p.to_them[0]);
			tell(p.to_us[1], session_now());
			_exit(0);
		}
		tell(p.to_us[1], session);
		pause();
	}
	long expected = hear(p.to_us[0]);
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	tell(p.to_them[1], 0);
	show("child of a killed parent", hear(p.to_us[0]), expected);
	done(p);
}

static long of_thread, of_its_child, of_main_child;

static long session_of_child(void)
{
	struct pipes p = pipes();
	pid_t child = fork();
	if (!child) {
		tell(p.to_us[1], session_now());
		_exit(0);
	}
	long session = hear(p.to_us[0]);
	waitpid(child, NULL, 0);
	done(p);
	return session;
}

static void *thread_with_a_session(void *unused)
{
	of_thread = joined();
	of_its_child = session_of_child();
	return unused;
}

static void threads(void)
{
	long session = joined();
	pthread_t thread;
	pthread_create(&thread, NULL, thread_with_a_session, NULL);
	pthread_join(thread, NULL);
	of_main_child = session_of_child();
	show("main thread", session_now(), session);
	show("its child", of_main_child, session);
	show("child of a thread with another session", of_its_child, of_thread);
}

static char stack[64 * 1024] __attribute__((aligned(16)));
static long seen_in_clone;

static int in_clone(void *unused)
{
	(void)unused;
	seen_in_clone = session_now();
	return KEYCTL(GET_KEYRING_ID, PROCESS, 0, 0, 0) == -1 && errno == ENOKEY ? 0 : 1;
}

static void shared_memory(void)
{
	long session = joined();
	must(KEYCTL(GET_KEYRING_ID, PROCESS, 1, 0, 0) > 0, "process keyring");
	pid_t child = clone(in_clone, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	must(child > 0, "clone");
	reap(child, "a process in the same memory, without the process keyring");
	show("a process in the same memory", seen_in_clone, session);
}

static void to_a_silent_parent(void)
{
	struct pipes p = pipes();
	long before = joined();
	pid_t parent = fork();
	if (!parent) {
		pid_t child = fork();
		if (!child) {
			long session = joined();
			must(!KEYCTL(SESSION_TO_PARENT, 0, 0, 0, 0), "session to parent");
			tell(p.to_us[1], session);
			_exit(0);
		}
		waitpid(child, NULL, 0);
		tell(p.to_us[1], session_now());
		_exit(0);
	}
	long expected = hear(p.to_us[0]);
	show("a silent parent that was given a session", hear(p.to_us[0]), expected);
	waitpid(parent, NULL, 0);
	show("and its own parent", session_now(), before);
	done(p);
}

enum { MANY = 1000 };

static void many_at_once(void)
{
	struct pipes p = pipes();
	static pid_t children[MANY];
	long before = joined();
	for (int i = 0; i < MANY; i++) {
		children[i] = fork();
		must(children[i] >= 0, "fork a thousand");
		if (!children[i]) {
			char end;
			close(p.to_them[1]);
			must(!read(p.to_them[0], &end, 1), "wait");
			tell(p.to_us[1], session_now());
			_exit(0);
		}
	}
	joined();
	close(p.to_them[1]);
	int right = 0;
	for (int i = 0; i < MANY; i++)
		right += hear(p.to_us[0]) == before;
	for (int i = 0; i < MANY; i++)
		waitpid(children[i], NULL, 0);
	printf("a thousand children at once: %d right\n", right);
	done(p);
}

/* The number of a dead process with a session of its own, used again. */
static void a_number_used_again(void)
{
	long session = joined();
	int last = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	int met = 0;
	for (int turn = 0; turn < 3000 && met < 3; turn++) {
		struct pipes p = pipes();
		pid_t first = fork();
		if (!first) {
			joined();
			_exit(0);
		}
		waitpid(first, NULL, 0);
		char text[16];
		int len = snprintf(text, sizeof text, "%d", first - 1);
		if (last < 0 || write(last, text, len) != len) {
			done(p);
			met = 3;
			break;
		}
		pid_t second = fork();
		if (!second) {
			tell(p.to_us[1], session_now());
			_exit(0);
		}
		long seen = hear(p.to_us[0]);
		waitpid(second, NULL, 0);
		met += second == first;
		must(seen == session, "whoever has a dead one's number has nothing else of it");
		done(p);
	}
	/* Not always met: others fork as well. */
	(void)met;
	puts("a number used again: nothing of the dead");
}

static void ids_change(void)
{
	if (geteuid()) {
		puts("not root");
		return;
	}
	pid_t child = fork();
	if (!child) {
		long session = joined();
		long ring = KEYCTL(GET_KEYRING_ID, THREAD, 1, 0, 0);
		char text[64];
		setfsuid(54321);
		must(KEYCTL(DESCRIBE, ring, text, sizeof text, 0) > 0, "describe");
		printf("after setfsuid: %.24s\n", text);
		setfsuid(0);
		must(!setresuid(54322, 54322, 0), "setresuid");
		must(KEYCTL(DESCRIBE, ring, text, sizeof text, 0) > 0, "describe");
		printf("after setresuid: %.24s\n", text);
		/* Before it gives up what it needs to see its own session. */
		show("after setresuid", session_now(), session);
		_exit(0);
	}
	reap(child, "who changes ids");
}

/* What a child had is gone for a parent that has waited for it. The kernel takes its
 * time with that; keyshim does not. */
static void gone_when_waited_for(int strict)
{
	struct pipes p = pipes();
	int seen = 0;
	for (int turn = 0; turn < 50; turn++) {
		pid_t child = fork();
		if (!child) {
			tell(p.to_us[1], add_user("child's", "c", PROCESS));
			_exit(0);
		}
		long key = hear(p.to_us[0]);
		waitpid(child, NULL, 0);
		for (int tries = strict ? 1 : 5000; tries > 0; tries--) {
			if (KEYCTL(DESCRIBE, key, 0, 0, 0) == -1 && errno == ENOKEY)
				break;
			if (tries == 1)
				seen++;
			usleep(1000);
		}
	}
	printf("seen after its process was waited for: %d\n", seen);
	done(p);
}

/* The program that was run ends at once, and leaves a child that calls afterwards. */
static int leave_a_child(void)
{
	long session = joined();
	pid_t program = getpid();
	if (!fork()) {
		outlive(program);
		show("a child that outlives its program", session_now(), session);
	}
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 4 && !strcmp(argv[1], "report")) {
		hear(atoi(argv[2]));
		tell(atoi(argv[3]), session_now());
		return 0;
	}
	if (argc == 2 && !strcmp(argv[1], "outlive"))
		return leave_a_child();
	if (argc == 2)
		sibling = argv[1];
	int strict = getenv("KEYSHIM_SOCKET") != NULL;
	daemon_of_the_dead(0);
	daemon_of_the_dead(1);
	parent_joins_right_after(0);
	parent_joins_right_after(1);
	parent_killed();
	threads();
	shared_memory();
	to_a_silent_parent();
	many_at_once();
	a_number_used_again();
	ids_change();
	gone_when_waited_for(strict);
	return 0;
}
