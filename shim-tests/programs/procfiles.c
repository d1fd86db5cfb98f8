/* The files under /proc by bare system calls: who may do what with them, and what comes
 * of it. Knobs are only written what they hold already, or what is no value. */
#include "common.h"
#include <grp.h>
#include <poll.h>
#include <sys/fsuid.h>
#include <sys/sendfile.h>

#define KEYS "/proc/keys"
#define USERS "/proc/key-users"
#define KNOBS "/proc/sys/kernel/keys"
#define KNOB KNOBS "/gc_delay"
#define OTHER_KNOB KNOBS "/maxkeys"
enum { NOBODY = 65534 };

static char value[32], mark[64];

static int is_marked(int fd)
{
	static char text[1 << 20];
	ssize_t len = 0, more;
	lseek(fd, 0, SEEK_SET);
	while ((more = read(fd, text + len, sizeof text - 1 - len)) > 0)
		len += more;
	text[len] = 0;
	return strstr(text, mark) != NULL;
}

/* Opens it anew, tells whether the key is in there. */
static void look(const char *how, int fd)
{
	printf("%s: %s\n", how, fd < 0 ? strerrorname_np(errno) : is_marked(fd) ? "key" : "no key");
	fflush(stdout);
	if (fd >= 0)
		close(fd);
}

static void become_nobody(void)
{
	must(!setgroups(0, NULL) && !setresgid(NOBODY, NOBODY, NOBODY), "setresgid");
	must(!setresuid(NOBODY, NOBODY, NOBODY), "setresuid");
}

/* As nobody, in a child. */
static void as_nobody(void act(int), int fd)
{
	fflush(stdout);
	pid_t child = fork();
	if (!child) {
		become_nobody();
		act(fd);
		_exit(0);
	}
	reap(child, "nobody");
}

static void by_many_names(void)
{
	char folder[] = "/tmp/procfiles-XXXXXX", link[64];
	must(mkdtemp(folder) != NULL, "mkdtemp");
	snprintf(link, sizeof link, "%s/link", folder);
	must(!symlink(KEYS, link) && !chdir("/proc/sys"), "symlink, chdir");
	look("absolute", open(KEYS, O_RDONLY));
	look("relative", open("../keys", O_RDONLY));
	look("link", open(link, O_RDONLY));
	look("through our root", open("/proc/self/root/proc/keys", O_RDONLY));
	look("through our thread", open("/proc/thread-self/root/proc/./keys", O_RDONLY));
	int proc = open("/proc", O_PATH | O_DIRECTORY);
	look("openat", syscall(SYS_openat, proc, "keys", O_RDONLY | O_CLOEXEC));
	int path = open(KEYS, O_PATH);
	char again[32];
	snprintf(again, sizeof again, "/proc/self/fd/%d", path);
	look("again", open(again, O_RDONLY));
	look("read and write", open(KEYS, O_RDWR | O_TRUNC));
	unlink(link);
	rmdir(folder);
}

static void held_by_nobody(int fd)
{
	look("opened by root", fd);
	look("opened by nobody", open(KEYS, O_RDONLY));
}

/* The opener's rights go with the descriptor. */
static void rights(void)
{
	char desc[64];
	must(KEYCTL(SETPERM, add_user(mark, "x", SESSION), 0x003f0000, 0, 0) == 0, "setperm");
	as_nobody(held_by_nobody, open(KEYS, O_RDONLY));
	snprintf(desc, sizeof desc, "%s", mark);
	must(KEYCTL(SETPERM, KEYCTL(SEARCH, SESSION, "user", desc, 0), 0x3f000001, 0, 0) == 0,
		"setperm");
	as_nobody(held_by_nobody, open(KEYS, O_RDONLY));
}

static void facts(const char *path)
{
	struct stat s;
	must(!stat(path, &s), path);
	printf("%s: mode %o, owner %d:%d, size %ld, blocks %ld of %ld, links %d\n", path, s.st_mode,
		s.st_uid, s.st_gid, (long)s.st_size, (long)s.st_blocks, (long)s.st_blksize,
		(int)s.st_nlink);
}

/* One write from the beginning of a fresh descriptor. */
static void written(const char *what, const char *text, size_t len, int flags)
{
	int fd = open(KNOB, O_WRONLY | flags);
	must(fd >= 0, "open a knob");
	char now[32] = "";
	long taken = write(fd, text, len);
	if (taken >= 0 && flags & O_APPEND)
		printf("%s: all but %ld", what, (long)len - taken);
	else if (taken >= 0)
		printf("%s: all but %ld, at all but %ld", what, (long)len - taken,
			(long)len - (long)lseek(fd, 0, SEEK_CUR));
	else
		printf("%s: %s", what, strerrorname_np(errno));
	close(fd);
	fd = open(KNOB, O_RDONLY);
	ssize_t got = read(fd, now, sizeof now - 1);
	close(fd);
	printf(", %s\n", got > 0 && !strcmp(now, value) ? "kept" : "CHANGED");
	fflush(stdout);
}

static void writes(void)
{
	static char text[8192];
	long number = atol(value);
	const char *formats[] = { "%ld", "%ld\n", "  %ld  \n", "\v\f\r%ld", "\240%ld", "%ld 7",
		"%ld\t7\n", "0x%lx", "0X%lX\n", "0%lo\n", "%ld\n5\n", "\205%ld", "%ld\v", "%ld\r\n",
		"%ldx", "%ld,", "+%ld", "-%ld", "--%ld", "- %ld", "x%ld", "0b%ld", "21474836480%ld",
		"000000000000000000000%ld", "18446744073709551616%ld", NULL };
	for (const char **format = formats; *format; format++) {
		int len = snprintf(text, sizeof text, *format, number);
		for (const char *c = *format; *c; c++)
			printf(*c >= ' ' && *c <= '~' ? "%c" : "\\%03o", (unsigned char)*c);
		written("", text, len, 0);
	}
	written("nothing", text, 0, 0);
	written("blank", " ", 1, 0);
	written("newline", "\n", 1, 0);
	written("minus", "-", 1, 0);
	written("prefix", "0x", 2, 0);
	written("no octal", "08", 2, 0);
	int len = snprintf(text, sizeof text, "%ld", number);
	text[len] = 0;
	written("with a zero byte", text, len + 1, 0);
	memset(text + len, ' ', 5000);
	written("with much room", text, len + 5000, 0);
	memcpy(text + len + 4090, "77777", 5);
	written("with room and a number", text, len + 4095, 0);
	memset(text, ' ', sizeof text);
	written("much room", text, 4096, 0);
	written("appended", value, strlen(value), O_APPEND);
	written("to nothing", value, strlen(value), O_TRUNC);
}

/* Parts, and what comes after them. */
static void positions(void)
{
	char byte[64] = "";
	int fd = open(KNOB, O_RDWR);
	say("first byte", read(fd, byte, 1));
	say("second byte", read(fd, byte, 1));
	say("from the middle", pread(fd, byte, 9, 1));
	say("two bytes", pread(fd, byte, 2, 0));
	say("junk in the middle", pwrite(fd, "junk", 4, 1));
	say("end", lseek(fd, 0, SEEK_END));
	say("whole at the end", read(fd, byte, 1));
	say("end again", lseek(fd, 0, SEEK_END));
	say("truncate", ftruncate(fd, 0));
	say("lengthen", ftruncate(fd, 9));
	say("sync", fsync(fd));
	close(fd);
	fd = open(KNOB, O_WRONLY | O_APPEND | O_TRUNC);
	must(write(fd, value, strlen(value)) == (long)strlen(value), "append");
	say("junk after an append", write(fd, "junk", 4));
	say("read what was opened for writing", read(fd, byte, 1));
	close(fd);
	facts(KNOB);
	fd = open(KEYS, O_RDWR);
	say("keys: end", lseek(fd, 0, SEEK_END));
	say("keys: before", lseek(fd, -1, SEEK_SET));
	say("keys: beyond", lseek(fd, 1 << 30, SEEK_SET) == 1 << 30 ? 1 : 0);
	say("keys: beyond that nothing", read(fd, byte, 1));
	say("keys: write", write(fd, "x", 1));
	say("keys: truncate", ftruncate(fd, 0));
	struct pollfd poller = { fd, ~0, 0 };
	must(poll(&poller, 1, 0) == 1, "poll");
	printf("keys: events %x\n", poller.revents & (POLLIN | POLLOUT | POLLERR | POLLHUP));
	close(fd);
}

/* True when any way of reading gives the same text. */
static int is_same_in_pieces(const char *path)
{
	static char whole[1 << 20], part[1 << 20];
	int fd = open(path, O_RDONLY);
	ssize_t len = 0, more, at = 0;
	while ((more = read(fd, whole + len, sizeof whole - len)) > 0)
		len += more;
	must(len > 0 && lseek(fd, 0, SEEK_SET) == 0, path);
	while ((more = read(fd, part + at, 7)) > 0)
		at += more;
	int is_same = at == len && !memcmp(whole, part, len);
	int middle = len / 2;
	more = pread(fd, part, 11, middle);
	is_same &= more == (len - middle < 11 ? len - middle : 11) && !memcmp(whole + middle, part, more);
	close(fd);
	return is_same;
}

/* The kernel makes its text while it is read, and others change it meanwhile. */
static void pieces(const char *path)
{
	int tries = 0;
	while (tries < 1000 && !is_same_in_pieces(path))
		tries++;
	printf("%s: %s in pieces\n", path, tries < 1000 ? "the same" : "DIFFERENT");
}

static void attempts(int fd)
{
	struct timespec epoch[2] = { { 1, 0 }, { 1, 0 } };
	say("write what root opened", write(fd, value, strlen(value)));
	say("in its middle", pwrite(fd, "junk", 4, 1));
	say("read it", pread(fd, (char[64]){ 0 }, 64, 0) == (long)strlen(value));
	say("truncate it", ftruncate(fd, 0));
	for (int path = 0; path < 2; path++) {
		const char *name = path ? KEYS : KNOB;
		puts(name);
		say("write", open(name, O_WRONLY));
		say("read and write", open(name, O_RDWR));
		say("to nothing", open(name, O_RDONLY | O_TRUNC));
		say("truncate", truncate(name, 0));
		say("chmod", chmod(name, 0666));
		say("chown", chown(name, NOBODY, NOBODY));
		say("now", utimensat(AT_FDCWD, name, NULL, 0));
		say("then", utimensat(AT_FDCWD, name, epoch, 0));
		say("may read", access(name, R_OK));
		say("may write", access(name, W_OK));
		say("may execute", access(name, X_OK));
	}
	say("may enter", access(KNOBS, R_OK | X_OK));
	say("may make", access(KNOBS, W_OK));
	say("make", open(KNOBS "/new", O_CREAT | O_WRONLY, 0600));
	say("make anew", open(KNOB, O_CREAT | O_EXCL | O_WRONLY, 0600));
	say("unlink", unlink(KNOB));
}

static void roots_attempts(void)
{
	say("chmod", chmod(KNOB, 0600));
	say("chown", chown(KNOB, NOBODY, -1));
	say("may write", access(KNOB, W_OK));
	say("may execute", access(KNOB, X_OK));
	say("may write keys", access(KEYS, W_OK));
	say("make", open(KNOBS "/new", O_CREAT | O_WRONLY, 0600));
	say("directory", mkdir(KNOBS "/new", 0700));
	say("node", mknod(KNOBS "/new", S_IFIFO | 0600, 0));
	say("link", link(KNOB, KNOBS "/new"));
	say("symlink", symlink(KNOB, KNOBS "/new"));
	say("unlink", unlink(KNOB));
	say("remove", rmdir(KNOBS));
	say("rename", rename(KNOB, KNOBS "/new"));
	say("rename over", rename(KNOB, OTHER_KNOB));
	say("what is not there", open(KNOBS "/new", O_RDONLY));
	say("attribute", syscall(SYS_getxattr, KEYS, "user.x", NULL, 0));
	say("attributes", syscall(SYS_listxattr, KEYS, NULL, 0));
	say("only the effective user counts", setresuid(0, NOBODY, 0));
	say("write", open(KNOB, O_WRONLY));
	say("may write", access(KNOB, W_OK));
	must(!setresuid(0, 0, 0), "setresuid");
	setfsuid(NOBODY);
	int fd = open(KNOB, O_WRONLY);
	puts(fd >= 0 ? "fsuid does not" : "FSUID DOES");
	say("for knobs alone", open(KEYS, O_WRONLY));
	close(fd);
	setfsuid(0);
}

int main(void)
{
	must(geteuid() == 0, "root");
	own_session();
	snprintf(mark, sizeof mark, "procfiles:%d", getpid());
	int fd = open(KNOB, O_RDWR);
	must(fd >= 0 && read(fd, value, sizeof value - 1) > 0, "read a knob");
	must(add_user(mark, "x", SESSION) > 0, "add a key");
	facts(KEYS);
	facts(USERS);
	facts(KNOBS);
	facts(KNOB);
	by_many_names();
	pieces(KEYS);
	pieces(USERS);
	rights();
	writes();
	positions();
	as_nobody(attempts, fd);
	roots_attempts();
	return 0;
}
