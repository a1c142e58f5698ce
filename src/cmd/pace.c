#define _POSIX_C_SOURCE 200809L     /* pthread_condattr_setclock */
#include "cmd/pace.h"

#include <math.h>
#include <time.h>

#include "base/clock.h"

#define LOOK_NS 100000000       /* how often a waiting reader looks whether the run is over */
#define MOST_S  1e9             /* "never", and still nanoseconds in 64 bits */

void pace_start(struct pace *p)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->left, &attr);
    pthread_condattr_destroy(&attr);
    p->start_ns = p->free_ns = clock_ns();
}

void pace_end(struct pace *p)
{
    pthread_cond_destroy(&p->left);
    pthread_mutex_destroy(&p->lock);
}

static void sleep_until(int64_t ns)
{
    struct timespec t = { ns / 1000000000, ns % 1000000000 };
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static bool wait_until(const struct pace *p, int64_t ns)
{
    for (int64_t now; !*p->stop && (now = clock_ns()) < ns;)
        sleep_until(ns - now > LOOK_NS ? now + LOOK_NS : ns);
    return !*p->stop;
}

static bool wait_for_room(struct pace *p)
{
    pthread_mutex_lock(&p->lock);
    while (p->n_in - p->n_left >= p->concurrency && !*p->stop) {
        int64_t look = clock_ns() + LOOK_NS;
        struct timespec t = { look / 1000000000, look % 1000000000 };
        pthread_cond_timedwait(&p->left, &p->lock, &t);
    }
    pthread_mutex_unlock(&p->lock);
    return !*p->stop;
}

static void count_late(struct pace *p, int64_t due_ns)
{
    int64_t from = due_ns > p->free_ns ? due_ns : p->free_ns;
    double late_ms = (double)(clock_ns() - from) * 1e-6;
    p->late_max_ms = fmax(p->late_max_ms, late_ms);
    p->n_late += late_ms > PACE_LATE_MS;
}

/* A request without a recorded time, or with one before that of the request before, comes with it: fmax passes over NaN. */
static int64_t next_due(struct pace *p, double recorded_s)
{
    p->n_recorded += recorded_s >= 0;
    double next_s = arrivals_next(&p->arrivals, recorded_s >= 0 ? recorded_s : (double)NAN);
    p->due_s = fmin(fmax(p->due_s, next_s), MOST_S);
    return p->start_ns + (int64_t)(p->due_s * 1e9);
}

bool pace_wait(struct pace *p, double recorded_s, struct answer *a)
{
    a->due = p->scenario == SCENARIO_SERVER || p->from_start;
    a->arrival_ns = p->start_ns;
    if (p->scenario == SCENARIO_OFFLINE)
        return true;
    if (p->scenario == SCENARIO_CLOSED) {
        bool room = wait_for_room(p);
        a->arrival_ns = clock_ns();
        a->due = true;
        return room;
    }
    a->arrival_ns = next_due(p, recorded_s);
    bool open = wait_until(p, a->arrival_ns);
    count_late(p, a->arrival_ns);
    return open;
}

void pace_let_in(struct pace *p)
{
    p->n_in++;
    p->free_ns = clock_ns();
}

void pace_left(struct pace *p)
{
    pthread_mutex_lock(&p->lock);
    p->n_left++;
    pthread_cond_signal(&p->left);
    pthread_mutex_unlock(&p->lock);
}
