/* clock.h - the one place that reads time. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_ns(void);        /* monotonic, from an arbitrary start */
int64_t clock_unix_s(void);    /* seconds since 1970, UTC */

#endif
