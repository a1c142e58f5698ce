/* The product with an engine that breaks down (linked with --wrap=forward_run; for tests): where a step computes token BREAK_AT, by
 * the signal BREAK_BY, or with the program's own last words where that is not set; or at step BREAK_STEP, whatever runs. */
#include <signal.h>
#include <stdlib.h>

#include "base/err.h"
#include "model/forward.h"

struct tensor __real_forward_run(struct forward *f, const struct step *s);
struct tensor __wrap_forward_run(struct forward *f, const struct step *s);

static int number(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

static void break_down(void)
{
    int by = number("BREAK_BY", 0);
    if (!by)
        die("device \"cpu\": broken for a test");
    raise(by);
}

struct tensor __wrap_forward_run(struct forward *f, const struct step *s)
{
    static int n_step;
    int at = number("BREAK_AT", -1);
    for (uint32_t i = 0; i < s->n_tok; i++)
        if (s->ids[i] == at)
            break_down();
    if (++n_step == number("BREAK_STEP", 0))
        break_down();
    return __real_forward_run(f, s);
}
