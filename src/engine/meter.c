#include "engine/meter.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/table.h"

#define PROGRESS_NS 1000000000

const char *stage_name(enum stage s)
{
    static const char *const name[N_STAGE] = {
        "load", "read", "parse", "tokenize", "queue", "prefill", "decode", "sample", "detokenize", "write", "idle", "drain",
    };
    return name[s];
}

void stage_add(struct stage_clock *c, enum stage s, int64_t ns, uint64_t items, uint64_t tokens)
{
    struct stage_count *n = &c->stage[s];
    n->items += items;
    n->tokens += tokens;
    n->busy_ns += ns;
    hist_add(&n->times, ns, 1);
    if (c->timeline)
        timeline_slice(c->timeline, c->track, stage_name(s), clock_ns() - ns, ns);
}

void series_add(struct series *s, double value)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1024;
        s->values = mem_resize(s->values, s->cap, sizeof *s->values);
    }
    s->values[s->n++] = (float)value;
}

double series_percentile(const struct series *s, double p)
{
    size_t rank = (size_t)ceil(p * (double)s->n);
    return s->n ? (double)s->values[rank ? rank - 1 : 0] : (double)NAN;
}

static const struct column step_columns[] = {
    {"step", COLUMN_U64, offsetof(struct step_row, step)},
    {"start_s", COLUMN_REAL, offsetof(struct step_row, start_s)},
    {"time_ms", COLUMN_REAL, offsetof(struct step_row, time_ms)},
    {"plan_ms", COLUMN_REAL, offsetof(struct step_row, plan_ms)},
    {"forward_ms", COLUMN_REAL, offsetof(struct step_row, forward_ms)},
    {"sample_ms", COLUMN_REAL, offsetof(struct step_row, sample_ms)},
    {"sequences", COLUMN_U32, offsetof(struct step_row, n_seq)},
    {"prefill_tokens", COLUMN_U32, offsetof(struct step_row, n_prefill_tok)},
    {"decode_tokens", COLUMN_U32, offsetof(struct step_row, n_decode_tok)},
    {"sampled", COLUMN_U32, offsetof(struct step_row, n_out)},
    {"waiting", COLUMN_U32, offsetof(struct step_row, n_waiting)},
    {"preempted", COLUMN_U32, offsetof(struct step_row, n_preempted)},
    {"kv_blocks_used", COLUMN_U32, offsetof(struct step_row, kv_used)},
    {"kv_blocks", COLUMN_U32, offsetof(struct step_row, kv_total)},
    {"power_w", COLUMN_REAL, offsetof(struct step_row, device.power_w)},
    {"clock_mhz", COLUMN_REAL, offsetof(struct step_row, device.clock_mhz)},
    {"memory_used_bytes", COLUMN_REAL, offsetof(struct step_row, device.memory_bytes)},
    {"device_ms", COLUMN_REAL, offsetof(struct step_row, device_ms)},
    {0},
};

struct request_row {
    uint64_t index;
    const char *id, *finish_reason, *error;
    uint64_t input_tokens, cached_tokens, recomputed_tokens, output_tokens, preemptions;
    double arrival_s, queue_ms, ttft_ms, tpot_ms, e2el_ms, match;
};

static const struct column request_columns[] = {
    {"index", COLUMN_U64, offsetof(struct request_row, index)},
    {"id", COLUMN_TEXT, offsetof(struct request_row, id)},
    {"input_tokens", COLUMN_U64, offsetof(struct request_row, input_tokens)},
    {"cached_tokens", COLUMN_U64, offsetof(struct request_row, cached_tokens)},
    {"recomputed_tokens", COLUMN_U64, offsetof(struct request_row, recomputed_tokens)},
    {"output_tokens", COLUMN_U64, offsetof(struct request_row, output_tokens)},
    {"arrival_s", COLUMN_REAL, offsetof(struct request_row, arrival_s)},
    {"queue_ms", COLUMN_REAL, offsetof(struct request_row, queue_ms)},
    {"ttft_ms", COLUMN_REAL, offsetof(struct request_row, ttft_ms)},
    {"tpot_ms", COLUMN_REAL, offsetof(struct request_row, tpot_ms)},
    {"e2el_ms", COLUMN_REAL, offsetof(struct request_row, e2el_ms)},
    {"preemptions", COLUMN_U64, offsetof(struct request_row, preemptions)},
    {"finish_reason", COLUMN_TEXT, offsetof(struct request_row, finish_reason)},
    {"match", COLUMN_REAL, offsetof(struct request_row, match)},
    {"error", COLUMN_TEXT, offsetof(struct request_row, error)},
    {0},
};

static FILE *open_csv(const char *folder, const char *name, const struct column *columns)
{
    struct buf path = {0}, head = {0};
    buf_printf(&path, "%s/%s", folder, name);
    FILE *f = fopen(path.data, "w");
    if (f) {
        table_csv_header(&head, columns);
        fputs(head.data, f);
    } else {
        err_set("%s: %s", path.data, strerror(errno));
    }
    buf_free(&head);
    buf_free(&path);
    return f;
}

int meter_open(struct meter *m, const char *folder)
{
    *m = (struct meter){ .first_arrival_ns = INT64_MAX, .start_ns = clock_ns(), .slo = { INFINITY, INFINITY, INFINITY } };
    for (int i = 0; i < N_METER_THREAD; i++)
        m->clock[i] = mem_alloc(sizeof *m->clock[i]);
    m->gaps = mem_alloc(sizeof *m->gaps);
    buf_reserve(&m->step_text, 512);
    if (!folder)
        return 0;
    m->steps = open_csv(folder, "steps.csv", step_columns);
    m->requests = m->steps ? open_csv(folder, "requests.csv", request_columns) : NULL;
    return m->requests ? 0 : -1;
}

int meter_draw(struct meter *m, const char *folder)
{
    struct buf path = {0};
    buf_printf(&path, "%s/trace.json", folder);
    m->timeline = timeline_open(path.data, m->start_ns);
    buf_free(&path);
    m->clock[THREAD_READER]->timeline = m->clock[THREAD_WRITER]->timeline = m->timeline;
    m->clock[THREAD_READER]->track = TRACK_READER;
    m->clock[THREAD_WRITER]->track = TRACK_WRITER;
    return m->timeline ? 0 : -1;
}

int meter_flush(struct meter *m)
{
    struct timeline *t = m->timeline;
    m->timeline = m->clock[THREAD_READER]->timeline = m->clock[THREAD_WRITER]->timeline = NULL;
    if (timeline_close(t))
        return -1;
    FILE *const files[] = { m->steps, m->requests };
    static const char *const names[] = { "steps.csv", "requests.csv" };
    for (size_t i = 0; i < 2; i++)
        if (files[i] && (fflush(files[i]) || ferror(files[i])))
            return err_set("cannot write %s: %s", names[i], strerror(errno));
    return 0;
}

void meter_close(struct meter *m)
{
    struct series *const all[] = { &m->ttft_ms, &m->tpot_ms, &m->e2el_ms, &m->queue_ms };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]->values);
    for (int i = 0; i < N_METER_THREAD; i++)
        free(m->clock[i]);
    free(m->gaps);
    if (m->steps)
        fclose(m->steps);
    if (m->requests)
        fclose(m->requests);
    timeline_close(m->timeline);
    buf_free(&m->row);
    buf_free(&m->step_text);
    *m = (struct meter){0};
}

struct stage_clock *meter_engine_clock(struct meter *m)
{
    return m->clock[THREAD_ENGINE];
}

/* " of 640 (31 s to go)", as long as nobody says how many there are: nothing. */
static void put_rest(char text[64], const struct meter *m, double seconds)
{
    double rows = (double)m->rows_out, all = (double)m->expected;
    text[0] = 0;
    if (m->expected && m->rows_out)
        snprintf(text, 64, " of %.0f (%.0f s to go)", all, seconds * (all - rows) / rows);
    else if (m->expected)
        snprintf(text, 64, " of %.0f", all);
}

static void show_progress(struct meter *m, const struct step_row *row)
{
    int64_t now = clock_ns(), since = now - m->shown_ns;
    if (since < PROGRESS_NS)
        return;
    char rest[64];
    double seconds = (double)(now - m->start_ns) * 1e-9;
    put_rest(rest, m, seconds);
    if (m->shown_ns)
        log_progress("%7.1f s  %llu rows%s  %u running  %u waiting  %.0f tokens/s (mean %.0f)  kv %.0f %%", seconds,
                     (unsigned long long)m->rows_out, rest, row->n_seq, row->n_waiting,
                     (double)(m->tokens_out - m->shown_tokens) / ((double)since * 1e-9), (double)m->tokens_out / seconds, 100.0 * row->kv_used / row->kv_total);
    m->shown_ns = now;
    m->shown_tokens = m->tokens_out;
}

/* A reading of the device stands in the first row after it. */
static void write_step(struct meter *m, struct step_row row)
{
    if (!gauge_take(m->gauge, &row.device))
        row.device = (struct telemetry){ NAN, NAN, NAN, NAN, NAN };
    buf_clear(&m->step_text);
    table_csv_row(&m->step_text, step_columns, &row);
    fwrite(m->step_text.data, 1, m->step_text.len, m->steps);
}

/* Whether the first step was a cold one shows beside others of its size. */
static void compare_with_first(struct meter *m, const struct step_row *row)
{
    uint32_t n = row->n_prefill_tok + row->n_decode_tok;
    if (!m->first_tok) {
        m->first_tok = n;
        m->first_ms = row->device_ms;
    } else if (8 * (n > m->first_tok ? n - m->first_tok : m->first_tok - n) <= m->first_tok) {
        m->alike_ms += row->device_ms;
        m->n_alike++;
    }
}

void meter_step(struct meter *m, const struct step_row *row)
{
    m->n_step++;
    m->kv_used_max = row->kv_used > m->kv_used_max ? row->kv_used : m->kv_used_max;
    m->tokens_out += row->n_prefill_tok + row->n_decode_tok;
    m->device_s += row->device_ms * 1e-3;
    compare_with_first(m, row);
    if (m->steps)
        write_step(m, *row);
    if (m->timeline)
        timeline_step(m->timeline, row);
    show_progress(m, row);
}

void meter_gap(struct meter *m, int64_t ns, uint64_t times)
{
    hist_add(m->gaps, ns, times);
}

void meter_cost(struct meter *m, double flops, double bytes)
{
    m->flops += flops;
    m->bytes += bytes;
}

static double ms(int64_t from_ns, int64_t to_ns)
{
    return (double)(to_ns - from_ns) * 1e-6;
}

/* (e2el - ttft) / (tokens - 1), over the request's outputs together; NaN with fewer than two tokens (results/README.md). */
static double tpot_of(const struct answer *a)
{
    double time = 0, gaps = 0;
    for (uint32_t i = 0; i < a->n_output; i++) {
        const struct output *o = &a->outputs[i];
        if (o->n_generated > 1) {
            time += ms(o->first_ns, o->last_ns);
            gaps += o->n_generated - 1;
        }
    }
    return gaps > 0 ? time / gaps : (double)NAN;
}

/* The line asked for exactly max_tokens tokens, and got another number, or none. */
static bool drifted(const struct answer *a)
{
    const struct sampling *w = &a->request->sampling;
    bool exact = w->ignore_eos && w->own_max_tokens && !w->n_stop && !w->n_stop_id;
    if (exact && a->request->error)
        return true;
    for (uint32_t i = 0; exact && i < a->n_output; i++)
        if (a->outputs[i].n_generated != (uint32_t)w->max_tokens)
            return true;
    return false;
}

static void count_answer(struct meter *m, const struct answer *a, struct request_row *row)
{
    const struct request *r = a->request;
    row->input_tokens = r->n_prompt;
    row->cached_tokens = a->cached_tokens;
    row->recomputed_tokens = a->recomputed_tokens;
    row->output_tokens = answer_generated(a);
    row->preemptions = a->n_preempted;
    row->arrival_s = (double)(a->arrival_ns - m->start_ns) * 1e-9;
    row->queue_ms = ms(a->arrival_ns, a->scheduled_ns);
    row->ttft_ms = ms(a->arrival_ns, a->outputs[0].first_ns);
    row->tpot_ms = tpot_of(a);
    row->e2el_ms = ms(a->arrival_ns, answer_last_ns(a));
    row->finish_reason = a->outputs[0].finish == FINISH_STOP ? "stop" : "length";
    m->input_tokens += row->input_tokens;
    m->cached_tokens += row->cached_tokens;
    m->recomputed_tokens += row->recomputed_tokens;
    m->output_tokens += row->output_tokens;
    m->preemptions += row->preemptions;
    m->first_arrival_ns = a->arrival_ns < m->first_arrival_ns ? a->arrival_ns : m->first_arrival_ns;
    m->last_token_ns = answer_last_ns(a) > m->last_token_ns ? answer_last_ns(a) : m->last_token_ns;
    if (a->arrival_ns >= m->last_arrival_ns) {
        m->last_arrival_ns = a->arrival_ns;
        m->last_arrival_done_ns = answer_last_ns(a);
    }
    series_add(&m->queue_ms, row->queue_ms);
    series_add(&m->ttft_ms, row->ttft_ms);
    series_add(&m->e2el_ms, row->e2el_ms);
    if (isfinite(row->tpot_ms))
        series_add(&m->tpot_ms, row->tpot_ms);
    m->good += row->ttft_ms <= m->slo.ttft_ms && !(row->tpot_ms > m->slo.tpot_ms) && row->e2el_ms <= m->slo.e2el_ms;
}

void meter_answer(struct meter *m, const struct answer *a, int match)
{
    const struct request *r = a->request;
    struct request_row row = { .index = r->index, .id = r->id, .error = r->error, .finish_reason = "error",
        .queue_ms = NAN, .ttft_ms = NAN, .tpot_ms = NAN, .e2el_ms = NAN, .arrival_s = NAN, .match = match < 0 ? (double)NAN : match };
    m->lines++;
    m->rows_out++;
    m->done += !r->error;
    m->failed += r->error != NULL;
    m->drifted += drifted(a);
    m->scored += match >= 0;
    m->matched += match > 0;
    if (!r->error)
        count_answer(m, a, &row);
    if (!r->error && m->timeline)
        timeline_answer(m->timeline, a);
    if (!m->requests)
        return;
    buf_clear(&m->row);
    table_csv_row(&m->row, request_columns, &row);
    fwrite(m->row.data, 1, m->row.len, m->requests);
}
