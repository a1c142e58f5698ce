/* gauge.h - reads what the device tells of itself ten times a second, on a thread of its own, because one reading takes
 * milliseconds.  Knows nothing of the engine. */
#ifndef ENGINE_GAUGE_H
#define ENGINE_GAUGE_H

#include "kernels/device.h"

struct gauge;

/* Over the readings; NaN: the device does not tell. */
struct gauge_sums { double power_mean_w, clock_mean_mhz, clock_min_mhz, memory_max_bytes, energy_j; int throttle; };   /* throttle: -1, or what was seen, or-ed */

/* NULL: the device tells nothing of itself, and no thread runs; the other functions take it. */
struct gauge *gauge_open(struct device *d);
bool          gauge_take(struct gauge *g, struct telemetry *t);        /* the newest reading, if it was not taken before */
struct gauge_sums gauge_close(struct gauge *g);

#endif
