/* Linked into a program of its own for tests/test_crash.sh: tokmill that is killed at its N-th call which changes a file (CRASH_AT=N,
 * from 1: before the call is made; CRASH_TORN=1: a write is made by half first), or whose N-th read fails (CRASH_READ=N).
 * Time runs 20 times as fast, so that rows are synced 20 times as often. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static bool is_now(const char *name, atomic_int *n)
{
    const char *at = getenv(name);
    return atomic_fetch_add(n, 1) + 1 == (at ? atoi(at) : 0);
}

static bool is_last_call(void)
{
    static atomic_int n;
    return is_now("CRASH_AT", &n);
}

static size_t torn(size_t n)
{
    const char *on = getenv("CRASH_TORN");
    return on && atoi(on) ? n / 2 : 0;
}

#define WRAP(type, name, ...) type __real_##name(__VA_ARGS__); type __wrap_##name(__VA_ARGS__); type __wrap_##name(__VA_ARGS__)

WRAP(ssize_t, write, int fd, const void *p, size_t n)
{
    bool last = is_last_call();
    ssize_t put = __real_write(fd, p, last ? torn(n) : n);
    if (last)
        raise(SIGKILL);
    return put;
}

WRAP(ssize_t, pwrite, int fd, const void *p, size_t n, off_t at)
{
    bool last = is_last_call();
    ssize_t put = __real_pwrite(fd, p, last ? torn(n) : n, at);
    if (last)
        raise(SIGKILL);
    return put;
}

WRAP(int, fsync, int fd)
{
    if (is_last_call())
        raise(SIGKILL);
    return __real_fsync(fd);
}

WRAP(int, fdatasync, int fd)
{
    if (is_last_call())
        raise(SIGKILL);
    return __real_fdatasync(fd);
}

WRAP(int, ftruncate, int fd, off_t size)
{
    if (is_last_call())
        raise(SIGKILL);
    return __real_ftruncate(fd, size);
}

WRAP(int, unlink, const char *path)
{
    if (is_last_call())
        raise(SIGKILL);
    return __real_unlink(path);
}

WRAP(ssize_t, read, int fd, void *p, size_t n)
{
    static atomic_int n_read;
    if (!is_now("CRASH_READ", &n_read))
        return __real_read(fd, p, n);
    errno = EIO;
    return -1;
}

WRAP(int, clock_gettime, clockid_t clock, struct timespec *t)
{
    int rc = __real_clock_gettime(clock, t);
    long long ns = (t->tv_sec * 1000000000LL + t->tv_nsec) * 20;
    t->tv_sec = ns / 1000000000;
    t->tv_nsec = ns % 1000000000;
    return rc;
}
