#define _DEFAULT_SOURCE     /* gmtime_r */
#include "engine/results.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/err.h"
#include "data/table.h"

#define FACT(field)  offsetof(struct summary, facts.field)
#define FIELD(field) offsetof(struct summary, field)

static const struct column summary_columns[] = {
    {"tokmill_version", COLUMN_TEXT, FIELD(tokmill_version)}, {"date_utc", COLUMN_TEXT, FIELD(date_utc)},
    {"validity", COLUMN_TEXT, FIELD(validity)}, {"validity_rules", COLUMN_TEXT, FIELD(validity_rules)},
    {"model", COLUMN_TEXT, FACT(model)}, {"family", COLUMN_TEXT, FACT(family)}, {"params", COLUMN_U64, FACT(n_param)},
    {"device", COLUMN_TEXT, FACT(device)}, {"device_text", COLUMN_TEXT, FACT(device_text)}, {"threads", COLUMN_U64, FACT(threads)},
    {"compute", COLUMN_TEXT, FACT(compute)}, {"weight_dtype", COLUMN_TEXT, FACT(weight_dtype)}, {"corpus", COLUMN_TEXT, FACT(corpus)},
    {"order", COLUMN_TEXT, FACT(order)}, {"max_seqs", COLUMN_U64, FACT(max_seqs)}, {"max_step_tokens", COLUMN_U64, FACT(max_step_tokens)},
    {"lines", COLUMN_U64, FIELD(lines)}, {"done", COLUMN_U64, FIELD(done)}, {"failed", COLUMN_U64, FIELD(failed)},
    {"load_s", COLUMN_REAL, FACT(load_s)}, {"warmup_s", COLUMN_REAL, FACT(warmup_s)},
    {"wall_s", COLUMN_REAL, FIELD(wall_s)}, {"drain_s", COLUMN_REAL, FIELD(drain_s)},
    {"input_tokens", COLUMN_U64, FIELD(input_tokens)}, {"cached_tokens", COLUMN_U64, FIELD(cached_tokens)},
    {"recomputed_tokens", COLUMN_U64, FIELD(recomputed_tokens)}, {"output_tokens", COLUMN_U64, FIELD(output_tokens)},
    {"total_tokens", COLUMN_U64, FIELD(total_tokens)},
    {"output_tokens_per_s", COLUMN_REAL, FIELD(output_tokens_per_s)}, {"total_tokens_per_s", COLUMN_REAL, FIELD(total_tokens_per_s)},
    {"requests_per_s", COLUMN_REAL, FIELD(requests_per_s)},
    {"price_usd_per_h", COLUMN_REAL, FACT(price_usd_per_h)}, {"price_source", COLUMN_TEXT, FACT(price_source)},
    {"usd", COLUMN_REAL, FIELD(usd)}, {"tokens_per_s_per_usd", COLUMN_REAL, FIELD(tokens_per_s_per_usd)},
    {"usd_per_mtok", COLUMN_REAL, FIELD(usd_per_mtok)}, {"usd_per_mtok_input", COLUMN_REAL, FIELD(usd_per_mtok_input)},
    {"usd_per_mtok_output", COLUMN_REAL, FIELD(usd_per_mtok_output)},
    {"ttft_mean_ms", COLUMN_REAL, FIELD(ttft_mean_ms)}, {"ttft_p50_ms", COLUMN_REAL, FIELD(ttft_p50_ms)},
    {"ttft_p90_ms", COLUMN_REAL, FIELD(ttft_p90_ms)}, {"ttft_p99_ms", COLUMN_REAL, FIELD(ttft_p99_ms)},
    {"tpot_mean_ms", COLUMN_REAL, FIELD(tpot_mean_ms)}, {"tpot_p50_ms", COLUMN_REAL, FIELD(tpot_p50_ms)},
    {"tpot_p90_ms", COLUMN_REAL, FIELD(tpot_p90_ms)}, {"tpot_p99_ms", COLUMN_REAL, FIELD(tpot_p99_ms)},
    {"itl_p50_ms", COLUMN_REAL, FIELD(itl_p50_ms)}, {"itl_p90_ms", COLUMN_REAL, FIELD(itl_p90_ms)}, {"itl_p99_ms", COLUMN_REAL, FIELD(itl_p99_ms)},
    {"e2el_mean_ms", COLUMN_REAL, FIELD(e2el_mean_ms)}, {"e2el_p50_ms", COLUMN_REAL, FIELD(e2el_p50_ms)},
    {"e2el_p90_ms", COLUMN_REAL, FIELD(e2el_p90_ms)}, {"e2el_p99_ms", COLUMN_REAL, FIELD(e2el_p99_ms)},
    {"queue_p50_ms", COLUMN_REAL, FIELD(queue_p50_ms)}, {"queue_p99_ms", COLUMN_REAL, FIELD(queue_p99_ms)},
    {"steps", COLUMN_U64, FIELD(steps)}, {"preemptions", COLUMN_U64, FIELD(preemptions)},
    {"block_size", COLUMN_U64, FACT(block_size)}, {"kv_blocks", COLUMN_U64, FACT(kv_blocks)}, {"kv_blocks_used_max", COLUMN_U64, FIELD(kv_blocks_used_max)},
    {"kv_bytes", COLUMN_U64, FACT(kv_bytes)}, {"weight_bytes", COLUMN_U64, FACT(weight_bytes)}, {"max_rss_bytes", COLUMN_U64, FACT(max_rss_bytes)},
    {"scored", COLUMN_U64, FIELD(scored)}, {"matched", COLUMN_U64, FIELD(matched)}, {"score", COLUMN_REAL, FIELD(score)},
    {"peak_flops", COLUMN_REAL, FACT(peak_flops)}, {"peak_bandwidth_bytes_per_s", COLUMN_REAL, FACT(peak_bandwidth)},
    {"mfu", COLUMN_REAL, FIELD(mfu)}, {"mbu", COLUMN_REAL, FIELD(mbu)}, {"energy_j", COLUMN_REAL, FACT(gauge.energy_j)},
    {"usd_per_mtok_cached_input", COLUMN_REAL, FIELD(usd_per_mtok_cached_input)},
    {"power_mean_w", COLUMN_REAL, FACT(gauge.power_mean_w)}, {"clock_mean_mhz", COLUMN_REAL, FACT(gauge.clock_mean_mhz)},
    {"clock_min_mhz", COLUMN_REAL, FACT(gauge.clock_min_mhz)}, {"throttle_reasons", COLUMN_TEXT, FIELD(throttle_reasons)},
    {"memory_used_max_bytes", COLUMN_REAL, FACT(gauge.memory_max_bytes)}, {"kv_dtype", COLUMN_TEXT, FACT(kv_dtype)},
    {"device_busy", COLUMN_REAL, FIELD(device_busy)},
    {"load_bytes_per_s", COLUMN_REAL, FACT(load_bytes_per_s)},
    {"deterministic", COLUMN_BOOL, FACT(deterministic)},
    {"scenario", COLUMN_TEXT, FACT(scenario)}, {"arrivals", COLUMN_TEXT, FACT(arrivals)}, {"rate_rps", COLUMN_REAL, FACT(rate_rps)},
    {"concurrency", COLUMN_U64, FACT(concurrency)}, {"input_len", COLUMN_TEXT, FACT(input_len)}, {"output_len", COLUMN_TEXT, FACT(output_len)},
    {"point", COLUMN_TEXT, FACT(point)}, {"repetition", COLUMN_U64, FACT(repetition)},
    {"slo", COLUMN_TEXT, FACT(slo)}, {"goodput_rps", COLUMN_REAL, FIELD(goodput_rps)},
    {"late_max_ms", COLUMN_REAL, FACT(late_max_ms)}, {"drifted", COLUMN_U64, FIELD(drifted)},
    {"slo_kept", COLUMN_TEXT, FIELD(slo_kept)},
    {0},
};

static const struct column stage_columns[] = {
    {"stage", COLUMN_TEXT, offsetof(struct stage_row, stage)},
    {"items", COLUMN_U64, offsetof(struct stage_row, items)},
    {"tokens", COLUMN_U64, offsetof(struct stage_row, tokens)},
    {"busy_s", COLUMN_REAL, offsetof(struct stage_row, busy_s)},
    {"share", COLUMN_REAL, offsetof(struct stage_row, share)},
    {"tokens_per_s", COLUMN_REAL, offsetof(struct stage_row, tokens_per_s)},
    {"tokens_per_s_per_usd", COLUMN_REAL, offsetof(struct stage_row, tokens_per_s_per_usd)},
    {"usd", COLUMN_REAL, offsetof(struct stage_row, usd)},
    {"p50_ms", COLUMN_REAL, offsetof(struct stage_row, p50_ms)},
    {"p90_ms", COLUMN_REAL, offsetof(struct stage_row, p90_ms)},
    {"p99_ms", COLUMN_REAL, offsetof(struct stage_row, p99_ms)},
    {0},
};

/* The number of samples below which a percentile is not told: MLPerf's early-stopping rule at confidence 99 %. */
static bool enough(size_t n, double p)
{
    return n >= (p > 0.98 ? 459 : p > 0.89 ? 44 : 1);
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : (double)NAN;
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double percentile(const struct series *s, double p)
{
    return enough(s->n, p) ? series_percentile(s, p) : (double)NAN;
}

static double mean(const struct series *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->n; i++)
        sum += (double)s->values[i];
    return ratio(sum, (double)s->n);
}

static double hist_ms(const struct hist *h, double p)
{
    return enough(h->n, p) && h->n ? hist_percentile(h, p) * 1e-6 : (double)NAN;
}

static void merge_stage(struct stage_count *to, const struct meter *m, enum stage s)
{
    *to = (struct stage_count){0};
    for (int t = 0; t < N_METER_THREAD; t++) {
        const struct stage_count *c = &m->clock[t]->stage[s];
        to->items += c->items;
        to->tokens += c->tokens;
        to->busy_ns += c->busy_ns;
        hist_merge(&to->times, &c->times);
    }
}

/* Loading lies before wall_s and gets no share; the rest share the price of wall_s by their busy time. */
static void make_stages(struct summary *s, const struct meter *m)
{
    static struct stage_count count[N_STAGE];
    double total_s = 0;
    for (int i = 0; i < N_STAGE; i++) {
        merge_stage(&count[i], m, i);
        total_s += i == STAGE_LOAD ? 0 : (double)count[i].busy_ns * 1e-9;
    }
    for (int i = 0; i < N_STAGE; i++) {
        const struct stage_count *c = &count[i];
        struct stage_row *r = &s->stages[i];
        *r = (struct stage_row){ .stage = stage_name(i), .items = c->items, .tokens = c->tokens, .busy_s = (double)c->busy_ns * 1e-9,
            .p50_ms = hist_ms(&c->times, 0.50), .p90_ms = hist_ms(&c->times, 0.90), .p99_ms = hist_ms(&c->times, 0.99) };
        r->share = i == STAGE_LOAD ? (double)NAN : ratio(r->busy_s, total_s);
        r->tokens_per_s = c->tokens ? ratio((double)c->tokens, r->busy_s) : (double)NAN;
        r->tokens_per_s_per_usd = ratio(r->tokens_per_s, s->facts.price_usd_per_h);
        r->usd = s->usd * r->share;
    }
}

static void make_latencies(struct summary *s, struct meter *m)
{
    struct series *const all[] = { &m->ttft_ms, &m->tpot_ms, &m->e2el_ms, &m->queue_ms };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i]->n)
            qsort(all[i]->values, all[i]->n, sizeof(float), compare_floats);
    s->ttft_mean_ms = mean(&m->ttft_ms);
    s->tpot_mean_ms = mean(&m->tpot_ms);
    s->e2el_mean_ms = mean(&m->e2el_ms);
    s->ttft_p50_ms = percentile(&m->ttft_ms, 0.5), s->ttft_p90_ms = percentile(&m->ttft_ms, 0.9), s->ttft_p99_ms = percentile(&m->ttft_ms, 0.99);
    s->tpot_p50_ms = percentile(&m->tpot_ms, 0.5), s->tpot_p90_ms = percentile(&m->tpot_ms, 0.9), s->tpot_p99_ms = percentile(&m->tpot_ms, 0.99);
    s->e2el_p50_ms = percentile(&m->e2el_ms, 0.5), s->e2el_p90_ms = percentile(&m->e2el_ms, 0.9), s->e2el_p99_ms = percentile(&m->e2el_ms, 0.99);
    s->queue_p50_ms = percentile(&m->queue_ms, 0.5), s->queue_p99_ms = percentile(&m->queue_ms, 0.99);
    s->itl_p50_ms = hist_ms(m->gaps, 0.5), s->itl_p90_ms = hist_ms(m->gaps, 0.9), s->itl_p99_ms = hist_ms(m->gaps, 0.99);
}

/* Tokens are those processed: cached prompt tokens are not in the total, recomputed ones are counted apart. */
static void make_rates(struct summary *s, const struct meter *m)
{
    s->input_tokens = m->input_tokens;
    s->cached_tokens = m->cached_tokens;
    s->recomputed_tokens = m->recomputed_tokens;
    s->output_tokens = m->output_tokens;
    s->total_tokens = m->input_tokens - m->cached_tokens + m->output_tokens;
    s->output_tokens_per_s = ratio((double)s->output_tokens, s->wall_s);
    s->total_tokens_per_s = ratio((double)s->total_tokens, s->wall_s);
    s->requests_per_s = ratio((double)s->done, s->wall_s);
    s->usd = s->facts.price_usd_per_h * s->wall_s / 3600;
    s->tokens_per_s_per_usd = ratio(s->total_tokens_per_s, s->facts.price_usd_per_h);
    s->usd_per_mtok = ratio(s->usd * 1e6, (double)s->total_tokens);
    s->score = ratio((double)m->matched, (double)m->scored);
    s->mfu = ratio(m->flops, s->wall_s * s->facts.peak_flops);
    s->mbu = ratio(m->bytes, s->wall_s * s->facts.peak_bandwidth);
    s->device_busy = ratio(m->device_s, s->wall_s);
    s->drifted = m->drifted;
    s->goodput_rps = s->facts.slo ? ratio((double)m->good, s->wall_s) : (double)NAN;
}

static double busy_s(const struct summary *s, const enum stage *stages, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += s->stages[stages[i]].busy_s;
    return sum;
}

/* The money of a run split by the stages that served all of the prompt, what of it was computed, and the answer. */
static void make_split(struct summary *s)
{
    static const enum stage prompt[] = { STAGE_READ, STAGE_PARSE, STAGE_TOKENIZE };
    static const enum stage computed[] = { STAGE_PREFILL };
    static const enum stage answer[] = { STAGE_DECODE, STAGE_SAMPLE, STAGE_DETOKENIZE, STAGE_WRITE };
    double a = busy_s(s, prompt, 3), b = busy_s(s, computed, 1), c = busy_s(s, answer, 4);
    double usd_per_s = ratio(s->usd * 1e6, a + b + c);
    double of_all = ratio(usd_per_s * a, (double)s->input_tokens);
    s->usd_per_mtok_cached_input = s->cached_tokens ? of_all : (double)NAN;
    s->usd_per_mtok_input = of_all + ratio(usd_per_s * b, (double)(s->input_tokens - s->cached_tokens));
    s->usd_per_mtok_output = ratio(usd_per_s * c, (double)s->output_tokens);
}

/* One more of a list with semicolons. */
static void list_add(char text[MOST_SUMMARY_TEXT], const char *word)
{
    size_t len = strlen(text);
    snprintf(text + len, MOST_SUMMARY_TEXT - len, "%s%s", len ? "; " : "", word);
}

static void make_throttle(struct summary *s)
{
    static const char *const name[N_THROTTLE] = { "power", "heat", "hardware", "setting" };
    if (s->facts.gauge.throttle < 0)
        return;
    for (int i = 0; i < N_THROTTLE; i++)
        if (s->facts.gauge.throttle >> i & 1)
            list_add(s->text[2], name[i]);
    s->throttle_reasons = s->facts.gauge.throttle ? s->text[2] : "none";
}

static void add_rule(struct summary *s, bool failed, const char *rule)
{
    if (failed)
        list_add(s->text[1], rule);
}

static void make_validity(struct summary *s, const struct meter *m)
{
    double host_s = s->wall_s - s->stages[STAGE_IDLE].busy_s - s->drain_s;         /* the engine had work */
    add_rule(s, s->facts.interrupted, "interrupted");
    add_rule(s, m->n_alike > 2 && m->first_ms > 3 * m->alike_ms / (double)m->n_alike, "cold start counted (the first step took over 3 times what others of its size took)");
    add_rule(s, s->facts.unshared && s->cached_tokens, "cache contamination (prompt tokens were cached, and no two prompts begin alike)");
    add_rule(s, s->facts.async && m->device_s < 0.9 * host_s, "host-bound (the device was idle over 10 % of the time)");
    add_rule(s, s->drifted, "output length drift (drifted)");
    add_rule(s, s->facts.n_late * 20 > s->lines, "arrivals late (over 5 % came more than 10 ms after their time)");
    add_rule(s, s->wall_s < 10, "too short (wall_s under 10)");
    add_rule(s, s->done < 44, "too few requests (p90 needs 44)");
    add_rule(s, s->recomputed_tokens * 10 > s->total_tokens, "preemption thrash (recomputed over 10 % of total tokens)");
    add_rule(s, s->facts.gauge.throttle > 0 && s->facts.gauge.throttle & (THROTTLE_HEAT | THROTTLE_HARDWARE), "clock throttled (throttle_reasons)");
    add_rule(s, s->drain_s > 0.1 * s->wall_s, "drain tail (drain_s over 10 % of wall_s)");
    s->validity = s->text[1][0] ? "INVALID" : "VALID";
    add_rule(s, s->done >= 44 && s->done < 459, "p99 left empty (needs 459 requests)");
    s->validity_rules = s->text[1];
}

void results_make(struct summary *s, struct meter *m, const struct run_facts *facts)
{
    *s = (struct summary){ .tokmill_version = TOKMILL_VERSION, .facts = *facts, .lines = m->lines, .done = m->done, .failed = m->failed,
        .steps = m->n_step, .preemptions = m->preemptions, .kv_blocks_used_max = m->kv_used_max, .scored = m->scored, .matched = m->matched };
    time_t now = (time_t)clock_unix_s();
    struct tm utc;
    strftime(s->text[0], sizeof s->text[0], "%Y-%m-%dT%H:%M:%S", gmtime_r(&now, &utc));
    s->date_utc = s->text[0];
    if (m->done) {
        s->wall_s = (double)(facts->end_ns - m->first_arrival_ns) * 1e-9;
        s->drain_s = (double)(facts->end_ns - m->last_token_ns) * 1e-9;
        stage_add(m->clock[THREAD_WRITER], STAGE_DRAIN, facts->end_ns - m->last_token_ns, 1, 0);
    }
    make_latencies(s, m);
    make_rates(s, m);
    make_stages(s, m);
    make_split(s);
    make_throttle(s);
    make_validity(s, m);
}

int results_write_file(const char *folder, const char *name, const struct buf *b)
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
    return good ? 0 : -1;
}

void results_put_json(struct buf *b, const struct summary *s)
{
    buf_putc(b, '{');
    table_json_members(b, summary_columns, s);
    buf_puts(b, ",\"stages\":[");
    for (int i = 0; i < N_STAGE; i++) {
        buf_puts(b, i ? "," : "");
        table_json_object(b, stage_columns, &s->stages[i]);
    }
    buf_puts(b, "]}\n");
}

void results_put_csv_header(struct buf *b)
{
    table_csv_header(b, summary_columns);
}

void results_put_csv(struct buf *b, const struct summary *s)
{
    table_csv_row(b, summary_columns, s);
}

int results_write(const struct summary *s, const char *folder)
{
    struct buf stages = {0}, csv = {0}, json = {0};
    table_csv_header(&stages, stage_columns);
    for (int i = 0; i < N_STAGE; i++)
        table_csv_row(&stages, stage_columns, &s->stages[i]);
    results_put_csv_header(&csv);
    results_put_csv(&csv, s);
    results_put_json(&json, s);
    int rc = results_write_file(folder, "stages.csv", &stages) || results_write_file(folder, "summary.csv", &csv) || results_write_file(folder, "summary.json", &json);
    buf_free(&stages);
    buf_free(&csv);
    buf_free(&json);
    return rc ? -1 : 0;
}

static void print_rates(const struct summary *s, FILE *to)
{
    fprintf(to, ", %.1f a second\n", s->requests_per_s);
    fprintf(to, "tokens     %llu in (%llu of them cached), %llu out in %.1f s: %.1f total tokens/s, %.1f output tokens/s\n", (unsigned long long)s->input_tokens,
            (unsigned long long)s->cached_tokens, (unsigned long long)s->output_tokens, s->wall_s, s->total_tokens_per_s, s->output_tokens_per_s);
    fprintf(to, "latency    ttft p50 %.1f ms, ", s->ttft_p50_ms);
    if (isfinite(s->tpot_p50_ms))           /* answers of one token have none */
        fprintf(to, "tpot p50 %.1f ms, ", s->tpot_p50_ms);
    fprintf(to, "e2el p50 %.1f ms\n", s->e2el_p50_ms);
}

void results_print(const struct summary *s, FILE *to)
{
    bool priced = isfinite(s->usd);
    table_print(to, stage_columns, priced ? "stage,items,tokens,busy_s,share,tokens_per_s,tokens_per_s_per_usd,usd,p50_ms,p90_ms,p99_ms"
                                          : "stage,items,tokens,busy_s,share,tokens_per_s,p50_ms,p90_ms,p99_ms", s->stages, N_STAGE, sizeof *s->stages);
    fprintf(to, "\nrequests   %llu done, %llu failed", (unsigned long long)s->done, (unsigned long long)s->failed);
    if (s->done)
        print_rates(s, to);
    else
        fputc('\n', to);
    if (s->done && priced)
        fprintf(to, "price      %.4f $/h (%s): %.4f $/Mtok, %.0f tokens/s/$\n", s->facts.price_usd_per_h, s->facts.price_source, s->usd_per_mtok, s->tokens_per_s_per_usd);
    if (s->scored)
        fprintf(to, "score      %llu of %llu answers match exactly (%.1f %%)\n", (unsigned long long)s->matched, (unsigned long long)s->scored, 100 * s->score);
    fprintf(to, "validity   %s%s%s%s\n", s->validity, s->validity_rules[0] ? " (" : "", s->validity_rules, s->validity_rules[0] ? ")" : "");
}
