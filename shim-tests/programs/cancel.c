/* A key call is no point of cancellation; an open of a FIFO is one, hooked or not. */
#include "common.h"

static volatile int reached;
static char fifo[] = "/tmp/fifo.XXXXXX";

static void *keeps_calling(void *unused)
{
	int type;
	pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
	pthread_cancel(pthread_self());
	for (int i = 0; i < 100; i++) {
		long key = add_user("c", "text", SESSION);
		must(key > 0 && holds(key, "text"), "call with a cancellation pending");
	}
	reached = 1;
	pthread_testcancel();
	reached = 2;
	return unused;
}

static void *opens(void *unused)
{
	reached = 3;
	int fd = open(fifo, O_RDONLY);
	reached = 4 + fd;
	return unused;
}

int main(void)
{
	pthread_t thread;
	void *result;
	own_session();
	pthread_create(&thread, NULL, keeps_calling, NULL);
	pthread_join(thread, &result);
	printf("key calls: reached %d, %s\n", reached,
		result == PTHREAD_CANCELED ? "cancelled after them" : "not cancelled");
	must(mkstemp(fifo) >= 0 && !unlink(fifo) && !mkfifo(fifo, 0600), "fifo");
	pthread_create(&thread, NULL, opens, NULL);
	usleep(50000);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	printf("open: reached %d, %s\n", reached,
		result == PTHREAD_CANCELED ? "cancelled in it" : "not cancelled");
	unlink(fifo);
	must(KEYCTL(GET_KEYRING_ID, SESSION, 0, 0, 0) > 0, "all well afterwards");
	return 0;
}
