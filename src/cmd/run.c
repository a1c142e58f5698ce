/* tokmill run: the main job.  Opens everything, starts the reader and the writer, is itself the engine's thread,
 * and reports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/folder.h"
#include "cmd/pipeline.h"
#include "cmd/resume.h"
#include "cmd/session.h"
#include "cmd/shard.h"
#include "cmd/stop.h"
#include "cmd/supervise.h"
#include "data/table.h"

#define MAX_NAMED 16           /* requests in flight that are told one by one */

struct run_opts {
    struct session_opts session;
    const char *output, *errors, *results, *shard, *lines, *poison, *in_flight;
    bool supervise, resume, ordered, quiet, ignore_eos, token_ids, metrics;
    int64_t limit;
    int csv_dialect, log_level;
    int64_t max_tokens, min_tokens, top_k, n, logprobs;
    double temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
    const char *stop;
};

#define AT(field) offsetof(struct run_opts, field)

const struct opt run_options[] = {
    {.help = "Model, input and output"},
    SESSION_MODEL(struct run_opts, session),
    {"output", 'o', OPT_TEXT, "FILE", AT(output), "-", "rows, one a line; compressed if the name ends in .zst or .gz; - is standard output", NULL, 0, 0},
    {"errors", 0, OPT_TEXT, "FILE", AT(errors), NULL, "error rows once more, in a file of their own (default: errors.jsonl in the results folder)", NULL, 0, 0},
    {"results", 0, OPT_TEXT, "DIR", AT(results), NULL, "folder for summary, stages, requests and steps (default: results/<UTC time>); none writes none", NULL, 0, 0},
    {"resume", 0, OPT_FLAG, NULL, AT(resume), NULL, "do nothing where the output is whole already; one that was broken off is gone on with in any case", NULL, 0, 0},
    {"shard", 0, OPT_TEXT, "K/N|auto", AT(shard), NULL, "answer only part K of N, from 0; its rows go to FILE with .K-of-N before the endings, e.g. out.00003-of-00008.jsonl.zst, once all are there; auto (auto/N) takes K from a Slurm array, a Kubernetes Job or GNU parallel; tokmill merge joins the parts", NULL, 0, 0},
    {"lines", 0, OPT_TEXT, "LIST", AT(lines), NULL, "take only these lines, counted from 0: 3,17", NULL, 0, 0},
    {"poison", 0, OPT_TEXT, "LIST", AT(poison), NULL, "these lines get an error row and are not run", NULL, 0, 0},
    {"supervise", 0, OPT_FLAG, NULL, AT(supervise), NULL, "start again after a breakdown, and find the line that breaks the run down: it gets an error row", NULL, 0, 0},
    {"in-flight", 0, OPT_TEXT, "FILE", AT(in_flight), NULL, "keep the lines that run in this file, as --supervise wants it", NULL, 0, 0},
    {"ordered", 0, OPT_FLAG, NULL, AT(ordered), NULL, "rows in input order (default: in the order of completion)", NULL, 0, 0},
    {"limit", 0, OPT_INT, "N", AT(limit), NULL, "take only the first N lines", NULL, 1, 1e18},
    {"token-ids", 0, OPT_FLAG, NULL, AT(token_ids), NULL, "rows also hold the token ids of the answer", NULL, 0, 0},
    {"metrics", 0, OPT_FLAG, NULL, AT(metrics), NULL, "rows also hold the request's latencies", NULL, 0, 0},
    SESSION_DEVICE(struct run_opts, session),
    SESSION_SCHEDULING(struct run_opts, session),
    {.help = "Sampling, where a line does not say"},
    {"max-tokens", 0, OPT_INT, "N", AT(max_tokens), "256", "longest answer; 0: up to the model's context", NULL, 0, 1e9},
    {"min-tokens", 0, OPT_INT, "N", AT(min_tokens), "0", "no end of text before so many tokens", NULL, 0, 1e9},
    {"temperature", 0, OPT_REAL, "X", AT(temperature), "0", "0 is greedy", NULL, 0, 100},
    {"top-p", 0, OPT_REAL, "X", AT(top_p), "1", "sample from the smallest set of tokens with this much probability", NULL, 1e-6, 1},
    {"top-k", 0, OPT_INT, "N", AT(top_k), "0", "sample from the N best tokens; 0: from all", NULL, 0, 1e9},
    {"min-p", 0, OPT_REAL, "X", AT(min_p), "0", "drop tokens under this share of the best one's probability", NULL, 0, 1},
    {"presence-penalty", 0, OPT_REAL, "X", AT(presence_penalty), "0", "taken off tokens that the answer has already", NULL, -2, 2},
    {"frequency-penalty", 0, OPT_REAL, "X", AT(frequency_penalty), "0", "the same for each time", NULL, -2, 2},
    {"repetition-penalty", 0, OPT_REAL, "X", AT(repetition_penalty), "1", "divides logits of tokens seen in prompt or answer", NULL, 0.01, 100},
    {"n", 'n', OPT_INT, "N", AT(n), "1", "answers to each prompt", NULL, 1, 1024},
    {"stop", 0, OPT_TEXT, "TEXT", AT(stop), NULL, "end the answer before this text", NULL, 0, 0},
    {"ignore-eos", 0, OPT_FLAG, NULL, AT(ignore_eos), NULL, "go on to --max-tokens whatever the model says", NULL, 0, 0},
    {"logprobs", 0, OPT_INT, "K", AT(logprobs), "-1", "give the log-probability of each token and the K best; -1: none", NULL, -1, 20},
    {"seed", 0, OPT_INT, "N", AT(session.seed), "0", "of sampling; a line's own seed comes first", NULL, 0, 0},
    {.help = "Measuring and messages"},
    SESSION_PRICE(struct run_opts, session),
    SESSION_CSV_DIALECT(struct run_opts, csv_dialect),
    {"quiet", 'q', OPT_FLAG, NULL, AT(quiet), NULL, "no progress, no table", NULL, 0, 0},
    {"log-level", 0, OPT_CHOICE, NULL, AT(log_level), "info", "what to say on standard error", "error|warn|info|debug", 0, 0},
    {0},
};

struct run {
    struct run_opts opts;
    char **corpora; int n_corpus;
    char folder[512];                  /* of the result files; "": none */
    struct session session;
    struct meter meter;
    struct pipeline pipe;
    struct line_set only, poison;
    struct shard shard;
    char shard_text[2][24];            /* "3/8", "00003-of-00008" */
    struct resume_names names;         /* of the output */
};

static struct sampling default_sampling(const struct run_opts *o)
{
    struct sampling s = {
        .max_tokens = (int32_t)o->max_tokens, .min_tokens = (int32_t)o->min_tokens, .n = (int32_t)o->n, .temperature = (float)o->temperature,
        .top_p = (float)o->top_p, .min_p = (float)o->min_p, .top_k = (int32_t)o->top_k, .presence_penalty = (float)o->presence_penalty,
        .frequency_penalty = (float)o->frequency_penalty, .repetition_penalty = (float)o->repetition_penalty, .seed = (uint64_t)o->session.seed,
        .ignore_eos = o->ignore_eos, .logprobs = (int32_t)o->logprobs,
    };
    if (o->stop)
        s.stop = (const char **)&o->stop, s.n_stop = 1;
    return s;
}

/* False: another run has made the shard meanwhile. */
static bool open_pipeline(struct run *r)
{
    const struct run_opts *o = &r->opts;
    char errors[600];
    snprintf(errors, sizeof errors, "%s/errors.jsonl", r->folder);
    const char *errors_path = o->errors ? o->errors : r->folder[0] ? errors : NULL;
    r->pipe = (struct pipeline){
        .corpora = r->corpora, .n_corpus = r->n_corpus, .limit = o->limit, .shard = r->shard, .ordered = o->ordered,
        .n_vocab = r->session.model->config.n_vocab, .max_len = engine_max_len(r->session.engine),
        .tokenizer = r->session.tokenizer, .requests = { .defaults = default_sampling(o) },
        .style = { .model = r->session.model_name, .token_ids = o->token_ids, .metrics = o->metrics },
        .meter = &r->meter, .stop = &stop_asked, .keeps_errors = o->errors, .only = o->lines ? &r->only : NULL, .poison = o->poison ? &r->poison : NULL,
    };
    if (errors_path && zfile_same(o->output, errors_path))
        die("run: \"%s\" is named for rows and for error rows; name two files", errors_path);
    struct resume_facts facts = {
        .options = run_options, .values = o, .model = o->session.model, .device = r->session.device->name, .corpora = r->corpora, .n_corpus = r->n_corpus,
    };
    return resume_open(&r->pipe, &facts, &r->names, errors_path);
}

/* 0, or -1: not all rows could be written, err_text(). */
static int close_outputs(struct run *r)
{
    int rc = zwriter_close(r->pipe.rows);
    if (rc == 0 && r->pipe.errors)
        rc = zwriter_close(r->pipe.errors);
    return r->pipe.failed ? err_set("%s", r->pipe.error) : rc;
}

static void name_request(const struct request *r, void *n)
{
    if (++*(uint32_t *)n > MAX_NAMED)
        return;
    if (r->id)
        log_error("in flight: %s: line %llu, \"%.100s\"", r->file, (unsigned long long)r->line, r->id);
    else
        log_error("in flight: %s: line %llu", r->file, (unsigned long long)r->line);
}

/* The engine's thread dies, most likely of the device: what ran is named and gets no row, what is finished is saved. */
static void last_words(void *arg)
{
    struct run *r = arg;
    uint32_t n = 0;
    engine_in_flight(r->session.engine, name_request, &n);
    if (n > MAX_NAMED)
        log_error("in flight: and %u more", n - MAX_NAMED);
    pipeline_finish(&r->pipe, true);
    const char *next = r->pipe.journal ? "goes on" : "starts anew";
    if (close_outputs(r) || resume_close(&r->pipe, &r->names, true))
        log_error("%s", err_text());
    else
        log_error("rows complete in \"%s\": %llu; the requests in flight and those after them have none, and the same command %s",
                  r->opts.output, (unsigned long long)(r->pipe.n_put + r->pipe.n_resumed), next);
}

/* Not all could be read or written.  What is safe on disk stays; when there is room again, say, the same command does the rest. */
static int give_up(const struct run *r, bool kept)
{
    if (!kept || r->pipe.lasting)
        die("%s", err_text());
    log_error("%s; the rows that are safe on disk stay, and the same command goes on", err_text());
    return EXIT_AGAIN;
}

/* Closes the outputs, then tells what happened.  Returns the exit status. */
static int report(struct run *r)
{
    bool kept = r->pipe.journal;
    int rc = close_outputs(r);
    int64_t end_ns = clock_ns();
    log_progress("%s", "");
    if (rc || resume_close(&r->pipe, &r->names, stop_asked))
        return give_up(r, kept);
    struct run_facts facts = session_facts(&r->session, &r->meter, r->folder[0]);  /* the peaks stand in the result files alone */
    facts.corpus = r->corpora[0];
    facts.interrupted = stop_asked;
    facts.end_ns = end_ns;
    static struct summary summary;
    stage_add(r->meter.clock[THREAD_ENGINE], STAGE_LOAD, (int64_t)(r->session.load_s * 1e9), 1, 0);
    results_make(&summary, &r->meter, &facts);
    if (r->folder[0] && (meter_flush(&r->meter) || results_write(&summary, r->folder)))
        die("%s", err_text());
    if (!r->opts.quiet)
        results_print(&summary, strcmp(r->opts.output, "-") == 0 ? stderr : stdout);
    if (!r->opts.quiet && r->folder[0])
        log_info("result files are in %s/", r->folder);
    bool finished = kept && !stop_asked;       /* then all runs count */
    uint64_t failed = finished ? r->pipe.n_failed : summary.failed, lines = finished ? r->pipe.n_line : summary.lines;
    if (failed)
        log_warn("%llu of %llu lines failed%s", (unsigned long long)failed, (unsigned long long)lines,
                 r->folder[0] && !r->opts.errors && failed == summary.failed ? "; their rows are in errors.jsonl there" : "");
    if (stop_asked)
        log_warn("interrupted: what was running is finished, the rest is not done%s", kept ? "; the same command goes on" : "");
    return stop_asked ? EXIT_AGAIN : failed ? EXIT_SOME_FAILED : EXIT_GOOD;
}

/* Opening an output empties it. */
static void keep_corpora(const struct run *r, const char *written)
{
    for (int i = 0; i < r->n_corpus && written; i++)
        if (zfile_same(written, r->corpora[i]))
            die("run: \"%s\" is a corpus and would be overwritten; name another file for the rows", written);
}

static bool is_file(const char *path)
{
    struct stat st;
    return strcmp(path, "-") != 0 && (stat(path, &st) || S_ISREG(st.st_mode));
}

/* Files of rows get names of their own. */
static void take_shard(struct run *r)
{
    struct run_opts *o = &r->opts;
    if (o->shard && shard_parse(&r->shard, o->shard))
        die("run: --shard: %s", err_text());
    if (o->shard) {
        snprintf(r->shard_text[0], sizeof r->shard_text[0], "%u/%u", r->shard.k, r->shard.n);
        snprintf(r->shard_text[1], sizeof r->shard_text[1], "%05u-of-%05u", r->shard.k, r->shard.n);
        o->shard = r->shard_text[0];           /* the fact, however it was found */
    }
    if (o->shard && is_file(o->output)) {
        r->names.published = shard_path(&r->shard, o->output);
        o->output = shard_hidden_path(r->names.published);
    }
    if (o->shard && o->errors && is_file(o->errors))
        o->errors = shard_path(&r->shard, o->errors);
    r->names.output = o->output;
}

static void parse_options(struct run *r, int argc, char **argv)
{
    int first = cmd_options(&r->opts, argc, argv);
    take_shard(r);
    if (!r->opts.session.model)
        die("run: no model: give -m MODEL (a Hugging Face folder, or random:qwen3-0.6b)");
    if (first == argc)
        die("run: no corpus: name a .jsonl, .jsonl.zst or .jsonl.gz file, or - for standard input");
    r->corpora = argv + first;
    r->n_corpus = argc - first;
    for (int i = 0; i < r->n_corpus; i++)
        if (pipeline_probe(r->corpora[i]))
            die("%s", err_text());
    if (r->opts.lines && line_set_parse(&r->only, r->opts.lines))
        die("run: --lines: %s", err_text());
    if (r->opts.poison && line_set_parse(&r->poison, r->opts.poison))
        die("run: --poison: %s", err_text());
    keep_corpora(r, r->opts.output);
    keep_corpora(r, r->opts.errors);
    table_csv_dialect((enum csv_dialect)r->opts.csv_dialect);
    log_set_level(r->opts.quiet && r->opts.log_level > LOG_WARN ? LOG_WARN : (enum log_level)r->opts.log_level);
}

/* Nothing is left to do: the shard is published, or with --resume the output is whole. */
static bool is_made(const struct run *r)
{
    if (r->names.published && access(r->names.published, F_OK) == 0)
        log_warn("\"%s\" is there: nothing is left to do; delete it to have it made anew", r->names.published);
    else if (r->opts.resume && resume_is_whole(r->opts.output))
        log_info("\"%s\" is there and has no journal: nothing is left to do", r->opts.output);
    else
        return false;
    return true;
}

int cmd_run(int argc, char **argv)
{
    static struct run r;
    char **rest = mem_array((size_t)argc + 1, sizeof *rest);       /* the command line without --supervise; parsing reorders it */
    int n = 0;
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--supervise"))
            rest[n++] = argv[i];
    parse_options(&r, argc, argv);
    int watched = r.opts.supervise ? supervise(n, rest, r.opts.output) : -1;
    free(rest);
    if (watched >= 0)
        return watched;
    if (is_made(&r))
        return EXIT_GOOD;
    stop_catch();
    session_open_model(&r.session, "run", &r.opts.session);
    r.session.in_flight = r.opts.in_flight;
    folder_choose(r.folder, sizeof r.folder, r.opts.results, r.opts.shard ? r.shard_text[1] : NULL);
    if (meter_open(&r.meter, r.folder[0] ? r.folder : NULL))
        die("%s", err_text());
    session_open_engine(&r.session, &r.meter);
    if (!open_pipeline(&r)) {
        is_made(&r);
        return EXIT_GOOD;
    }
    r.meter.gauge = gauge_open(r.session.device);
    pipeline_start(&r.pipe);
    stop_wakes(r.pipe.in);
    err_before_exit(last_words, &r);
    engine_run(r.session.engine, r.pipe.in, r.pipe.out, &stop_asked);
    err_before_exit(NULL, NULL);
    stop_wakes(NULL);
    pipeline_finish(&r.pipe, stop_asked);
    int status = report(&r);
    if (!stop_asked) {
        meter_close(&r.meter);
        session_close(&r.session);
    }
    return status;
}
