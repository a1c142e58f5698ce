/* The product with a device of known speed: linked with -Wl,--wrap=forward_run, each step of the model takes at least STEP_MS,
 * as on a device for which the host waits, and then SLOW of its time more.  For test_gate.sh: what else runs on the machine
 * hides within STEP_MS, and a regression of a known size is there to be found. */
#define _POSIX_C_SOURCE 200809L     /* clock_nanosleep */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "model/forward.h"

struct tensor __real_forward_run(struct forward *f, const struct step *s);
struct tensor __wrap_forward_run(struct forward *f, const struct step *s);

static double number(const char *name)
{
    const char *text = getenv(name);
    return text ? strtod(text, NULL) : 0;
}

struct tensor __wrap_forward_run(struct forward *f, const struct step *s)
{
    int64_t start = clock_ns(), least = (int64_t)(number("STEP_MS") * 1e6);
    struct tensor logits = __real_forward_run(f, s);
    int64_t time = clock_ns() - start, end = start + (int64_t)((double)(time > least ? time : least) * (1 + number("SLOW")));
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){ end / 1000000000, end % 1000000000 }, NULL);
    return logits;
}
