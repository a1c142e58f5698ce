#define _POSIX_C_SOURCE 200809L     /* pthread_condattr_setclock */
#include "base/queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t not_full, not_empty;
    void **ring;
    size_t capacity, first, n;
    bool closed;
};

struct queue *queue_open(size_t capacity)
{
    struct queue *q = mem_alloc(sizeof *q);
    q->ring = mem_array(capacity, sizeof *q->ring);
    q->capacity = capacity;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->not_full, NULL);
    pthread_condattr_t monotonic;          /* the clock of clock_ns */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&q->not_empty, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return q;
}

void queue_free(struct queue *q)
{
    if (!q)
        return;
    pthread_cond_destroy(&q->not_empty);
    pthread_cond_destroy(&q->not_full);
    pthread_mutex_destroy(&q->lock);
    free(q->ring);
    free(q);
}

bool queue_put(struct queue *q, void *item)
{
    pthread_mutex_lock(&q->lock);
    while (q->n == q->capacity && !q->closed)
        pthread_cond_wait(&q->not_full, &q->lock);
    bool open = !q->closed;
    if (open) {
        q->ring[(q->first + q->n++) % q->capacity] = item;
        pthread_cond_signal(&q->not_empty);
    }
    pthread_mutex_unlock(&q->lock);
    return open;
}

static void *take_locked(struct queue *q)
{
    if (!q->n)
        return NULL;
    void *item = q->ring[q->first];
    q->first = (q->first + 1) % q->capacity;
    q->n--;
    pthread_cond_signal(&q->not_full);
    return item;
}

void *queue_take_until(struct queue *q, int64_t ns)
{
    struct timespec end = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    pthread_mutex_lock(&q->lock);
    while (!q->n && !q->closed && pthread_cond_timedwait(&q->not_empty, &q->lock, &end) == 0)
        continue;
    void *item = take_locked(q);
    pthread_mutex_unlock(&q->lock);
    return item;
}

void *queue_take(struct queue *q)
{
    return queue_take_until(q, INT64_MAX);
}

void *queue_try_take(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    void *item = take_locked(q);
    pthread_mutex_unlock(&q->lock);
    return item;
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->not_empty);
    pthread_cond_broadcast(&q->not_full);
    pthread_mutex_unlock(&q->lock);
}

bool queue_done(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool done = q->closed && !q->n;
    pthread_mutex_unlock(&q->lock);
    return done;
}
