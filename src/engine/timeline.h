/* timeline.h - a run as a Chrome trace, which Perfetto and chrome://tracing open: steps with their parts, the stages of the
 * reader and the writer, requests from arrival to last token, and counters of batch and KV.  Each event is written as it
 * comes; any thread may.  Times are microseconds from the opening. */
#ifndef ENGINE_TIMELINE_H
#define ENGINE_TIMELINE_H

#include <stdint.h>

#include "data/answer.h"

struct timeline;
struct step_row;

struct timeline *timeline_open(const char *path, int64_t start_ns);    /* NULL: err_text() */
int              timeline_close(struct timeline *t);                   /* 0, or -1: err_text() */

/* Tracks.  Two of steps, in turn, because one begins while the other is in flight. */
enum timeline_track { TRACK_STEP, TRACK_STEP_TOO, TRACK_READER, TRACK_WRITER };

void timeline_slice(struct timeline *t, enum timeline_track track, const char *name, int64_t from_ns, int64_t ns);
void timeline_step(struct timeline *t, const struct step_row *row);
void timeline_answer(struct timeline *t, const struct answer *a);

#endif
