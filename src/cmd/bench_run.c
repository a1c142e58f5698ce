#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cmd/bench.h"
#include "cmd/pipeline.h"
#include "cmd/stop.h"

/* ---- what runs ---- */

enum { AUTO, OFFLINE, SERVER, CLOSED, SINGLE };        /* --scenario */

static void need_option(bool good, const char *option)
{
    if (!good)
        die("bench: %s: %s", option, err_text());
}

/* What was not said follows from what was. */
static enum scenario choose_scenario(const struct bench_opts *o)
{
    int s = o->scenario;
    bool timed = o->arrivals || o->rate > 0 || o->find_max;
    if (s == AUTO)
        s = timed ? SERVER : o->concurrency ? CLOSED : OFFLINE;
    if (timed && s != SERVER)
        die("bench: --arrivals, --rate and --find-max belong to the scenario \"server\"; leave out --scenario");
    if (o->concurrency && s != CLOSED)
        die("bench: --concurrency belongs to the scenario \"closed\"; leave out --scenario, --rate and --arrivals");
    if (s == CLOSED && !o->concurrency)
        die("bench: the scenario \"closed\" needs --concurrency N");
    if (s == SERVER && !timed)
        die("bench: the scenario \"server\" needs --rate R, or --arrivals PROCESS (for example gamma:8:0.5)");
    return s == SERVER ? SCENARIO_SERVER : s == OFFLINE ? SCENARIO_OFFLINE : SCENARIO_CLOSED;
}

/* --rate alone is Poisson; with --arrivals it takes the place of the rate there. */
static void make_arrivals(struct load *l)
{
    const struct bench_opts *o = l->opts;
    char text[64];
    snprintf(text, sizeof text, "poisson:%.9g", o->rate > 0 ? o->rate : 1);
    need_option(!arrivals_parse(&l->arrivals, o->arrivals ? o->arrivals : text), "--arrivals");
    snprintf(l->arrivals_text, sizeof l->arrivals_text, "%s", o->arrivals ? o->arrivals : text);
    bool own_rate = l->arrivals.kind == ARRIVALS_RAMP || l->arrivals.kind == ARRIVALS_EXP_RAMP || l->arrivals.kind == ARRIVALS_TRACE;
    if ((o->rate > 0 || o->find_max) && own_rate)
        die("bench: --rate and --find-max do not go with --arrivals %s, which has a rate of its own", o->arrivals);
    if (l->arrivals.kind == ARRIVALS_TRACE && !o->replay && !l->corpus)
        die("bench: --arrivals trace needs --replay FILE, or a corpus whose lines have \"arrival_s\"");
    l->arrivals.rate = o->rate > 0 ? o->rate : l->arrivals.rate;
    l->arrivals.seed = (uint64_t)o->session.seed;
}

void load_make(struct load *l, struct bench_opts *o, bool corpus)
{
    *l = (struct load){ .opts = o, .corpus = corpus, .scenario = choose_scenario(o) };
    if (o->replay && corpus)
        die("bench: --replay and corpora: give one of them");
    l->workload = (struct workload_config){
        .seed = (uint64_t)o->session.seed, .prefix_len = (uint32_t)o->prefix_len, .prefix_count = (uint32_t)o->prefix_count, .trace = o->replay,
    };
    need_option(!lengths_parse(&l->workload.input, o->input_len), "--input-len");
    need_option(!lengths_parse(&l->workload.output, o->output_len), "--output-len");
    if (l->scenario == SCENARIO_SERVER)
        make_arrivals(l);
    if (o->slo)
        need_option(!slo_parse(&l->slo, o->slo), "--slo");
    l->emit = bench_emit_parse(l);
}

/* ---- running ---- */

static bool same_engine(const struct session_opts *a, const struct session_opts *b)
{
    return a->max_seqs == b->max_seqs && a->max_step_tokens == b->max_step_tokens && a->kv_memory == b->kv_memory && a->kv_blocks == b->kv_blocks
        && a->block_size == b->block_size && a->no_prefix_cache == b->no_prefix_cache && a->order == b->order;
}

/* The engine as the options want it, with no prompt of an earlier run in its cache. */
static void prepare_engine(struct bench *b, const struct session_opts *o)
{
    if (b->session.engine && same_engine(o, &b->opened)) {
        engine_forget(b->session.engine);
        return;
    }
    engine_close(b->session.engine);
    b->opened = *o;
    *b->session.opts = *o;             /* which the session fills in */
    session_open_engine(&b->session, &b->meter);
}

static struct workload *open_workload(const struct bench *b, const struct load *l, struct tok_state *tok, uint64_t seed)
{
    struct workload_config c = l->workload;
    c.seed = seed;
    c.n_vocab = b->session.model->config.n_vocab;
    c.special_ids = b->session.model->config.eos;
    c.n_special = b->session.model->config.n_eos;
    c.tok = tok;
    struct workload *w = workload_open(&c);
    if (!w)
        die("bench: %s", err_text());
    if (l->arrivals.kind == ARRIVALS_TRACE && l->scenario == SCENARIO_SERVER && !workload_has_arrivals(w))
        die("bench: --arrivals trace: \"%s\" does not say when requests came", c.trace);
    return w;
}

static void make_pace(struct pace *p, const struct load *l)
{
    *p = (struct pace){
        .scenario = l->scenario, .from_start = l->opts->count_from == 1, .stop = &stop_asked,
        .concurrency = l->opts->scenario == SINGLE ? 1 : (uint32_t)l->opts->concurrency,
    };
    arrivals_init(&p->arrivals, &l->arrivals);
}

/* Lets the requests through; the meter is open. */
static void run_load(struct bench *b, const struct load *l, struct pace *pace, uint64_t seed, int64_t n)
{
    struct session *s = &b->session;
    struct tok_state *tok = tok_state_open(s->tokenizer);
    static struct pipeline pipe;       /* a reader that was left may still look at it */
    pipe = (struct pipeline){
        .corpora = b->corpora, .n_corpus = b->n_corpus, .limit = n, .n_vocab = s->model->config.n_vocab, .max_len = engine_max_len(s->engine),
        .tokenizer = s->tokenizer,
        .workload = l->corpus ? NULL : open_workload(b, l, tok, seed), .pace = pace, .meter = &b->meter, .stop = &stop_asked,
        .requests = { .defaults = { .max_tokens = 256, .n = 1, .top_p = 1, .repetition_penalty = 1, .logprobs = -1, .seed = seed } },
        .style = { .model = s->model_name },
    };
    b->meter.gauge = gauge_open(s->device);
    pace_start(pace);
    pipeline_start(&pipe);
    stop_wakes(pipe.in);
    engine_run(s->engine, pipe.in, pipe.out, &stop_asked);
    stop_wakes(NULL);
    pipeline_finish(&pipe, stop_asked);
    if (pipe.failed)
        die("%s", pipe.error);
    if (stop_asked)
        return;                        /* the reader may still use what is here */
    pace_end(pace);
    workload_close(pipe.workload);
    tok_state_close(tok);
}

static void open_meter(struct bench *b, const char *folder)
{
    if (meter_open(&b->meter, folder))
        die("%s", err_text());
}

static void warm(struct bench *b, const struct load *l)
{
    static struct pace pace;
    if (!l->opts->warmup)
        return;
    int64_t start = clock_ns();
    make_pace(&pace, l);
    open_meter(b, NULL);
    pace.scenario = SCENARIO_OFFLINE;
    run_load(b, l, &pace, (uint64_t)l->opts->session.seed + 1, l->opts->warmup);
    gauge_close(b->meter.gauge);
    meter_close(&b->meter);
    b->session.warmup_s += (double)(clock_ns() - start) * 1e-9;
    engine_forget(b->session.engine);
}

static void add_facts(struct run_facts *f, const struct bench *b, const struct load *l, const struct pace *pace, const char *point, uint64_t repetition)
{
    static const char *const scenarios[] = { "offline", "server", "closed" };
    const struct bench_opts *o = l->opts;
    bool server = l->scenario == SCENARIO_SERVER, synthetic = !l->corpus && !o->replay;
    f->corpus = l->corpus ? b->corpora[0] : o->replay ? o->replay : "synthetic";
    f->interrupted = stop_asked;
    f->scenario = l->scenario == SCENARIO_CLOSED && pace->concurrency == 1 ? "single" : scenarios[l->scenario];
    f->concurrency = l->scenario == SCENARIO_CLOSED ? pace->concurrency : 0;
    f->arrivals = server ? l->arrivals_text : NULL;
    f->rate_rps = server && l->arrivals.kind != ARRIVALS_TRACE ? l->arrivals.rate : (double)NAN;
    f->late_max_ms = server ? pace->late_max_ms : (double)NAN;
    f->n_late = pace->n_late;
    f->input_len = synthetic ? o->input_len : NULL;
    f->output_len = synthetic ? o->output_len : NULL;
    f->unshared = synthetic && !o->prefix_len;
    f->point = point[0] ? point : NULL;
    f->repetition = repetition;
    f->slo = o->slo;
}

static const char *judge(const struct bench *b, const struct load *l)
{
    const struct series *const series[N_SLO] = { &b->meter.ttft_ms, &b->meter.tpot_ms, &b->meter.e2el_ms };
    bool kept = b->meter.failed == 0;
    if (!l->opts->slo || b->meter.done < slo_samples(&l->slo))
        return NULL;
    for (int i = 0; i < N_SLO; i++)
        if (isfinite(l->slo.limit_ms[i]))
            kept = kept && series_percentile(series[i], l->slo.percentile[i]) <= l->slo.limit_ms[i];
    return kept ? "yes" : "no";
}

/* What was interrupted leaves no summary: it is to be run again. */
void bench_run(struct bench *b, struct load *l, const char *point, uint64_t repetition, const char *folder, struct summary *s)
{
    static struct pace pace;           /* a reader that was left may still look at it */
    bool fresh = !b->session.engine || !same_engine(&l->opts->session, &b->opened);
    prepare_engine(b, &l->opts->session);
    if (fresh)
        warm(b, l);
    make_pace(&pace, l);
    open_meter(b, folder);
    if (folder && l->opts->trace && meter_draw(&b->meter, folder))
        die("%s", err_text());
    b->meter.expected = l->corpus && !l->opts->num_requests ? 0 : (uint64_t)l->opts->num_requests;
    if (l->opts->slo)
        b->meter.slo = (struct slo_limits){ l->slo.limit_ms[SLO_TTFT], l->slo.limit_ms[SLO_TPOT], l->slo.limit_ms[SLO_E2EL] };
    run_load(b, l, &pace, (uint64_t)l->opts->session.seed, l->opts->num_requests);
    int64_t end_ns = clock_ns();
    log_progress("%s", "");
    if (l->arrivals.kind == ARRIVALS_TRACE && l->scenario == SCENARIO_SERVER && pace.n_in && !pace.n_recorded)
        die("bench: --arrivals trace: no line of \"%s\" has \"arrival_s\"", b->corpora[0]);
    struct run_facts f = session_facts(&b->session, &b->meter, true);
    f.end_ns = end_ns;
    add_facts(&f, b, l, &pace, point, repetition);
    stage_add(b->meter.clock[THREAD_ENGINE], STAGE_LOAD, (int64_t)(b->session.load_s * 1e9), 1, 0);
    results_make(s, &b->meter, &f);
    s->slo_kept = judge(b, l);
    if (folder && !stop_asked && (meter_flush(&b->meter) || bench_emit(s, &b->meter, l, folder) || results_write(s, folder)))
        die("%s", err_text());
    if (!stop_asked)                   /* its clocks may still be the reader's */
        meter_close(&b->meter);
}
