/* tokmill bench: a workload under a scenario, once, in repetitions, over a sweep, or in search of the highest rate that keeps
 * an SLO.  One row of summary.csv each; where there are several, each has a folder of its own besides, and a folder that is
 * whole is not run again: so the same command goes on after an interruption. */
#define _DEFAULT_SOURCE         /* strsep */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/bench.h"
#include "cmd/cmd.h"
#include "cmd/folder.h"
#include "cmd/pipeline.h"
#include "cmd/stop.h"
#include "data/table.h"
#include "data/trace.h"
#include "kernels/device.h"

#define AT(field) offsetof(struct bench_opts, field)

const struct opt bench_options[] = {
    {.help = "Model and workload: the corpora named, a trace, or a synthetic one"},
    SESSION_MODEL(struct bench_opts, session),
    {"num-requests", 0, OPT_INT, "N", AT(num_requests), NULL, "requests of a run (default: 256, or all of a trace or corpus)", NULL, 1, 1e9},
    {"input-len", 0, OPT_TEXT, "LENGTHS", AT(input_len), "128", "prompt tokens: N, N..M (uniform), normal(MEAN,DEVIATION)", NULL, 0, 0},
    {"output-len", 0, OPT_TEXT, "LENGTHS", AT(output_len), "128", "tokens of the answers, exactly so many", NULL, 0, 0},
    {"prefix-len", 0, OPT_INT, "N", AT(prefix_len), NULL, "tokens before those of --input-len that prompts share", NULL, 1, 1e7},
    {"prefix-count", 0, OPT_INT, "N", AT(prefix_count), "1", "how many such beginnings there are", NULL, 1, 1e7},
    {"replay", 0, OPT_TEXT, "FILE", AT(replay), NULL, "lengths and times of recorded requests: Azure, BurstGPT, Mooncake, ShareGPT, Vidur, or a CSV of lengths", NULL, 0, 0},
    {"seed", 0, OPT_INT, "N", AT(session.seed), "0", "of prompts, lengths and arrivals", NULL, 0, 0},
    {.help = "Scenario"},
    {"scenario", 0, OPT_CHOICE, NULL, AT(scenario), "auto", "all at once; at their times; a fixed number in flight; one by one (auto: what the options below ask for, else offline)", "auto|offline|server|closed|single", 0, 0},
    {"rate", 0, OPT_REAL, "R", AT(rate), NULL, "server: requests a second", NULL, 1e-6, 1e9},
    {"arrivals", 0, OPT_TEXT, "PROCESS", AT(arrivals), NULL, "server: constant:R, poisson:R, gamma:R:BURSTINESS, ramp:R..R:SECONDS, exp-ramp:R..R:SECONDS, burst:R:4x:at60:for30, trace or trace:2x (default: poisson)", NULL, 0, 0},
    {"concurrency", 0, OPT_INT, "N", AT(concurrency), NULL, "closed: requests in flight", NULL, 1, 1e7},
    {"arrival", 0, OPT_CHOICE, NULL, AT(count_from), "window", "offline: latencies count from when the engine had room to look at the request, or all from the start", "window|all", 0, 0},
    {.help = "Repetitions, sweeps, limits"},
    {"repeat", 0, OPT_INT, "N", AT(repeat), "1", "run everything N times", NULL, 1, 10000},
    {"warmup", 0, OPT_INT, "N", AT(warmup), "0", "requests before the first run that are not measured; steps of each size always run once before", NULL, 0, 1e6},
    {"sweep", 0, OPT_TEXT, "KEY=V,V...", AT(sweep), NULL, "one run for each value of rate, concurrency, input-len, output-len, prefix-len, num-requests, batch (max-seqs) or max-step-tokens", NULL, 0, 0},
    {"ab", 0, OPT_TEXT, "'OPTIONS' 'OPTIONS'", AT(ab), NULL, "two sets of options against each other: runs A B B A, each a process of its own, --repeat of both, then compared", NULL, 0, 0},
    {"slo", 0, OPT_TEXT, "LIMITS", AT(slo), NULL, "limits of latencies, for goodput and --find-max: ttft:p99:500ms,tpot:50ms,e2el:10s", NULL, 0, 0},
    {"find-max", 0, OPT_FLAG, NULL, AT(find_max), NULL, "search the highest rate that keeps --slo, from --rate (default: 1) on", NULL, 0, 0},
    {"probe-time", 0, OPT_DURATION, "TIME", AT(probe_s), "12s", "the search lets requests in for so long at each rate, or longer where percentiles need more requests", NULL, 0.1, 1e6},
    {"precision", 0, OPT_REAL, "X", AT(precision), "0.05", "the search ends when its bounds are so near", NULL, 0.001, 1},
    SESSION_DEVICE(struct bench_opts, session),
    SESSION_SCHEDULING(struct bench_opts, session),
    {.help = "Results"},
    {"results", 0, OPT_TEXT, "DIR", AT(results), NULL, "folder for the result files (default: results/<UTC time>); none writes none", NULL, 0, 0},
    {"trace", 0, OPT_FLAG, NULL, AT(trace), NULL, "also write trace.json: steps, stages and requests for Perfetto or chrome://tracing", NULL, 0, 0},
    {"format", 0, OPT_CHOICE, NULL, AT(format), "table", "of what is printed", "table|md|csv|json|jsonl", 0, 0},
    {"emit", 0, OPT_TEXT, "FORMAT,...", AT(emit), NULL, "also write the result files of vllm, llama-bench, mlperf (results/README.md)", NULL, 0, 0},
    SESSION_CSV_DIALECT(struct bench_opts, csv_dialect),
    {"allow-invalid", 0, OPT_FLAG, NULL, AT(allow_invalid), NULL, "exit with 0 though a run is INVALID", NULL, 0, 0},
    SESSION_PRICE(struct bench_opts, session),
    {"quiet", 'q', OPT_FLAG, NULL, AT(quiet), NULL, "no progress, no messages", NULL, 0, 0},
    {"log-level", 0, OPT_CHOICE, NULL, AT(log_level), "info", "what to say on standard error", "error|warn|info|debug", 0, 0},
    {"ceilings", 0, OPT_FLAG, NULL, AT(ceilings), NULL, "only measure the device's FLOP rates and read bandwidth", NULL, 0, 0},
    {0},
};

/* One value of the sweep: the options with it, and "rate=4". */
struct point { struct bench_opts opts; char text[64]; struct load load; };

struct plan_of_runs {
    struct bench_opts opts;
    struct bench bench;
    struct bench_rows rows;
    char *sweep;                           /* its text, cut up: the points' options point into it */
    struct point *points; size_t n_point;
    char **given, **rest;                  /* the command line; without --ab and its texts */
    char *sides[2];                        /* --ab; NULL: not given */
    char folder[512];                      /* "": none */
    bool several;                          /* runs, which have folders of their own */
    uint64_t n_run;
};

/* ---- ceilings ---- */

/* Nothing, where the device does not do it. */
static void print_peak(const char *name, double peak, const char *unit)
{
    if (isfinite(peak))
        printf("%-12s %8.1f %s\n", name, peak * 1e-9, unit);
}

static int print_ceilings(const struct session_opts *o)
{
    struct device *d = device_open(o->device, DTYPE_BF16, (int)o->threads);
    if (!d)
        die("%s", err_text());
    printf("device       %s: %s\n", d->name, d->text);
    print_peak("f32", d->ops->peak_flops(d, DTYPE_F32), "GFLOP/s");
    print_peak("bf16", d->ops->peak_flops(d, DTYPE_BF16), "GFLOP/s");
    print_peak("fp8", d->ops->peak_flops(d, DTYPE_E4M3), "GFLOP/s");
    print_peak("int8", d->ops->peak_flops(d, DTYPE_I8), "Gop/s");
    print_peak("read", d->ops->peak_bandwidth(d), "GB/s");
    d->ops->close(d);
    return EXIT_GOOD;
}

/* ---- the points of a sweep ---- */

static const struct opt *sweep_option(const char *key)
{
    static const char *const keys[] = { "rate", "concurrency", "input-len", "output-len", "prefix-len", "num-requests", "max-step-tokens" };
    const char *name = strcmp(key, "batch") == 0 ? "max-seqs" : NULL;
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !name; i++)
        name = strcmp(key, keys[i]) == 0 ? keys[i] : NULL;
    for (const struct opt *o = bench_options; name && (o->name || o->help); o++)
        if (o->name && strcmp(o->name, name) == 0)
            return o;
    die("bench: --sweep: \"%s\" cannot be swept; rate, concurrency, input-len, output-len, prefix-len, num-requests, batch and max-step-tokens can", key);
}

static void add_point(struct plan_of_runs *r, const struct opt *o, const char *key, const char *value)
{
    r->points = mem_resize(r->points, r->n_point + 1, sizeof *r->points);
    struct point *p = &r->points[r->n_point++];
    p->opts = r->opts;
    snprintf(p->text, sizeof p->text, "%s%s%s", key, value[0] ? "=" : "", value);
    if (o && opt_set(o, &p->opts, value))
        die("bench: --sweep %s: %s", key, err_text());
}

/* "rate=1,2,4"; values are split at commas outside of parentheses: normal(128,32) is one. */
static void make_points(struct plan_of_runs *r)
{
    r->sweep = r->opts.sweep ? strdup(r->opts.sweep) : NULL;
    char *values = r->sweep, *key = strsep(&values, "=");
    if (!r->sweep)
        add_point(r, NULL, "", "");
    else if (!values || !values[0])
        die("bench: --sweep: \"%s\" is not KEY=VALUE,VALUE...", r->opts.sweep);
    const struct opt *o = r->sweep ? sweep_option(key) : NULL;
    for (char *at = values, *begin = values; values && begin; at++) {
        int depth = 0;
        for (; *at && (*at != ',' || depth); at++)
            depth += (*at == '(') - (*at == ')');
        bool last = !*at;
        *at = 0;
        add_point(r, o, key, begin);
        begin = last ? NULL : at + 1;
    }
    for (size_t i = 0; i < r->n_point; i++)
        load_make(&r->points[i].load, &r->points[i].opts, r->bench.n_corpus > 0);
}

/* ---- running them ---- */

/* Options that say what is shown, not what is measured. */
static bool is_shown(const char *word)
{
    static const char *const words[] = { "-q", "--quiet", "--format", "--log-level" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        if (strncmp(word, words[i], n) == 0 && (!word[n] || word[n] == '='))
            return true;
    }
    return false;
}

/* Folders are for one command: what is in them is not mixed with what another one measures. */
static void keep_command(const struct plan_of_runs *r, int argc, char **argv)
{
    struct buf path = {0}, now = {0};
    char *before;
    size_t len = 0;
    buf_printf(&path, "%s/command", r->folder);
    for (int i = 0; i < argc; i++)
        if (is_shown(argv[i]))
            i += argv[i][1] == '-' && strcmp(argv[i], "--quiet") && !strchr(argv[i], '=');
        else
            buf_printf(&now, "%s\n", argv[i]);
    FILE *f = fopen(path.data, "r");
    if (f) {
        fclose(f);
        before = zfile_read_all(path.data, &len);
        bool same = before && len == now.len && memcmp(before, now.data, len) == 0;
        free(before);
        if (!same)
            die("bench: \"%s\" holds the results of another command (%s); name another folder", r->folder, path.data);
    } else if (!(f = fopen(path.data, "w")) || fwrite(now.data, 1, now.len, f) != now.len || fclose(f)) {
        die("%s: %s", path.data, strerror(errno));
    }
    buf_free(&path);
    buf_free(&now);
}

static void keep_rows(const struct plan_of_runs *r)
{
    if (r->several && r->folder[0] && bench_rows_write(&r->rows, r->folder))
        die("%s", err_text());
}

/* Runs the point, or takes what its folder has.  False: interrupted. */
static bool run_point(struct plan_of_runs *r, struct point *p, uint64_t repetition)
{
    static struct summary s;
    char folder[600];
    snprintf(folder, sizeof folder, "%s/%04llu", r->folder, (unsigned long long)++r->n_run);
    int there = r->several && r->folder[0] ? bench_rows_read(&r->rows, folder) : 0;
    if (there < 0)
        die("%s", err_text());
    if (there) {
        keep_rows(r);
        return true;
    }
    if (r->several && r->folder[0])
        folder_make(folder);
    if (r->several)
        log_info("run %llu%s%s", (unsigned long long)r->n_run, p->text[0] ? ": " : "", p->text);
    bench_run(&r->bench, &p->load, p->text, repetition, !r->folder[0] ? NULL : r->several ? folder : r->folder, &s);
    if (stop_asked)
        return false;
    bench_rows_add(&r->rows, &s);
    if (!r->several && r->opts.format == BENCH_TABLE)
        results_print(&s, stdout);
    keep_rows(r);
    return true;
}

/* Each point in turn, again and again: so that a drift of the machine does not pass for a difference between points. */
static bool run_points(struct plan_of_runs *r)
{
    for (int64_t k = 1; k <= r->opts.repeat; k++)
        for (size_t i = 0; i < r->n_point; i++)
            if (!run_point(r, &r->points[i], (uint64_t)k))
                return false;
    return true;
}

/* Enough requests to tell the percentiles, and for a time in which an overload shows. */
static int64_t probe_requests(const struct plan_of_runs *r, const struct point *p, double rate)
{
    double n = fmax(ceil(rate * r->opts.probe_s), (double)slo_samples(&p->load.slo));
    return (int64_t)fmin(fmax(n, (double)r->opts.num_requests), 1e9);
}

/* Whether the probe's SLO was kept; *alone: its requests hardly ever met, so that a lower rate would be no easier. */
static bool judge_probe(const struct plan_of_runs *r, double rate, bool *alone)
{
    size_t last = r->rows.n - 1;
    const char *kept = bench_rows_cell(&r->rows, last, "slo_kept");
    if (!kept[0])
        die("bench: --find-max: a probe had too few requests to tell: %zu are needed; give a longer corpus or trace", slo_samples(&r->points[0].load.slo));
    *alone = rate * strtod(bench_rows_cell(&r->rows, last, "e2el_mean_ms"), NULL) * 1e-3 < 0.1;
    return strcmp(kept, "yes") == 0;
}

/* Four digits or more. */
static const char *show_rate(char text[32], double rate)
{
    snprintf(text, 32, rate < 1000 ? "%.4g" : "%.0f", rate);
    return text;
}

static bool search(struct plan_of_runs *r)
{
    struct point *p = &r->points[0];
    struct slo_search s;
    char text[2][32];
    bool alone = false;
    slo_search_init(&s, p->opts.rate > 0 ? p->opts.rate : 1, p->opts.precision);
    while (!(alone && !(s.kept > 0)) && slo_search_next(&s)) {
        p->opts.rate = s.next;
        p->opts.num_requests = probe_requests(r, p, s.next);
        snprintf(p->text, sizeof p->text, "rate=%s", show_rate(text[0], s.next));
        load_make(&p->load, &p->opts, r->bench.n_corpus > 0);
        if (!run_point(r, p, 1))
            return false;
        slo_search_tell(&s, judge_probe(r, s.next, &alone));
    }
    if (s.kept > 0 && s.broken > 0)
        log_info("highest rate that keeps %s: %s requests/s (%s does not)", r->opts.slo, show_rate(text[0], s.kept), show_rate(text[1], s.broken));
    else if (s.kept > 0)
        log_warn("%s: kept at every rate tried, up to %s requests/s", r->opts.slo, show_rate(text[0], s.kept));
    else
        log_warn("%s: not kept, also where requests hardly ever meet (%s requests/s)", r->opts.slo, show_rate(text[0], s.broken));
    return true;
}

static void check_ab(const struct bench_opts *o)
{
    if (o->sweep || o->find_max)
        die("bench: --ab goes with neither --sweep nor --find-max");
    if (o->results && strcmp(o->results, "none") == 0)
        die("bench: --ab needs its results; leave out --results none");
}

/* Takes --ab and its two texts, which look like options themselves, out of the command line. */
static void take_sides(struct plan_of_runs *r, int *argc, char **argv)
{
    int at = 1;
    while (at < *argc && strcmp(argv[at], "--ab"))
        at++;
    if (at == *argc)
        return;
    if (at + 2 >= *argc)
        die("bench: --ab takes two texts of options: --ab '--max-seqs 64' '--max-seqs 128'");
    r->sides[0] = argv[at + 1];
    r->sides[1] = argv[at + 2];
    memmove(&argv[at], &argv[at + 3], (size_t)(*argc - at - 3) * sizeof *argv);
    *argc -= 3;
}

/* Before anything is loaded. */
static void check_trace(const char *path)
{
    struct trace *t = path ? trace_open(path) : NULL;
    if (path && !t)
        die("bench: --replay: %s", err_text());
    if (t)
        trace_close(t);
}

static void parse_options(struct plan_of_runs *r, int argc, char **argv)
{
    int first = cmd_options(&r->opts, argc, argv);
    struct bench_opts *o = &r->opts;
    log_set_level(o->quiet && o->log_level > LOG_WARN ? LOG_WARN : (enum log_level)o->log_level);
    table_csv_dialect((enum csv_dialect)o->csv_dialect);
    if (o->ceilings)
        return;
    if (o->ab)
        die("bench: --ab takes two texts of options, without =: --ab '--max-seqs 64' '--max-seqs 128'");
    if (r->sides[0]) {
        check_ab(o);
        return;
    }
    if (!o->session.model)
        die("bench: no model: give -m MODEL (a Hugging Face folder, or random:qwen3-0.6b)");
    r->bench.corpora = argv + first;
    r->bench.n_corpus = argc - first;
    for (int i = 0; i < r->bench.n_corpus; i++)
        if (strcmp(r->bench.corpora[i], "-") == 0 || pipeline_probe(r->bench.corpora[i]))
            die("bench: %s", strcmp(r->bench.corpora[i], "-") ? err_text() : "a corpus is read more than once: give a file, not -");
    check_trace(o->replay);
    if (o->find_max && (!o->slo || o->sweep || o->repeat > 1))
        die("bench: --find-max needs --slo, and no --sweep or --repeat");
    if (!o->num_requests && !r->bench.n_corpus && !o->replay && !o->find_max)
        o->num_requests = 256;
    make_points(r);
    r->several = o->find_max || r->n_point > 1 || o->repeat > 1;
}

/* What was not as it should be is told, row by row.  The exit status. */
static int tell_faults(const struct bench_rows *r, bool allow_invalid)
{
    int status = EXIT_GOOD;
    for (size_t i = 0; i < r->n; i++) {
        const char *point = bench_rows_cell(r, i, "point"), *failed = bench_rows_cell(r, i, "failed"), *gap = point[0] ? ": " : "";
        bool invalid = strcmp(bench_rows_cell(r, i, "validity"), "VALID");
        if (strcmp(failed, "0"))
            log_warn("%s%s%s of %s requests failed; requests.csv says why", point, gap, failed, bench_rows_cell(r, i, "lines"));
        if (invalid)
            log_warn("%s%sINVALID: %s", point, gap, bench_rows_cell(r, i, "validity_rules"));
        if (strcmp(failed, "0") || (invalid && !allow_invalid))
            status = EXIT_SOME_FAILED;
    }
    return status;
}

static char **copy_words(int n, char **words)
{
    char **copy = mem_array((size_t)n + 1, sizeof *copy);
    memcpy(copy, words, (size_t)n * sizeof *copy);
    return copy;
}

int cmd_bench(int argc, char **argv)
{
    static struct plan_of_runs r;
    static struct session_opts session;            /* the session's own: it fills sizes in */
    int n_given = argc;
    r.given = copy_words(argc, argv);              /* parsing moves operands to the end */
    take_sides(&r, &argc, argv);
    r.rest = copy_words(argc, argv);
    parse_options(&r, argc, argv);
    if (r.opts.ceilings)
        return print_ceilings(&r.opts.session);
    folder_choose(r.folder, sizeof r.folder, r.opts.results, NULL);
    if (r.folder[0])
        keep_command(&r, n_given, r.given);
    if (r.sides[0])
        return bench_ab(&r.opts, r.sides, r.folder, argc, r.rest);
    stop_catch();
    bench_rows_init(&r.rows);
    session = r.opts.session;
    session_open_model(&r.bench.session, "bench", &session);
    bool whole = r.opts.find_max ? search(&r) : run_points(&r);
    if (!whole) {
        log_warn("interrupted%s", r.folder[0] ? ": the same command with --results goes on" : "");
        return EXIT_AGAIN;
    }
    if (r.several && r.folder[0] && bench_emit_rows(&r.rows, r.points[0].load.emit, r.folder))
        die("%s", err_text());
    if (r.several || r.opts.format != BENCH_TABLE)
        bench_rows_print(&r.rows, (enum bench_format)r.opts.format);
    if (r.folder[0])
        log_info("result files are in %s/", r.folder);
    int status = tell_faults(&r.rows, r.opts.allow_invalid);
    bench_rows_free(&r.rows);
    free(r.given);
    free(r.rest);
    free(r.points);
    free(r.sweep);
    session_close(&r.bench.session);
    return status;
}
