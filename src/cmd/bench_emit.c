/* --emit: a run in the files that other benchmarks write, for what reads those already.  Each number is by the formula of the
 * tool named, also where ours is another one (results/README.md tells both).  Keys and formulas are those of
 *   vLLM       vllm/benchmarks/serve.py at commit 009e6d4a1cd6, throughput.py at 1a91bc2dc0dd
 *   llama.cpp  tools/llama-bench/llama-bench.cpp at 0104b151c56d; its README for fields of before load_mode
 *   MLPerf     bench_mlperf.c
 * The time of all of them is from the first arrival to the last token: none of them waits for rows on the disk. */
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

int bench_emit_write(const char *folder, const char *name, struct buf *b)
{
    int rc = results_write_file(folder, name, b);
    buf_free(b);
    return rc;
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
    return bench_emit_write(folder, "vllm-serve.json", &b);
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
    return bench_emit_write(folder, "vllm-throughput.json", &b);
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
    return bench_emit_write(folder, "llama-bench.json", &b);
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
    return l->emit & EMIT_MLPERF ? bench_emit_mlperf(s, m, l, folder) : 0;
}
