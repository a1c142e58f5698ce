/* The files of --emit, of a hand-made run.  The numbers expected are not ours: numpy 2.4.6 gave vLLM's, and loadgen 6.0.17 itself
 * MLPerf's, from the same timeline; the rest is worked out by hand. */
#define _GNU_SOURCE         /* mkdtemp, strndupa */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "cmd/bench.h"
#include "data/json.h"
#include "data/zfile.h"

#define MS INT64_C(1000000)
enum { N = 12 };

static char folder[] = "/tmp/test_emit.XXXXXX";

/* Request i comes at 7 i^2 ms; its first token is 5 + 37 i mod 11 ms later, then one each 3 + 5 i mod 7 ms: 2 + i mod 4 in all, but number 3 has
 * one only.  Every other prompt has 4 tokens of the cache. */
static void add_answer(struct meter *m, int64_t i)
{
    struct request *r = mem_alloc(sizeof *r);
    r->n_prompt = (uint32_t)(10 + i);
    r->file = "corpus";
    r->sampling.n = 1;
    struct answer *a = answer_new(r);
    int64_t gap = (3 + i * 5 % 7) * MS;
    uint32_t n = i == 3 ? 1 : 2 + (uint32_t)i % 4;
    a->arrival_ns = a->scheduled_ns = m->start_ns + i * i * 7 * MS;
    a->cached_tokens = i % 2 ? 0 : 4;
    a->outputs[0].n_generated = n;
    a->outputs[0].first_ns = a->arrival_ns + (5 + i * 37 % 11) * MS;
    a->outputs[0].last_ns = a->outputs[0].first_ns + gap * (n - 1);
    meter_gap(m, gap, n - 1);
    meter_answer(m, a, -1);
    answer_free(a);
}

static void add_failure(struct meter *m)
{
    struct request *r = mem_alloc(sizeof *r);
    r->file = "corpus";
    request_fail(r, "no");
    struct answer *a = answer_new(r);
    meter_answer(m, a, -1);
    answer_free(a);
}

struct fixture { struct bench_opts opts; struct load load; struct bench_rows rows; };

/* Backwards, so that sorting has something to do. */
static void emit(struct fixture *f, int64_t n)
{
    static struct summary s;
    struct meter m;
    assert_int_equal(meter_open(&m, NULL), 0);
    m.slo = (struct slo_limits){ 12, 7, INFINITY };
    for (int64_t i = n - 1; i >= 0; i--)
        add_answer(&m, i);
    add_failure(&m);
    struct run_facts facts = { .model = "m", .family = "qwen3", .device = "cpu", .device_text = "four cores", .kv_dtype = "bf16", .weight_dtype = "int8",
        .end_ns = m.last_token_ns + 100 * MS, .slo = f->opts.slo, .rate_rps = 2.5, .price_usd_per_h = NAN, .max_step_tokens = 512 };
    results_make(&s, &m, &facts);
    assert_int_equal(bench_emit(&s, &m, &f->load, folder), 0);
    bench_rows_add(&f->rows, &s);
    m.last_token_ns += 150 * MS;           /* a slower repetition, for the rows alone */
    facts.end_ns += 150 * MS;
    results_make(&s, &m, &facts);
    bench_rows_add(&f->rows, &s);
    meter_close(&m);
}

static const char *in_folder(const char *name)
{
    static char path[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static struct json *read_json(const char *name)
{
    struct json *j = json_parse_file(in_folder(name));
    if (!j)
        fail_msg("%s", err_text());
    return j;
}

static void check(const struct json *object, const char *key, double want)
{
    double x = NAN;
    if (!json_number(json_get(object, key), &x) || !(fabs(x - want) <= 1e-6 * fabs(want)))
        fail_msg("%s is %.9g, not %.9g", key, x, want);
}

static void check_text(const struct json *object, const char *key, const char *want)
{
    const char *text = json_text(json_get(object, key), NULL);
    if (!text || strcmp(text, want))
        fail_msg("%s is \"%s\", not \"%s\"", key, text ? text : "(no text)", want);
}

static int set_up(void **state)
{
    static struct fixture f;
    f = (struct fixture){ .opts = { .slo = "ttft:12ms,tpot:7ms", .session.seed = 5 } };
    f.load = (struct load){ .opts = &f.opts, .scenario = SCENARIO_SERVER, .arrivals = { .kind = ARRIVALS_GAMMA, .rate = 2.5, .burstiness = 0.5 },
        .slo = { { 12, 7, INFINITY }, { 0.99, 0.99, 0.99 } }, .emit = EMIT_VLLM | EMIT_LLAMA_BENCH | EMIT_MLPERF };
    bench_rows_init(&f.rows);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    bench_rows_free(&((struct fixture *)*state)->rows);
    static const char *const names[] = { "vllm-serve.json", "vllm-throughput.json", "llama-bench.json", "mlperf_log_summary.txt", "mlperf_log_detail.txt" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(in_folder(names[i]));
    return 0;
}

static void vllm_serve(void **state)
{
    struct fixture *f = *state;
    static const struct { const char *name; double mean, median, std, p99, within; } all[] = {
        {"ttft", 9.58333333, 9.5, 3.32812092, 14.89, 1e-6}, {"tpot", 6.18181818, 6, 2.12424026, 9, 1e-6},
        {"itl", 5.96153846, 6, 2.1390287, 9, 0.008}, {"e2el", 22.5, 23, 8.92094913, 39.9, 1e-6},
    };
    emit(f, N);
    struct json *j = read_json("vllm-serve.json");
    for (size_t i = 0; i < 4; i++) {
        const struct { const char *form; double want; } forms[] = { {"mean", all[i].mean}, {"median", all[i].median}, {"std", all[i].std}, {"p99", all[i].p99} };
        for (size_t k = 0; k < 4; k++) {
            char key[32];
            double x = NAN;
            snprintf(key, sizeof key, "%s_%s_ms", forms[k].form, all[i].name);
            json_number(json_get(j, key), &x);
            if (!(fabs(x - forms[k].want) <= all[i].within * forms[k].want))
                fail_msg("%s is %.9g, not %.9g", key, x, forms[k].want);
        }
    }
    check(j, "num_prompts", 13);
    check(j, "completed", 12);
    check(j, "failed", 1);
    check(j, "duration", 0.888);
    check(j, "total_input_tokens", 186);               /* the 24 of the cache too */
    check(j, "total_output_tokens", 38);
    check(j, "request_throughput", 12 / 0.888);
    check(j, "request_goodput", 6 / 0.888);            /* the single token has no tpot to be over a limit */
    check(j, "output_throughput", 38 / 0.888);
    check(j, "total_token_throughput", 224 / 0.888);
    check(j, "request_rate", 2.5);
    check(j, "burstiness", 0.5);
    assert_int_equal(json_kind(json_get(j, "max_concurrency")), JSON_KIND_NULL);
    assert_int_equal(access(in_folder("vllm-throughput.json"), F_OK), -1);
    json_free(j);
}

static void vllm_offline(void **state)
{
    struct fixture *f = *state;
    f->opts.slo = NULL;
    f->load.scenario = SCENARIO_OFFLINE;
    emit(f, N);
    struct json *j = read_json("vllm-serve.json");
    check_text(j, "request_rate", "inf");
    check(j, "burstiness", 1);
    assert_int_equal(json_kind(json_get(j, "request_goodput")), JSON_KIND_NULL);
    json_free(j);
    j = read_json("vllm-throughput.json");
    assert_int_equal(json_len(j), 5);
    check(j, "elapsed_time", 0.888);
    check(j, "num_requests", 13);
    check(j, "total_num_tokens", 224);
    check(j, "requests_per_second", 13 / 0.888);
    check(j, "tokens_per_second", 224 / 0.888);
    json_free(j);
}

/* Two runs of 0.888 and 1.038 s of one point, as llama-bench tells its repetitions. */
static void llama_bench(void **state)
{
    struct fixture *f = *state;
    emit(f, N);
    struct json *j = read_json("llama-bench.json");
    assert_int_equal(json_len(j), 1);
    const struct json *r = json_at(j, 0);
    check(r, "avg_ns", 888e6);
    check(r, "avg_ts", 224 / 0.888);
    check(r, "stddev_ns", 0);
    check(r, "stddev_ts", 0);
    check(r, "n_prompt", 186);
    check(r, "n_gen", 38);
    check(r, "n_batch", 512);
    check_text(r, "cpu_info", "four cores");
    check_text(r, "gpu_info", "");
    check_text(r, "model_type", "qwen3 int8");
    json_free(j);
    assert_int_equal(bench_emit_rows(&f->rows, EMIT_LLAMA_BENCH, folder), 0);
    j = read_json("llama-bench.json");
    assert_int_equal(json_len(j), 1);
    r = json_at(j, 0);
    double ts[] = { 224 / 0.888, 224 / 1.038 };
    check(r, "avg_ns", 963e6);
    check(r, "stddev_ns", 106066017);                  /* 75e6 x sqrt(2) */
    check(r, "avg_ts", (ts[0] + ts[1]) / 2);
    check(r, "stddev_ts", (ts[0] - ts[1]) / sqrt(2));
    assert_int_equal(json_len(json_get(r, "samples_ns")), 2);
    double x = 0;
    assert_true(json_number(json_at(json_get(r, "samples_ts"), 1), &x) && fabs(x - ts[1]) < 1e-6 * ts[1]);
    json_free(j);
}

/* The value of the line "name : value", as those who read the summary look for it; NULL: there is none. */
static char *summary_value(const char *text, const char *name)
{
    char pattern[128];
    regex_t re;
    regmatch_t at[3];
    snprintf(pattern, sizeof pattern, "^ *%s *: *([^ ].*)$", name);
    assert_int_equal(regcomp(&re, pattern, REG_EXTENDED | REG_NEWLINE), 0);
    int missing = regexec(&re, text, 2, at, 0);
    regfree(&re);
    return missing ? NULL : strndup(text + at[1].rm_so, (size_t)(at[1].rm_eo - at[1].rm_so));
}

static void check_summary(const char *text, const char *name, const char *want)
{
    char *value = summary_value(text, name);
    if (!value || strcmp(value, want))
        fail_msg("%s is \"%s\", not \"%s\"", name, value ? value : "(no such line)", want);
    free(value);
}

static char *read_text(const char *name)
{
    size_t len;
    char *text = zfile_read_all(in_folder(name), &len);
    if (!text)
        fail_msg("%s", err_text());
    return text;
}

static void mlperf_server(void **state)
{
    struct fixture *f = *state;
    emit(f, N);
    char *text = read_text("mlperf_log_summary.txt");
    static const char *const lines[][2] = {
        {"Scenario", "Server"}, {"Mode", "PerformanceOnly"}, {"Result is", "INVALID"},
        {"Completed samples per second", "12.39"},                  /* 11 in 0.888 s */
        {"Scheduled samples per second", "12.99"},                  /* 11 in 0.847 s */
        {"Completed tokens per second", "41.67"},                   /* 37 in 0.888 s: the token of number 3 does not count */
        {"Performance constraints satisfied", "NO"}, {"Min duration satisfied", "NO"}, {"Min queries satisfied", "NO"}, {"Early stopping satisfied", "NO"},
        {"Min latency \\(ns\\)", "6000000"}, {"Max latency \\(ns\\)", "41000000"}, {"Mean latency \\(ns\\)", "22500000"},
        {"50.00 percentile latency \\(ns\\)", "23000000"}, {"90.00 percentile latency \\(ns\\)", "31000000"}, {"99.90 percentile latency \\(ns\\)", "41000000"},
        {"Min First Token latency \\(ns\\)", "5000000"}, {"Mean First Token latency \\(ns\\)", "9583333"},
        {"50.00 percentile first token latency \\(ns\\)", "10000000"}, {"97.00 percentile first token latency \\(ns\\)", "15000000"},
        {"Min Time per Output Token \\(ns\\)", "0"}, {"Mean Time per Output Token \\(ns\\)", "5666666"},
        {"50.00 percentile time to output token \\(ns\\)", "6000000"}, {"90.00 percentile time to output token \\(ns\\)", "9000000"},
        {"target_qps", "2.5"}, {"ttft_latency \\(ns\\)", "12000000"}, {"tpot_latency \\(ns\\)", "7000000"}, {"schedule_rng_seed", "5"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        check_summary(text, lines[i][0], lines[i][1]);
    assert_non_null(strstr(text, "TTFT Early Stopping Result:\n * Run unsuccessful.\n * 989 more"));       /* 3 over: 998 within, of 12 */
    assert_non_null(strstr(text, "TPOT Early Stopping Result:\n * Run unsuccessful.\n * 1145 more"));      /* 4 over */
    assert_non_null(strstr(strndupa(text, strcspn(text, "\n")), "not an MLPerf submission"));
    free(text);
}

/* Each line is the marker and an object; values by key. */
static void mlperf_detail(void **state)
{
    struct fixture *f = *state;
    static const struct { const char *key; double want; } numbers[] = {
        {"result_query_count", 12}, {"result_99.00_percentile_latency_ns", 41e6}, {"result_mean_latency_ns", 22.5e6}, {"result_overlatency_query_count", 0},
        {"result_first_token_50.00_percentile_latency_ns", 10e6}, {"result_first_token_max_latency_ns", 15e6},
        {"result_time_per_output_token_90.00_percentile_ns", 9e6}, {"result_time_to_output_token_mean", 5666666},
        {"result_completed_tokens_per_second", 41.6667}, {"result_token_throughput", 1.37037e-07}, {"num_errors", 2},
    };
    size_t n_line = 0, n_found = 0;
    emit(f, N);
    char *text = read_text("mlperf_log_detail.txt");
    for (char *line = text, *end; *line; line = end + 1, n_line++) {
        end = strchr(line, '\n');
        assert_non_null(end);
        assert_memory_equal(line, ":::MLLOG ", 9);
        struct json *j = json_parse(line + 9, (size_t)(end - line - 9));
        if (!j)
            fail_msg("line %zu: %s", n_line + 1, err_text());
        check_text(j, "namespace", "mlperf::logging");
        check(j, "time_ms", 888);
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            if (strcmp(json_text(json_get(j, "key"), NULL), numbers[i].key) == 0) {
                check(j, "value", numbers[i].want);
                n_found++;
            }
        json_free(j);
    }
    assert_int_equal(n_found, sizeof numbers / sizeof *numbers);
    assert_non_null(strstr(strndupa(text, strcspn(text, "\n")), "not an MLPerf submission"));
    assert_non_null(strstr(text, "\"key\": \"result_validity\", \"value\": \"INVALID\""));
    free(text);
}

static void mlperf_offline(void **state)
{
    struct fixture *f = *state;
    f->load.scenario = SCENARIO_OFFLINE;
    emit(f, N);
    char *text = read_text("mlperf_log_summary.txt");
    check_summary(text, "Scenario", "Offline");
    check_summary(text, "Samples per second", "13.5135");
    check_summary(text, "Tokens per second", "41.6667");
    check_summary(text, "Early stopping satisfied", "Yes");
    assert_null(summary_value(text, "Scheduled samples per second"));
    assert_null(summary_value(text, "Min First Token latency \\(ns\\)"));
    free(text);
}

/* Of requests that are all within the limit early stopping wants 459. */
static void mlperf_valid(void **state)
{
    struct fixture *f = *state;
    static const struct { int64_t n; enum scenario scenario; const char *result, *stopping; } runs[] = {
        {459, SCENARIO_SERVER, "VALID", "Yes"}, {458, SCENARIO_SERVER, "INVALID", "NO"}, {100, SCENARIO_OFFLINE, "VALID", "Yes"}, {99, SCENARIO_OFFLINE, "INVALID", "Yes"},
    };
    f->opts.slo = NULL;                    /* loadgen's 100 ms */
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        f->load.scenario = runs[i].scenario;
        emit(f, runs[i].n);
        char *text = read_text("mlperf_log_summary.txt");
        check_summary(text, "Result is", runs[i].result);
        check_summary(text, "Min duration satisfied", "Yes");
        check_summary(text, "Early stopping satisfied", runs[i].stopping);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(vllm_serve, set_up, tear_down), cmocka_unit_test_setup_teardown(vllm_offline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(llama_bench, set_up, tear_down), cmocka_unit_test_setup_teardown(mlperf_server, set_up, tear_down),
        cmocka_unit_test_setup_teardown(mlperf_detail, set_up, tear_down), cmocka_unit_test_setup_teardown(mlperf_offline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(mlperf_valid, set_up, tear_down),
    };
    if (!mkdtemp(folder))
        return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return rc;
}
