/* session.h - what run and bench have in common: a model on a device with an engine, opened by the same options, and the
 * facts about them for the result files. */
#ifndef CMD_SESSION_H
#define CMD_SESSION_H

#include "base/opt.h"
#include "data/tokenizer.h"
#include "engine/engine.h"
#include "engine/results.h"
#include "plan/price.h"

struct session_opts {
    const char *model, *device;
    bool no_prefix_cache, deterministic;
    int64_t threads, max_seqs, max_step_tokens, kv_memory, kv_blocks, block_size, seed;
    int compute, weight_dtype, kv_dtype, order;
    double price;
};

/* The rows of these options, for a struct whose member `m` is the struct session_opts. */
#define SESSION_AT(T, m, field) offsetof(T, m) + offsetof(struct session_opts, field)
#define SESSION_MODEL(T, m) \
    {"model", 'm', OPT_TEXT, "MODEL", SESSION_AT(T, m, model), NULL, "Hugging Face folder, or random:SHAPE (random:qwen3-0.6b) for a model with random weights", NULL, 0, 0}
#define SESSION_DEVICE(T, m) \
    {.help = "Device and memory"}, \
    {"device", 0, OPT_TEXT, "auto|cpu|cuda:N", SESSION_AT(T, m, device), "auto", "where to compute", NULL, 0, 0}, \
    {"threads", 't', OPT_INT, "N", SESSION_AT(T, m, threads), NULL, "threads of the CPU device (default: all cores)", NULL, 1, 1024}, \
    {"compute", 0, OPT_CHOICE, NULL, SESSION_AT(T, m, compute), "bf16", "type of activations", "bf16|f32", 0, 0}, \
    {"weight-dtype", 0, OPT_CHOICE, NULL, SESSION_AT(T, m, weight_dtype), "auto", "type of packed weights; auto is that of --compute; int8 (CPU) and fp8 (CUDA) have a scale a row and quantise activations too", "auto|bf16|f32|int8|fp8", 0, 0}, \
    {"kv-dtype", 0, OPT_CHOICE, NULL, SESSION_AT(T, m, kv_dtype), "auto", "type of KV; auto is that of --compute; fp8_e4m3 (CUDA) takes half the memory", "auto|bf16|fp8_e4m3", 0, 0}, \
    {"kv-memory", 0, OPT_SIZE, "SIZE", SESSION_AT(T, m, kv_memory), NULL, "memory for KV blocks, taken at the start (default: 4GiB, or half of what the weights leave if that is less; on CUDA 93 % of what weights and step buffers leave)", NULL, 1, 1e18}, \
    {"kv-blocks", 0, OPT_INT, "N", SESSION_AT(T, m, kv_blocks), NULL, "number of KV blocks, instead of --kv-memory", NULL, 1, 1e9}, \
    {"block-size", 0, OPT_INT, "N", SESSION_AT(T, m, block_size), "16", "tokens of a KV block, a multiple of 16", NULL, 16, 1024}
#define SESSION_SCHEDULING(T, m) \
    {.help = "Scheduling"}, \
    {"max-seqs", 0, OPT_INT, "N", SESSION_AT(T, m, max_seqs), NULL, "sequences that run at once (default: 128; on CUDA 1024)", NULL, 1, 65536}, \
    {"max-step-tokens", 0, OPT_INT, "N", SESSION_AT(T, m, max_step_tokens), NULL, "tokens of one engine step: decodes first, then chunks of prompts (default: 512; on CUDA 8192)", NULL, 1, 1048576}, \
    {"no-prefix-cache", 0, OPT_FLAG, NULL, SESSION_AT(T, m, no_prefix_cache), NULL, "compute every prompt in full", NULL, 0, 0}, \
    {"order", 0, OPT_CHOICE, NULL, SESSION_AT(T, m, order), "fcfs", "which waiting prompt is next: first come, longest, or grouped by common prefix", "fcfs|longest|prefix", 0, 0}, \
    {"deterministic", 0, OPT_FLAG, NULL, SESSION_AT(T, m, deterministic), NULL, "answers do not depend on what else runs, bit by bit: always so on the CPU, slower on CUDA", NULL, 0, 0}
#define SESSION_PRICE(T, m) \
    {"price", 0, OPT_REAL, "USD_PER_H", SESSION_AT(T, m, price), NULL, "price of the machine, dollars an hour (default: datasets/hardware.csv if it has the device)", NULL, 1e-6, 1e9}
#define SESSION_CSV_DIALECT(T, field) \
    {"csv-dialect", 0, OPT_CHOICE, NULL, offsetof(T, field), "comma", "of the CSV files: commas and decimal points, or semicolons and decimal commas", "comma|semicolon", 0, 0}

struct session {
    const char *command;               /* for messages */
    struct session_opts *opts;         /* sizes that it leaves open are filled in */
    struct device *device;
    struct model *model;
    struct tokenizer *tokenizer;
    struct engine *engine;
    struct price price;
    char model_name[256];
    double load_s, load_bytes_per_s, warmup_s;
    const char *in_flight;             /* file for the engine's lines in flight; NULL: none */
    double peak_flops, peak_bandwidth; /* measured at first need; 0: not yet */
};

/* Opens all of it in two steps; whatever is wrong ends the program.  The engine measures into `meter`. */
void session_open_model(struct session *s, const char *command, struct session_opts *opts);
void session_open_engine(struct session *s, struct meter *meter);
void session_close(struct session *s);

/* What the run was, as far as the session knows; takes the meter's gauge.  With `peaks` the machine's are in it. */
struct run_facts session_facts(struct session *s, struct meter *meter, bool peaks);

#endif
