/* A program of which nobody may make a copy: key agents are such. */
#include "common.h"

int main(void)
{
	char text[64] = "";
	setvbuf(stdout, NULL, _IOLBF, 0);
	must(!prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "not dumpable");
	say("join", KEYCTL(JOIN, 0, 0, 0, 0));
	say("session", KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0));
	long key = add_user("agent's", "secret", SESSION);
	say("add", key);
	say("read", KEYCTL(READ, key, text, sizeof text, 0));
	printf("it says \"%s\"\n", text);
	say("clear", KEYCTL(CLEAR, SESSION, 0, 0, 0));
	return 0;
}
