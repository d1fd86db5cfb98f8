/* 64 threads at once, each with a thread keyring of its own; then thread upon
 * thread at the addresses of the dead. */
#include "common.h"

enum { COUNT = 64, ROUNDS = 50, CHURN = 500 };
static pthread_barrier_t barrier;
static long rings[COUNT];

static void *work(void *argument)
{
	long number = (long)argument;
	char desc[32], text[32];
	rings[number] = KEYCTL(GET_KEYRING_ID, THREAD, 1, 0, 0);
	must(rings[number] > 0, "thread keyring");
	pthread_barrier_wait(&barrier);
	for (int round = 0; round < ROUNDS; round++) {
		snprintf(desc, sizeof desc, "t%ld.%d", number, round % 5);
		snprintf(text, sizeof text, "text %ld.%d", number, round);
		long key = add_user(desc, text, THREAD);
		must(key > 0, "add to @t");
		must(holds(key, text), "read back");
		must(KEYCTL(SEARCH, THREAD, "user", desc, 0) == key, "found in @t");
	}
	must(KEYCTL(GET_KEYRING_ID, THREAD, 0, 0, 0) == rings[number], "the same ring");
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void *newcomer(void *argument)
{
	/* The maker has a thread keyring, so a fresh one is there. */
	long ring = KEYCTL(GET_KEYRING_ID, THREAD, 0, 0, 0);
	must(ring > 0 && ring != *(long *)argument, "a ring of its own");
	must(KEYCTL(GET_KEYRING_ID, PROCESS, 0, 0, 0) > 0, "the shared process keyring");
	long key = add_user("churn", "c", THREAD);
	must(key > 0 && holds(key, "c"), "a key in it");
	return NULL;
}

int main(void)
{
	pthread_t threads[COUNT];
	own_session();
	pthread_barrier_init(&barrier, NULL, COUNT);
	for (long i = 0; i < COUNT; i++)
		must(!pthread_create(&threads[i], NULL, work, (void *)i), "thread");
	for (int i = 0; i < COUNT; i++)
		pthread_join(threads[i], NULL);
	int distinct = 1;
	for (int i = 0; i < COUNT; i++)
		for (int j = 0; j < i; j++)
			distinct &= rings[i] != rings[j];
	printf("64 threads, %s\n", distinct ? "64 rings" : "rings shared");
	printf("main: %s\n", KEYCTL(GET_KEYRING_ID, THREAD, 0, 0, 0) < 0 ? "no ring" : "a ring");

	long own = KEYCTL(GET_KEYRING_ID, THREAD, 1, 0, 0);
	must(KEYCTL(GET_KEYRING_ID, PROCESS, 1, 0, 0) > 0, "process keyring");
	int before = open_descriptors();
	for (int i = 0; i < CHURN; i++) {
		must(!pthread_create(&threads[0], NULL, newcomer, &own), "thread");
		pthread_join(threads[0], NULL);
	}
	printf("500 more, descriptors %s\n", open_descriptors() <= before + 8 ? "flat" : "leak");
	return 0;
}
