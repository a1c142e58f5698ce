/* hist.h - a histogram of durations with bounded relative error: 64 steps an octave, so a percentile is
 * within 0.8 % of the exact value.  For numbers too many to keep (gaps between tokens). */
#ifndef BASE_HIST_H
#define BASE_HIST_H

#include <stdint.h>

struct hist { uint64_t count[64 * 64]; uint64_t n; };

void   hist_add(struct hist *h, int64_t ns, uint64_t times);
double hist_percentile(const struct hist *h, double p);    /* ns, nearest rank, p in (0, 1]; 0 if empty */
void   hist_moments(const struct hist *h, double *mean, double *deviation);     /* ns; the deviation over n; h is not empty */
void   hist_merge(struct hist *h, const struct hist *other);

#endif
