/* stop.h - SIGINT and SIGTERM: the first lets what runs finish, a second one, or one before anything runs, ends at once. */
#ifndef CMD_STOP_H
#define CMD_STOP_H

#include <stdatomic.h>

#include "base/queue.h"

extern atomic_bool stop_asked;

/* Before any other thread is made: they inherit that these signals are not theirs. */
void stop_catch(void);

/* Something runs, and is woken by closing this queue; NULL: it must not be closed any more. */
void stop_wakes(struct queue *q);

#endif
