/* The files under /proc, by every name by which C opens and looks at them. */
#include "common.h"

static char expected[64];

static void content(const char *how, int fd)
{
	static char text[1 << 16];
	must(fd >= 0, how);
	ssize_t len = read(fd, text, sizeof text - 1), more;
	while ((more = read(fd, text + len, sizeof text - 1 - len)) > 0)
		len += more;
	text[len > 0 ? len : 0] = 0;
	printf("%s: fd %d, cloexec %d, access %d, key %s\n", how, fd, fcntl(fd, F_GETFD),
		fcntl(fd, F_GETFL) & O_ACCMODE, strstr(text, expected) ? "there" : "MISSING");
	close(fd);
}

static void status(const char *how, int result, const struct stat *s)
{
	printf("%s: %d, mode %o, owner %d:%d, size %ld, links %d\n", how, result, s->st_mode,
		s->st_uid, s->st_gid, (long)s->st_size, (int)s->st_nlink);
}

static void opening(const char *path)
{
	content("open", open(path, O_RDONLY));
	content("open64", open64(path, O_RDONLY | O_CLOEXEC));
	content("openat", openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
	content("openat64", openat64(77, path, O_RDONLY));
	content("nonblocking", open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
	close(0);
	content("lowest", open(path, O_RDONLY));
	FILE *stream = fopen(path, "r");
	content("fopen", fileno(stream));
	fclose(stream);
	stream = fopen64(path, "re");
	content("fopen64", fileno(stream));
	fclose(stream);
	char line[4096];
	int lines = 0;
	stream = fopen(path, "r");
	while (fgets(line, sizeof line, stream))
		lines += strstr(line, expected) != NULL;
	printf("lines: %d\n", lines);
	rewind(stream);
	printf("again: %s\n", fgets(line, sizeof line, stream) ? "a line" : "nothing");
	fclose(stream);
	say("directory", open(path, O_RDONLY | O_DIRECTORY));
	say("exclusive", open(path, O_RDONLY | O_CREAT | O_EXCL, 0600));
	say("no such file", open("/proc/keys2", O_RDONLY));
	say("a bad path", open((char *)8, O_RDONLY));
	say("no path", open(NULL, O_RDONLY));
	int fd = open(path, O_RDONLY);
	say("write to it", write(fd, "x", 1));
	close(fd);
}

static void looking(const char *path)
{
	struct stat s;
	status("stat", stat(path, &s), &s);
	status("lstat", lstat(path, &s), &s);
	status("fstatat", fstatat(AT_FDCWD, path, &s, 0), &s);
	struct statx x = { 0 };
	int result = statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &x);
	printf("statx: %d, mode %o, owner %d\n", result, x.stx_mode, x.stx_uid);
	say("stat to nowhere", stat(path, (struct stat *)8));
	say("stat of nothing", stat((char *)8, &s));
	say("access R", access(path, R_OK));
	say("access X", access(path, X_OK));
	say("access W", access(path, W_OK));
	say("eaccess R", eaccess(path, R_OK));
	say("faccessat R", faccessat(AT_FDCWD, path, R_OK, 0));
	say("access junk", access(path, 64));
}

int main(void)
{
	own_session();
	long key = add_user("seen in the file", "p", SESSION);
	snprintf(expected, sizeof expected, "%08lx", key);
	opening("/proc/keys");
	looking("/proc/keys");
	snprintf(expected, sizeof expected, "%5d:", getuid());
	content("key-users", open("/proc/key-users", O_RDONLY));
	looking("/proc/key-users");
	snprintf(expected, sizeof expected, "%s", "0\n");
	content("maxkeys", open("/proc/sys/kernel/keys/maxkeys", O_RDONLY));
	looking("/proc/sys/kernel/keys/gc_delay");
	return 0;
}
