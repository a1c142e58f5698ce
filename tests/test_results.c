/* Definitions of the result files on hand-made timelines whose right answers are worked out here. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "data/table.h"
#include "engine/results.h"

#define MS INT64_C(1000000)

/* An answer that arrives at 0 + at, waits 2 ms, has its first token 10 ms after arrival and one more every gap. */
static struct answer *timeline(uint64_t index, int64_t at, uint32_t n_prompt, uint32_t n_token, int64_t gap)
{
    struct request *r = mem_alloc(sizeof *r);
    r->index = index;
    r->n_prompt = n_prompt;
    r->file = "corpus";
    r->sampling.n = 1;
    struct answer *a = answer_new(r);
    a->arrival_ns = at;
    a->scheduled_ns = at + 2 * MS;
    a->outputs[0].n_generated = n_token;
    a->outputs[0].first_ns = at + 10 * MS;
    a->outputs[0].last_ns = at + 10 * MS + gap * (n_token - 1);
    return a;
}

static void add(struct meter *m, struct answer *a)
{
    meter_answer(m, a, -1);
    answer_free(a);
}

static struct run_facts facts(int64_t end_ns)
{
    return (struct run_facts){ .model = "m", .price_usd_per_h = 3.6, .price_source = "--price", .end_ns = end_ns, .peak_flops = 1e9, .peak_bandwidth = 1e9 };
}

/* 500 requests, one every 20 ms, 5 tokens each with a gap of 1 + i % 10 ms. */
static void latencies(void **state)
{
    (void)state;
    static struct summary s;
    struct meter m;
    assert_int_equal(meter_open(&m, NULL), 0);
    int64_t base = m.start_ns;
    struct run_facts f = facts(base + 499 * 20 * MS + 100 * MS);
    for (uint64_t i = 0; i < 500; i++)
        add(&m, timeline(i, base + (int64_t)i * 20 * MS, 30, 5, (1 + (int64_t)i % 10) * MS));
    results_make(&s, &m, &f);
    assert_true(fabs(s.wall_s - 10.08) < 1e-9);
    assert_true(fabs(s.drain_s - 0.05) < 1e-9);            /* the last request ends 10 + 4 x 10 ms after its arrival */
    assert_int_equal(s.input_tokens, 15000);
    assert_int_equal(s.output_tokens, 2500);
    assert_true(fabs(s.output_tokens_per_s - 2500 / 10.08) < 1e-6);
    assert_true(fabs(s.total_tokens_per_s - 17500 / 10.08) < 1e-6);
    assert_true(fabs(s.ttft_p50_ms - 10) < 1e-5 && fabs(s.queue_p99_ms - 2) < 1e-5);
    assert_true(fabs(s.tpot_p50_ms - 5) < 1e-5);           /* nearest rank: value 250 of 500 is the last 5 */
    assert_true(fabs(s.tpot_p90_ms - 9) < 1e-5 && fabs(s.tpot_p99_ms - 10) < 1e-5);
    assert_true(fabs(s.e2el_mean_ms - (10 + 4 * 5.5)) < 1e-4);
    assert_true(fabs(s.usd - 3.6 * 10.08 / 3600) < 1e-12);
    assert_true(fabs(s.usd_per_mtok - s.usd / 17500 * 1e6) < 1e-9);
    assert_true(fabs(s.tokens_per_s_per_usd - s.total_tokens_per_s / 3.6) < 1e-9);
    assert_string_equal(s.validity, "VALID");
    meter_close(&m);
}

/* Percentiles are only told from enough samples; a run of few requests is not valid. */
static void few_samples(void **state)
{
    (void)state;
    static struct summary s;
    struct meter m;
    assert_int_equal(meter_open(&m, NULL), 0);
    int64_t base = m.start_ns;
    for (uint64_t i = 0; i < 43; i++)
        add(&m, timeline(i, base, 3, 1, 0));
    struct run_facts f = facts(base + 20000 * MS);
    results_make(&s, &m, &f);
    assert_true(isnan(s.usd_per_mtok_cached_input));       /* nothing was cached */
    assert_true(isfinite(s.ttft_p50_ms) && isnan(s.ttft_p90_ms) && isnan(s.ttft_p99_ms));
    assert_true(isnan(s.tpot_p50_ms));                     /* one token has no time per further token */
    assert_string_equal(s.validity, "INVALID");
    assert_non_null(strstr(s.validity_rules, "too few requests"));
    assert_non_null(strstr(s.validity_rules, "drain tail"));
    meter_close(&m);
}

/* ---- three requests, and every number of theirs ---- */

struct times { int64_t arrival, scheduled, first, last; uint32_t n_prompt, n_cached, n_recomputed, n_output; };     /* ms from the meter's start */

static struct answer *answer_at(const struct meter *m, const struct times *t)
{
    struct answer *a = timeline(0, m->start_ns + t->arrival * MS, t->n_prompt, t->n_output, 0);
    a->scheduled_ns = m->start_ns + t->scheduled * MS;
    a->outputs[0].first_ns = m->start_ns + t->first * MS;
    a->outputs[0].last_ns = m->start_ns + t->last * MS;
    a->cached_tokens = t->n_cached;
    a->recomputed_tokens = t->n_recomputed;
    return a;
}

static const struct times three[] = {
    { .arrival = 100, .scheduled = 105, .first = 130, .last = 230, .n_prompt = 20, .n_output = 6 },
    { .arrival = 120, .scheduled = 140, .first = 200, .last = 500, .n_prompt = 30, .n_cached = 16, .n_output = 4 },
    { .arrival = 300, .scheduled = 310, .first = 360, .last = 360, .n_prompt = 10, .n_recomputed = 7, .n_output = 1 },
};

static void add_error(struct meter *m)
{
    struct request *r = mem_alloc(sizeof *r);
    r->file = "corpus";
    request_fail(r, "bad");
    add(m, answer_new(r));
}

/* The three and a line that failed; the last row is durable 1100 ms after the meter's start. */
static void make_three(struct summary *s, struct meter *m, const struct run_facts *more)
{
    struct run_facts f = more ? *more : facts(0);
    f.end_ns = m->start_ns + 1100 * MS;
    for (size_t i = 0; i < 3; i++)
        add(m, answer_at(m, &three[i]));
    add_error(m);
    results_make(s, m, &f);
}

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-5 * fabs(want)))          /* series are kept as floats */
        fail_msg("%.9g, not %.9g", got, want);
}

static void every_number(void **state)
{
    (void)state;
    static struct summary s;
    struct meter m;
    assert_int_equal(meter_open(&m, NULL), 0);
    make_three(&s, &m, NULL);
    assert_true(s.lines == 4 && s.done == 3 && s.failed == 1);
    near(s.wall_s, 1);                                     /* 1100 - the first arrival, 100 */
    near(s.drain_s, 0.6);                                  /* 1100 - the last token, 500 */
    assert_true(s.input_tokens == 60 && s.cached_tokens == 16 && s.output_tokens == 11);   /* 20 + 30 + 10; 6 + 4 + 1 */
    assert_int_equal(s.recomputed_tokens, 7);
    assert_int_equal(s.total_tokens, 55);                  /* 60 - 16 + 11; the 7 are in none */
    near(s.output_tokens_per_s, 11);
    near(s.total_tokens_per_s, 55);
    near(s.requests_per_s, 3);
    near(s.queue_p50_ms, 10);                              /* 5, 20, 10 */
    near(s.ttft_p50_ms, 60);                               /* 30, 80, 60: rank ceil(1.5) */
    near(s.ttft_mean_ms, 170 / 3.0);
    near(s.tpot_p50_ms, 20);                               /* 100 / 5, 300 / 3, none: rank ceil(1) of two */
    near(s.tpot_mean_ms, 60);
    near(s.e2el_p50_ms, 130);                              /* 130, 380, 60 */
    near(s.e2el_mean_ms, 190);
    near(s.usd, 0.001);                                    /* 3.6 $/h for 1 s */
    near(s.usd_per_mtok, 0.001 / 55 * 1e6);
    near(s.tokens_per_s_per_usd, 55 / 3.6);
    assert_true(isnan(s.goodput_rps) && isnan(s.mfu) == 0 && isnan(s.itl_p50_ms));         /* no SLO; peaks but no work; no gap was told */
    meter_close(&m);
}

/* Nothing is divided by what is not known: no price, no peaks, no answer. */
static void unknown_is_empty(void **state)
{
    (void)state;
    static struct summary s;
    struct meter m;
    struct run_facts f = { .price_usd_per_h = NAN, .peak_flops = NAN, .peak_bandwidth = NAN, .gauge = { .energy_j = NAN } };
    assert_int_equal(meter_open(&m, NULL), 0);
    meter_cost(&m, 1e9, 1e9);
    make_three(&s, &m, &f);
    const double empty[] = { s.usd, s.usd_per_mtok, s.usd_per_mtok_input, s.usd_per_mtok_output, s.usd_per_mtok_cached_input, s.tokens_per_s_per_usd,
                             s.mfu, s.mbu, s.score, s.stages[STAGE_DRAIN].usd };
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++)
        assert_true(isnan(empty[i]));
    near(s.total_tokens_per_s, 55);
    meter_close(&m);
    assert_int_equal(meter_open(&m, NULL), 0);
    add_error(&m);
    f = facts(m.start_ns + 1100 * MS);
    results_make(&s, &m, &f);
    assert_true(s.lines == 1 && s.failed == 1 && s.wall_s <= 0 && isnan(s.output_tokens_per_s) && isnan(s.ttft_p50_ms));
    struct buf b = {0};
    results_put_json(&b, &s);
    assert_null(strstr(b.data, "inf"));
    assert_null(strstr(b.data, "nan"));
    buf_free(&b);
    meter_close(&m);
}

/* With several answers to a request: gaps and their time over all together, first of the first, last of the last. */
static void several_answers(void **state)
{
    (void)state;
    static struct summary s;
    struct meter m;
    assert_int_equal(meter_open(&m, NULL), 0);
    struct request *r = mem_alloc(sizeof *r);
    *r = (struct request){ .n_prompt = 10, .file = "corpus", .sampling.n = 3 };
    struct answer *a = answer_new(r);
    a->arrival_ns = a->scheduled_ns = m.start_ns;
    a->outputs[0] = (struct output){ .n_generated = 3, .first_ns = m.start_ns + 10 * MS, .last_ns = m.start_ns + 30 * MS };
    a->outputs[1] = (struct output){ .n_generated = 5, .first_ns = m.start_ns + 10 * MS, .last_ns = m.start_ns + 90 * MS };
    a->outputs[2] = (struct output){ .n_generated = 1, .first_ns = m.start_ns + 10 * MS, .last_ns = m.start_ns + 10 * MS };
    add(&m, a);
    struct run_facts f = facts(m.start_ns + 100 * MS);
    results_make(&s, &m, &f);
    near(s.tpot_p50_ms, 100 / 6.0);                        /* (20 + 80) / (2 + 4) */
    near(s.ttft_p50_ms, 10);
    near(s.e2el_p50_ms, 90);
    assert_int_equal(s.output_tokens, 9);
    meter_close(&m);
}

/* Values 1 .. n in any order, from the number of samples on that each percentile needs. */
static void percentiles(void **state)
{
    (void)state;
    static const size_t sizes[] = { 1, 2, 43, 44, 45, 100, 458, 459, 460, 500, 1000, 1001 };
    static struct summary s;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct meter m;
        size_t n = sizes[i];
        assert_int_equal(meter_open(&m, NULL), 0);
        for (size_t k = 0; k < n; k++) {
            int64_t ms = 1 + (int64_t)(k * 997 % n);       /* 997 is a prime */
            add(&m, answer_at(&m, &(struct times){ .scheduled = ms, .first = ms, .last = 4 * ms, .n_prompt = 1, .n_output = 4 }));
            meter_gap(&m, ms * MS, 1);
        }
        struct run_facts f = facts(m.start_ns + 5000 * MS);
        results_make(&s, &m, &f);
        double p50 = (double)((n + 1) / 2), p90 = n < 44 ? (double)NAN : (double)((9 * n + 9) / 10), p99 = n < 459 ? (double)NAN : (double)((99 * n + 99) / 100);
        const double got[] = { s.ttft_p50_ms, s.ttft_p90_ms, s.ttft_p99_ms, s.tpot_p50_ms, s.tpot_p90_ms, s.tpot_p99_ms, s.queue_p50_ms, s.queue_p99_ms,
                               s.e2el_p50_ms / 4, s.e2el_p90_ms / 4, s.e2el_p99_ms / 4, s.itl_p50_ms, s.itl_p90_ms, s.itl_p99_ms };
        const double want[] = { p50, p90, p99, p50, p90, p99, p50, p99, p50, p90, p99, p50, p90, p99 };
        for (size_t k = 0; k < sizeof got / sizeof *got; k++)
            if (!(isnan(want[k]) ? isnan(got[k]) : fabs(got[k] / want[k] - 1) < (k < 11 ? 1e-5 : 0.008)))
                fail_msg("%zu samples, percentile %zu: %.9g, not %.9g", n, k, got[k], want[k]);
        meter_close(&m);
    }
}

/* A few long gaps among many short ones: of each gap, not of each request. */
static void gaps_are_pooled(void **state)
{
    (void)state;
    static struct summary s;
    struct meter m;
    assert_int_equal(meter_open(&m, NULL), 0);
    meter_gap(&m, 10 * MS, 454);
    meter_gap(&m, 30 * MS, 5);                             /* p99 of 459 is rank ceil(454.41) = 455: the first of these */
    make_three(&s, &m, NULL);
    assert_true(fabs(s.itl_p50_ms / 10 - 1) < 0.008 && fabs(s.itl_p90_ms / 10 - 1) < 0.008 && fabs(s.itl_p99_ms / 30 - 1) < 0.008);
    meter_close(&m);
}

/* Good is a request within all limits, the limits included; of one token there is no tpot. */
static void goodput(void **state)
{
    (void)state;
    static const struct { struct slo_limits slo; double rps; } cases[] = {     /* ttft 30, 80, 60; tpot 20, 100, none; e2el 130, 380, 60 */
        { { INFINITY, INFINITY, INFINITY }, 3 }, { { 60, INFINITY, INFINITY }, 2 }, { { 59.9, INFINITY, INFINITY }, 1 }, { { 29.9, INFINITY, INFINITY }, 0 },
        { { INFINITY, 100, INFINITY }, 3 }, { { INFINITY, 99.9, INFINITY }, 2 }, { { INFINITY, 19.9, INFINITY }, 1 },
        { { INFINITY, INFINITY, 380 }, 3 }, { { INFINITY, INFINITY, 379.9 }, 2 }, { { INFINITY, INFINITY, 59.9 }, 0 },
        { { 60, 50, 130 }, 2 }, { { 60, 50, 129.9 }, 1 }, { { 80, 100, 130 }, 2 }, { { 59.9, 19.9, INFINITY }, 0 },
    };
    static struct summary s;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct meter m;
        struct run_facts f = facts(0);
        f.slo = "said";
        assert_int_equal(meter_open(&m, NULL), 0);
        m.slo = cases[i].slo;
        make_three(&s, &m, &f);
        assert_true(fabs(s.goodput_rps - cases[i].rps) < 1e-9);         /* in a wall_s of 1; the failed line is never good */
        meter_close(&m);
    }
}

/* Work over what the machine could have done in 1 s; energy as the gauge has it; device time over wall_s. */
static void use_of_device(void **state)
{
    (void)state;
    static struct summary s;
    struct meter m;
    struct run_facts f = facts(0);
    f.gauge.energy_j = 42.5;
    assert_int_equal(meter_open(&m, NULL), 0);
    for (int i = 0; i < 2; i++) {
        meter_cost(&m, 2e8, 1e8);
        meter_step(&m, &(struct step_row){ .device_ms = 125, .kv_used = 5 - i, .kv_total = 9, .n_decode_tok = 4 });
    }
    make_three(&s, &m, &f);
    near(s.mfu, 0.4);                                      /* 2 x 2e8 of 1e9 */
    near(s.mbu, 0.2);
    near(s.device_busy, 0.25);
    assert_true(s.steps == 2 && s.kv_blocks_used_max == 5);
    struct buf b = {0};
    results_put_json(&b, &s);
    assert_non_null(strstr(b.data, "\"energy_j\":42.5,"));
    buf_free(&b);
    meter_close(&m);
}

/* ---- money ---- */

static const struct { enum stage stage; int thread; int64_t ms; } busy[] = {
    { STAGE_READ, THREAD_READER, 10 }, { STAGE_PARSE, THREAD_READER, 20 }, { STAGE_TOKENIZE, THREAD_READER, 30 },
    { STAGE_QUEUE, THREAD_ENGINE, 15 }, { STAGE_PREFILL, THREAD_ENGINE, 140 }, { STAGE_DECODE, THREAD_ENGINE, 200 }, { STAGE_SAMPLE, THREAD_ENGINE, 50 },
    { STAGE_IDLE, THREAD_ENGINE, 85 }, { STAGE_DETOKENIZE, THREAD_WRITER, 30 }, { STAGE_WRITE, THREAD_WRITER, 20 },
};

/* The money of 1 s, $0.001, is that of the 500 ms in which stages served prompts and answers: 60 for all 60 prompt tokens, 140
 * for the 44 computed, 300 for the 11 of answers.  All stages, 600 ms and 600 of drain, add up to it, too. */
static void money_adds_up(void **state)
{
    (void)state;
    static struct summary s;
    struct meter m;
    assert_int_equal(meter_open(&m, NULL), 0);
    stage_add(m.clock[THREAD_ENGINE], STAGE_LOAD, 9000 * MS, 1, 0);        /* lies before */
    for (size_t i = 0; i < sizeof busy / sizeof *busy; i++)
        for (int k = 0; k < 2; k++)
            stage_add(m.clock[busy[i].thread], busy[i].stage, busy[i].ms * MS / 2, 1, 7);
    make_three(&s, &m, NULL);
    near(s.usd_per_mtok_cached_input, 2);                  /* $0.001 x 60 / 500 = $0.00012, over 60 tokens */
    near(s.usd_per_mtok_input, 2 + 0.00028 / 44 * 1e6);
    near(s.usd_per_mtok_output, 0.0006 / 11 * 1e6);
    near(s.usd_per_mtok_cached_input * 16 + s.usd_per_mtok_input * 44 + s.usd_per_mtok_output * 11, 1000);
    double usd = 0, share = 0;
    for (int i = 0; i < N_STAGE; i++)
        if (i != STAGE_LOAD)
            usd += s.stages[i].usd, share += s.stages[i].share;
    assert_true(fabs(usd / (3.6 * 1 / 3600) - 1) < 0.001);
    assert_true(fabs(share - 1) < 1e-12);
    near(s.stages[STAGE_DECODE].share, 200 / 1200.0);
    near(s.stages[STAGE_DECODE].usd, 0.001 / 6);
    near(s.stages[STAGE_DECODE].tokens_per_s, 14 / 0.2);
    near(s.stages[STAGE_DECODE].tokens_per_s_per_usd, 14 / 0.2 / 3.6);
    near(s.stages[STAGE_DRAIN].busy_s, 0.6);
    assert_true(isnan(s.stages[STAGE_LOAD].share) && isnan(s.stages[STAGE_LOAD].usd) && fabs(s.stages[STAGE_LOAD].busy_s - 9 * 2 / 2) < 1e-9);
    assert_true(fabs(s.stages[STAGE_DECODE].p50_ms / 100 - 1) < 0.008 && isnan(s.stages[STAGE_DECODE].p90_ms));
    meter_close(&m);
}

/* ---- validity ---- */

/* What differs from a run that is just valid: where 0 stands for 1000 requests, a wall_s of 10, a drain of 1 and device steps of 8 s. */
struct tried {
    uint64_t n; int64_t wall_ms, drain_ms;
    uint32_t n_cached, n_recomputed;           /* over all requests */
    bool interrupted, unshared, async;
    double device_ms;
    uint64_t n_late;
    uint32_t asked;                            /* the first request, which gets 2 tokens: exactly so many; 0: as it comes */
    bool stops;                                /* it may also stop at a text */
    uint32_t first_tok, other_tok, n_other; double first_ms, other_ms;         /* steps */
    int throttle;
};

static void add_first(struct meter *m, const struct tried *t, int64_t end_ms)
{
    struct answer *a = answer_at(m, &(struct times){ .last = end_ms, .n_prompt = 10, .n_output = 2, .n_cached = t->n_cached, .n_recomputed = t->n_recomputed });
    struct sampling *w = &a->request->sampling;
    const char *stop_text = "x";
    if (t->asked)
        w->own_max_tokens = w->ignore_eos = true, w->max_tokens = (int32_t)t->asked;
    if (t->stops)
        w->stop = &stop_text, w->n_stop = 1;
    add(m, a);
}

static void add_steps(struct meter *m, const struct tried *t)
{
    double device_ms = t->device_ms > 0 ? t->device_ms : 8000, told = t->first_ms + t->n_other * t->other_ms;
    if (t->first_tok)
        meter_step(m, &(struct step_row){ .device_ms = t->first_ms, .n_prefill_tok = t->first_tok, .kv_total = 1 });
    for (uint32_t i = 0; i < t->n_other; i++)
        meter_step(m, &(struct step_row){ .device_ms = t->other_ms, .n_decode_tok = t->other_tok, .kv_total = 1 });
    meter_step(m, &(struct step_row){ .device_ms = device_ms - told, .n_decode_tok = 1000, .kv_total = 1 });
}

/* The rules that failed, the note on p99 left out. */
static const char *judge(struct summary *s, const struct tried *t)
{
    struct meter m;
    int64_t wall_ms = t->wall_ms ? t->wall_ms : 10000, drain_ms = t->drain_ms ? t->drain_ms : 1000;
    assert_int_equal(meter_open(&m, NULL), 0);
    struct run_facts f = facts(m.start_ns + wall_ms * MS);
    f.interrupted = t->interrupted, f.unshared = t->unshared, f.async = t->async, f.n_late = t->n_late, f.gauge.throttle = t->throttle;
    add_steps(&m, t);
    add_first(&m, t, wall_ms - drain_ms);
    for (uint64_t i = 1; i < (t->n ? t->n : 1000); i++)
        add(&m, answer_at(&m, &(struct times){ .last = 1, .n_prompt = 10, .n_output = 2 }));
    stage_add(m.clock[THREAD_ENGINE], STAGE_IDLE, 500 * MS, 1, 0);
    results_make(s, &m, &f);
    meter_close(&m);
    return s->validity_rules;
}

/* Each rule just inside its bound (NULL: valid) and just outside. */
static const struct { const char *rule; struct tried t; } rules[] = {
    { NULL, { .interrupted = false } },
    { "interrupted", { .interrupted = true } },
    { "too short", { .wall_ms = 9999, .drain_ms = 999 } },
    { NULL, { .n = 44 } },
    { "too few requests", { .n = 43 } },
    { NULL, { .drain_ms = 1 } },
    { "drain tail", { .drain_ms = 1001 } },
    { NULL, { .n_recomputed = 1200 } },                                   /* of 1000 x (10 + 2) tokens */
    { "preemption thrash", { .n_recomputed = 1201 } },
    { NULL, { .n_cached = 5 } },                                          /* prompts may begin alike */
    { NULL, { .unshared = true } },
    { "cache contamination", { .unshared = true, .n_cached = 1 } },
    { NULL, { .async = true, .drain_ms = 500, .device_ms = 8101 } },      /* 90 % of 10000 - 500 idle - 500 drain */
    { "host-bound", { .async = true, .drain_ms = 500, .device_ms = 8099 } },
    { NULL, { .async = false, .device_ms = 1 } },                         /* the device is the host */
    { NULL, { .asked = 2 } },
    { "output length drift", { .asked = 3 } },
    { "output length drift", { .asked = 1 } },
    { NULL, { .asked = 3, .stops = true } },                              /* it was not asked for exactly so many */
    { NULL, { .n_late = 50 } },
    { "arrivals late", { .n_late = 51 } },
    { NULL, { .first_tok = 80, .first_ms = 30, .n_other = 3, .other_tok = 80, .other_ms = 10 } },
    { "cold start counted", { .first_tok = 80, .first_ms = 30.1, .n_other = 3, .other_tok = 80, .other_ms = 10 } },
    { NULL, { .first_tok = 80, .first_ms = 99, .n_other = 2, .other_tok = 80, .other_ms = 10 } },         /* too few to tell */
    { "cold start counted", { .first_tok = 80, .first_ms = 99, .n_other = 3, .other_tok = 90, .other_ms = 10 } },
    { NULL, { .first_tok = 80, .first_ms = 99, .n_other = 3, .other_tok = 91, .other_ms = 10 } },         /* others are of 70 to 90 tokens */
    { "cold start counted", { .first_tok = 80, .first_ms = 99, .n_other = 3, .other_tok = 70, .other_ms = 10 } },
    { NULL, { .first_tok = 80, .first_ms = 99, .n_other = 3, .other_tok = 69, .other_ms = 10 } },
    { NULL, { .throttle = THROTTLE_POWER | THROTTLE_SETTING } },
    { "clock throttled", { .throttle = THROTTLE_HEAT } },
    { "clock throttled", { .throttle = THROTTLE_HARDWARE } },
};

static void each_rule(void **state)
{
    (void)state;
    static struct summary s;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        const char *text = judge(&s, &rules[i].t), *want = rules[i].rule;
        bool few = s.done < 459 && s.done >= 44;
        if (strcmp(s.validity, want ? "INVALID" : "VALID") || (want ? strncmp(text, want, strlen(want)) != 0 || strchr(text, ';') : !few && text[0]))
            fail_msg("case %zu: %s (%s), not %s", i, s.validity, text, want ? want : "VALID");
    }
}

/* An empty p99 is no fault, but is named. */
static void p99_needs_more(void **state)
{
    (void)state;
    static struct summary s;
    struct tried t = { .n = 458 };
    assert_non_null(strstr(judge(&s, &t), "p99 left empty"));
    assert_string_equal(s.validity, "VALID");
    t.n = 459;
    assert_string_equal(judge(&s, &t), "");
}

/* All at once, and each is named to its end. */
static void all_rules(void **state)
{
    (void)state;
    static struct summary s;
    struct tried t = { .n = 43, .wall_ms = 9000, .drain_ms = 8000, .n_cached = 1, .n_recomputed = 500, .interrupted = true, .unshared = true, .async = true,
                       .device_ms = 400, .n_late = 43, .asked = 3, .first_tok = 8, .other_tok = 8, .n_other = 3, .first_ms = 300, .other_ms = 10,
                       .throttle = THROTTLE_HEAT };
    const char *text = judge(&s, &t);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].rule && !strstr(text, rules[i].rule))
            fail_msg("\"%s\" is not in \"%s\"", rules[i].rule, text);
    assert_int_equal(text[strlen(text) - 1], ')');
}

/* ---- what the device tells of itself ---- */

static _Atomic int n_reading;

/* Its first reading is of 100 J, each has 10 more; the second one is hot and knows no power. */
static void tell(struct device *d, struct telemetry *t)
{
    (void)d;
    int n = n_reading++;
    *t = (struct telemetry){ .energy_j = 100 + 10 * n, .power_w = n == 1 ? (double)NAN : 200, .clock_mhz = n == 1 ? 1000 : 2000, .memory_bytes = 5e9 + n,
                             .throttle = n == 1 ? THROTTLE_HEAT : 0 };
}

static void tell_nothing(struct device *d, struct telemetry *t)
{
    (void)d;
    *t = (struct telemetry){ NAN, NAN, NAN, NAN, NAN };
}

static void gauge_reads(void **state)
{
    (void)state;
    struct device_ops ops = { .telemetry = tell };
    struct device d = { .ops = &ops };
    struct telemetry t;
    n_reading = 0;
    struct gauge *g = gauge_open(&d);
    assert_true(gauge_take(g, &t) && t.energy_j == 100);
    while (n_reading < 2)
        assert_true(!gauge_take(g, &t) || t.energy_j > 100);
    struct gauge_sums s = gauge_close(g);
    int n = n_reading;
    assert_true(n >= 3 && s.energy_j == 10 * (n - 1));
    assert_true(s.power_mean_w == 200 && s.clock_min_mhz == 1000 && fabs(s.clock_mean_mhz - (2000.0 * (n - 1) + 1000) / n) < 1e-6);
    assert_true(s.memory_max_bytes == 5e9 + n - 1 && s.throttle == THROTTLE_HEAT);
    ops.telemetry = tell_nothing;
    assert_null(gauge_open(&d));
    assert_false(gauge_take(NULL, &t));
    s = gauge_close(NULL);
    assert_true(isnan(s.power_mean_w) && isnan(s.energy_j) && s.throttle == -1);
}

/* What slowed the clock is told by name, and heat makes the run invalid. */
static void throttle_names(void **state)
{
    (void)state;
    static const struct { int seen; const char *names; bool invalid; } cases[] = {
        { -1, NULL, false }, { 0, "none", false }, { THROTTLE_POWER, "power", false },
        { THROTTLE_POWER | THROTTLE_HEAT, "power; heat", true }, { THROTTLE_HARDWARE | THROTTLE_SETTING, "hardware; setting", true },
    };
    static struct summary s;
    struct meter m;
    assert_int_equal(meter_open(&m, NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct run_facts f = facts(m.start_ns);
        f.gauge.throttle = cases[i].seen;
        results_make(&s, &m, &f);
        if (cases[i].names)
            assert_string_equal(s.throttle_reasons, cases[i].names);
        else
            assert_null(s.throttle_reasons);
        assert_int_equal(strstr(s.validity_rules, "clock throttled") != NULL, cases[i].invalid);
    }
    meter_close(&m);
}

struct cell { const char *text; double x; uint64_t n; };

static const struct column columns[] = {
    {"text", COLUMN_TEXT, offsetof(struct cell, text)}, {"x_ms", COLUMN_REAL, offsetof(struct cell, x)}, {"n", COLUMN_U64, offsetof(struct cell, n)}, {0},
};

static void csv_cells(void **state)
{
    (void)state;
    static const struct { struct cell cell; const char *csv; } cases[] = {
        {{"a", 1, 2}, "a,1,2\r\n"}, {{"=1+1", 0.5, 0}, "'=1+1,0.5,0\r\n"}, {{"say \"hi\", you", 1.25, 1}, "\"say \"\"hi\"\", you\",1.25,1\r\n"},
        {{NULL, NAN, UINT64_MAX}, ",,18446744073709551615\r\n"}, {{"-x", 1.234, 0}, "'-x,1.2340,0\r\n"}, {{"t", -1234.5, 0}, "t,-1234.5,0\r\n"},
        {{"t", 0.125, 0}, "t,0.1250,0\r\n"}, {{"t", 1e-7, 0}, "t,0.0000001,0\r\n"}, {{"t", 123456789.126, 0}, "t,123456789.13,0\r\n"}, {{"t", 0, 0}, "t,0,0\r\n"},
    };
    struct buf b = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_clear(&b);
        table_csv_row(&b, columns, &cases[i].cell);
        assert_string_equal(b.data, cases[i].csv);
        char *field[4];
        b.data[b.len - 2] = 0;
        assert_int_equal(table_csv_split(b.data, ',', field, 4), 3);
    }
    buf_clear(&b);
    table_json_object(&b, columns, &(struct cell){ "q\"", NAN, 7 });
    assert_string_equal(b.data, "{\"text\":\"q\\\"\",\"x_ms\":null,\"n\":7}");
    buf_clear(&b);
    table_csv_header(&b, columns);
    assert_string_equal(b.data, "text,x_ms,n\r\n");
    char line[] = "\"a,\"\"b\"\"\",,c";
    char *field[3];
    assert_int_equal(table_csv_split(line, ',', field, 3), 3);
    assert_string_equal(field[0], "a,\"b\"");
    assert_string_equal(field[1], "");
    assert_string_equal(field[2], "c");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latencies), cmocka_unit_test(few_samples), cmocka_unit_test(every_number), cmocka_unit_test(unknown_is_empty),
        cmocka_unit_test(several_answers), cmocka_unit_test(percentiles), cmocka_unit_test(gaps_are_pooled), cmocka_unit_test(goodput),
        cmocka_unit_test(use_of_device), cmocka_unit_test(money_adds_up), cmocka_unit_test(each_rule), cmocka_unit_test(p99_needs_more),
        cmocka_unit_test(all_rules), cmocka_unit_test(gauge_reads), cmocka_unit_test(throttle_names), cmocka_unit_test(csv_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
