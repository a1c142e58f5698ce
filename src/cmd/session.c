#define _GNU_SOURCE         /* readlink */
#include "cmd/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cache.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "cmd/supervise.h"
#include "model/config.h"
#include "model/forward.h"

#define KV_MEMORY ((size_t)4 << 30)

/* ---- the model ---- */

static const enum dtype compute_types[] = { DTYPE_BF16, DTYPE_F32 };

static enum dtype weight_type(const struct session_opts *o)
{
    static const enum dtype types[] = { 0, DTYPE_BF16, DTYPE_F32, DTYPE_I8, DTYPE_E4M3 };
    return o->weight_dtype ? types[o->weight_dtype] : compute_types[o->compute];
}

static enum dtype kv_type(const struct session_opts *o)
{
    static const enum dtype types[] = { 0, DTYPE_BF16, DTYPE_E4M3 };
    return o->kv_dtype ? types[o->kv_dtype] : compute_types[o->compute];
}

/* Before the model is read: fp8 is the CUDA device's, and KV has no other type than that or the one of --compute. */
static void check_types(const struct session *s)
{
    const struct session_opts *o = s->opts;
    bool cpu = strcmp(s->device->name, "cpu") == 0;
    if (cpu && weight_type(o) == DTYPE_E4M3)
        die("%s: --weight-dtype: \"fp8\" needs a CUDA device; the CPU has \"int8\"", s->command);
    if (cpu && kv_type(o) == DTYPE_E4M3)
        die("%s: --kv-dtype: \"fp8_e4m3\" needs a CUDA device; leave it out", s->command);
    if (kv_type(o) == DTYPE_BF16 && s->device->compute != DTYPE_BF16)
        die("%s: --kv-dtype: \"bf16\" does not go with --compute %s; leave it out", s->command, dtype_name(s->device->compute));
}

static void name_model(struct session *s)
{
    snprintf(s->model_name, sizeof s->model_name, "%s", s->opts->model);
    size_t n = strlen(s->model_name);
    while (n > 1 && s->model_name[n - 1] == '/')
        s->model_name[--n] = 0;
    const char *slash = strrchr(s->model_name, '/');
    if (slash && slash[1])
        memmove(s->model_name, slash + 1, strlen(slash));
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
static void load_weights(struct session *s)
{
    int64_t start = clock_ns();
    s->model = model_open(s->device, s->opts->model, weight_type(s->opts), (uint64_t)s->opts->seed);
    if (!s->model)
        die("%s", err_text());
    s->device->ops->sync(s->device);
    double seconds = (double)(clock_ns() - start) * 1e-9;
    s->load_bytes_per_s = s->model->read_bytes ? (double)s->model->read_bytes / seconds : (double)NAN;
}

static void tell_model(const struct session *s)
{
    char rate[64] = "";
    if (s->model->read_bytes)
        snprintf(rate, sizeof rate, " (%.3g GB of weights at %.3g GB/s)", (double)s->model->read_bytes * 1e-9, s->load_bytes_per_s * 1e-9);
    log_info("%s: %s, %.1f MiB of %s weights on %s (%s), loaded in %.1f s%s", s->model_name, s->model->config.model_type,
             (double)s->model->weight_bytes / 0x1p20, dtype_name(s->model->weight_dtype), s->device->name, s->device->text, s->load_s, rate);
}

void session_open_model(struct session *s, const char *command, struct session_opts *opts)
{
    *s = (struct session){ .command = command, .opts = opts };
    int64_t start = clock_ns();
    s->device = device_open(s->opts->device, compute_types[s->opts->compute], (int)s->opts->threads);
    if (!s->device)
        die("%s", err_text());
    check_types(s);
    s->device->deterministic |= opts->deterministic;
    load_weights(s);
    s->tokenizer = open_tokenizer(s->opts->model);
    if (!s->tokenizer)
        die("%s", err_text());
    name_model(s);
    s->load_s = (double)(clock_ns() - start) * 1e-9;
    tell_model(s);
}

/* ---- the engine ---- */

/* Of a GPU's memory, after the weights and the buffers of a step; the rest is for the scratch of single ops. */
static int64_t cuda_kv_memory(const struct session *s)
{
    const struct session_opts *o = s->opts;
    uint32_t max_out = (uint32_t)(o->max_seqs < o->max_step_tokens ? o->max_seqs : o->max_step_tokens);
    size_t weights = s->model->weight_bytes, all = s->device->memory;
    size_t step = forward_need(s->model, (uint32_t)o->max_step_tokens, max_out, s->model->config.max_position);
    if (weights + step >= all)
        die("device \"%s\": out of memory: of the %.1f MiB that were free, weights take %.1f and the buffers of a step %.1f, which leaves nothing for KV; "
            "lower --max-seqs or --max-step-tokens, or take a smaller model", s->device->name, (double)all / 0x1p20, (double)weights / 0x1p20, (double)step / 0x1p20);
    return (int64_t)((all - weights - step) / 100 * 93);
}

static int64_t cpu_kv_memory(const struct session *s)
{
    size_t left = s->device->memory > s->model->weight_bytes ? s->device->memory - s->model->weight_bytes : 0;
    return (int64_t)(left / 2 < KV_MEMORY ? left / 2 : KV_MEMORY);
}

/* What the command line leaves to the device: a GPU wants large batches. */
static void choose_sizes(struct session *s)
{
    struct session_opts *o = s->opts;
    bool cuda = strncmp(s->device->name, "cuda:", 5) == 0;
    o->max_seqs = o->max_seqs ? o->max_seqs : cuda ? 1024 : 128;
    o->max_step_tokens = o->max_step_tokens ? o->max_step_tokens : cuda ? 8192 : 512;
    if (!o->kv_memory && !o->kv_blocks)
        o->kv_memory = cuda ? cuda_kv_memory(s) : cpu_kv_memory(s);
}

/* The price file stands beside the program: in the source tree or where make install put it. */
static void find_price(struct session *s)
{
    static const char *const places[] = { "/../datasets/hardware.csv", "/../share/tokmill/hardware.csv" };
    s->price.usd_per_h = s->opts->price > 0 ? s->opts->price : NAN;
    snprintf(s->price.source, sizeof s->price.source, "--price");
    char self[512] = {0};
    if (s->opts->price > 0 || readlink("/proc/self/exe", self, sizeof self - 64) < 0)
        return;
    *strrchr(self, '/') = 0;
    size_t len = strlen(self);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(self + len, sizeof self - len, "%s", places[i]);
        if (access(self, R_OK))
            continue;
        struct price found;
        int rc = price_find(&found, self, s->device->text);
        if (rc < 0)
            log_warn("no price: %s", err_text());
        if (rc > 0)
            s->price = found;
        return;
    }
}

void session_open_engine(struct session *s, struct meter *meter)
{
    const struct session_opts *o = s->opts;
    choose_sizes(s);
    struct engine_config c = {
        .max_seqs = (uint32_t)o->max_seqs, .max_step_tokens = (uint32_t)o->max_step_tokens, .block_size = (uint32_t)o->block_size,
        .n_block = (uint32_t)o->kv_blocks, .kv_memory = (size_t)o->kv_memory,
        .kv_fp8 = kv_type(o) == DTYPE_E4M3, .prefix_cache = !o->no_prefix_cache, .order = (enum sched_order)o->order,
    };
    if (o->block_size % 16)
        die("%s: --block-size: \"%lld\" is not a multiple of 16", s->command, (long long)o->block_size);
    if (c.kv_fp8 && s->model->config.d_head % 16)
        die("%s: --kv-dtype: \"fp8_e4m3\" needs heads of a multiple of 16, those of this model have %u; leave it out", s->command, s->model->config.d_head);
    if (s->in_flight)
        c.in_flight = in_flight_open(s->in_flight, c.max_seqs);
    s->engine = engine_open(s->model, s->tokenizer, &c, meter);
    if (!s->engine)
        die("%s", err_text());
    int64_t start = clock_ns();
    engine_warm_up(s->engine);
    s->warmup_s = (double)(clock_ns() - start) * 1e-9;
    find_price(s);
}

void session_close(struct session *s)
{
    engine_close(s->engine);
    tokenizer_close(s->tokenizer);
    model_close(s->model);
    s->device->ops->close(s->device);
}

/* ---- what it was ---- */

static uint64_t max_rss(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) ? 0 : (uint64_t)u.ru_maxrss * 1024;
}

/* Where the peaks of this machine, device and type are kept.  0, or -1: nowhere. */
static int peaks_path(const struct session *s, char *path, size_t size)
{
    char host[64] = {0}, what[320], name[64];
    gethostname(host, sizeof host - 1);
    int n = snprintf(what, sizeof what, "%s %s %s %s %s", TOKMILL_VERSION, host, s->device->name, s->device->text, dtype_name(s->model->weight_dtype));
    snprintf(name, sizeof name, "ceilings-%016llx", (unsigned long long)hash_bytes(what, (size_t)n < sizeof what ? (size_t)n : sizeof what - 1, 0));
    return cache_path(path, size, name);
}

static bool read_peaks(struct session *s, const char *path)
{
    FILE *f = fopen(path, "r");
    bool good = f && fscanf(f, "%lf FLOP/s, %lf bytes/s", &s->peak_flops, &s->peak_bandwidth) == 2 && s->peak_flops > 0 && s->peak_bandwidth > 0;
    if (f)
        fclose(f);
    return good && isfinite(s->peak_flops) && isfinite(s->peak_bandwidth);
}

/* They are the machine's, and take a second each: so they are measured once, and kept. */
static void measure_peaks(struct session *s)
{
    char path[512], text[96];
    bool kept = peaks_path(s, path, sizeof path) == 0;
    if (s->peak_bandwidth || (kept && read_peaks(s, path)))
        return;
    s->peak_flops = s->device->ops->peak_flops(s->device, s->model->weight_dtype);
    s->peak_bandwidth = s->device->ops->peak_bandwidth(s->device);
    int n = snprintf(text, sizeof text, "%.6g FLOP/s, %.6g bytes/s\n", s->peak_flops, s->peak_bandwidth);
    if (!kept || (isfinite(s->peak_flops) && isfinite(s->peak_bandwidth) && cache_write(path, text, (size_t)n)))
        log_debug("the peaks of the machine are not kept: %s", err_text());
}

struct run_facts session_facts(struct session *s, struct meter *meter, bool peaks)
{
    static const char *const orders[] = { "fcfs", "longest", "prefix" };
    const struct session_opts *o = s->opts;
    struct gauge_sums gauge = gauge_close(meter->gauge);           /* before the peaks are measured */
    uint64_t rss = max_rss();
    meter->gauge = NULL;
    if (peaks)
        measure_peaks(s);
    return (struct run_facts){
        .model = s->model_name, .family = s->model->config.model_type, .device = s->device->name, .device_text = s->device->text,
        .compute = dtype_name(s->device->compute), .weight_dtype = dtype_name(s->model->weight_dtype), .kv_dtype = dtype_name(kv_type(o)),
        .order = orders[o->order], .price_usd_per_h = s->price.usd_per_h, .price_source = isfinite(s->price.usd_per_h) ? s->price.source : NULL,
        .load_s = s->load_s, .load_bytes_per_s = s->load_bytes_per_s, .warmup_s = s->warmup_s, .deterministic = s->device->deterministic,
        .n_param = config_params(&s->model->config), .weight_bytes = s->model->weight_bytes,
        .kv_bytes = engine_kv_bytes(s->engine), .kv_blocks = engine_kv_blocks(s->engine), .block_size = (uint64_t)o->block_size,
        .max_seqs = (uint64_t)o->max_seqs, .max_step_tokens = (uint64_t)o->max_step_tokens,
        .threads = (uint64_t)(o->threads ? o->threads : sysconf(_SC_NPROCESSORS_ONLN)), .max_rss_bytes = rss,
        .peak_flops = peaks ? s->peak_flops : (double)NAN, .peak_bandwidth = peaks ? s->peak_bandwidth : (double)NAN, .gauge = gauge,
        .async = s->device->async, .rate_rps = NAN, .late_max_ms = NAN,
    };
}
