/* Norm, activation, gather, rope with the KV write, and attention, against naive sums in float64 written from the
 * formulas; the matrix products have a test of their own, here is one case for the door's sake.  All of it on every
 * instruction set that the machine has, with 1, 2 and 3 threads.
 *
 * Sameness: attention gives the same bits however a prompt is cut into steps, whatever goes along in the batch, and
 * wherever its blocks are.  KV memory is NaN before it is written, and table entries that no one may read are wild.
 *
 * With --perf: the speed of each op at the shapes of Qwen3-0.6B. */
#include "kernels/cpu/kv.h"
#include "tests/cases.h"
#include "tests/devices.h"

static void kv_spoil(struct device *d, struct kv *kv)
{
    (void)d;
    memset(kv->words, 0xff, kv->size);
}

static void attention_test(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct rng r;
        rng_init(&r, 10 + i);
        struct scene c = scene_new(&r, &shapes[i]);
        for (int tier = 0; tier <= (int)best_tier; tier++) {
            devices_tier(tier);
            struct tensor whole = scene_run(devices[0], &c, 1, WHOLE);
            scene_check(&c, &whole);
            for (int run = 0; run < 4; run++) {
                struct tensor y = scene_run(devices[run % MOST_THREADS], &c, 2 + (uint64_t)run, run ? RANDOM : ONE_BY_ONE);
                assert_memory_equal(y.data, whole.data, tensor_size(&whole));
                free(y.data);
            }
            free(whole.data);
        }
        scene_free(&c);
    }
}

static void linear_here(struct device *d)
{
    struct rng r;
    rng_init(&r, 30);
    product_case(d, &r, &(struct product){ DTYPE_F32, DTYPE_F32, DTYPE_F32, DTYPE_F32, 5, 70, 90, true, RESIDUAL });
}

/* ---- speed, at the shapes of Qwen3-0.6B ---- */

enum { P_SEQ = 64, P_HEAD = 16, P_KV_HEAD = 8, P_D = 128, P_MODEL = 1024, P_FF = 3072, P_LAYER = 28 };

static void perf_rows(struct device *d, struct rng *r)
{
    struct tensor x = tensor_random(r, P_SEQ, P_MODEL, DTYPE_F32), y = tensor_new(P_SEQ, P_MODEL, DTYPE_BF16);
    float *w = floats_random(r, P_MODEL);
    TIME("norm 64 x 1024 to bf16", tensor_size(&x) + tensor_size(&y), 0,
         d->ops->norm(d, &(struct norm){ .x = x, .w = w, .eps = 1e-6f, .y = y }));
    struct tensor gate = tensor_random(r, P_SEQ, 2 * P_FF, DTYPE_BF16), up = tensor_new(P_SEQ, P_FF, DTYPE_BF16);
    TIME("silu 64 x 3072 bf16", tensor_size(&gate) + tensor_size(&up), 0,
         d->ops->act(d, &(struct act){ .kind = ACT_SILU, .x = gate, .y = up }));
    TIME("gelu_tanh 64 x 3072 bf16", tensor_size(&gate) + tensor_size(&up), 0,
         d->ops->act(d, &(struct act){ .kind = ACT_GELU_TANH, .x = gate, .y = up }));
    free(x.data);
    free(y.data);
    free(w);
    free(gate.data);
    free(up.data);
}

/* n_seq sequences whose last n tokens, of `context`, are in the step. */
struct perf_step { struct step step; uint32_t *pos, *slot, *seq_start, *kv_len, *row, *table; };

static struct perf_step perf_step_new(struct rng *r, uint32_t n_seq, uint32_t n, uint32_t context)
{
    uint32_t cols = (context + 15) / 16, n_tok = n_seq * n;
    struct perf_step p = { .pos = mem_array(n_tok, 4), .slot = mem_array(n_tok, 4), .seq_start = mem_array(n_seq + 1, 4),
                           .kv_len = mem_array(n_seq, 4), .row = mem_array(n_seq, 4), .table = mem_array(n_seq * cols, 4) };
    for (uint32_t i = 0; i < n_seq * cols; i++)
        p.table[i] = i;
    shuffle(r, p.table, n_seq * cols);
    for (uint32_t s = 0; s < n_seq; s++) {
        p.seq_start[s + 1] = (s + 1) * n;
        p.kv_len[s] = context;
        p.row[s] = s;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t pos = p.pos[s * n + i] = context - n + i;
            p.slot[s * n + i] = p.table[s * cols + pos / 16] * 16 + pos % 16;
        }
    }
    p.step = (struct step){ .n_tok = n_tok, .n_seq = n_seq, .pos = p.pos, .slot = p.slot, .seq_start = p.seq_start,
                            .kv_len = p.kv_len, .table_row = p.row, .block_table = p.table, .table_cols = cols };
    return p;
}

static void perf_step_free(struct perf_step *p)
{
    free(p->pos);
    free(p->slot);
    free(p->seq_start);
    free(p->kv_len);
    free(p->row);
    free(p->table);
}

/* All layers in turn, as a step does, so that nothing of the KV is still in a cache. */
static void perf_attention(struct device *d, struct rng *r, enum dtype type, uint32_t n_seq, uint32_t n, uint32_t context)
{
    struct perf_step p = perf_step_new(r, n_seq, n, context);
    struct kv_shape shape = { P_LAYER, n_seq * p.step.table_cols, 16, P_KV_HEAD, P_D, type };
    struct kv *kv = d->ops->kv_open(d, &shape);
    struct tensor qkv = tensor_random(r, n_seq * n, (P_HEAD + 2 * P_KV_HEAD) * P_D, type);
    struct tensor q = tensor_random(r, n_seq * n, P_HEAD * P_D, type), y = tensor_new(n_seq * n, P_HEAD * P_D, type);
    float *w = floats_random(r, P_D), *rope = floats_random(r, (size_t)context * P_D);
    char name[64];
    memset(kv->words, 0x3c, kv->size);
    double seen = (double)n * n_seq * (context - (n - 1) / 2.0);
    snprintf(name, sizeof name, "attention %s %u x %u tokens of %u, a layer", dtype_name(type), n_seq, n, context);
    uint32_t layer = 0;
    TIME(name, (size_t)n_seq * context * 2 * P_KV_HEAD * P_D * dtype_size(type), 4 * seen * P_HEAD * P_D,
         d->ops->attention(d, &(struct attention){ .q = q, .kv = kv, .layer = layer++ % P_LAYER, .step = &p.step,
                                                   .scale = 0.088f, .y = y }));
    snprintf(name, sizeof name, "rope_store %s %u tokens", dtype_name(type), n_seq * n);
    TIME(name, 2 * tensor_size(&qkv), 0,
         d->ops->rope_store(d, &(struct rope_store){ .qkv = qkv, .n_head = P_HEAD, .q_norm = w, .k_norm = w, .eps = 1e-6f,
                                                     .rope = rope, .d_rot = P_D, .kv = kv, .layer = layer++ % P_LAYER,
                                                     .step = &p.step, .q = q }));
    d->ops->kv_close(d, kv);
    perf_step_free(&p);
    free(qkv.data);
    free(q.data);
    free(y.data);
    free(w);
    free(rope);
}

static void speed(struct device *d)
{
    struct rng r;
    rng_init(&r, 40);
    perf_rows(d, &r);
    perf_attention(d, &r, DTYPE_BF16, P_SEQ, 1, 192);
    perf_attention(d, &r, DTYPE_F32, P_SEQ, 1, 192);
    perf_attention(d, &r, DTYPE_BF16, 1, 1, 4096);
    perf_attention(d, &r, DTYPE_BF16, 4, 128, 128);
    perf_attention(d, &r, DTYPE_BF16, 1, 512, 512);
    perf_attention(d, &r, DTYPE_BF16, 1, 512, 4096);
}

EVERYWHERE(norm)
EVERYWHERE(act)
EVERYWHERE(gather)
EVERYWHERE(linear)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_test), cmocka_unit_test(act_test), cmocka_unit_test(gather_test),
        cmocka_unit_test(attention_test), cmocka_unit_test(linear_test),
    };
    devices_open();
    int failed = asked_for_speed(argc, argv, speed) ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
    devices_close();
    return failed;
}
