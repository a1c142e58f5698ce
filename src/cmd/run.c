/* tokmill run: the main job.  Opens everything, starts the reader and the writer, is itself the engine's thread,
 * and reports. */
#define _GNU_SOURCE         /* sigwait, readlink */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "cmd/pipeline.h"
#include "engine/engine.h"
#include "engine/results.h"
#include "model/forward.h"
#include "model/weights.h"
#include "plan/price.h"

#define KV_MEMORY ((size_t)4 << 30)
#define MAX_NAMED 16           /* requests in flight that are told one by one */

struct run_opts {
    const char *model, *output, *errors, *results, *device;
    bool ordered, quiet, no_prefix_cache, ignore_eos, token_ids, metrics, deterministic;
    int64_t threads, max_seqs, max_step_tokens, kv_memory, kv_blocks, block_size, limit, seed;
    int compute, weight_dtype, kv_dtype, order, log_level;
    double price;
    int64_t max_tokens, min_tokens, top_k, n, logprobs;
    double temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
    const char *stop;
};

#define AT(field) offsetof(struct run_opts, field)

const struct opt run_options[] = {
    {.help = "Model, input and output"},
    {"model", 'm', OPT_TEXT, "MODEL", AT(model), NULL, "Hugging Face folder, or random:SHAPE (random:qwen3-0.6b) for a model with random weights", NULL, 0, 0},
    {"output", 'o', OPT_TEXT, "FILE", AT(output), "-", "rows, one a line; compressed if the name ends in .zst or .gz; - is standard output", NULL, 0, 0},
    {"errors", 0, OPT_TEXT, "FILE", AT(errors), NULL, "error rows once more, in a file of their own (default: errors.jsonl in the results folder)", NULL, 0, 0},
    {"results", 0, OPT_TEXT, "DIR", AT(results), NULL, "folder for summary, stages, requests and steps (default: results/<UTC time>); none writes none", NULL, 0, 0},
    {"ordered", 0, OPT_FLAG, NULL, AT(ordered), NULL, "rows in input order (default: in the order of completion)", NULL, 0, 0},
    {"limit", 0, OPT_INT, "N", AT(limit), NULL, "take only the first N lines", NULL, 1, 1e18},
    {"token-ids", 0, OPT_FLAG, NULL, AT(token_ids), NULL, "rows also hold the token ids of the answer", NULL, 0, 0},
    {"metrics", 0, OPT_FLAG, NULL, AT(metrics), NULL, "rows also hold the request's latencies", NULL, 0, 0},
    {.help = "Device and memory"},
    {"device", 0, OPT_TEXT, "auto|cpu|cuda:N", AT(device), "auto", "where to compute", NULL, 0, 0},
    {"threads", 't', OPT_INT, "N", AT(threads), NULL, "threads of the CPU device (default: all cores)", NULL, 1, 1024},
    {"compute", 0, OPT_CHOICE, NULL, AT(compute), "bf16", "type of activations", "bf16|f32", 0, 0},
    {"weight-dtype", 0, OPT_CHOICE, NULL, AT(weight_dtype), "auto", "type of packed weights; auto is that of --compute; int8 (CPU) and fp8 (CUDA) have a scale a row and quantise activations too", "auto|bf16|f32|int8|fp8", 0, 0},
    {"kv-dtype", 0, OPT_CHOICE, NULL, AT(kv_dtype), "auto", "type of KV; auto is that of --compute; fp8_e4m3 (CUDA) takes half the memory", "auto|bf16|fp8_e4m3", 0, 0},
    {"kv-memory", 0, OPT_SIZE, "SIZE", AT(kv_memory), NULL, "memory for KV blocks, taken at the start (default: 4GiB, or half of what the weights leave if that is less; on CUDA 93 % of what weights and step buffers leave)", NULL, 1, 1e18},
    {"kv-blocks", 0, OPT_INT, "N", AT(kv_blocks), NULL, "number of KV blocks, instead of --kv-memory", NULL, 1, 1e9},
    {"block-size", 0, OPT_INT, "N", AT(block_size), "16", "tokens of a KV block, a multiple of 16", NULL, 16, 1024},
    {.help = "Scheduling"},
    {"max-seqs", 0, OPT_INT, "N", AT(max_seqs), NULL, "sequences that run at once (default: 128; on CUDA 1024)", NULL, 1, 65536},
    {"max-step-tokens", 0, OPT_INT, "N", AT(max_step_tokens), NULL, "tokens of one engine step: decodes first, then chunks of prompts (default: 512; on CUDA 8192)", NULL, 1, 1048576},
    {"no-prefix-cache", 0, OPT_FLAG, NULL, AT(no_prefix_cache), NULL, "compute every prompt in full", NULL, 0, 0},
    {"order", 0, OPT_CHOICE, NULL, AT(order), "fcfs", "which waiting prompt is next: first come, longest, or grouped by common prefix", "fcfs|longest|prefix", 0, 0},
    {"deterministic", 0, OPT_FLAG, NULL, AT(deterministic), NULL, "answers do not depend on what else runs, bit by bit: always so on the CPU, slower on CUDA", NULL, 0, 0},
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
    {"seed", 0, OPT_INT, "N", AT(seed), "0", "of sampling; a line's own seed comes first", NULL, 0, 0},
    {.help = "Measuring and messages"},
    {"price", 0, OPT_REAL, "USD_PER_H", AT(price), NULL, "price of the machine, dollars an hour (default: datasets/hardware.csv if it has the device)", NULL, 1e-6, 1e9},
    {"quiet", 'q', OPT_FLAG, NULL, AT(quiet), NULL, "no progress, no table", NULL, 0, 0},
    {"log-level", 0, OPT_CHOICE, NULL, AT(log_level), "info", "what to say on standard error", "error|warn|info|debug", 0, 0},
    {0},
};

struct run {
    struct run_opts opts;
    char **corpora; int n_corpus;
    char folder[512];                  /* of the result files; "": none */
    struct device *device;
    struct model *model;
    struct tokenizer *tokenizer;
    struct engine *engine;
    struct meter meter;
    struct pipeline pipe;
    struct price price;
    char model_name[256];
    double load_s, load_bytes_per_s, warmup_s;
    atomic_bool started;               /* the pipeline runs: a signal drains it */
};

static atomic_bool stop_asked;

/* The thread that signals come to: the first one lets what runs finish, a second one, or one before anything runs, ends at once. */
static void *watch_signals(void *arg)
{
    struct run *r = arg;
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    for (;;) {
        sigwait(&set, &number);
        if (stop_asked || !r->started)
            _exit(EXIT_AGAIN);
        stop_asked = true;
        log_info("stopping: what runs is finished first; once more to stop at once");
        queue_close(r->pipe.in);
    }
    return NULL;
}

/* Before any other thread is made: they inherit that these signals are not theirs. */
static void catch_signals(struct run *r)
{
    sigset_t set;
    pthread_t watcher;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);          /* a closed pipe is a write error */
    if (pthread_create(&watcher, NULL, watch_signals, r) || pthread_detach(watcher))
        die("cannot start a thread");
}

/* Makes the folder and those above it. */
static void make_folder(const char *path)
{
    char part[512];
    snprintf(part, sizeof part, "%s", path);
    for (char *at = part + 1;; at++) {
        char c = *at;
        if (c && c != '/')
            continue;
        *at = 0;
        if (mkdir(part, 0777) && errno != EEXIST)
            die("results folder \"%s\": %s", part, strerror(errno));
        if (!c)
            return;
        *at = c;
    }
}

static void choose_folder(struct run *r)
{
    const char *given = r->opts.results;
    if (given && strcmp(given, "none") == 0)
        return;
    time_t now = (time_t)clock_unix_s();
    struct tm utc;
    char stamp[64];
    strftime(stamp, sizeof stamp, "results/%Y%m%d-%H%M%S", gmtime_r(&now, &utc));
    int n = 0;
    if (given)
        snprintf(r->folder, sizeof r->folder, "%s", given);
    else
        for (snprintf(r->folder, sizeof r->folder, "%s", stamp); access(r->folder, F_OK) == 0;)
            snprintf(r->folder, sizeof r->folder, "%s-%d", stamp, ++n);    /* two runs in one second */
    make_folder(r->folder);
}

static const enum dtype compute_types[] = { DTYPE_BF16, DTYPE_F32 };

static enum dtype weight_type(const struct run_opts *o)
{
    static const enum dtype types[] = { 0, DTYPE_BF16, DTYPE_F32, DTYPE_I8, DTYPE_E4M3 };
    return o->weight_dtype ? types[o->weight_dtype] : compute_types[o->compute];
}

static enum dtype kv_type(const struct run_opts *o)
{
    static const enum dtype types[] = { 0, DTYPE_BF16, DTYPE_E4M3 };
    return o->kv_dtype ? types[o->kv_dtype] : compute_types[o->compute];
}

/* Before the model is read: fp8 is the CUDA device's, and KV has no other type than that or the one of --compute. */
static void check_types(const struct run *r)
{
    const struct run_opts *o = &r->opts;
    bool cpu = strcmp(r->device->name, "cpu") == 0;
    if (cpu && weight_type(o) == DTYPE_E4M3)
        die("run: --weight-dtype: \"fp8\" needs a CUDA device; the CPU has \"int8\"");
    if (cpu && kv_type(o) == DTYPE_E4M3)
        die("run: --kv-dtype: \"fp8_e4m3\" needs a CUDA device; leave it out");
    if (kv_type(o) == DTYPE_BF16 && r->device->compute != DTYPE_BF16)
        die("run: --kv-dtype: \"bf16\" does not go with --compute %s; leave it out", dtype_name(r->device->compute));
}

static void name_model(struct run *r)
{
    snprintf(r->model_name, sizeof r->model_name, "%s", r->opts.model);
    size_t n = strlen(r->model_name);
    while (n > 1 && r->model_name[n - 1] == '/')
        r->model_name[--n] = 0;
    const char *slash = strrchr(r->model_name, '/');
    if (slash && slash[1])
        memmove(r->model_name, slash + 1, strlen(slash));
}

/* A model with random weights has no tokenizer of its own: bytes are tokens. */
static struct tokenizer *open_tokenizer(const char *model)
{
    if (strncmp(model, "random:", 7) != 0)
        return tokenizer_open(model);
    struct buf json = {0};
    byte_tokenizer_put_json(&json);
    struct tokenizer *t = tokenizer_parse(json.data, json.len);
    buf_free(&json);
    return t;
}

/* The weights, and the rate at which they came: read, converted, packed and on the device. */
static void load_weights(struct run *r)
{
    int64_t start = clock_ns();
    r->model = model_open(r->device, r->opts.model, weight_type(&r->opts), (uint64_t)r->opts.seed);
    if (!r->model)
        die("%s", err_text());
    r->device->ops->sync(r->device);
    double seconds = (double)(clock_ns() - start) * 1e-9;
    r->load_bytes_per_s = r->model->read_bytes ? (double)r->model->read_bytes / seconds : (double)NAN;
}

static void tell_model(const struct run *r)
{
    char rate[64] = "";
    if (r->model->read_bytes)
        snprintf(rate, sizeof rate, " (%.3g GB of weights at %.3g GB/s)", (double)r->model->read_bytes * 1e-9, r->load_bytes_per_s * 1e-9);
    log_info("%s: %s, %.1f MiB of %s weights on %s (%s), loaded in %.1f s%s", r->model_name, r->model->config.model_type,
             (double)r->model->weight_bytes / 0x1p20, dtype_name(r->model->weight_dtype), r->device->name, r->device->text, r->load_s, rate);
}

static void open_model(struct run *r)
{
    int64_t start = clock_ns();
    r->device = device_open(r->opts.device, compute_types[r->opts.compute], (int)r->opts.threads);
    if (!r->device)
        die("%s", err_text());
    check_types(r);
    r->device->deterministic |= r->opts.deterministic;
    load_weights(r);
    r->tokenizer = open_tokenizer(r->opts.model);
    if (!r->tokenizer)
        die("%s", err_text());
    name_model(r);
    r->load_s = (double)(clock_ns() - start) * 1e-9;
    tell_model(r);
}

/* Of a GPU's memory, after the weights and the buffers of a step; the rest is for the scratch of single ops. */
static int64_t cuda_kv_memory(const struct run *r)
{
    const struct run_opts *o = &r->opts;
    uint32_t max_out = (uint32_t)(o->max_seqs < o->max_step_tokens ? o->max_seqs : o->max_step_tokens);
    size_t weights = r->model->weight_bytes, all = r->device->memory;
    size_t step = forward_need(r->model, (uint32_t)o->max_step_tokens, max_out, r->model->config.max_position);
    if (weights + step >= all)
        die("device \"%s\": out of memory: of the %.1f MiB that were free, weights take %.1f and the buffers of a step %.1f, which leaves nothing for KV; "
            "lower --max-seqs or --max-step-tokens, or take a smaller model", r->device->name, (double)all / 0x1p20, (double)weights / 0x1p20, (double)step / 0x1p20);
    return (int64_t)((all - weights - step) / 100 * 93);
}

static int64_t cpu_kv_memory(const struct run *r)
{
    size_t left = r->device->memory > r->model->weight_bytes ? r->device->memory - r->model->weight_bytes : 0;
    return (int64_t)(left / 2 < KV_MEMORY ? left / 2 : KV_MEMORY);
}

/* What the command line leaves to the device: a GPU wants large batches. */
static void choose_sizes(struct run *r)
{
    struct run_opts *o = &r->opts;
    bool cuda = strncmp(r->device->name, "cuda:", 5) == 0;
    o->max_seqs = o->max_seqs ? o->max_seqs : cuda ? 1024 : 128;
    o->max_step_tokens = o->max_step_tokens ? o->max_step_tokens : cuda ? 8192 : 512;
    if (!o->kv_memory && !o->kv_blocks)
        o->kv_memory = cuda ? cuda_kv_memory(r) : cpu_kv_memory(r);
}

static void open_engine(struct run *r)
{
    const struct run_opts *o = &r->opts;
    struct engine_config c = {
        .max_seqs = (uint32_t)o->max_seqs, .max_step_tokens = (uint32_t)o->max_step_tokens, .block_size = (uint32_t)o->block_size,
        .n_block = (uint32_t)o->kv_blocks, .kv_memory = (size_t)o->kv_memory,
        .kv_fp8 = kv_type(o) == DTYPE_E4M3, .prefix_cache = !o->no_prefix_cache, .order = (enum sched_order)o->order,
    };
    if (o->block_size % 16)
        die("run: --block-size: \"%lld\" is not a multiple of 16", (long long)o->block_size);
    if (c.kv_fp8 && r->model->config.d_head % 16)
        die("run: --kv-dtype: \"fp8_e4m3\" needs heads of a multiple of 16, those of this model have %u; leave it out", r->model->config.d_head);
    r->engine = engine_open(r->model, r->tokenizer, &c, &r->meter);
    if (!r->engine)
        die("%s", err_text());
    int64_t start = clock_ns();
    engine_warm_up(r->engine);
    r->warmup_s = (double)(clock_ns() - start) * 1e-9;
}

/* The price file stands beside the program: in the source tree or where make install put it. */
static void find_price(struct run *r)
{
    static const char *const places[] = { "/../datasets/hardware.csv", "/../share/tokmill/hardware.csv" };
    r->price.usd_per_h = r->opts.price > 0 ? r->opts.price : NAN;
    snprintf(r->price.source, sizeof r->price.source, "--price");
    char self[512] = {0};
    if (r->opts.price > 0 || readlink("/proc/self/exe", self, sizeof self - 64) < 0)
        return;
    *strrchr(self, '/') = 0;
    size_t len = strlen(self);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(self + len, sizeof self - len, "%s", places[i]);
        if (access(self, R_OK))
            continue;
        struct price found;
        int rc = price_find(&found, self, r->device->text);
        if (rc < 0)
            log_warn("no price: %s", err_text());
        if (rc > 0)
            r->price = found;
        return;
    }
}

static struct sampling default_sampling(const struct run_opts *o)
{
    struct sampling s = {
        .max_tokens = (int32_t)o->max_tokens, .min_tokens = (int32_t)o->min_tokens, .n = (int32_t)o->n, .temperature = (float)o->temperature,
        .top_p = (float)o->top_p, .min_p = (float)o->min_p, .top_k = (int32_t)o->top_k, .presence_penalty = (float)o->presence_penalty,
        .frequency_penalty = (float)o->frequency_penalty, .repetition_penalty = (float)o->repetition_penalty, .seed = (uint64_t)o->seed,
        .ignore_eos = o->ignore_eos, .logprobs = (int32_t)o->logprobs,
    };
    if (o->stop)
        s.stop = (const char **)&o->stop, s.n_stop = 1;
    return s;
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && S_ISREG(x.st_mode) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static struct zwriter *open_writer(const char *path)
{
    struct zwriter *w = zwriter_open(path);
    if (!w)
        die("%s", err_text());
    return w;
}

static void open_pipeline(struct run *r)
{
    const struct run_opts *o = &r->opts;
    char errors[600];
    snprintf(errors, sizeof errors, "%s/errors.jsonl", r->folder);
    const char *errors_path = o->errors ? o->errors : r->folder[0] ? errors : NULL;
    r->pipe = (struct pipeline){
        .corpora = r->corpora, .n_corpus = r->n_corpus, .limit = o->limit, .ordered = o->ordered, .n_vocab = r->model->config.n_vocab,
        .tokenizer = r->tokenizer, .requests = { .defaults = default_sampling(o) },
        .style = { .model = r->model_name, .token_ids = o->token_ids, .metrics = o->metrics },
        .rows = open_writer(o->output), .meter = &r->meter,
        .stop = &stop_asked,
    };
    if (errors_path && same_file(o->output, errors_path))
        die("run: \"%s\" is named for rows and for error rows; name two files", errors_path);
    r->pipe.errors = errors_path ? open_writer(errors_path) : NULL;
}

static uint64_t max_rss(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) ? 0 : (uint64_t)u.ru_maxrss * 1024;
}

static struct run_facts facts_of(struct run *r)
{
    static const char *const orders[] = { "fcfs", "longest", "prefix" };
    enum dtype peak_type = r->model->weight_dtype;
    bool measures = r->folder[0];                                  /* the peaks stand in the result files alone, and take a second each */
    struct gauge_sums gauge = gauge_close(r->meter.gauge);         /* before the peaks are measured */
    r->meter.gauge = NULL;
    return (struct run_facts){
        .model = r->model_name, .family = r->model->config.model_type, .device = r->device->name, .device_text = r->device->text,
        .compute = dtype_name(r->device->compute), .weight_dtype = dtype_name(r->model->weight_dtype), .kv_dtype = dtype_name(kv_type(&r->opts)),
        .corpus = r->corpora[0], .order = orders[r->opts.order], .price_usd_per_h = r->price.usd_per_h, .price_source = isfinite(r->price.usd_per_h) ? r->price.source : NULL,
        .load_s = r->load_s, .load_bytes_per_s = r->load_bytes_per_s, .warmup_s = r->warmup_s, .interrupted = stop_asked,
        .deterministic = r->device->deterministic, .n_param = config_params(&r->model->config),
        .weight_bytes = r->model->weight_bytes, .kv_bytes = engine_kv_bytes(r->engine), .kv_blocks = engine_kv_blocks(r->engine),
        .block_size = (uint64_t)r->opts.block_size, .max_seqs = (uint64_t)r->opts.max_seqs, .max_step_tokens = (uint64_t)r->opts.max_step_tokens,
        .threads = (uint64_t)(r->opts.threads ? r->opts.threads : sysconf(_SC_NPROCESSORS_ONLN)), .max_rss_bytes = max_rss(),
        .peak_flops = measures ? r->device->ops->peak_flops(r->device, peak_type) : (double)NAN,
        .peak_bandwidth = measures ? r->device->ops->peak_bandwidth(r->device) : (double)NAN, .gauge = gauge,
    };
}

/* 0, or -1: not all rows could be written, err_text(). */
static int close_outputs(struct run *r)
{
    int rc = zwriter_close(r->pipe.rows);
    if (rc == 0 && r->pipe.errors)
        rc = zwriter_close(r->pipe.errors);
    return r->pipe.write_failed ? err_set("%s", r->pipe.write_error) : rc;
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
    engine_in_flight(r->engine, name_request, &n);
    if (n > MAX_NAMED)
        log_error("in flight: and %u more", n - MAX_NAMED);
    pipeline_finish(&r->pipe, true);
    if (close_outputs(r))
        log_error("%s", err_text());
    else
        log_error("rows complete in \"%s\": %llu; the requests in flight and those after them have none, and the same command starts anew",
                  r->opts.output, (unsigned long long)r->meter.lines);
}

/* Closes the outputs, then tells what happened.  Returns the exit status. */
static int report(struct run *r)
{
    int rc = close_outputs(r);
    int64_t end_ns = clock_ns();
    log_progress("%s", "");
    if (rc)
        die("%s", err_text());
    struct run_facts facts = facts_of(r);
    facts.end_ns = end_ns;
    static struct summary summary;
    stage_add(r->meter.clock[THREAD_ENGINE], STAGE_LOAD, (int64_t)(r->load_s * 1e9), 1, 0);
    results_make(&summary, &r->meter, &facts);
    if (r->folder[0] && (meter_flush(&r->meter) || results_write(&summary, r->folder)))
        die("%s", err_text());
    if (!r->opts.quiet)
        results_print(&summary, strcmp(r->opts.output, "-") == 0 ? stderr : stdout);
    if (!r->opts.quiet && r->folder[0])
        log_info("result files are in %s/", r->folder);
    if (summary.failed)
        log_warn("%llu of %llu lines failed%s%s", (unsigned long long)summary.failed, (unsigned long long)summary.lines,
                 r->folder[0] && !r->opts.errors ? "; their rows are in errors.jsonl there" : "", "");
    if (stop_asked)
        log_warn("interrupted: what was running is finished, the rest is not done");
    return stop_asked ? EXIT_AGAIN : summary.failed ? EXIT_SOME_FAILED : EXIT_GOOD;
}

static void close_run(struct run *r)
{
    meter_close(&r->meter);
    engine_close(r->engine);
    tokenizer_close(r->tokenizer);
    model_close(r->model);
    r->device->ops->close(r->device);
}

/* Opening an output empties it. */
static void keep_corpora(const struct run *r, const char *written)
{
    for (int i = 0; i < r->n_corpus && written; i++)
        if (same_file(written, r->corpora[i]))
            die("run: \"%s\" is a corpus and would be overwritten; name another file for the rows", written);
}

static void parse_options(struct run *r, int argc, char **argv)
{
    int first = cmd_options(&r->opts, argc, argv);
    if (!r->opts.model)
        die("run: no model: give -m MODEL (a Hugging Face folder, or random:qwen3-0.6b)");
    if (first == argc)
        die("run: no corpus: name a .jsonl, .jsonl.zst or .jsonl.gz file, or - for standard input");
    r->corpora = argv + first;
    r->n_corpus = argc - first;
    for (int i = 0; i < r->n_corpus; i++)
        if (pipeline_probe(r->corpora[i]))
            die("%s", err_text());
    keep_corpora(r, r->opts.output);
    keep_corpora(r, r->opts.errors);
    log_set_level(r->opts.quiet && r->opts.log_level > LOG_WARN ? LOG_WARN : (enum log_level)r->opts.log_level);
}

int cmd_run(int argc, char **argv)
{
    static struct run r;
    parse_options(&r, argc, argv);
    catch_signals(&r);
    open_model(&r);
    choose_folder(&r);
    if (meter_open(&r.meter, r.folder[0] ? r.folder : NULL))
        die("%s", err_text());
    choose_sizes(&r);
    open_engine(&r);
    find_price(&r);
    open_pipeline(&r);
    r.meter.gauge = gauge_open(r.device);
    pipeline_start(&r.pipe);
    r.started = true;
    err_before_exit(last_words, &r);
    engine_run(r.engine, r.pipe.in, r.pipe.out, &stop_asked);
    err_before_exit(NULL, NULL);
    pipeline_finish(&r.pipe, stop_asked);
    int status = report(&r);
    if (!stop_asked)
        close_run(&r);
    return status;
}
