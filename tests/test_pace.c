/* When requests are let in, and what counts of it: by due times and order, as a busy machine keeps no others. */
#define _DEFAULT_SOURCE     /* usleep */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "cmd/pace.h"

#define MS INT64_C(1000000)
#define S  INT64_C(1000000000)

static atomic_bool stop;

static void start(struct pace *p, enum scenario scenario, const char *arrivals, uint32_t concurrency)
{
    struct arrivals_config c = { .seed = 1 };
    stop = false;
    *p = (struct pace){ .scenario = scenario, .concurrency = concurrency, .stop = &stop };
    if (arrivals && arrivals_parse(&c, arrivals))
        fail_msg("%s", err_text());
    arrivals_init(&p->arrivals, &c);
    pace_start(p);
}

/* As if the run had begun so long ago: what is due by then does not wait. */
static void start_ago(struct pace *p, const char *arrivals, int64_t ns)
{
    start(p, SCENARIO_SERVER, arrivals, 0);
    p->start_ns -= ns;
    p->free_ns = p->start_ns;
}

/* ---- at their times ---- */

static void none_comes_early(void **state)
{
    (void)state;
    struct pace p;
    start(&p, SCENARIO_SERVER, "constant:1000", 0);
    for (int64_t i = 0; i < 30; i++) {
        struct answer a = {0};
        assert_true(pace_wait(&p, -1, &a));
        assert_true(clock_ns() >= a.arrival_ns);
        assert_true(a.due && llabs(a.arrival_ns - p.start_ns - i * MS) <= 1);      /* one each ms from the start on */
        pace_let_in(&p);
    }
    assert_true(p.n_in == 30 && p.late_max_ms >= 0);
    pace_end(&p);
}

/* A reader that was held up lets the request in late; its latencies count from when it was due. */
static void latencies_count_from_due(void **state)
{
    (void)state;
    struct pace p;
    struct answer a = {0};
    start_ago(&p, "constant:1", 10 * S);
    for (int64_t i = 0; i < 10; i++) {                     /* due 10, 9, ... 1 s ago */
        p.free_ns = p.start_ns;
        assert_true(pace_wait(&p, -1, &a));
        assert_true(a.due && a.arrival_ns == p.start_ns + i * S);
        pace_let_in(&p);
    }
    assert_int_equal(p.n_late, 10);
    assert_true(p.late_max_ms >= 10000);
    pace_end(&p);
}

/* Late is who comes over 10 ms after its time, or after the reader was done with the one before: waiting for room in the
 * queue is the engine's doing, and in the latencies. */
static void late_counts_from_free(void **state)
{
    (void)state;
    static const struct { int64_t free_ns; bool late; } cases[] = {     /* when the reader was free, seconds from now; due 5 s ago */
        { -6 * S, true }, { -4 * S, true }, { -11 * MS, true }, { 1 * S, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pace p;
        struct answer a = {0};
        start_ago(&p, "constant:1", 5 * S);
        p.free_ns = clock_ns() + cases[i].free_ns;
        assert_true(pace_wait(&p, -1, &a));
        assert_int_equal(p.n_late, cases[i].late);
        double least = cases[i].free_ns < -5 * S ? 5e3 : (double)-cases[i].free_ns * 1e-6;
        assert_true(!cases[i].late || (p.late_max_ms >= least && p.late_max_ms < least + 1e5));
        assert_int_equal(a.arrival_ns, p.start_ns);
        pace_end(&p);
    }
}

/* Who has no time, or one before that of the request before, comes with it; nobody waits for ever. */
static void recorded_times(void **state)
{
    (void)state;
    static const struct { double recorded, due; } cases[] = {
        { -1, 0 }, { 0, 0 }, { 0.5, 0.25 }, { (double)NAN, 0.25 }, { 3, 1.5 }, { 2, 1.5 }, { -1, 1.5 }, { 4, 2 },
    };
    struct pace p;
    start_ago(&p, "trace:2x", 5 * S);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct answer a = {0};
        assert_true(pace_wait(&p, cases[i].recorded, &a));
        assert_int_equal(a.arrival_ns - p.start_ns, (int64_t)(cases[i].due * 1e9));
    }
    assert_int_equal(p.n_recorded, 5);
    pace_end(&p);
}

/* ---- when one has left ---- */

enum { N_REQUEST = 3000 };

static struct pace closed;
static atomic_int in_flight, n_answered;

static void *answer_requests(void *arg)
{
    (void)arg;
    while (n_answered < N_REQUEST) {
        int n = in_flight;
        if (n > 0 && atomic_compare_exchange_strong(&in_flight, &n, n - 1)) {
            n_answered++;
            pace_left(&closed);
        }
    }
    return NULL;
}

/* The first ones fill the places before any is answered; then there are never more than places. */
static void never_more_in_flight(void **state)
{
    (void)state;
    static const uint32_t places[] = { 1, 2, 7 };
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        pthread_t threads[2];
        int most = 0;
        in_flight = n_answered = 0;
        start(&closed, SCENARIO_CLOSED, NULL, places[k]);
        for (uint32_t i = 0; i < N_REQUEST; i++) {
            struct answer a = {0};
            if (i == places[k])
                for (int t = 0; t < 2; t++)
                    pthread_create(&threads[t], NULL, answer_requests, NULL);
            int64_t before = clock_ns();
            assert_true(pace_wait(&closed, -1, &a));
            assert_true(a.due && a.arrival_ns >= before && a.arrival_ns <= clock_ns());
            int n = ++in_flight;
            most = n > most ? n : most;
            pace_let_in(&closed);
        }
        for (int t = 0; t < 2; t++)
            pthread_join(threads[t], NULL);
        assert_int_equal(most, places[k]);
        pace_end(&closed);
    }
}

/* ---- offline, and the end ---- */

static void offline_never_waits(void **state)
{
    (void)state;
    for (int from_start = 0; from_start < 2; from_start++) {
        struct pace p;
        struct answer a = {0};
        start(&p, SCENARIO_OFFLINE, NULL, 0);
        p.from_start = from_start;
        for (int i = 0; i < 1000; i++) {
            assert_true(pace_wait(&p, 1e6, &a));
            assert_int_equal(a.due, from_start);       /* else the engine says when it took it */
            assert_int_equal(a.arrival_ns, p.start_ns);
            pace_let_in(&p);
        }
        assert_int_equal(p.n_late, 0);
        pace_end(&p);
    }
}

static void *ask_to_stop(void *arg)
{
    (void)arg;
    usleep(20000);                      /* the reader waits by now, most likely */
    stop = true;
    return NULL;
}

/* Whatever it waits for, the reader hears of the end; an alarm ends a test that hangs. */
static void stop_wakes_reader(void **state)
{
    (void)state;
    static const struct { enum scenario scenario; const char *arrivals; } cases[] = {
        { SCENARIO_SERVER, "constant:0.00001" }, { SCENARIO_SERVER, "trace" }, { SCENARIO_CLOSED, NULL },
    };
    alarm(60);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int before = 0; before < 2; before++) {
            struct pace p;
            struct answer a = {0};
            pthread_t thread;
            start(&p, cases[i].scenario, cases[i].arrivals, 1);
            assert_true(pace_wait(&p, 0, &a));
            pace_let_in(&p);
            stop = before;
            pthread_create(&thread, NULL, ask_to_stop, NULL);
            assert_false(pace_wait(&p, DBL_MAX, &a));
            pthread_join(thread, NULL);
            pace_end(&p);
        }
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_comes_early), cmocka_unit_test(latencies_count_from_due), cmocka_unit_test(late_counts_from_free),
        cmocka_unit_test(recorded_times), cmocka_unit_test(never_more_in_flight), cmocka_unit_test(offline_never_waits),
        cmocka_unit_test(stop_wakes_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
