/* What a copy leaves in the caller's memory, page by page: partly mapped buffers, pages
 * without any right, a stack that has not grown yet, addresses that wrap around. */
#include "common.h"

enum { PAGE = 4096 };
static char *pages; /* read-write, none, read-only, write-only, read-write, unmapped */
static long key, ring;

static char *page(int number) { return pages + number * PAGE; }

static void make_pages(void)
{
	pages = mmap(0, 6 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(pages != MAP_FAILED, "map");
	memset(pages, '.', 5 * PAGE);
	mprotect(page(1), PAGE, PROT_NONE);
	mprotect(page(2), PAGE, PROT_READ);
	mprotect(page(3), PAGE, PROT_WRITE);
	munmap(page(5), PAGE);
}

static unsigned written(const char *from, size_t len)
{
	unsigned sum = 0;
	for (size_t at = 0; at < len; at++)
		sum = sum * 31 + (unsigned char)from[at];
	return sum % 4093;
}

static void reads(const char *what, char *target, long room, char *seen_from, size_t seen_len)
{
	memset(seen_from, '.', seen_len);
	say(what, KEYCTL(READ, key, target, room, 0));
	printf("  left there: %u\n", written(seen_from, seen_len));
}

static void buffers(void)
{
	reads("read into the page before none", page(1) - 100, 20000, page(0), PAGE);
	reads("read to the very end of it", page(1) - 100, 100, page(0), PAGE);
	reads("read over the end of the map", page(5) - 1000, 20000, page(4), PAGE);
	reads("describe over the end", page(5) - 3, 20000, page(4), PAGE);
	say("describe", KEYCTL(DESCRIBE, key, page(5) - 3, 200, 0));
	printf("  left there: %u\n", written(page(4), PAGE));
	say("security", KEYCTL(GET_SECURITY, key, page(1), 1, 0));
	memset(page(4), '.', PAGE);
	say("capabilities over the end", KEYCTL(CAPABILITIES, page(5) - 1, 2, 0, 0));
	printf("  its last byte: %s\n", page(4)[PAGE - 1] == '.' ? "left" : "written");
	say("capabilities in a page", KEYCTL(CAPABILITIES, page(4), PAGE, 0, 0));
	printf("  zeroed: %d\n", page(4)[PAGE - 1] == 0 && page(4)[100] == 0);
	say("capabilities in a page and a byte", KEYCTL(CAPABILITIES, page(4), PAGE + 1, 0, 0));
	say("read into none", KEYCTL(READ, key, page(1), 20000, 0));
	say("read into read-only", KEYCTL(READ, key, page(2), 20000, 0));
	say("read a little of it into none", KEYCTL(READ, key, page(1), 10, 0));
	reads("read over read-only", page(2) + PAGE - 10, 20000, page(4), PAGE);
	say("read into write-only", KEYCTL(READ, key, page(3), 20000, 0));
	say("keyring over the end", KEYCTL(READ, ring, page(5) - 6, 4096, 0));
	say("read round the end of all", KEYCTL(READ, key, -5l, 20000, 0));
	say("read at the kernel's", KEYCTL(READ, key, 1l << (sizeof(long) * 8 - 1), 20000, 0));
}

static void payloads(void)
{
	say("none", ADD("user", "n", page(1), 1, SESSION));
	say("into none", ADD("user", "n", page(1) - 5, 6, SESSION));
	say("read-only", ADD("user", "n", page(2), PAGE, SESSION));
	say("write-only", ADD("user", "n", page(3), PAGE, SESSION));
	say("read-only to write-only to read-write", ADD("user", "n", page(2), 3 * PAGE, SESSION));
	say("one byte more", ADD("user", "n", page(2), 3 * PAGE + 1, SESSION));
	say("round the end", ADD("user", "n", -5l, 20, SESSION));
	strcpy(page(3), "in write-only");
	say("description in write-only", ADD("user", page(3), "p", 1, SESSION));
	say("type in none", ADD(page(1), "d", "p", 1, SESSION));
	memset(page(0), 'u', PAGE);
	say("type that runs into none", ADD(page(1) - 4, "d", "p", 1, SESSION));
	say("description that runs into none", ADD("user", page(1) - 4, "p", 1, SESSION));
	say("update from none", KEYCTL(UPDATE, key, page(1), 1, 0));
	say("update over the end", KEYCTL(UPDATE, key, page(5) - 1, 2, 0));
	say("update to the end", KEYCTL(UPDATE, key, page(5) - 2, 2, 0));
}

/* Memory of a stack that nobody has touched: it grows when the kernel writes to it. */
static __attribute__((noinline)) void unused_stack(void)
{
	char room[1 << 20];
	__asm__ volatile("" : : "r"(room) : "memory");
	say("read into a new part of the stack", KEYCTL(READ, key, room, 10, 0));
	say("add from a newer one", ADD("user", "stack", room - 300000, 10, SESSION));
	say("description from a yet newer one", ADD("user", room - 600000, "p", 1, SESSION));
	say("far below any stack", KEYCTL(READ, key, room - (200 << 20), 10, 0));
	printf("%.10s\n", room);
}

int main(void)
{
	static char payload[20000];
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t at = 0; at < sizeof payload; at++)
		payload[at] = at % 251;
	own_session();
	make_pages();
	key = ADD("user", "read me", payload, sizeof payload, SESSION);
	ring = ADD("keyring", "ring", NULL, 0, SESSION);
	add_user("a", "p", ring);
	add_user("b", "p", ring);
	buffers();
	payloads();
	key = add_user("short", "0123456789", SESSION);
	unused_stack();
	return 0;
}
