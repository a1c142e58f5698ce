#include "plan/metric.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"

enum { HIGHER = true, LOWER = false, GATE = true, TOLD = false };

const struct metric metrics[N_METRIC] = {
    {"output_tokens_per_s", "tok/s", HIGHER, GATE, OF_RUNS}, {"total_tokens_per_s", "tok/s", HIGHER, GATE, OF_RUNS},
    {"score", "share", HIGHER, GATE, OF_RUNS | OF_ANSWERS}, {"same_rate", "share", HIGHER, TOLD, OF_ANSWERS},
    {"requests_per_s", "req/s", HIGHER, TOLD, OF_RUNS}, {"goodput_rps", "req/s", HIGHER, TOLD, OF_RUNS},
    {"failed", "requests", LOWER, TOLD, OF_RUNS}, {"wall_s", "s", LOWER, TOLD, OF_RUNS},
    {"load_s", "s", LOWER, TOLD, OF_RUNS}, {"warmup_s", "s", LOWER, TOLD, OF_RUNS},
    {"ttft_mean_ms", "ms", LOWER, TOLD, OF_RUNS}, {"ttft_p50_ms", "ms", LOWER, TOLD, OF_RUNS},
    {"ttft_p90_ms", "ms", LOWER, TOLD, OF_RUNS}, {"ttft_p99_ms", "ms", LOWER, TOLD, OF_RUNS},
    {"tpot_mean_ms", "ms", LOWER, TOLD, OF_RUNS}, {"tpot_p50_ms", "ms", LOWER, TOLD, OF_RUNS},
    {"tpot_p90_ms", "ms", LOWER, TOLD, OF_RUNS}, {"tpot_p99_ms", "ms", LOWER, TOLD, OF_RUNS},
    {"itl_p50_ms", "ms", LOWER, TOLD, OF_RUNS}, {"itl_p90_ms", "ms", LOWER, TOLD, OF_RUNS}, {"itl_p99_ms", "ms", LOWER, TOLD, OF_RUNS},
    {"e2el_mean_ms", "ms", LOWER, TOLD, OF_RUNS}, {"e2el_p50_ms", "ms", LOWER, TOLD, OF_RUNS},
    {"e2el_p90_ms", "ms", LOWER, TOLD, OF_RUNS}, {"e2el_p99_ms", "ms", LOWER, TOLD, OF_RUNS},
    {"queue_p50_ms", "ms", LOWER, TOLD, OF_RUNS}, {"queue_p99_ms", "ms", LOWER, TOLD, OF_RUNS},
    {"tokens_per_s_per_usd", "tok/s/$", HIGHER, TOLD, OF_RUNS}, {"usd_per_mtok", "$/Mtok", LOWER, TOLD, OF_RUNS},
    {"usd_per_mtok_input", "$/Mtok", LOWER, TOLD, OF_RUNS}, {"usd_per_mtok_cached_input", "$/Mtok", LOWER, TOLD, OF_RUNS},
    {"usd_per_mtok_output", "$/Mtok", LOWER, TOLD, OF_RUNS}, {"energy_j", "J", LOWER, TOLD, OF_RUNS},
    {"max_rss_bytes", "bytes", LOWER, TOLD, OF_RUNS}, {"memory_used_max_bytes", "bytes", LOWER, TOLD, OF_RUNS},
    {"mfu", "share", HIGHER, TOLD, OF_RUNS}, {"mbu", "share", HIGHER, TOLD, OF_RUNS},
};

const struct metric *metric_find(const char *name, size_t len)
{
    struct buf all = {0};
    for (size_t i = 0; i < N_METRIC; i++) {
        if (strlen(metrics[i].name) == len && memcmp(metrics[i].name, name, len) == 0) {
            buf_free(&all);
            return &metrics[i];
        }
        buf_printf(&all, "%s%s", i ? ", " : "", metrics[i].name);
    }
    err_set("\"%.*s\" is not a metric; these are: %s", (int)len, name, all.data);
    buf_free(&all);
    return NULL;
}

/* "-3%": 0.03; the sign tells whether it is a limit of growth or of decline. */
static int parse_limit(const struct metric *m, const char *text, size_t len, double *limit)
{
    char copy[32], *end;
    if (len < 2 || len >= sizeof copy || text[len - 1] != '%')
        return err_set("%s: \"%.*s\" is not a limit such as %s3%%", m->name, (int)len, text, m->higher_is_better ? "-" : "+");
    memcpy(copy, text, len - 1);
    copy[len - 1] = 0;
    double percent = strtod(copy, &end);
    if (*end || !isfinite(percent))
        return err_set("%s: \"%.*s\" is not a limit such as %s3%%", m->name, (int)len, text, m->higher_is_better ? "-" : "+");
    if (copy[0] == (m->higher_is_better ? '+' : '-'))
        return err_set("%s: %s is better, so \"%.*s\" would be none the worse; turn the sign", m->name, m->higher_is_better ? "higher" : "lower", (int)len, text);
    *limit = fabs(percent) / 100;
    return 0;
}

const struct metric *metric_limit(const char *text, size_t len, double *limit)
{
    const char *colon = memchr(text, ':', len);
    size_t name_len = colon ? (size_t)(colon - text) : len;
    const struct metric *m = metric_find(text, name_len);
    *limit = (double)NAN;
    if (m && colon && parse_limit(m, colon + 1, len - name_len - 1, limit))
        return NULL;
    return m;
}
