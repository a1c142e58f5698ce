/* queue.h - a bounded queue of pointers between threads.  Closing wakes everybody: what is in it can
 * still be taken, nothing more goes in. */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue;

struct queue *queue_open(size_t capacity);
void          queue_free(struct queue *q);

bool  queue_put(struct queue *q, void *item);      /* waits while full; false: closed, the item stays the caller's */
void *queue_take(struct queue *q);                 /* waits while empty; NULL: closed and empty */
void *queue_take_until(struct queue *q, int64_t ns);   /* the same, but waits no longer than to this time of clock_ns; NULL then too */
void *queue_try_take(struct queue *q);             /* NULL: nothing there now */
void  queue_close(struct queue *q);
bool  queue_done(struct queue *q);                 /* closed and empty */

#endif
