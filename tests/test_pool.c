/* The pool runs every thread once a job and is done when it returns: many short jobs in a row, pauses between them
 * (so that the workers fall asleep), and jobs of unequal length. */
#define _POSIX_C_SOURCE 200809L     /* nanosleep */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "base/pool.h"

#define MOST 7

struct tally { int calls[MOST]; atomic_int all; int n_thread, slow; };

static void nap(long us)
{
    nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

static void count(void *arg, int thread, int n_thread)
{
    struct tally *t = arg;
    if (thread == t->slow)
        nap(300);
    t->calls[thread]++;         /* not atomic: what a thread wrote is seen by the caller after pool_run */
    if (n_thread != t->n_thread)
        t->calls[thread] = -1;
    atomic_fetch_add(&t->all, 1);
}

static void run_jobs(struct pool *p, int n_thread, int n_job, int slow, long pause_us)
{
    struct tally t = { .n_thread = n_thread, .slow = slow };
    for (int job = 1; job <= n_job; job++) {
        pool_run(p, count, &t);
        assert_int_equal(t.all, job * n_thread);
        for (int i = 0; i < n_thread; i++)
            assert_int_equal(t.calls[i], job);
        if (pause_us)
            nap(pause_us);
    }
}

static void test_every_thread_once_a_job(void **state)
{
    (void)state;
    for (int n = 1; n <= MOST; n++) {
        struct pool *p = pool_open(n);
        assert_int_equal(pool_size(p), n);
        run_jobs(p, n, 300, -1, 0);
        run_jobs(p, n, 10, -1, 2000);
        run_jobs(p, n, 10, 0, 0);
        run_jobs(p, n, 10, n - 1, 0);
        pool_close(p);
    }
}

static void test_unused_pool_closes(void **state)
{
    (void)state;
    pool_close(pool_open(1));
    pool_close(pool_open(MOST));
    pool_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_thread_once_a_job),
        cmocka_unit_test(test_unused_pool_closes),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
