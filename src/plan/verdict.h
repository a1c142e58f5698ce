/* verdict.h - is this metric worse than it was?  Pure: two sets of repetitions in, a verdict out.
 *
 *   inconclusive   fewer than 4 repetitions on a side: no deal of 3 and 3 values is rarer than 1 in 10
 *   regression     Mann-Whitney's p < 0.05 and a change of at least the limit, to the worse
 *   improvement    the same, to the better
 *   pass           p < 0.05 but a smaller change; or no difference was found where one of the limit would have been
 *   inconclusive   no difference was found, and one of the limit could have hidden in the noise (detectable > limit)
 *
 * The change is the median of all ratios NEW / BASE, less 1, with the interval that belongs to the same test. */
#ifndef PLAN_VERDICT_H
#define PLAN_VERDICT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "plan/stats.h"

#define VERDICT_ALPHA 0.05
#define VERDICT_POWER 0.8

enum { VERDICT_MIN_SAMPLE = 4 };

enum verdict { VERDICT_PASS, VERDICT_REGRESSION, VERDICT_IMPROVEMENT, VERDICT_INCONCLUSIVE };

struct rule { bool higher_is_better; double limit; };      /* limit: a share of BASE, 0.02 */

struct comparison {
    size_t n_base, n_new;              /* finite values */
    double base, new;                  /* medians */
    double change;                     /* a share of BASE: -0.05; infinite where base is 0 and new is not */
    struct interval interval;          /* of change, 95 %; NaN: too few */
    double p, detectable;              /* detectable: the change found in 4 of 5 tries, at this noise */
    enum verdict verdict;
    bool few;                          /* inconclusive for want of repetitions (or of anything counted) */
};

/* Values are >= 0; those that are not finite are left out (empty cells). */
struct comparison verdict_make(const struct rule *r, const double *base, size_t n_base, const double *new, size_t n_new);

/* For shares that are counted, not sampled (answers that are the same), n things counted on each side: a change of the limit
 * needs no test.  Inconclusive where nothing was counted. */
struct comparison verdict_of_counts(const struct rule *r, double base, size_t n_base, double new, size_t n_new);

const char *verdict_name(enum verdict v);
void        verdict_put_reason(struct buf *b, const struct comparison *c);     /* why it is inconclusive; nothing for others */

#endif
