#include "base/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"

#define SPINS 4000      /* some 50 us: longer than the gap between two ops, shorter than a time slice */

/* A number that goes up, and the threads that wait for it to reach a value. */
struct gate {
    _Atomic uint64_t value;
    atomic_int sleepers;
    pthread_mutex_t lock;
    pthread_cond_t moved;
};

struct worker { struct pool *pool; pthread_t id; int thread; };

struct pool {
    int n_thread;
    struct worker *workers;            /* [n_thread - 1] */
    struct gate started, finished;     /* both count jobs */
    atomic_int running;                /* workers still in the job */
    void (*job)(void *arg, int thread, int n_thread);   /* NULL: the workers end */
    void *arg;
};

static void gate_init(struct gate *g)
{
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->moved, NULL);
}

static void gate_free(struct gate *g)
{
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->moved);
}

/* The value is stored before the sleepers are read, and a sleeper counts itself before it reads the value (both
 * sequentially consistent): either it sees the new value, or we see it. */
static void gate_set(struct gate *g, uint64_t value)
{
    atomic_store(&g->value, value);
    if (!atomic_load(&g->sleepers))
        return;
    pthread_mutex_lock(&g->lock);
    pthread_cond_broadcast(&g->moved);
    pthread_mutex_unlock(&g->lock);
}

static void gate_wait(struct gate *g, uint64_t value)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&g->value, memory_order_acquire) >= value)
            return;
#ifdef __x86_64__
        __builtin_ia32_pause();
#endif
    }
    pthread_mutex_lock(&g->lock);
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->value) < value)
        pthread_cond_wait(&g->moved, &g->lock);
    atomic_fetch_sub(&g->sleepers, 1);
    pthread_mutex_unlock(&g->lock);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    for (uint64_t n = 1;; n++) {
        gate_wait(&p->started, n);
        if (!p->job)
            return NULL;
        p->job(p->arg, w->thread, p->n_thread);
        if (atomic_fetch_sub(&p->running, 1) == 1)
            gate_set(&p->finished, n);
    }
}

struct pool *pool_open(int n_thread)
{
    CHECK(n_thread >= 1);
    struct pool *p = mem_alloc(sizeof *p);
    p->n_thread = n_thread;
    p->workers = mem_array((size_t)n_thread - 1, sizeof *p->workers);
    gate_init(&p->started);
    gate_init(&p->finished);
    for (int i = 0; i < n_thread - 1; i++) {
        struct worker *w = &p->workers[i];
        *w = (struct worker){ .pool = p, .thread = i + 1 };
        if (pthread_create(&w->id, NULL, worker_main, w))
            die("cannot start thread %d of %d: ask for fewer with --threads", i + 2, n_thread);
    }
    return p;
}

static void start(struct pool *p, void (*job)(void *, int, int), void *arg)
{
    p->job = job;
    p->arg = arg;
    atomic_store(&p->running, p->n_thread - 1);
    gate_set(&p->started, p->started.value + 1);
}

void pool_run(struct pool *p, void (*job)(void *arg, int thread, int n_thread), void *arg)
{
    if (p->n_thread == 1) {
        job(arg, 0, 1);
        return;
    }
    start(p, job, arg);
    job(arg, 0, p->n_thread);
    gate_wait(&p->finished, p->started.value);
}

int pool_size(const struct pool *p)
{
    return p->n_thread;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    start(p, NULL, NULL);
    for (int i = 0; i < p->n_thread - 1; i++)
        pthread_join(p->workers[i].id, NULL);
    gate_free(&p->started);
    gate_free(&p->finished);
    free(p->workers);
    free(p);
}
