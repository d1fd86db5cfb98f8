/* Every pointer argument of every operation: NULL, unmapped, read-only where it is
 * written to, and strings that run into an unmapped page. With "sandboxed", the
 * same where process_vm_readv and process_vm_writev are forbidden. */
#include "common.h"
#include <sys/uio.h>

static char *unmapped, *read_only, *write_only, *edge;

static void forbid_process_vm(void)
{
	forbid(SYS_process_vm_readv, SYS_process_vm_writev, EPERM);
	char byte, from = 'x';
	struct iovec local = { &byte, 1 }, remote = { &from, 1 };
	must(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == -1, "the filter works");
}

/* The text, ending right before an unmapped page, without its NUL if `len` says so. */
static char *at_edge(const char *text, size_t len)
{
	return memcpy(edge - len, text, len);
}

static void make_pages(void)
{
	int none = MAP_PRIVATE | MAP_ANONYMOUS;
	char *pages = mmap(0, 16 * 4096, PROT_READ | PROT_WRITE, none, -1, 0);
	must(pages != MAP_FAILED, "map");
	unmapped = pages + 15 * 4096;
	munmap(unmapped, 4096);
	edge = unmapped;
	read_only = mmap(0, 4096, PROT_READ, none, -1, 0);
	write_only = mmap(0, 4096, PROT_WRITE, none, -1, 0);
}

static void strings(void)
{
	char *bad[] = { NULL, unmapped, (char *)-1, (char *)0xffff800000000000, (char *)8 };
	char name[64];
	for (int i = 0; i < 5; i++) {
#define LABEL(text) (snprintf(name, sizeof name, "%s bad %d", text, i), name)
		say(LABEL("add type"), ADD(bad[i], "d", "p", 1, SESSION));
		say(LABEL("add description"), ADD("user", bad[i], "p", 1, SESSION));
		say(LABEL("add payload"), ADD("user", "d", bad[i], 1, SESSION));
		say(LABEL("add no payload"), ADD("keyring", "r", bad[i], 0, SESSION));
		say(LABEL("request type"), REQUEST(bad[i], "d", 0, 0));
		say(LABEL("request description"), REQUEST("user", bad[i], 0, 0));
		say(LABEL("request callout"), REQUEST("user", "none", bad[i] ? bad[i] : unmapped, 0));
		say(LABEL("search type"), KEYCTL(SEARCH, SESSION, bad[i], "d", 0));
		say(LABEL("search description"), KEYCTL(SEARCH, SESSION, "user", bad[i], 0));
		say(LABEL("restrict type"), KEYCTL(RESTRICT_KEYRING, 0, bad[i], "x", 0));
		say(LABEL("join"), bad[i] ? KEYCTL(JOIN, bad[i], 0, 0, 0) : -2);
		say(LABEL("update"), KEYCTL(UPDATE, SESSION, bad[i], 1, 0));
		say(LABEL("instantiate"), KEYCTL(INSTANTIATE, 1, bad[i], 1, 0));
		say(LABEL("instantiate iov"), KEYCTL(INSTANTIATE_IOV, 1, bad[i], 1, 0));
	}
}

static void edges(void)
{
	long key = ADD("user", at_edge("whole", 6), "p", 1, SESSION);
	say("description that ends at the edge", key);
	say("description that runs over the edge", ADD("user", at_edge("whole", 5), "p", 1, SESSION));
	say("type that runs over the edge", ADD(at_edge("user", 4), "d", "p", 1, SESSION));
	say("type that ends at the edge", ADD(at_edge("user", 5), "d", "p", 1, SESSION));
	say("payload that ends at the edge", ADD("user", "e", at_edge("abc", 3), 3, SESSION));
	say("payload over the edge", ADD("user", "e", at_edge("abc", 3), 4, SESSION));
	say("long payload over the edge", ADD("user", "e", edge - 20000, 20001, SESSION));
	say("too long payload over the edge", ADD("user", "e", edge - 40000, 40001, SESSION));
	say("too long payload", ADD("user", "e", edge - 40000, 40000, SESSION));
	char *big = malloc(2 << 20);
	memset(big, 'x', 2 << 20);
	big[4094] = 0;
	say("longest description", REQUEST("user", big, 0, 0));
	big[4094] = 'x', big[4095] = 0;
	say("description of 4095", REQUEST("user", big, 0, 0));
	big[4095] = 'x', big[4096] = 0;
	say("description of 4096", REQUEST("user", big, 0, 0));
	say("type of 32", REQUEST(big + 4096 - 32, "d", 0, 0));
	say("type of 31", REQUEST(big + 4096 - 31, "d", 0, 0));
	say("largest user key", ADD("user", "l", big, 32767, SESSION));
	say("a byte more", ADD("user", "l", big, 32768, SESSION));
	say("a mebibyte", ADD("user", "l", big, 1 << 20, SESSION));
	say("a length beyond all", ADD("user", "l", big, -1, SESSION));
	free(big);
}

static void write_only_memory(void)
{
	char *text = write_only;
	strcpy(text, "w");
	/* What the hardware lets one read, the kernel copies. */
	say("write-only description", ADD("user", text, "p", 1, SESSION));
	say("write-only payload", ADD("user", "w2", text, 1, SESSION));
}

static void buffers(void)
{
	long key = add_user("read me", "0123456789", SESSION);
	char *targets[] = { NULL, unmapped, read_only, edge - 4, (char *)-1, edge - 10, write_only };
	char name[64];
	for (int i = 0; i < 7; i++) {
		say(LABEL("read"), KEYCTL(READ, key, targets[i], 10, 0));
		say(LABEL("read too short"), KEYCTL(READ, key, targets[i], 3, 0));
		say(LABEL("read huge"), KEYCTL(READ, key, targets[i], 1ul << 40, 0));
		say(LABEL("read ring"), KEYCTL(READ, SESSION, targets[i], 4096, 0) > 0 ? 0 : -2);
		say(LABEL("describe"), KEYCTL(DESCRIBE, key, targets[i], 200, 0));
		say(LABEL("describe too short"), KEYCTL(DESCRIBE, key, targets[i], 2, 0));
		say(LABEL("security"), KEYCTL(GET_SECURITY, key, targets[i], 10, 0));
		say(LABEL("capabilities"), KEYCTL(CAPABILITIES, targets[i], 0, 0, 0) >= 1 ? 0 : -1);
		say(LABEL("capabilities 1"), KEYCTL(CAPABILITIES, targets[i], 1, 0, 0) >= 1 ? 0 : -1);
	}
	must(KEYCTL(READ, key, edge - 10, 10, 0) == 10, "read to the edge");
	must(!memcmp(edge - 10, "0123456789", 10), "what was read is there");
}

int main(int argc, char **argv)
{
	own_session();
	make_pages();
	if (argc > 1 && !strcmp(argv[1], "sandboxed"))
		forbid_process_vm();
	strings();
	edges();
	write_only_memory();
	buffers();
	return 0;
}
