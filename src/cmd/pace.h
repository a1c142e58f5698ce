/* pace.h - when a request is let in: all at once, at its time, or when one before it has left.  Latencies count from the
 * time it was due, however late it really came, so that queueing is never hidden.  Between the reader, which waits here,
 * and the writer, which tells of answers. */
#ifndef CMD_PACE_H
#define CMD_PACE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "data/answer.h"
#include "plan/arrivals.h"

enum scenario { SCENARIO_OFFLINE, SCENARIO_SERVER, SCENARIO_CLOSED };

struct pace {
    /* given */
    enum scenario scenario;
    bool     from_start;                   /* offline: all are due at the start, not when the engine has room for them */
    struct arrivals arrivals;              /* server */
    uint32_t concurrency;                  /* closed: requests in flight */
    const atomic_bool *stop;
    /* kept */
    int64_t  start_ns, free_ns;            /* free: the reader was done with the request before */
    double   due_s;                        /* server: of the request before, from the start on */
    uint64_t n_recorded;                   /* requests with a recorded time */
    uint64_t n_in, n_late;                 /* late: let in more than PACE_LATE_MS after it was due and the reader was free */
    double   late_max_ms;
    pthread_mutex_t lock; pthread_cond_t left;
    uint64_t n_left;                       /* answers that have left, under lock */
};

#define PACE_LATE_MS 10

void pace_start(struct pace *p);
void pace_end(struct pace *p);

/* The reader, before each request: waits until it may come, and sets the answer's arrival.  recorded_s: by its trace or line,
 * negative or NaN: nothing, it comes
 * with the one before.  False: the run is over. */
bool pace_wait(struct pace *p, double recorded_s, struct answer *a);

void pace_let_in(struct pace *p);          /* the reader: the request is in the queue */
void pace_left(struct pace *p);            /* the writer: an answer has left */

#endif
