/* test_forward.c - whole models against what reference implementations compute for them: tests/golden/ (made with transformers
 * by make_golden.py) and stories260K, a real trained model, where the material is there. */
#define _DEFAULT_SOURCE     /* mkdtemp */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "data/json.h"
#include "data/tensors.h"
#include "data/tokenizer.h"
#include "kernels/device.h"
#include "model/forward.h"
#include "tests/golden.h"

#define MAX_POS 512
#define BLOCK   16
#define MAX_OUT 16
#define STORIES "../shared/material/3-weights/stories260K/"

/* One model with one sequence: its tokens so far lie in KV slots that run backwards through the blocks, so that a block
 * table read wrongly shows. */
struct run {
    struct device *device;
    struct model *model;
    struct kv *kv;
    struct forward *forward;
    uint32_t n;                                    /* tokens so far */
    int32_t *ids; uint32_t *pos, *slot, *seq_start, *kv_len, *row, *table, *out_rows;      /* on the device */
};

static void *device_array(struct run *r, size_t n)
{
    return r->device->ops->alloc(r->device, n * 4);
}

static void run_open(struct run *r, const char *path, enum dtype compute, enum dtype weight)
{
    *r = (struct run){ .device = device_open("cpu", compute, 2) };
    r->model = model_open(r->device, path, weight, 0);
    if (!r->model)
        fail_msg("%s", err_text());
    const struct model_config *c = &r->model->config;
    struct kv_shape shape = { c->n_layer, MAX_POS / BLOCK, BLOCK, c->n_kv_head, c->d_head, compute };
    r->kv = r->device->ops->kv_open(r->device, &shape);
    r->forward = forward_open(r->model, r->kv, MAX_POS, MAX_OUT, MAX_POS);
    r->ids = device_array(r, MAX_POS), r->pos = device_array(r, MAX_POS), r->slot = device_array(r, MAX_POS);
    r->seq_start = device_array(r, 2), r->kv_len = device_array(r, 1), r->row = device_array(r, 1);
    r->table = device_array(r, MAX_POS / BLOCK), r->out_rows = device_array(r, MAX_OUT);
}

static void run_close(struct run *r)
{
    void *arrays[] = { r->ids, r->pos, r->slot, r->seq_start, r->kv_len, r->row, r->table, r->out_rows };
    const size_t n[] = { MAX_POS, MAX_POS, MAX_POS, 2, 1, 1, MAX_POS / BLOCK, MAX_OUT };
    for (size_t i = 0; i < sizeof n / sizeof *n; i++)
        r->device->ops->free(r->device, arrays[i], n[i] * 4);
    forward_close(r->forward);
    r->device->ops->kv_close(r->device, r->kv);
    model_close(r->model);
    r->device->ops->close(r->device);
}

static void upload(struct run *r, void *at, const void *from, size_t n)
{
    r->device->ops->upload(r->device, at, from, n * 4);
}

/* Feeds n tokens; logits [n_out, n_vocab] of the last n_out of them. */
static void run_step(struct run *r, const int32_t *ids, uint32_t n, uint32_t n_out, float *logits)
{
    uint32_t pos[MAX_POS], slot[MAX_POS], table[MAX_POS / BLOCK], out_rows[MAX_OUT];
    for (uint32_t i = 0; i < MAX_POS / BLOCK; i++)
        table[i] = MAX_POS / BLOCK - 1 - i;
    for (uint32_t i = 0; i < n; i++) {
        pos[i] = r->n + i;
        slot[i] = table[pos[i] / BLOCK] * BLOCK + pos[i] % BLOCK;
    }
    for (uint32_t i = 0; i < n_out; i++)
        out_rows[i] = n - n_out + i;
    r->n += n;
    upload(r, r->ids, ids, n), upload(r, r->pos, pos, n), upload(r, r->slot, slot, n);
    upload(r, r->table, table, MAX_POS / BLOCK), upload(r, r->out_rows, out_rows, n_out);
    upload(r, r->seq_start, (uint32_t[]){ 0, n }, 2), upload(r, r->kv_len, &r->n, 1), upload(r, r->row, (uint32_t[]){ 0 }, 1);
    struct step step = { .n_tok = n, .n_seq = 1, .n_out = n_out, .ids = r->ids, .pos = r->pos, .slot = r->slot, .seq_start = r->seq_start,
                         .kv_len = r->kv_len, .table_row = r->row, .block_table = r->table, .table_cols = MAX_POS / BLOCK, .out_rows = r->out_rows };
    struct tensor y = forward_run(r->forward, &step);
    assert_int_equal(y.rows, n_out);
    r->device->ops->sync(r->device);
    if (n_out)
        r->device->ops->download(r->device, logits, y.data, (size_t)n_out * y.cols * sizeof(float));
}

static int32_t arg_max(const float *x, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return (int32_t)best;
}

static double relative_error(const float *x, const float *expected, size_t n)
{
    double diff = 0, top = 0;
    for (size_t i = 0; i < n; i++) {
        diff = fmax(diff, fabs((double)x[i] - (double)expected[i]));
        top = fmax(top, fabs((double)expected[i]));
    }
    return diff / top;
}

/* ---- golden vectors ------------------------------------------------------------------------------------------- */

/* Continues the prompt, whose last logits are given, and counts the tokens until one differs from the expected. */
static uint32_t greedy_agree(struct run *r, const struct golden *g, float *logits)
{
    for (uint32_t i = 0; i < g->n_greedy; i++) {
        int32_t id = arg_max(logits, g->n_vocab);
        if (id != g->greedy[i])
            return i;
        run_step(r, &id, 1, 1, logits);
    }
    return g->n_greedy;
}

/* The prompt in two steps, cut so that the second sees keys of the first; the first has no sampled row. */
static void check_golden(const char *name, enum dtype dtype, double tolerance)
{
    char folder[160];
    struct golden g;
    struct run r;
    snprintf(folder, sizeof folder, "tests/golden/%s", name);
    golden_read(&g, folder);
    run_open(&r, folder, dtype, dtype);
    assert_int_equal(r.model->config.n_vocab, g.n_vocab);
    float *logits = mem_array((size_t)MAX_OUT * g.n_vocab, sizeof *logits);
    run_step(&r, g.prompt, 37, 0, NULL);
    run_step(&r, g.prompt + 37, g.n_prompt - 37, g.n_row, logits);
    double error = relative_error(logits, g.logits, (size_t)g.n_row * g.n_vocab);
    uint32_t agree = greedy_agree(&r, &g, logits + (size_t)(g.n_row - 1) * g.n_vocab);
    print_message("  %-14s %-4s  relative error %.1e, %u of %u greedy tokens\n", name, dtype_name(dtype), error, agree, g.n_greedy);
    assert_true(error <= tolerance);
    if (dtype == DTYPE_F32)
        assert_int_equal(agree, g.n_greedy);
    run_close(&r);
    free(logits);
    free(g.logits);
}

static void test_golden_f32(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOLDEN; i++)
        check_golden(golden_names[i], DTYPE_F32, 1e-4);
}

static void test_golden_bf16(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOLDEN; i++)
        check_golden(golden_names[i], DTYPE_BF16, 2e-2);
}

/* ---- a real model --------------------------------------------------------------------------------------------- */

static bool no_stories(void)
{
    if (access(STORIES "hf/config.json", R_OK) == 0)
        return false;
    print_message("  skipped: " STORIES " is not there\n");
    return true;
}

static void test_stories_logits(void **state)
{
    (void)state;
    enum { N = 16, VOCAB = 512 };
    if (no_stories())
        return;
    static float expected[N * VOCAB], logits[N * VOCAB];
    int32_t ids[64];
    FILE *f = fopen(STORIES "logits-16x512.f32", "rb");
    assert_non_null(f);
    assert_int_equal(fread(expected, sizeof *expected, N * VOCAB, f), N * VOCAB);
    fclose(f);
    struct json *root = json_parse_file(STORIES "logits.json");
    assert_int_equal(read_ids(json_get(root, "ids"), ids), N);
    json_free(root);
    struct run r;
    run_open(&r, STORIES "hf", DTYPE_F32, DTYPE_F32);
    run_step(&r, ids, N, N, logits);
    double error = relative_error(logits, expected, N * VOCAB);
    print_message("  stories260K relative error %.1e\n", error);
    assert_true(error <= 1e-4);
    run_close(&r);
}

/* Greedy text as the reference program prints it: the prompt and what follows, without the BOS token. */
static void check_story(struct run *r, struct tok_state *tok, const char *prompt, const char *expected, uint32_t n_max)
{
    struct tok_ids ids = {0};
    struct buf text = {0};
    float logits[512];
    assert_int_equal(tokenizer_encode(tok, prompt, strlen(prompt), true, &ids), 0);
    uint32_t done = 0;
    r->n = 0;
    ids.ids = mem_resize(ids.ids, n_max + 1, sizeof *ids.ids);
    while (ids.n <= n_max) {
        run_step(r, ids.ids + done, (uint32_t)ids.n - done, 1, logits);
        done = (uint32_t)ids.n;
        int32_t id = arg_max(logits, 512);
        if (id == 1)                    /* the reference program stops at BOS */
            break;
        ids.ids[ids.n++] = id;
    }
    tokenizer_decode(tok, ids.ids, ids.n, true, &text);
    assert_string_equal(text.data, expected);
    free(ids.ids);
    buf_free(&text);
}

static void test_stories_text(void **state)
{
    (void)state;
    if (no_stories())
        return;
    struct run r;
    run_open(&r, STORIES "hf", DTYPE_F32, DTYPE_F32);
    struct tokenizer *t = tokenizer_open(STORIES "hf");
    if (!t)
        fail_msg("%s", err_text());
    struct tok_state *tok = tok_state_open(t);
    struct json *cases = json_parse_file(STORIES "greedy-expected.json");
    assert_true(json_len(cases) >= 10);
    for (size_t i = 0; i < json_len(cases); i++) {
        const struct json *c = json_at(cases, i);
        int64_t n_max = 0;
        assert_true(json_int(json_get(c, "max_positions"), &n_max));
        check_story(&r, tok, json_text(json_get(c, "prompt"), NULL), json_text(json_get(c, "output"), NULL), (uint32_t)n_max);
    }
    json_free(cases);
    tok_state_close(tok);
    tokenizer_close(t);
    run_close(&r);
}

/* ---- random weights ------------------------------------------------------------------------------------------- */

static void check_same(struct run *a, struct run *b)
{
    int32_t ids[] = { 5, 80, 3, 77, 41, 2, 9, 90 };
    float x[96], y[96];
    run_step(a, ids, 8, 1, x);
    run_step(b, ids, 8, 1, y);
    assert_memory_equal(x, y, sizeof x);
    for (int i = 0; i < 96; i++)
        assert_true(isfinite(x[i]));
}

/* A model made on disk and the same one made in memory give the same logits; another seed gives others. */
static void test_make_model(void **state)
{
    (void)state;
    char folder[] = "/tmp/tokmill-test-XXXXXX", command[300];
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < N_GOLDEN; i++) {
        struct model_config c;
        char made[100], random[200];
        struct run a, b;
        snprintf(made, sizeof made, "%s/%s", folder, golden_names[i]);
        snprintf(random, sizeof random, "random:tests/golden/%s/config.json", golden_names[i]);
        assert_int_equal(config_shape(&c, random + 7), 0);
        assert_int_equal(model_make(&c, 0, made), 0);
        assert_int_equal(model_make(&c, 0, made), -1);
        run_open(&a, made, DTYPE_F32, DTYPE_F32);
        run_open(&b, random, DTYPE_F32, DTYPE_F32);
        check_same(&a, &b);
        assert_int_equal(a.model->layers[0].qkv_bias != NULL, c.qkv_bias);
        assert_int_equal(a.model->layers[0].gate_up_bias != NULL, c.mlp_bias);
        run_close(&a);
        run_close(&b);
    }
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void write_file(const char *folder, const char *name, const void *data, size_t size)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    fclose(f);
}

/* The folder's config.json becomes that of the golden llama2 with `from` replaced by `to`. */
static void write_config(const char *folder, const char *from, const char *to)
{
    static char text[4000], changed[4000];
    FILE *f = fopen("tests/golden/llama2/config.json", "rb");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    char *at = strstr(text, from);
    assert_non_null(at);
    snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    write_file(folder, "config.json", changed, strlen(changed));
}

static void assert_refused(struct device *d, const char *path, const char *why)
{
    assert_null(model_open(d, path, DTYPE_F32, 0));
    if (!strstr(err_text(), why))
        fail_msg("\"%s\" does not say \"%s\"", err_text(), why);
}

/* A config that does not fit the tensors beside it. */
static void test_open_errors(void **state)
{
    (void)state;
    static const struct { const char *from, *to, *why; } cases[] = {
        { "\"intermediate_size\": 44", "\"intermediate_size\": 48", "tensor \"model.layers.0.mlp.gate_proj.weight\" is [44, 32], config.json says [48, 32]" },
        { "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "tensor \"model.layers.2.input_layernorm.weight\" is missing" },
        { "\"vocab_size\": 96", "\"vocab_size\": 97", "tensor \"model.embed_tokens.weight\" is [96, 32], config.json says [97, 32]" },
        { "\"hidden_size\": 32", "\"hidden_size\": 64", "tensor \"model.norm.weight\" is [32], config.json says [64]" },
        { "\"num_key_value_heads\": 4", "\"num_key_value_heads\": 2", "tensor \"model.layers.0.self_attn.k_proj.weight\" is [32, 32], config.json says [16, 32]" },
    };
    static const char f64[] = "\x46\0\0\0\0\0\0\0{\"model.norm.weight\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}12345678";
    char folder[] = "/tmp/tokmill-test-XXXXXX", command[300];
    assert_non_null(mkdtemp(folder));
    struct device *d = device_open("cpu", DTYPE_F32, 1);
    snprintf(command, sizeof command, "cp tests/golden/llama2/model.safetensors %s", folder);
    assert_int_equal(system(command), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_config(folder, cases[i].from, cases[i].to);
        assert_refused(d, folder, cases[i].why);
    }
    write_file(folder, "model.safetensors", f64, sizeof f64 - 1);
    assert_refused(d, folder, "tensor \"model.norm.weight\" is F64; f32, bf16 and f16 are supported");
    assert_refused(d, "random:gpt-9", "no shape \"gpt-9\"; there are qwen3-0.6b");
    assert_refused(d, "tests/golden/no-such", "config.json");
    d->ops->close(d);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

/* Of the tensors in the folder, but for a head that is the embedding once more. */
static size_t bytes_of(const char *folder, bool tied)
{
    struct tensors *t = tensors_open(folder);
    assert_non_null(t);
    size_t sum = 0;
    for (size_t i = 0; i < tensors_count(t); i++)
        if (!tied || strcmp(tensors_at(t, i)->name, "lm_head.weight"))
            sum += tensors_at(t, i)->size;
    tensors_close(t);
    return sum;
}

/* The head is the embedding if it is not in the file, or is there once more (qwen3). */
static void test_tied(void **state)
{
    (void)state;
    static const struct { const char *folder; bool tied; } cases[] = {
        { "tests/golden/llama2", false }, { "tests/golden/qwen2.5-tied", true }, { "tests/golden/qwen3", true },
    };
    struct device *d = device_open("cpu", DTYPE_F32, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model *m = model_open(d, cases[i].folder, DTYPE_BF16, 0);
        assert_non_null(m);
        assert_true((m->lm_head == m->embed) == cases[i].tied && m->config.tied == cases[i].tied);
        assert_int_equal(m->read_bytes, bytes_of(cases[i].folder, cases[i].tied));
        model_close(m);
    }
    d->ops->close(d);
}

/* Two layers, by hand: per layer d (2 dq + 2 dkv) + 3 d dff. */
static void test_cost(void **state)
{
    (void)state;
    struct model_config c = { .n_layer = 2, .n_head = 4, .n_kv_head = 2, .d_head = 8, .d_model = 16, .d_ff = 24, .n_vocab = 100 };
    double layer = 16 * (2 * 32 + 2 * 16) + 3 * 16 * 24;
    struct forward_sizes s = { 1, 2, 4 };
    struct forward_cost cost = forward_cost_tokens(&c, &s, 3, 30, 1);
    assert_true(cost.flops == 2 * 3 * 2 * layer + 2 * 1600 + 4 * 32 * 2 * 30);
    assert_true(cost.bytes == 2 * layer + 2 * 1600 + 4 * (2 * 16 * 2 * 30));
    c.window = 4, c.window_from = 1;    /* one layer sees at most 3 x 4 keys */
    assert_true(forward_cost_tokens(&c, &s, 3, 30, 0).bytes == 2 * layer + 4 * (2 * 16 * (30 + 12)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_f32), cmocka_unit_test(test_golden_bf16), cmocka_unit_test(test_stories_logits),
        cmocka_unit_test(test_stories_text), cmocka_unit_test(test_make_model), cmocka_unit_test(test_open_errors), cmocka_unit_test(test_tied),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
