#define _POSIX_C_SOURCE 200809L        /* pthread_condattr_setclock */
#include "engine/gauge.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"

#define PERIOD_NS 100000000

/* Of the readings that are numbers. */
struct mean { double sum, least, most; size_t n; };

struct gauge {
    struct device *device;
    pthread_t thread;
    pthread_mutex_t lock;          /* of all below */
    pthread_cond_t ended;
    bool ending, fresh;
    struct telemetry first, last;
    struct mean power, clock, memory;
    int throttle;
};

static void mean_add(struct mean *m, double x)
{
    if (!isfinite(x))
        return;
    m->least = m->n && m->least < x ? m->least : x;
    m->most = m->n && m->most > x ? m->most : x;
    m->sum += x;
    m->n++;
}

static void keep(struct gauge *g, const struct telemetry *t)
{
    g->last = *t;
    g->fresh = true;
    mean_add(&g->power, t->power_w);
    mean_add(&g->clock, t->clock_mhz);
    mean_add(&g->memory, t->memory_bytes);
    if (isfinite(t->throttle))
        g->throttle = (g->throttle < 0 ? 0 : g->throttle) | (int)t->throttle;
}

static bool wait_period(struct gauge *g)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PERIOD_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (!g->ending && pthread_cond_timedwait(&g->ended, &g->lock, &until) != ETIMEDOUT)
        ;
    return !g->ending;
}

static void *watch(void *arg)
{
    struct gauge *g = arg;
    struct telemetry t;
    pthread_mutex_lock(&g->lock);
    while (wait_period(g)) {
        pthread_mutex_unlock(&g->lock);
        g->device->ops->telemetry(g->device, &t);
        pthread_mutex_lock(&g->lock);
        keep(g, &t);
    }
    pthread_mutex_unlock(&g->lock);
    return NULL;
}

static void start(struct gauge *g)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->ended, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&g->thread, NULL, watch, g))
        die("cannot start a thread");
}

struct gauge *gauge_open(struct device *d)
{
    struct telemetry t;
    d->ops->telemetry(d, &t);
    if (!isfinite(t.energy_j) && !isfinite(t.power_w) && !isfinite(t.clock_mhz) && !isfinite(t.memory_bytes) && !isfinite(t.throttle))
        return NULL;
    struct gauge *g = mem_alloc(sizeof *g);
    g->device = d;
    g->throttle = -1;
    g->first = t;
    keep(g, &t);
    start(g);
    return g;
}

bool gauge_take(struct gauge *g, struct telemetry *t)
{
    if (!g)
        return false;
    pthread_mutex_lock(&g->lock);
    bool fresh = g->fresh;
    g->fresh = false;
    *t = g->last;
    pthread_mutex_unlock(&g->lock);
    return fresh;
}

static double mean_of(const struct mean *m)
{
    return m->n ? m->sum / (double)m->n : (double)NAN;
}

struct gauge_sums gauge_close(struct gauge *g)
{
    struct gauge_sums s = { NAN, NAN, NAN, NAN, NAN, -1 };
    struct telemetry t;
    if (!g)
        return s;
    pthread_mutex_lock(&g->lock);
    g->ending = true;
    pthread_cond_signal(&g->ended);
    pthread_mutex_unlock(&g->lock);
    pthread_join(g->thread, NULL);
    g->device->ops->telemetry(g->device, &t);
    keep(g, &t);
    s = (struct gauge_sums){ mean_of(&g->power), mean_of(&g->clock), g->clock.n ? g->clock.least : (double)NAN,
                             g->memory.n ? g->memory.most : (double)NAN, t.energy_j - g->first.energy_j, g->throttle };
    pthread_cond_destroy(&g->ended);
    pthread_mutex_destroy(&g->lock);
    free(g);
    return s;
}
