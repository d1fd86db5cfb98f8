/* Writes a knob in the ways of a shell and of sysctl. Never on the real kernel:
 * there it would change the machine. */
#include "common.h"

static const char path[] = "/proc/sys/kernel/keys/gc_delay";

static void show(const char *after)
{
	char text[64] = "";
	FILE *stream = fopen(path, "r");
	must(stream && fgets(text, sizeof text, stream), "read the knob");
	fclose(stream);
	printf("after %s: %s", after, text);
}

int main(void)
{
	show("nothing");
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	must(fd >= 0 && fcntl(fd, F_GETFD) == 0, "open as a shell");
	must(dup2(fd, 30) == 30 && !close(fd), "dup2");
	must(write(30, "111\n", 4) == 4 && !close(30), "write");
	show("the shell's way");
	FILE *stream = fopen(path, "w");
	must(stream && fprintf(stream, "222\n") == 4 && !fclose(stream), "fopen");
	show("sysctl's way");
	fd = creat(path, 0644);
	must(fd >= 0 && write(fd, "333", 3) == 3 && !close(fd), "creat");
	show("creat");
	char byte;
	fd = open(path, O_RDWR | O_CLOEXEC);
	must(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC, "open for both");
	must(read(fd, &byte, 1) == 0, "nothing to be read");
	must(write(fd, "444", 3) == 3 && !close(fd), "write");
	show("both");
	return 0;
}
