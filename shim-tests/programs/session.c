/* session: joins a new session keyring, and says its serial or the error. */
#include "common.h"

int main(void)
{
	long serial = KEYCTL(JOIN, NULL, 0, 0, 0);

	if (serial < 0)
		printf("%s\n", strerrorname_np(errno));
	else
		printf("%ld\n", serial);
	return 0;
}
