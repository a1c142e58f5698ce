/* A run as the logs of MLPerf's loadgen, with token latencies: Offline and Server.  Lines, keys and formulas are those of loadgen 6.0.17
 * (mlcommons/inference at b66003e10e2d): results.cc, early_stopping.cc, logging.cc and .h, test_settings_internal.cc. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cmd/bench.h"
#include "data/json.h"

static const char notice[] = "written by tokmill " TOKMILL_VERSION ", not by MLPerf's loadgen; this is not an MLPerf submission or result";

enum { MIN_QUERIES = 100 };                    /* loadgen's defaults, without an mlperf.conf */
static const double min_duration_s = 10, target_percentile = 0.99, confidence = 0.99;
static const uint64_t default_limit_ns = 100000000;

static double ratio(double a, double b)
{
    return b > 0 ? a / b : (double)NAN;
}

/* What loadgen works out of a run that counts tokens. */
struct loadgen {
    const struct summary *s;
    bool server;
    double rate;
    struct latencies { const struct series *ms; uint64_t n; } sample, first_token, per_token;
    uint64_t ttft_limit_ns, tpot_limit_ns, e2el_limit_ns, n, n_token, n_short;     /* short: answers of one token, which loadgen takes for errors */
    double last_s, scheduled_s, done_s;        /* from the start: last token of all; the last request, due and done */
    uint64_t ttft_lacks, tpot_lacks;           /* requests short of what early stopping asks for */
    bool limits_met, duration_met, queries_met, valid;
};

/* The i-th smallest of n: those that the series lacks are 0. */
static uint64_t latency_at(const struct latencies *l, uint64_t i)
{
    uint64_t lacks = l->n - l->ms->n;
    return i < lacks ? 0 : (uint64_t)llround((double)l->ms->values[i - lacks] * 1e6);
}

static uint64_t latency_percentile(const struct latencies *l, double p)
{
    return latency_at(l, (uint64_t)((double)l->n * p));
}

static uint64_t latency_mean(const struct latencies *l)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < l->n; i++)
        sum += latency_at(l, i);
    return sum / l->n;
}

static uint64_t latency_over(const struct latencies *l, uint64_t limit_ns)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < l->n; i++)
        n += latency_at(l, i) > limit_ns;
    return n;
}

/* That at most t of h + t are over the limit, where each is with 1 - p. */
static double odds(uint64_t h, uint64_t t, double p)
{
    double n = (double)(h + t), sum = 0;
    for (uint64_t i = 0; i <= t; i++) {
        double k = (double)i;
        sum += exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(1 - p) + (n - k) * log(p));
    }
    return sum;
}

/* Early stopping: the least number within the limit, beside t over it, that chance does not explain. */
static uint64_t least_within(uint64_t t)
{
    uint64_t low = 0, high = 1;
    while (odds(high, t, target_percentile) >= 1 - confidence)
        low = high, high *= 2;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (odds(middle, t, target_percentile) < 1 - confidence)
            high = middle;
        else
            low = middle;
    }
    return high;
}

static uint64_t lacks(const struct latencies *l, uint64_t limit_ns)
{
    uint64_t t = latency_over(l, limit_ns), need = t + least_within(t);
    return need > l->n ? need - l->n : 0;
}

static uint64_t limit_of(const struct load *l, enum slo_latency which)
{
    bool given = l->opts->slo && isfinite(l->slo.limit_ms[which]);
    return given ? (uint64_t)llround(l->slo.limit_ms[which] * 1e6) : default_limit_ns;
}

static struct loadgen work_out(const struct summary *s, const struct meter *m, const struct load *l)
{
    struct loadgen g = { .s = s, .server = l->scenario == SCENARIO_SERVER, .rate = l->arrivals.rate, .n = s->done, .n_short = s->done - m->tpot_ms.n,
        .sample = { &m->e2el_ms, s->done }, .first_token = { &m->ttft_ms, s->done }, .per_token = { &m->tpot_ms, s->done },
        .ttft_limit_ns = limit_of(l, SLO_TTFT), .tpot_limit_ns = limit_of(l, SLO_TPOT), .e2el_limit_ns = limit_of(l, SLO_E2EL),
        .last_s = (double)(m->last_token_ns - m->first_arrival_ns) * 1e-9, .scheduled_s = (double)(m->last_arrival_ns - m->first_arrival_ns) * 1e-9,
        .done_s = (double)(m->last_arrival_done_ns - m->first_arrival_ns) * 1e-9 };
    g.n_token = s->output_tokens - g.n_short;
    if (g.server) {
        g.ttft_lacks = lacks(&g.first_token, g.ttft_limit_ns);
        g.tpot_lacks = lacks(&g.per_token, g.tpot_limit_ns);
    }
    g.limits_met = !g.server || (latency_percentile(&g.first_token, target_percentile) <= g.ttft_limit_ns
        && latency_percentile(&g.per_token, target_percentile) <= g.tpot_limit_ns);
    g.duration_met = (g.server ? g.scheduled_s : g.last_s) >= min_duration_s;
    g.queries_met = g.n >= MIN_QUERIES;
    g.valid = g.limits_met && g.duration_met && g.queries_met && !g.ttft_lacks && !g.tpot_lacks;
    return g;
}

/* Of the samples there are only as many seconds as gaps between them. */
static double rate_of(const struct loadgen *g, double s)
{
    return ratio((double)(g->n - 1), s);
}

static const double percentiles[] = { 0.50, 0.90, 0.95, 0.97, 0.99, 0.999 };
enum { N_PERCENTILE = sizeof percentiles / sizeof *percentiles };

static void put_line(struct buf *b, const char *name, uint64_t value)
{
    buf_printf(b, "%s%llu\n", name, (unsigned long long)value);
}

static void put_title(struct buf *b, const char *title)
{
    static const char rule[] = "================================================";
    buf_printf(b, "%s\n%s\n%s\n", rule, title, rule);
}

static void put_yes(struct buf *b, const char *name, bool yes)
{
    buf_printf(b, "  %s %s\n", name, yes ? "Yes" : "NO");
}

static void put_latencies(struct buf *b, const struct latencies *l, const char *name, const char *percentile_name)
{
    buf_printf(b, "Min %s (ns)                : %llu\n", name, (unsigned long long)latency_at(l, 0));
    buf_printf(b, "Max %s (ns)                : %llu\n", name, (unsigned long long)latency_at(l, l->n - 1));
    buf_printf(b, "Mean %s (ns)               : %llu\n", name, (unsigned long long)latency_mean(l));
    for (size_t i = 0; i < N_PERCENTILE; i++)
        buf_printf(b, "%.2f percentile %s (ns)   : %llu\n", percentiles[i] * 100, percentile_name, (unsigned long long)latency_percentile(l, percentiles[i]));
}

static void put_reasons(struct buf *b, const struct loadgen *g)
{
    if (g->server && latency_percentile(&g->first_token, target_percentile) > g->ttft_limit_ns)
        buf_puts(b, " * the 99th percentile of the time to the first token is over its limit; lower the rate\n");
    if (g->server && latency_percentile(&g->per_token, target_percentile) > g->tpot_limit_ns)
        buf_puts(b, " * the 99th percentile of the time per output token is over its limit; lower the rate\n");
    if (!g->duration_met)
        buf_puts(b, " * the run was shorter than min_duration; give it more requests\n");
    if (!g->queries_met)
        buf_puts(b, " * there were fewer requests than min_query_count\n");
}

static void put_early_stopping(struct buf *b, uint64_t n)
{
    if (n)
        buf_printf(b, " * Run unsuccessful.\n * %llu more requests within the limit would be needed.\n", (unsigned long long)n);
    else
        buf_puts(b, " * Run successful.\n");
}

static void put_result(struct buf *b, const struct loadgen *g)
{
    buf_printf(b, "SUT name : tokmill %s on %s\n", g->s->facts.model, g->s->facts.device_text);
    buf_printf(b, "Scenario : %s\nMode     : PerformanceOnly\n", g->server ? "Server" : "Offline");
    if (g->server)
        buf_printf(b, "Completed samples per second    : %.2f\nCompleted tokens per second: %.2f\n", rate_of(g, g->done_s), ratio((double)g->n_token, g->done_s));
    else
        buf_printf(b, "Samples per second: %g\nTokens per second: %g\n", ratio((double)g->n, g->last_s), ratio((double)g->n_token, g->last_s));
    buf_printf(b, "Result is : %s\n", g->valid ? "VALID" : "INVALID");
    if (g->server)
        put_yes(b, "Performance constraints satisfied :", g->limits_met);
    put_yes(b, "Min duration satisfied :", g->duration_met);
    put_yes(b, "Min queries satisfied :", g->queries_met);
    put_yes(b, "Early stopping satisfied:", !g->ttft_lacks && !g->tpot_lacks);
    if (!g->valid)
        buf_puts(b, "Recommendations:\n");
    put_reasons(b, g);
    if (!g->server)
        return;
    buf_puts(b, "TTFT Early Stopping Result:\n");
    put_early_stopping(b, g->ttft_lacks);
    buf_puts(b, "TPOT Early Stopping Result:\n");
    put_early_stopping(b, g->tpot_lacks);
}

static void put_stats(struct buf *b, const struct loadgen *g)
{
    if (g->server)
        buf_printf(b, "Scheduled samples per second : %.2f\n", rate_of(g, g->scheduled_s));
    put_latencies(b, &g->sample, "latency", "latency");
    buf_putc(b, '\n');
    if (!g->server)
        return;
    buf_printf(b, "Completed tokens per second                 : %.2f\n", ratio((double)g->n_token, g->done_s));
    put_latencies(b, &g->first_token, "First Token latency", "first token latency");
    buf_putc(b, '\n');
    put_latencies(b, &g->per_token, "Time per Output Token", "time to output token");
    buf_putc(b, '\n');
}

static void put_settings(struct buf *b, const struct loadgen *g, uint64_t seed)
{
    put_line(b, "samples_per_query : ", g->server ? 1 : g->n);
    if (g->server)
        buf_printf(b, "target_qps : %g\n", g->rate);
    put_line(b, "ttft_latency (ns): ", g->ttft_limit_ns);
    put_line(b, "tpot_latency (ns): ", g->tpot_limit_ns);
    put_line(b, "min_duration (ms): ", (uint64_t)(min_duration_s * 1e3));
    put_line(b, "max_duration (ms): ", 0);
    put_line(b, "min_query_count : ", g->server ? MIN_QUERIES : 1);
    put_line(b, "max_query_count : ", 0);
    put_line(b, "schedule_rng_seed : ", seed);
    put_line(b, "performance_sample_count : ", g->n);
}

static int emit_summary(const struct loadgen *g, uint64_t seed, const char *folder)
{
    struct buf b = {0};
    buf_printf(&b, "%s\n", notice);
    put_title(&b, "MLPerf Results Summary");
    put_result(&b, g);
    buf_putc(&b, '\n');
    put_title(&b, "Additional Stats");
    put_stats(&b, g);
    put_title(&b, "Test Parameters Used");
    put_settings(&b, g, seed);
    return bench_emit_write(folder, "mlperf_log_summary.txt", &b);
}

/* A line of the detailed log around the value, which is JSON.  All are written when the run is over. */
static void log_value(struct buf *b, const struct loadgen *g, const char *key, const char *value)
{
    uint64_t ns = (uint64_t)(g->last_s * 1e9);
    buf_printf(b, ":::MLLOG {\"key\": \"%s\", \"value\": %s, \"time_ms\": %llu.%06llu, \"namespace\": \"mlperf::logging\", \"event_type\": \"POINT_IN_TIME\", "
               "\"metadata\": {\"is_error\": false, \"is_warning\": false, \"file\": \"bench_mlperf.c\", \"line_no\": 0, \"pid\": 0, \"tid\": 0}}\n", key, value,
               (unsigned long long)(ns / 1000000), (unsigned long long)(ns % 1000000));
}

static void log_text(struct buf *b, const struct loadgen *g, const char *key, const char *text)
{
    struct buf value = {0};
    json_put_string(&value, text, strlen(text));
    log_value(b, g, key, value.data);
    buf_free(&value);
}

/* Lines of the summary as one; frees them. */
static void log_lines(struct buf *b, const struct loadgen *g, const char *key, struct buf *lines)
{
    for (size_t i = 0; i < lines->len; i++)
        lines->data[i] = lines->data[i] == '\n' ? ' ' : lines->data[i];
    log_text(b, g, key, lines->len ? lines->data : "");
    buf_free(lines);
}

static void log_count(struct buf *b, const struct loadgen *g, const char *key, uint64_t n)
{
    char value[32];
    snprintf(value, sizeof value, "%llu", (unsigned long long)n);
    log_value(b, g, key, value);
}

static void log_bool(struct buf *b, const struct loadgen *g, const char *key, bool yes)
{
    log_value(b, g, key, yes ? "true" : "false");
}

static void log_real(struct buf *b, const struct loadgen *g, const char *key, double x)
{
    char value[32];
    snprintf(value, sizeof value, "%g", x);
    log_value(b, g, key, isfinite(x) ? value : "null");
}

/* Keys are PREFIXminSUFFIX, and PREFIX2 50.00 SUFFIX2 without the blanks. */
struct log_names { const char *prefix, *suffix, *percentile_prefix, *percentile_suffix; };

static void log_latencies(struct buf *b, const struct loadgen *g, const struct latencies *l, struct log_names n)
{
    const struct { const char *word; uint64_t ns; } all[] = { {"min", latency_at(l, 0)}, {"max", latency_at(l, l->n - 1)}, {"mean", latency_mean(l)} };
    char key[96];
    for (size_t i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "%s%s%s", n.prefix, all[i].word, n.suffix);
        log_count(b, g, key, all[i].ns);
    }
    for (size_t i = 0; i < N_PERCENTILE; i++) {
        snprintf(key, sizeof key, "%s%.2f%s", n.percentile_prefix, percentiles[i] * 100, n.percentile_suffix);
        log_count(b, g, key, latency_percentile(l, percentiles[i]));
    }
}

static void log_validity(struct buf *b, const struct loadgen *g)
{
    struct buf reasons = {0}, ttft = {0}, tpot = {0};
    log_text(b, g, "result_validity", g->valid ? "VALID" : "INVALID");
    if (g->server) {
        log_bool(b, g, "result_perf_constraints_met", g->limits_met);
        put_early_stopping(&ttft, g->ttft_lacks);
        put_early_stopping(&tpot, g->tpot_lacks);
    }
    log_bool(b, g, "result_min_duration_met", g->duration_met);
    log_bool(b, g, "result_min_queries_met", g->queries_met);
    log_bool(b, g, "early_stopping_met", !g->ttft_lacks && !g->tpot_lacks);
    put_reasons(&reasons, g);
    if (!g->valid)
        log_lines(b, g, "result_invalid_reason", &reasons);
    log_lines(b, g, "early_stopping_ttft_result", &ttft);
    log_lines(b, g, "early_stopping_tpot_result", &tpot);
    log_count(b, g, "result_query_count", g->server ? g->n : 1);
}

static void log_server(struct buf *b, const struct loadgen *g)
{
    log_count(b, g, "result_overlatency_query_count", latency_over(&g->sample, g->e2el_limit_ns));
    log_real(b, g, "result_scheduled_samples_per_sec", rate_of(g, g->scheduled_s));
    log_real(b, g, "result_completed_samples_per_sec", rate_of(g, g->done_s));
    log_real(b, g, "result_completed_tokens_per_second", ratio((double)g->n_token, g->done_s));
    log_real(b, g, "result_token_throughput_with_loadgen_overhead", ratio((double)g->n_token, g->scheduled_s));
    log_real(b, g, "result_token_throughput", ratio((double)g->n_token, (double)latency_mean(&g->sample) * (double)g->n));     /* a nanosecond of all latencies */
    log_latencies(b, g, &g->first_token, (struct log_names){ "result_first_token_", "_latency_ns", "result_first_token_", "_percentile_latency_ns" });
    log_latencies(b, g, &g->per_token, (struct log_names){ "result_time_to_output_token_", "", "result_time_per_output_token_", "_percentile_ns" });
}

static void log_settings(struct buf *b, const struct loadgen *g, uint64_t seed)
{
    log_text(b, g, "effective_scenario", g->server ? "Server" : "Offline");
    log_text(b, g, "effective_test_mode", "PerformanceOnly");
    log_count(b, g, "effective_samples_per_query", g->server ? 1 : g->n);
    if (g->server)
        log_real(b, g, "effective_target_qps", g->rate);
    log_count(b, g, "effective_min_duration_ms", (uint64_t)(min_duration_s * 1e3));
    log_count(b, g, "effective_min_query_count", g->server ? MIN_QUERIES : 1);
    log_count(b, g, "effective_min_sample_count", MIN_QUERIES);
    log_count(b, g, "effective_schedule_rng_seed", seed);
    log_count(b, g, "effective_performance_sample_count", g->n);
}

static int emit_detail(const struct loadgen *g, uint64_t seed, const char *folder)
{
    struct buf b = {0};
    log_text(&b, g, "tokmill_notice", notice);         /* readers want the marker in the first line */
    log_settings(&b, g, seed);
    log_validity(&b, g);
    log_latencies(&b, g, &g->sample, (struct log_names){ "result_", "_latency_ns", "result_", "_percentile_latency_ns" });
    if (g->server) {
        log_server(&b, g);
    } else {
        log_real(&b, g, "result_samples_per_second", ratio((double)g->n, g->last_s));
        log_real(&b, g, "result_tokens_per_second", ratio((double)g->n_token, g->last_s));
    }
    log_count(&b, g, "num_errors", g->s->failed + g->n_short);
    return bench_emit_write(folder, "mlperf_log_detail.txt", &b);
}

int bench_emit_mlperf(const struct summary *s, const struct meter *m, const struct load *l, const char *folder)
{
    if (!s->done)
        return 0;
    struct loadgen g = work_out(s, m, l);
    uint64_t seed = (uint64_t)l->opts->session.seed;
    return emit_summary(&g, seed, folder) || emit_detail(&g, seed, folder) ? -1 : 0;
}
