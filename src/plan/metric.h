/* metric.h - what two runs are compared by: the columns of summary.csv that are results (results/README.md defines them),
 * their unit and which way is better, and the limits that a user sets for them. */
#ifndef PLAN_METRIC_H
#define PLAN_METRIC_H

#include <stdbool.h>
#include <stddef.h>

enum metric_source { OF_RUNS = 1, OF_ANSWERS = 2 };        /* bits: where it comes from */

struct metric {
    const char *name, *unit;
    bool higher_is_better;
    bool gate;                 /* it decides when the user names no limit */
    int sources;
};

enum { N_METRIC = 37 };
extern const struct metric metrics[N_METRIC];

const struct metric *metric_find(const char *name, size_t len);        /* NULL: err_text() lists all */

/* Takes "NAME", "NAME:-3%" or "NAME:3%": how much worse NAME may become, as a share in *limit; NaN where none is said.  A sign
 * that would be better is refused.  NULL: err_text(). */
const struct metric *metric_limit(const char *text, size_t len, double *limit);

#endif
