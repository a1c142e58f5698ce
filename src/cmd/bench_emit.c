/* --emit: a run in the files that other benchmarks write, for what reads those already.  Each number is by the formula of the
 * tool named, also where ours is another one (results/README.md tells both).  Keys and formulas are those of
 *   vLLM       vllm/benchmarks/serve.py at commit 009e6d4a1cd6, throughput.py at 1a91bc2dc0dd
 *   llama.cpp  tools/llama-bench/llama-bench.cpp at 0104b151c56d; its README for the fields before load_mode
 *   MLPerf     loadgen 6.0.17 (mlcommons/inference at b66003e10e2d): results.cc, early_stopping.cc, logging.h, test_settings.h
 * The time of all of them is from the first arrival to the last token: none of them waits for rows on the disk. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "cmd/bench.h"
#include "data/json.h"
#include "plan/stats.h"

static double ratio(double a, double b)
{
    return b > 0 ? a / b : (double)NAN;
}

static double seconds(const struct summary *s)
{
    return s->wall_s - s->drain_s;
}

static int write_text(const char *folder, const char *name, struct buf *b)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", folder, name);
    FILE *f = fopen(path.data, "w");
    bool good = f && fwrite(b->data, 1, b->len, f) == b->len;
    if (f && fclose(f))
        good = false;
    if (!good)
        err_set("%s: %s", path.data, strerror(errno));
    buf_free(&path);
    buf_free(b);
    return good ? 0 : -1;
}

/* ---- members of a JSON object ---- */

static void put_key(struct buf *b, const char *key)
{
    buf_printf(b, "%s\"%s\": ", b->data[b->len - 1] == '{' ? "" : ", ", key);
}

static void put_text(struct buf *b, const char *key, const char *text)
{
    put_key(b, key);
    if (text)
        json_put_string(b, text, strlen(text));
    else
        buf_puts(b, "null");
}

static void put_count(struct buf *b, const char *key, uint64_t n)
{
    put_key(b, key);
    buf_printf(b, "%llu", (unsigned long long)n);
}

static void put_real(struct buf *b, const char *key, double x)
{
    put_key(b, key);
    json_put_real(b, x);
}

/* ---- vLLM ---- */

struct spread { double mean, median, deviation, p99; };        /* ms; all 0 of nothing, as there */

/* numpy's percentile of n sorted values: at place (n - 1) p, on the line between the two beside it. */
static double percentile_of(const struct series *s, double p)
{
    double place = p * (double)(s->n - 1);
    size_t i = (size_t)place, next = i + 1 < s->n ? i + 1 : i;
    double low = (double)s->values[i];
    return low + ((double)s->values[next] - low) * (place - (double)i);
}

/* The deviation is over n. */
static struct spread spread_of(const struct series *s)
{
    double sum = 0, squares = 0;
    if (!s->n)
        return (struct spread){0};
    for (size_t i = 0; i < s->n; i++)
        sum += (double)s->values[i];
    double mean = sum / (double)s->n;
    for (size_t i = 0; i < s->n; i++)
        squares += ((double)s->values[i] - mean) * ((double)s->values[i] - mean);
    return (struct spread){ mean, percentile_of(s, 0.5), sqrt(squares / (double)s->n), percentile_of(s, 0.99) };
}

/* The i-th smallest, from 0, in ms. */
static double gap_at(const struct hist *h, double i)
{
    return hist_percentile(h, (i + 0.5) / (double)h->n) * 1e-6;
}

static double gap_percentile(const struct hist *h, double p)
{
    double last = (double)(h->n - 1), place = p * last, i = floor(place);
    double low = gap_at(h, i);
    return low + (gap_at(h, fmin(i + 1, last)) - low) * (place - i);
}

static struct spread spread_of_gaps(const struct hist *h)
{
    struct spread s = {0};
    if (!h->n)
        return s;
    hist_moments(h, &s.mean, &s.deviation);
    return (struct spread){ s.mean * 1e-6, gap_percentile(h, 0.5), s.deviation * 1e-6, gap_percentile(h, 0.99) };
}

static void put_spread(struct buf *b, const char *name, struct spread s)
{
    const struct { const char *form; double value; } all[] = { {"mean", s.mean}, {"median", s.median}, {"std", s.deviation}, {"p99", s.p99} };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s_%s_ms", all[i].form, name);
        put_real(b, key, all[i].value);
    }
}

/* "inf": as fast as it goes, which a ramp, too, has there, beside keys of its own; so has what is replayed at recorded times. */
static void put_traffic(struct buf *b, const struct summary *s, const struct load *l)
{
    enum arrivals_kind kind = l->arrivals.kind;
    bool server = l->scenario == SCENARIO_SERVER, ramp = server && (kind == ARRIVALS_RAMP || kind == ARRIVALS_EXP_RAMP);
    if (server && !ramp && kind != ARRIVALS_TRACE)
        put_real(b, "request_rate", l->arrivals.rate);
    else
        put_text(b, "request_rate", "inf");
    if (server && kind == ARRIVALS_CONSTANT)
        put_text(b, "burstiness", "inf");
    else
        put_real(b, "burstiness", server && kind == ARRIVALS_GAMMA ? l->arrivals.burstiness : 1.0);
    if (l->scenario == SCENARIO_CLOSED)
        put_count(b, "max_concurrency", s->facts.concurrency);
    else
        put_text(b, "max_concurrency", NULL);
    if (ramp) {
        put_text(b, "ramp_up_strategy", kind == ARRIVALS_RAMP ? "linear" : "exponential");
        put_real(b, "ramp_up_start_rps", l->arrivals.rate);
        put_real(b, "ramp_up_end_rps", l->arrivals.end_rate);
    }
}

static void put_throughput(struct buf *b, const struct summary *s, const struct meter *m)
{
    double t = seconds(s);
    put_real(b, "duration", t);
    put_count(b, "completed", s->done);
    put_count(b, "failed", s->failed);
    put_count(b, "total_input_tokens", s->input_tokens);
    put_count(b, "total_output_tokens", s->output_tokens);
    put_real(b, "request_throughput", ratio((double)s->done, t));
    put_real(b, "request_goodput", s->facts.slo ? ratio((double)m->good, t) : (double)NAN);
    put_real(b, "output_throughput", ratio((double)s->output_tokens, t));
    put_real(b, "total_token_throughput", ratio((double)(s->input_tokens + s->output_tokens), t));
}

/* vllm bench serve --save-result, with e2el among --percentile-metrics. */
static int emit_vllm_serve(const struct summary *s, const struct meter *m, const struct load *l, const char *folder)
{
    struct buf b = {0};
    const char *d = s->date_utc;               /* 2026-01-31T23:59:59 */
    char date[32];
    snprintf(date, sizeof date, "%.4s%.2s%.2s-%.2s%.2s%.2s", d, d + 5, d + 8, d + 11, d + 14, d + 17);
    buf_putc(&b, '{');
    put_text(&b, "date", date);
    put_text(&b, "endpoint_type", "tokmill");
    put_text(&b, "backend", "tokmill");
    put_text(&b, "label", NULL);
    put_text(&b, "model_id", s->facts.model);
    put_text(&b, "tokenizer_id", s->facts.model);
    put_count(&b, "num_prompts", s->lines);
    put_traffic(&b, s, l);
    put_throughput(&b, s, m);
    put_spread(&b, "ttft", spread_of(&m->ttft_ms));
    put_spread(&b, "tpot", spread_of(&m->tpot_ms));
    put_spread(&b, "itl", spread_of_gaps(m->gaps));
    put_spread(&b, "e2el", spread_of(&m->e2el_ms));
    buf_puts(&b, "}\n");
    return write_text(folder, "vllm-serve.json", &b);
}

/* vllm bench throughput --output-json: prompt tokens are those of the cache too. */
static int emit_vllm_throughput(const struct summary *s, const char *folder)
{
    struct buf b = {0};
    uint64_t tokens = s->input_tokens + s->output_tokens;
    double t = seconds(s);
    buf_putc(&b, '{');
    put_real(&b, "elapsed_time", t);
    put_count(&b, "num_requests", s->lines);
    put_count(&b, "total_num_tokens", tokens);
    put_real(&b, "requests_per_second", ratio((double)s->lines, t));
    put_real(&b, "tokens_per_second", ratio((double)tokens, t));
    buf_puts(&b, "}\n");
    return write_text(folder, "vllm-throughput.json", &b);
}

/* ---- llama-bench ---- */

static double number(const struct bench_rows *r, size_t row, const char *column)
{
    return strtod(bench_rows_cell(r, row, column), NULL);
}

static uint64_t whole(const struct bench_rows *r, size_t row, const char *column)
{
    return strtoull(bench_rows_cell(r, row, column), NULL, 10);
}

/* What was run.  What has no meaning here stands at llama-bench's default. */
static void put_identity(struct buf *b, const struct bench_rows *r, size_t row)
{
    const char *device = bench_rows_cell(r, row, "device"), *text = bench_rows_cell(r, row, "device_text"), *kv = bench_rows_cell(r, row, "kv_dtype");
    bool cpu = strcmp(device, "cpu") == 0;
    char build[64], type[128];
    snprintf(build, sizeof build, "tokmill-%s", bench_rows_cell(r, row, "tokmill_version"));
    snprintf(type, sizeof type, "%s %s", bench_rows_cell(r, row, "family"), bench_rows_cell(r, row, "weight_dtype"));
    put_text(b, "build_commit", build);
    put_count(b, "build_number", 0);
    put_text(b, "cpu_info", cpu ? text : "");
    put_text(b, "gpu_info", cpu ? "" : text);
    put_text(b, "backends", cpu ? "CPU" : "CUDA");
    put_text(b, "model_filename", bench_rows_cell(r, row, "model"));
    put_text(b, "model_type", type);
    put_count(b, "model_size", whole(r, row, "weight_bytes"));
    put_count(b, "model_n_params", whole(r, row, "params"));
    put_count(b, "n_batch", whole(r, row, "max_step_tokens"));
    put_count(b, "n_ubatch", whole(r, row, "max_step_tokens"));
    put_count(b, "n_threads", whole(r, row, "threads"));
    buf_puts(b, ", \"cpu_mask\": \"0x0\", \"cpu_strict\": false, \"poll\": 0");
    put_text(b, "type_k", kv);
    put_text(b, "type_v", kv);
    put_count(b, "n_gpu_layers", cpu ? 0 : 99);        /* 99: all, as llama-bench had it for years */
    buf_puts(b, ", \"n_cpu_moe\": 0, \"split_mode\": \"none\", \"main_gpu\": 0, \"no_kv_offload\": false, \"flash_attn\": true, \"devices\": \"auto\", "
                "\"tensor_split\": \"0.00\", \"tensor_buft_overrides\": \"none\", \"use_mmap\": false, \"use_direct_io\": false, \"embeddings\": false, "
                "\"no_op_offload\": 0, \"no_host\": false, \"repack\": true, \"fit_target\": 0, \"fit_min_ctx\": 0");
}

static void put_samples(struct buf *b, const char *key, const double *x, size_t n)
{
    put_key(b, key);
    for (size_t i = 0; i < n; i++) {
        buf_puts(b, i ? ", " : "[ ");
        json_put_real(b, x[i]);
    }
    buf_puts(b, " ]");
}

/* The runs of the point that this row is the first of are its repetitions.  ns are cut to whole ones; deviations are over n - 1, 0 of one run. */
static void put_record(struct buf *b, const struct bench_rows *r, size_t row)
{
    double *ns = mem_array(r->n, sizeof *ns), *ts = mem_array(r->n, sizeof *ts);
    size_t n = 0;
    for (size_t i = row; i < r->n; i++)
        if (strcmp(bench_rows_cell(r, i, "point"), bench_rows_cell(r, row, "point")) == 0) {
            ns[n] = round((number(r, i, "wall_s") - number(r, i, "drain_s")) * 1e9);
            ts[n] = ratio(1e9 * (number(r, i, "input_tokens") + number(r, i, "output_tokens")), ns[n]);
            n++;
        }
    buf_putc(b, '{');
    put_identity(b, r, row);
    put_count(b, "n_prompt", whole(r, row, "input_tokens"));
    put_count(b, "n_gen", whole(r, row, "output_tokens"));
    put_count(b, "n_depth", 0);
    char time[64];
    snprintf(time, sizeof time, "%sZ", bench_rows_cell(r, row, "date_utc"));
    put_text(b, "test_time", time);
    put_count(b, "avg_ns", (uint64_t)stats_mean(ns, n));
    put_count(b, "stddev_ns", n > 1 ? (uint64_t)stats_deviation(ns, n) : 0);
    put_real(b, "avg_ts", stats_mean(ts, n));
    put_real(b, "stddev_ts", n > 1 ? stats_deviation(ts, n) : 0);
    put_samples(b, "samples_ns", ns, n);
    put_samples(b, "samples_ts", ts, n);
    buf_putc(b, '}');
    free(ns);
    free(ts);
}

static bool is_first_of_point(const struct bench_rows *r, size_t row)
{
    for (size_t i = 0; i < row; i++)
        if (strcmp(bench_rows_cell(r, i, "point"), bench_rows_cell(r, row, "point")) == 0)
            return false;
    return true;
}

int bench_emit_rows(const struct bench_rows *r, unsigned emit, const char *folder)
{
    struct buf b = {0};
    if (!(emit & EMIT_LLAMA_BENCH))
        return 0;
    for (size_t i = 0; i < r->n; i++)
        if (is_first_of_point(r, i)) {
            buf_puts(&b, i ? ",\n" : "[\n");
            put_record(&b, r, i);
        }
    buf_puts(&b, "\n]\n");
    return write_text(folder, "llama-bench.json", &b);
}

static int emit_llama_bench(const struct summary *s, const char *folder)
{
    struct bench_rows one;
    bench_rows_init(&one);
    bench_rows_add(&one, s);
    int rc = bench_emit_rows(&one, EMIT_LLAMA_BENCH, folder);
    bench_rows_free(&one);
    return rc;
}

/* ---- MLPerf loadgen ---- */

static const char notice[] = "written by tokmill " TOKMILL_VERSION ", not by MLPerf's loadgen; this is not an MLPerf submission or result";

enum { MIN_QUERIES = 100 };                    /* loadgen's defaults, without an mlperf.conf */
static const double min_duration_s = 10, target_percentile = 0.99, confidence = 0.99;
static const uint64_t default_limit_ns = 100000000;

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
        .last_s = seconds(s), .scheduled_s = (double)(m->last_arrival_ns - m->first_arrival_ns) * 1e-9,
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
    if (g->valid)
        return;
    buf_puts(b, "Recommendations:\n");
    if (g->server && latency_percentile(&g->first_token, target_percentile) > g->ttft_limit_ns)
        buf_puts(b, " * the 99th percentile of the time to the first token is over its limit; lower the rate\n");
    if (g->server && latency_percentile(&g->per_token, target_percentile) > g->tpot_limit_ns)
        buf_puts(b, " * the 99th percentile of the time per output token is over its limit; lower the rate\n");
    if (!g->duration_met)
        buf_puts(b, " * the run was shorter than min_duration; give it more requests\n");
    if (!g->queries_met)
        buf_puts(b, " * there were fewer requests than min_query_count\n");
}

static void put_early_stopping(struct buf *b, const char *name, uint64_t n)
{
    buf_printf(b, "%s Early Stopping Result:\n", name);
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
    put_reasons(b, g);
    if (g->server) {
        put_early_stopping(b, "TTFT", g->ttft_lacks);
        put_early_stopping(b, "TPOT", g->tpot_lacks);
    }
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
    return write_text(folder, "mlperf_log_summary.txt", &b);
}

/* A line of the detailed log around the value, which is JSON.  All are written when the run is over. */
static void log_value(struct buf *b, const struct loadgen *g, const char *key, const char *value)
{
    uint64_t ns = (uint64_t)(g->last_s * 1e9);
    buf_printf(b, ":::MLLOG {\"key\": \"%s\", \"value\": %s, \"time_ms\": %llu.%06llu, \"namespace\": \"mlperf::logging\", \"event_type\": \"POINT_IN_TIME\", "
               "\"metadata\": {\"is_error\": false, \"is_warning\": false, \"file\": \"bench_emit.c\", \"line_no\": 0, \"pid\": 0, \"tid\": 0}}\n", key, value,
               (unsigned long long)(ns / 1000000), (unsigned long long)(ns % 1000000));
}

static void log_text(struct buf *b, const struct loadgen *g, const char *key, const char *text)
{
    struct buf value = {0};
    json_put_string(&value, text, strlen(text));
    log_value(b, g, key, value.data);
    buf_free(&value);
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
    struct buf reasons = {0};
    log_text(b, g, "result_validity", g->valid ? "VALID" : "INVALID");
    if (g->server)
        log_bool(b, g, "result_perf_constraints_met", g->limits_met);
    log_bool(b, g, "result_min_duration_met", g->duration_met);
    log_bool(b, g, "result_min_queries_met", g->queries_met);
    log_bool(b, g, "early_stopping_met", !g->ttft_lacks && !g->tpot_lacks);
    put_reasons(&reasons, g);
    for (char *at = reasons.data; at && *at; at++)
        *at = *at == '\n' ? ' ' : *at;
    if (!g->valid)
        log_text(b, g, "result_invalid_reason", reasons.data);
    log_count(b, g, "result_query_count", g->server ? g->n : 1);
    buf_free(&reasons);
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
    return write_text(folder, "mlperf_log_detail.txt", &b);
}

/* Of a run in which nothing was done there is nothing to tell. */
static int emit_mlperf(const struct summary *s, const struct meter *m, const struct load *l, const char *folder)
{
    if (!s->done)
        return 0;
    struct loadgen g = work_out(s, m, l);
    uint64_t seed = (uint64_t)l->opts->session.seed;
    return emit_summary(&g, seed, folder) || emit_detail(&g, seed, folder) ? -1 : 0;
}

/* ---- which ---- */

unsigned bench_emit_parse(const struct load *l)
{
    static const char *const names[] = { "vllm", "llama-bench", "mlperf" };
    const char *text = l->opts->emit;
    unsigned emit = 0;
    for (size_t len; text && *text; text += len + (text[len] == ',')) {
        size_t i = 0;
        len = strcspn(text, ",");
        while (i < 3 && (strlen(names[i]) != len || memcmp(names[i], text, len)))
            i++;
        if (i == 3)
            die("bench: --emit: \"%.*s\" is none of vllm, llama-bench and mlperf", (int)len, text);
        emit |= 1u << i;
    }
    if (text && l->opts->results && strcmp(l->opts->results, "none") == 0)
        die("bench: --emit writes into the folder of the results; leave out --results none");
    if (emit & EMIT_MLPERF && l->scenario == SCENARIO_CLOSED)
        die("bench: --emit mlperf is for the scenarios offline and server");
    if (emit & EMIT_MLPERF && l->scenario == SCENARIO_OFFLINE && !l->opts->count_from)
        die("bench: --emit mlperf: loadgen counts the latencies of Offline from the start; give --arrival all");
    return emit;
}

int bench_emit(const struct summary *s, const struct meter *m, const struct load *l, const char *folder)
{
    if (l->emit & EMIT_VLLM && emit_vllm_serve(s, m, l, folder))
        return -1;
    if (l->emit & EMIT_VLLM && l->scenario == SCENARIO_OFFLINE && emit_vllm_throughput(s, folder))
        return -1;
    if (l->emit & EMIT_LLAMA_BENCH && emit_llama_bench(s, folder))
        return -1;
    return l->emit & EMIT_MLPERF ? emit_mlperf(s, m, l, folder) : 0;
}
