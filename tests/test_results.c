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

/* The three prices a token, times the tokens they are for, are the run's money. */
static void prices_add_up(void **state)
{
    (void)state;
    static struct summary s;
    struct meter m;
    assert_int_equal(meter_open(&m, NULL), 0);
    struct answer *a = timeline(0, m.start_ns, 30, 5, MS);
    a->cached_tokens = 16;
    add(&m, a);
    stage_add(m.clock[THREAD_READER], STAGE_TOKENIZE, 3 * MS, 1, 30);
    stage_add(m.clock[THREAD_ENGINE], STAGE_PREFILL, 7 * MS, 1, 14);
    stage_add(m.clock[THREAD_ENGINE], STAGE_DECODE, 20 * MS, 5, 5);
    struct run_facts f = facts(m.start_ns + 1000 * MS);
    results_make(&s, &m, &f);
    assert_true(fabs(s.usd_per_mtok_cached_input - s.usd * 0.1 / 30 * 1e6) < 1e-9);
    assert_true(fabs(s.usd_per_mtok_cached_input * 16 + s.usd_per_mtok_input * 14 + s.usd_per_mtok_output * 5 - s.usd * 1e6) < 1e-9);
    meter_close(&m);
}

static void stages_add_up(void **state)
{
    (void)state;
    static struct summary s;
    struct meter m;
    assert_int_equal(meter_open(&m, NULL), 0);
    add(&m, timeline(0, m.start_ns, 10, 10, MS));
    stage_add(m.clock[THREAD_READER], STAGE_READ, 3 * MS, 1, 0);
    stage_add(m.clock[THREAD_ENGINE], STAGE_LOAD, 900 * MS, 1, 0);
    for (int i = 0; i < 10; i++)
        stage_add(m.clock[THREAD_ENGINE], STAGE_DECODE, 4 * MS, 1, 2);
    stage_add(m.clock[THREAD_WRITER], STAGE_WRITE, 7 * MS, 1, 0);
    struct run_facts f = facts(m.start_ns + 69 * MS);
    results_make(&s, &m, &f);
    double share = 0, usd = 0;
    for (int i = 0; i < N_STAGE; i++)
        if (i != STAGE_LOAD)
            share += s.stages[i].share, usd += s.stages[i].usd;
    assert_true(fabs(share - 1) < 1e-12 && fabs(usd / s.usd - 1) < 1e-12);
    assert_true(isnan(s.stages[STAGE_LOAD].share) && s.stages[STAGE_LOAD].busy_s > 0.89);
    assert_true(fabs(s.stages[STAGE_DECODE].share - 0.4) < 1e-9);      /* 40 of 3 + 40 + 7 + drain 50 ms */
    assert_true(fabs(s.stages[STAGE_DECODE].tokens_per_s - 500) < 1e-6);
    assert_true(fabs(s.stages[STAGE_DECODE].p50_ms / 4 - 1) < 0.008);
    meter_close(&m);
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
        cmocka_unit_test(latencies), cmocka_unit_test(few_samples), cmocka_unit_test(prices_add_up), cmocka_unit_test(gauge_reads), cmocka_unit_test(throttle_names),
        cmocka_unit_test(stages_add_up), cmocka_unit_test(csv_cells),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
