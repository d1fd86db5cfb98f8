/*
 * soak SECONDS WORKERS ROUNDS: many processes that fork, exec, make threads and
 * use keys, every answer checked; after each round, what is left of them.
 *
 * Prints one line a round: keys, then descriptors and resident memory of the
 * parent process when it is keyshim. Exits 1 when an answer was wrong, or when
 * the last round leaves more behind than the first did.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <linux/keyctl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAYLOAD_LEN_MAX 512

struct shared {
    atomic_long cycles, calls, wrong, full;
};

static struct shared *shared;
static char *self;

static long call(long number, long a, long b, long c, long d, long e)
{
    atomic_fetch_add(&shared->calls, 1);
    return syscall(number, a, b, c, d, e);
}

#define KEYCTL(op, a, b, c) call(SYS_keyctl, op, (long)(a), (long)(b), (long)(c), 0)

static long add(const char *type, const char *name, const void *data, size_t len, long ring)
{
    return call(SYS_add_key, (long)type, (long)name, (long)data, (long)len, ring);
}

static long search(long ring, const char *name)
{
    return call(SYS_keyctl, KEYCTL_SEARCH, ring, (long)"user", (long)name, 0);
}

static void wrong(const char *format, ...)
{
    va_list arguments;

    if (atomic_fetch_add(&shared->wrong, 1) >= 20)
        return;
    va_start(arguments, format);
    fprintf(stderr, "wrong: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (errno %d, process %d)\n", errno, getpid());
    va_end(arguments);
}

/* An ordinary user's quota is meant to run out among so many processes. */
static int out_of_quota(long result)
{
    if (result != -1 || errno != EDQUOT || getuid() == 0)
        return 0;
    atomic_fetch_add(&shared->full, 1);
    return 1;
}

static void expect_error(const char *what, long result, int error)
{
    if (result != -1 || errno != error)
        wrong("%s gave %ld instead of error %d", what, result, error);
}

static void expect_payload(const char *what, long key, const char *data, size_t len)
{
    char buffer[PAYLOAD_LEN_MAX];
    long got = KEYCTL(KEYCTL_READ, key, buffer, sizeof buffer);

    if (got != (long)len || memcmp(buffer, data, len) != 0)
        wrong("%s: read of key %ld gave %ld bytes instead of %zu", what, key, got, len);
}

static void expect_session(long session, long token)
{
    long now = KEYCTL(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0, 0);

    if (now != session)
        wrong("the session keyring is %ld instead of %ld", now, session);
    if (search(KEY_SPEC_SESSION_KEYRING, "token") != token)
        wrong("the session's token is not found");
    expect_payload("token", token, "token", 5);
}

static void reap(pid_t child)
{
    int status;

    if (waitpid(child, &status, 0) != child)
        wrong("waitpid of %d", child);
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        wrong("child %d ended with status %#x", child, status);
}

/* What a program sees after exec: the session, and nothing of its process. */
static int after_exec(long session, long token)
{
    expect_session(session, token);
    expect_error("@p after exec", KEYCTL(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0, 0), ENOKEY);
    expect_error("@t after exec", KEYCTL(KEYCTL_GET_KEYRING_ID, KEY_SPEC_THREAD_KEYRING, 0, 0), ENOKEY);
    return 0;
}

static void exec_self(long session, long token)
{
    char a[24], b[24];

    snprintf(a, sizeof a, "%ld", session);
    snprintf(b, sizeof b, "%ld", token);
    execl(self, self, "--after-exec", a, b, NULL);
    wrong("exec of %s", self);
    _exit(1);
}

static void child_life(long session, long token, unsigned turn)
{
    long joined;

    expect_error("@p after fork", KEYCTL(KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0, 0), ENOKEY);
    expect_session(session, token);
    out_of_quota(add("user", "left behind", "x", 1, KEY_SPEC_PROCESS_KEYRING));
    out_of_quota(add("user", "left behind", "x", 1, KEY_SPEC_THREAD_KEYRING));
    if (turn % 4 == 0)
        exec_self(session, token);
    if (turn % 4 == 1) {
        joined = KEYCTL(KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0);
        if (joined == session || (joined < 0 && !out_of_quota(joined)))
            wrong("joining a new session gave %ld", joined);
        if (joined > 0)
            expect_error("the old token", search(KEY_SPEC_SESSION_KEYRING, "token"), ENOKEY);
    }
    _exit(0);
}

static void *thread_life(void *process_key)
{
    long key = add("user", "of a thread", "thread", 6, KEY_SPEC_THREAD_KEYRING);

    if (!out_of_quota(key))
        expect_payload("a thread's key", key, "thread", 6);
    if (search(KEY_SPEC_PROCESS_KEYRING, "own") != *(long *)process_key)
        wrong("a thread does not see its process keyring");
    return NULL;
}

static void with_thread(long key)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, thread_life, &key) != 0) {
        wrong("pthread_create");
        return;
    }
    pthread_join(thread, NULL);
    expect_error("another thread's key", search(KEY_SPEC_THREAD_KEYRING, "of a thread"), ENOKEY);
}

static void ring_life(void)
{
    long ring = add("keyring", "ring", NULL, 0, KEY_SPEC_PROCESS_KEYRING), key;

    if (out_of_quota(ring))
        return;
    key = add("user", "in ring", "x", 1, ring);
    if (!out_of_quota(key) && search(KEY_SPEC_PROCESS_KEYRING, "in ring") != key)
        wrong("a key in a nested ring is not found");
    if (KEYCTL(KEYCTL_CLEAR, ring, 0, 0) != 0)
        wrong("clear");
    expect_error("a cleared ring", search(ring, "in ring"), ENOKEY);
    if (KEYCTL(KEYCTL_UNLINK, ring, KEY_SPEC_PROCESS_KEYRING, 0) != 0)
        wrong("unlink of a ring");
}

static void cycle(long session, long token, unsigned turn)
{
    char data[PAYLOAD_LEN_MAX];
    size_t len = 1 + (turn * 37u + (unsigned)getpid()) % 100;
    long key;
    pid_t child;

    memset(data, 'a' + turn % 26, len);
    key = add("user", "own", data, len, KEY_SPEC_PROCESS_KEYRING);
    if (out_of_quota(key)) {
        usleep(1000);
        return;
    }
    expect_payload("own", key, data, len);
    data[0] = '!';
    if (KEYCTL(KEYCTL_UPDATE, key, data, len) != 0)
        wrong("update");
    expect_payload("updated", key, data, len);
    child = fork();
    if (child == 0)
        child_life(session, token, turn);
    if (turn % 8 == 0)
        with_thread(key);
    ring_life();
    if (child > 0)
        reap(child);
    if (turn % 2 == 0) {
        if (KEYCTL(KEYCTL_REVOKE, key, 0, 0) != 0)
            wrong("revoke");
        expect_error("a revoked key", KEYCTL(KEYCTL_READ, key, data, sizeof data), EKEYREVOKED);
    }
    if (KEYCTL(KEYCTL_UNLINK, key, KEY_SPEC_PROCESS_KEYRING, 0) != 0)
        wrong("unlink");
    atomic_fetch_add(&shared->cycles, 1);
}

static int now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int)now.tv_sec;
}

static void run_round(int workers, int until_s, long session, long token)
{
    pid_t children[workers];

    for (int worker = 0; worker < workers; worker++) {
        children[worker] = fork();
        if (children[worker] != 0)
            continue;
        for (unsigned turn = (unsigned)worker; now_s() < until_s; turn++)
            cycle(session, token, turn);
        _exit(0);
    }
    for (int worker = 0; worker < workers; worker++)
        reap(children[worker]);
}

struct remains {
    long keys, descriptors, memory_kib;
};

/* How many keys /proc/key-users counts as ours. */
static long count_keys(void)
{
    FILE *file = fopen("/proc/key-users", "r");
    long uid, usage, keys, found = -1;
    char line[200];

    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "%ld: %ld %ld/", &uid, &usage, &keys) == 3 && uid == (long)getuid())
            found = keys;
    if (file)
        fclose(file);
    return found;
}

/* A broker that does not let itself be traced shows its descriptors to root only. */
static long count_descriptors(pid_t pid)
{
    char path[64];
    long count = -2; /* for . and .. */
    DIR *directory;

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    directory = opendir(path);
    if (!directory)
        return -1;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static long memory_of(pid_t pid)
{
    char path[64], line[200];
    long kib = -1;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        sscanf(line, "VmRSS: %ld", &kib);
    if (file)
        fclose(file);
    return kib;
}

/* The `keyshim run` from which we descend, in which the broker is; 0 without one. */
static pid_t broker(void)
{
    pid_t pid = getppid();

    while (pid > 1) {
        char path[64], line[200], name[64] = "";
        int parent = 0;
        FILE *file;

        snprintf(path, sizeof path, "/proc/%d/status", pid);
        file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file)) {
            sscanf(line, "Name: %63s", name);
            sscanf(line, "PPid: %d", &parent);
        }
        if (file)
            fclose(file);
        if (strcmp(name, "keyshim") == 0)
            return pid;
        pid = parent;
    }
    return 0;
}

/* What is left once the last exits have been noticed: 5 seconds are enough. */
static struct remains measure(const struct remains *before)
{
    struct remains left = { -1, -1, -1 };
    pid_t keyshim = broker();

    for (int tenth = 0; tenth < 50; tenth++) {
        left.keys = count_keys();
        if (keyshim) {
            left.descriptors = count_descriptors(keyshim);
            left.memory_kib = memory_of(keyshim);
        }
        if (before && left.keys <= before->keys && left.descriptors <= before->descriptors)
            break;
        usleep(100000);
    }
    printf("%ld cycles, %ld calls, %ld over quota, %ld wrong; left: %ld keys, %ld descriptors, %ld KiB\n",
           shared->cycles, shared->calls, shared->full, shared->wrong, left.keys, left.descriptors,
           left.memory_kib);
    fflush(stdout);
    return left;
}

static int more_remains(const struct remains *first, const struct remains *last)
{
    long memory_kib_max = first->memory_kib + first->memory_kib / 10 + 1024;
    int more = 0;

    if (last->keys > first->keys)
        more = 1, printf("keys leak: %ld after the first round, %ld now\n", first->keys, last->keys);
    if (last->descriptors > first->descriptors)
        more = 1, printf("descriptors leak: %ld after the first round, %ld now\n", first->descriptors,
                         last->descriptors);
    if (last->memory_kib > memory_kib_max)
        more = 1, printf("memory grows: %ld KiB after the first round, %ld KiB now\n", first->memory_kib,
                         last->memory_kib);
    return more;
}

int main(int argc, char **argv)
{
    static struct shared own;
    struct remains first, last;
    long session, token;
    int seconds, workers, rounds;

    self = argv[0];
    shared = &own;
    if (argc == 4 && strcmp(argv[1], "--after-exec") == 0)
        return after_exec(atol(argv[2]), atol(argv[3])) || own.wrong != 0;
    if (argc != 4 || (seconds = atoi(argv[1])) < 1 || (workers = atoi(argv[2])) < 1 ||
        (rounds = atoi(argv[3])) < 2) {
        fprintf(stderr, "usage: soak SECONDS WORKERS ROUNDS (two or more)\n");
        return 2;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return perror("mmap"), 2;
    session = KEYCTL(KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0);
    token = add("user", "token", "token", 5, KEY_SPEC_SESSION_KEYRING);
    if (session <= 0 || token <= 0)
        return perror("cannot begin"), 1;
    run_round(workers, now_s() + seconds / rounds + 1, session, token);
    first = last = measure(NULL);
    for (int number = 1; number < rounds; number++) {
        run_round(workers, now_s() + seconds / rounds + 1, session, token);
        last = measure(&first);
    }
    expect_session(session, token);
    return shared->wrong != 0 || more_remains(&first, &last);
}
