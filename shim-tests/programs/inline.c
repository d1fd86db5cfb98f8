/* Key calls by the instructions themselves, past every library: the 64-bit gate, the
 * 32-bit gate from this 64-bit program, and with the argument "x32" the numbers of x32. */
#include "common.h"

enum { I386_ADD = 286, I386_REQUEST, I386_KEYCTL };
enum { X32 = 0x40000000 };

static long gate64(long number, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long result;
	__asm__ volatile("syscall"
		: "=a"(result)
		: "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
		: "rcx", "r11", "memory");
	return result;
}

static long gate32(long number, long a, long b, long c, long d, long e)
{
	long result;
	__asm__ volatile("int $0x80"
		: "=a"(result)
		: "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
		: "r8", "r9", "r10", "r11", "memory");
	return result;
}

static long told(const char *what, long result)
{
	if (result < 0)
		errno = -result;
	return say(what, result < 0 ? -1 : result);
}

static void by(const char *name, long (*gate)(long, long, long, long, long, long),
	long add, long request, long keyctl, char *low)
{
	char *type = strcpy(low, "user"), *desc = strcpy(low + 16, name);
	char *payload = strcpy(low + 64, "text"), *room = low + 128;
	printf("%s\n", name);
	told("join", gate(keyctl, JOIN, 0, 0, 0, 0));
	long key = gate(add, (long)type, (long)desc, (long)payload, 4, SESSION);
	told("add", key);
	told("add nothing", gate(add, (long)type, (long)desc, 8, 4, SESSION));
	told("found", gate(request, (long)type, (long)desc, 0, 0, 0) == key);
	told("not found", gate(request, (long)type, (long)room, 0, 0, 0));
	told("read", gate(keyctl, READ, key, (long)room, 64, 0));
	printf("%.4s\n", room);
	told("read by the other gate", holds(key, "text"));
	/* Its registers are 32 bits wide, ids among them. */
	told("search", gate(keyctl, SEARCH, 0xfffffffd, (long)type, (long)desc, 0) == key);
	told("junk above", gate(keyctl, 0x7700000000 | READ, key, 0, 0, 0));
	told("no such operation", gate(keyctl, 99, 0, 0, 0, 0));
	told("scattered", gate(keyctl, INSTANTIATE_IOV, key, (long)room, 1025, 0));
	told("at nothing", gate(keyctl, INSTANTIATE_IOV, key, 8, 1, 0));
	/* The second word is the length of a narrow segment, the fourth that of a wide one. */
	uint32_t *segment = memset(room, 0, 64);
	segment[3] = 0x80000000;
	told("negative if wide", gate(keyctl, INSTANTIATE_IOV, key, (long)room, 1, 0));
	segment[3] = 0, segment[1] = 1 << 20;
	if (gate == gate32)
		told("too long", gate(keyctl, INSTANTIATE_IOV, key, (long)room, 1, 0));
}

int main(int argc, char **argv)
{
	int low_map = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT;
	char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, low_map, -1, 0);
	must(low != MAP_FAILED && (uintptr_t)low < 1ul << 32, "memory below 4 GiB");
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && !strcmp(argv[1], "x32")) {
		by("x32", gate64, X32 | SYS_add_key, X32 | SYS_request_key, X32 | SYS_keyctl, low);
		return 0;
	}
	by("64", gate64, SYS_add_key, SYS_request_key, SYS_keyctl, low);
	by("32", gate32, I386_ADD, I386_REQUEST, I386_KEYCTL, low);
	told("the 32-bit number by the 64-bit gate", gate64(I386_KEYCTL, 0, SESSION, 0, 0, 0) < 0);
	return 0;
}
