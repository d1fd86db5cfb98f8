/* Unused arguments hold anything, and ids, operations and the call's number count
 * by their low 32 bits alone. */
#include "common.h"

int main(void)
{
	const long junk = 0x7eadbeef00000000;
	own_session();
	long key = syscall(SYS_add_key, "user", "j", "p", 1ul, junk | 0xfffffffdu);
	say("add to @s with junk above", key);
	say("read", KEYCTL(junk | READ, junk | key, junk ? 0 : 0, 0, -1));
	say("operation with junk", syscall(SYS_keyctl, junk | GET_KEYRING_ID, SESSION, 0, -1, -1) > 0);
	say("call number with junk", syscall(junk | SYS_keyctl, GET_KEYRING_ID, SESSION, 0) > 0);
	say("id with junk", KEYCTL(GET_KEYRING_ID, junk | 0xfffffffdu, 0, -1, -1) > 0);
	say("revoke with junk", KEYCTL(REVOKE, junk | key, -1, -1, -1));
	say("revoked", KEYCTL(READ, key, 0, 0, 0));
	say("link with junk", KEYCTL(LINK, add_user("k", "p", PROCESS), SESSION, -1, -1));
	say("clear with junk", KEYCTL(CLEAR, SESSION, -1, -1, -1));
	say("no such operation", KEYCTL(99, -1, -1, -1, -1));
	say("a negative operation", KEYCTL(-1, 0, 0, 0, 0));
	say("id 0", KEYCTL(READ, 0, 0, 0, 0));
	say("id -9", KEYCTL(READ, -9, 0, 0, 0));
	say("the group keyring", KEYCTL(GET_KEYRING_ID, -6, 1, 0, 0));
	say("timeout with junk", KEYCTL(SET_TIMEOUT, add_user("t", "p", SESSION), junk | 100, -1, -1));
	say("another call", syscall(SYS_getppid, -1, -1, -1, -1, -1, -1) > 0);
	say("no such call", syscall(100000, 1, 2, 3, 4, 5, 6));
	/* Six arguments reach the kernel. */
	void *page = (void *)syscall(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(page != MAP_FAILED, "mmap by syscall()");
	return 0;
}
