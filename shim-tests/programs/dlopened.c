/* libkeyutils loaded at run time, seen by the whole program or by nobody else. */
#include "common.h"
#include <dlfcn.h>

typedef long (*keyctl_function)(int, ...);
typedef int (*add_function)(const char *, const char *, const void *, size_t, int);
typedef long (*read_function)(int, char *, size_t);

static void use(const char *how, int flags)
{
	void *library = dlopen("libkeyutils.so.1", flags);
	must(library != NULL, "dlopen libkeyutils.so.1");
	keyctl_function keyctl = (keyctl_function)dlsym(library, "keyctl");
	add_function add = (add_function)dlsym(library, "add_key");
	read_function read_key = (read_function)dlsym(library, "keyctl_read");
	char text[16] = "";
	errno = 0;
	int key = add("user", "d", how, strlen(how), SESSION);
	must(key > 0, "add_key of the library");
	/* Whatever the library does, the program's own call must find the same key. */
	printf("%s: %s", how, holds(key, how) ? "one universe" : "another universe");
	long len = read_key(key, text, sizeof text);
	printf(", read %ld %.*s", len, (int)len, text);
	printf(", session %s\n", keyctl(GET_KEYRING_ID, SESSION, 0) > 0 ? "there" : "missing");
	keyctl(UNLINK, key, SESSION);
	dlclose(library);
}

int main(int argc, char **argv)
{
	own_session();
	if (argc > 1 && !strcmp(argv[1], "deepbind")) {
		use("deepbind", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
		return 0;
	}
	use("local", RTLD_NOW | RTLD_LOCAL);
	use("global", RTLD_LAZY | RTLD_GLOBAL);
	return 0;
}
