/* embed, norm, act, gather and rope_store of the CUDA device, emulated, against naive sums in float64 written from the
 * formulas, over schedules.  KV memory is NaN before it is written, and what lies between two rows of KV is still so after. */
#include "tests/cudaemu/on_device.h"

/* ---- embed, norm, act, gather ---- */

static void embed_case(struct rng *r, uint32_t cols, enum dtype type)
{
    enum { N = 5, VOCAB = 11 };
    static const int32_t ids[N] = { 10, 0, 3, 3, 7 }, given[N] = { 10, ~2, 3, ~0, ~1 }, prev[] = { 3, 7, 0 };
    struct tensor host = tensor_random(r, VOCAB, cols, DTYPE_F32), got;
    float scale[VOCAB];
    uint8_t *data = mem_alloc((size_t)VOCAB * cols * 2);
    for (size_t i = 0; i < (size_t)VOCAB * cols; i++)
        if (type == DTYPE_BF16)
            ((uint16_t *)data)[i] = bf16_from_f32((float)get(&host, i));
        else
            data[i] = (uint8_t)(rng_below(r, 127) | rng_below(r, 2) << 7);
    for (int i = 0; i < VOCAB; i++)
        scale[i] = rng_uniform(r);
    struct weight w = { .dtype = type, .n_in = cols, .n_out = VOCAB, .data = up(data, VOCAB * cols * dtype_size(type)),
                        .scale = type == DTYPE_BF16 ? NULL : up(scale, sizeof scale) };
    struct tensor y = { up(NULL, N * cols * 4), DTYPE_F32, N, cols };
    int32_t *device_ids = up(given, sizeof given), *device_prev = up(prev, sizeof prev);
    ok(cuda_embed(&device, &(struct embed){ .table = &w, .ids = device_ids, .prev = device_prev, .scale = 1.5f, .y = y }));
    got = down_tensor(&y);
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t j = 0; j < cols; j++) {
            size_t at = (size_t)ids[i] * cols + j;
            double want = type == DTYPE_BF16 ? (double)bf16_to_f32(((uint16_t *)data)[at]) : e4m3_value(data[at]) * (double)scale[ids[i]];
            close_to(get(&got, i * cols + j), 1.5 * want, DTYPE_F32, 1 + 0.1 * fabs(want));
        }
    free(host.data);
    free(got.data);
    free(data);
    all_free();
}

static void embed_test(void **state)
{
    (void)state;
    static const uint32_t cols[] = { 1, 8, 24, 70, 1030 };
    SCHEDULES {
        struct rng r;
        rng_init(&r, 1);
        for (size_t i = 0; i < sizeof cols / sizeof *cols; i++) {
            embed_case(&r, cols[i], DTYPE_BF16);
            embed_case(&r, cols[i], DTYPE_E4M3);
        }
    }
}

static void norm_case(struct rng *r, uint32_t n, uint32_t cols, enum dtype type, bool in_place)
{
    struct tensor old = tensor_random(r, n, cols, DTYPE_F32), x = up_tensor(&old), y = x;
    float *w = floats_random(r, cols), *device_w = up(w, cols * 4);
    if (!in_place)
        y = (struct tensor){ up(NULL, (size_t)n * cols * dtype_size(type)), type, n, cols };
    ok(cuda_norm(&device, &(struct norm){ .x = x, .w = device_w, .eps = 1e-5f, .y = y }));
    struct tensor got = down_tensor(&y);
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < cols; j++)
            sum += get(&old, i * cols + j) * get(&old, i * cols + j);
        double inv = 1 / sqrt(sum / cols + (double)1e-5f);
        for (uint32_t j = 0; j < cols; j++)
            close_to(get(&got, i * cols + j), get(&old, i * cols + j) * inv * (double)w[j], type, 5);
    }
    free(w);
    free(old.data);
    free(got.data);
    all_free();
}

static void norm_test(void **state)
{
    (void)state;
    static const uint32_t cols[] = { 1, 8, 15, 64, 100, 1024, 1031, 2304 };
    SCHEDULES {
        struct rng r;
        rng_init(&r, 2);
        for (size_t i = 0; i < sizeof cols / sizeof *cols; i++) {
            uint32_t n = 1 + rng_below(&r, 10);
            norm_case(&r, n, cols[i], DTYPE_F32, false);
            norm_case(&r, n, cols[i], DTYPE_F32, true);
            norm_case(&r, n, cols[i], DTYPE_BF16, false);
        }
    }
}

static double act_of(enum act_kind kind, double x)
{
    if (kind == ACT_SILU)
        return x / (1 + exp(-x));
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

static void act_case(struct rng *r, enum act_kind kind, uint32_t n, uint32_t cols, enum dtype from, enum dtype to)
{
    struct tensor x = tensor_random(r, n, 2 * cols, from), y = { up(NULL, (size_t)n * cols * dtype_size(to)), to, n, cols };
    set(&x, 0, 200);                    /* e^-200 and e^200 are no floats */
    set(&x, (size_t)2 * cols * (n - 1), -200);
    ok(cuda_act(&device, &(struct act){ .kind = kind, .x = up_tensor(&x), .y = y }));
    struct tensor got = down_tensor(&y);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < cols; j++) {
            double gate = get(&x, 2 * i * cols + j), up = get(&x, (2 * i + 1) * cols + j), want = act_of(kind, gate) * up;
            close_to(get(&got, i * cols + j), want, to, 1 + fabs(want));
        }
    free(x.data);
    free(got.data);
    all_free();
}

static void act_test(void **state)
{
    (void)state;
    static const uint32_t cols[] = { 1, 7, 24, 100, 1040 };
    SCHEDULES {
        struct rng r;
        rng_init(&r, 3);
        for (size_t i = 0; i < sizeof cols / sizeof *cols; i++)
            for (int k = 0; k < 8; k++)
                act_case(&r, k & 1 ? ACT_SILU : ACT_GELU_TANH, 1 + rng_below(&r, 5), cols[i], k & 2 ? DTYPE_BF16 : DTYPE_F32,
                         k & 4 ? DTYPE_BF16 : DTYPE_F32);
    }
}

static void gather_test(void **state)
{
    (void)state;
    enum { N = 6 };
    static const uint32_t rows[N] = { 0, 3, 3, 8, 6, 2 }, cols[] = { 1, 31, 64, 1500 };
    SCHEDULES {
        struct rng r;
        rng_init(&r, 4);
        for (int k = 0; k < 8; k++) {
            struct tensor x = tensor_random(&r, 9, cols[k / 2], k % 2 ? DTYPE_BF16 : DTYPE_F32);
            size_t row = tensor_size(&x) / 9;
            struct tensor y = { up(NULL, N * row), x.dtype, N, x.cols };
            ok(cuda_gather(&device, &(struct gather){ .x = up_tensor(&x), .rows = up(rows, sizeof rows), .y = y }));
            struct tensor got = down_tensor(&y);
            for (size_t i = 0; i < N; i++)
                assert_memory_equal((char *)got.data + i * row, (char *)x.data + rows[i] * row, row);
            free(x.data);
            free(got.data);
            all_free();
        }
    }
}

/* ---- rope_store ---- */

struct shape { uint32_t n_head, n_kv_head, d_head, d_rot; bool qk_norm; enum dtype dtype, kv; };

static const struct shape shapes[] = {
    { 4, 2, 128, 128, true,  DTYPE_BF16, DTYPE_BF16 },         /* the head of Qwen3-0.6B */
    { 3, 1, 64,  64,  false, DTYPE_BF16, DTYPE_E4M3 },
    { 2, 2, 8,   8,   false, DTYPE_F32,  DTYPE_BF16 },         /* stories260K */
    { 3, 3, 24,  24,  true,  DTYPE_BF16, DTYPE_BF16 },
    { 2, 1, 80,  40,  true,  DTYPE_F32,  DTYPE_E4M3 },
    { 2, 2, 96,  96,  true,  DTYPE_BF16, DTYPE_BF16 },
    { 7, 1, 112, 20,  false, DTYPE_F32,  DTYPE_BF16 },
    { 1, 1, 256, 256, true,  DTYPE_BF16, DTYPE_BF16 },
    { 2, 1, 128, 0,   true,  DTYPE_F32,  DTYPE_E4M3 },
};

enum { N_TOK = 9, N_LAYER = 2, N_BLOCK = 5, BLOCK_SIZE = 16, N_POS = 300 };

struct scene {
    struct shape s;
    struct tensor qkv;
    float *q_norm, *k_norm, *rope;
    uint32_t pos[N_TOK], slot[N_TOK];
};

static struct scene scene_new(struct rng *r, const struct shape *s)
{
    struct scene c = { .s = *s, .qkv = tensor_random(r, N_TOK, (s->n_head + 2 * s->n_kv_head) * s->d_head, s->dtype) };
    c.q_norm = floats_random(r, s->d_head);
    c.k_norm = floats_random(r, s->d_head);
    c.rope = mem_array((size_t)N_POS * s->d_rot + 1, sizeof *c.rope);
    for (uint32_t p = 0; p < N_POS; p++)
        for (uint32_t i = 0; i < s->d_rot / 2; i++) {
            double angle = p * pow(10000, -2.0 * i / s->d_rot);
            c.rope[p * s->d_rot + i] = (float)cos(angle);
            c.rope[p * s->d_rot + s->d_rot / 2 + i] = (float)sin(angle);
        }
    for (uint32_t t = 0; t < N_TOK; t++) {
        c.pos[t] = rng_below(r, N_POS);
        c.slot[t] = (t * 31 + 3) % (N_BLOCK * BLOCK_SIZE);     /* all different */
    }
    return c;
}

/* x[d] = a head of a token: normed and rotated, as attention wants it. */
static void head_want(const struct scene *c, uint32_t t, uint32_t head, const float *norm, bool rotate, double *x)
{
    uint32_t d = c->s.d_head, half = c->s.d_rot / 2;
    double sum = 0;
    for (uint32_t i = 0; i < d; i++) {
        x[i] = get(&c->qkv, (size_t)t * c->qkv.cols + head * d + i);
        sum += x[i] * x[i];
    }
    for (uint32_t i = 0; norm && i < d; i++)
        x[i] *= (double)norm[i] / sqrt(sum / d + 1e-6);
    for (uint32_t i = 0; rotate && i < half; i++) {
        const float *angles = c->rope + (size_t)c->pos[t] * c->s.d_rot;
        double a = x[i], b = x[half + i], cosine = (double)angles[i], sine = (double)angles[half + i];
        x[i] = a * cosine - b * sine;
        x[half + i] = b * cosine + a * sine;
    }
}

static void e4m3_close(uint8_t got, double want)
{
    double most = fmax(fabs(want) / 16, 0x1p-10) * 1.0001;     /* half a step */
    if (!(fabs(e4m3_value(got) - want) <= most))
        fail_msg("%g, but it should be %g", e4m3_value(got), want);
}

static void kv_check(const struct scene *c, const struct kv *kv, const uint8_t *host, uint32_t t, uint32_t head, bool is_v)
{
    uint32_t d = c->s.d_head, size = (uint32_t)dtype_size(c->s.kv), part = c->s.n_head + head + (is_v ? c->s.n_kv_head : 0);
    const uint8_t *at = host + (kv_head_at(kv, N_LAYER - 1, c->slot[t] / BLOCK_SIZE, head) - kv->data) + (is_v ? kv->head_size : 0);
    double want[256];
    head_want(c, t, part, is_v || !c->s.qk_norm ? NULL : c->k_norm, !is_v, want);
    for (uint32_t i = 0; i < d; i++) {
        const uint8_t *p = at + ((size_t)(c->slot[t] % BLOCK_SIZE) * d + i) * size;
        if (size == 1)
            e4m3_close(*p, want[i]);
        else
            close_to((double)bf16_to_f32(*(const uint16_t *)p), want[i], DTYPE_BF16, 5);
    }
}

/* The bytes that are not what they were: of all tokens' K and V, and of nothing else. */
static void untouched_check(const struct scene *c, const uint8_t *host, size_t size)
{
    size_t touched = 0, most = (size_t)N_TOK * 2 * c->s.n_kv_head * c->s.d_head * dtype_size(c->s.kv);
    for (size_t i = 0; i < size; i++)
        touched += host[i] != 0xff;
    assert_true(touched <= most && touched > most / 2);
}

static void rope_case(struct rng *r, const struct shape *s)
{
    struct scene c = scene_new(r, s);
    struct kv kv = { .shape = { N_LAYER, N_BLOCK, BLOCK_SIZE, s->n_kv_head, s->d_head, s->kv },
                     .head_size = (size_t)BLOCK_SIZE * s->d_head * dtype_size(s->kv) };
    kv.size = (size_t)N_LAYER * N_BLOCK * s->n_kv_head * 2 * kv.head_size;
    uint8_t *host = mem_alloc(kv.size);
    memset(host, 0xff, kv.size);
    kv.data = up(host, kv.size);
    struct step step = { .n_tok = N_TOK, .pos = up(c.pos, sizeof c.pos), .slot = up(c.slot, sizeof c.slot) };
    struct tensor q = { up(NULL, (size_t)N_TOK * s->n_head * s->d_head * dtype_size(s->dtype)), s->dtype, N_TOK, s->n_head * s->d_head };
    ok(cuda_rope_store(&device, &(struct rope_store){
        .qkv = up_tensor(&c.qkv), .n_head = s->n_head, .q_norm = s->qk_norm ? up(c.q_norm, s->d_head * 4) : NULL,
        .k_norm = s->qk_norm ? up(c.k_norm, s->d_head * 4) : NULL, .eps = 1e-6f,
        .rope = up(c.rope, ((size_t)N_POS * s->d_rot + 1) * 4), .d_rot = s->d_rot, .kv = &kv, .layer = N_LAYER - 1, .step = &step, .q = q }));
    struct tensor got = down_tensor(&q);
    down(host, kv.data, kv.size);
    for (uint32_t t = 0; t < N_TOK; t++) {
        double want[256];
        for (uint32_t h = 0; h < s->n_head; h++) {
            head_want(&c, t, h, s->qk_norm ? c.q_norm : NULL, true, want);
            for (uint32_t i = 0; i < s->d_head; i++)
                close_to(get(&got, ((size_t)t * s->n_head + h) * s->d_head + i), want[i], s->dtype, 5);
        }
        for (uint32_t h = 0; h < s->n_kv_head; h++) {
            kv_check(&c, &kv, host, t, h, false);
            kv_check(&c, &kv, host, t, h, true);
        }
    }
    untouched_check(&c, host, kv.size);
    free(c.qkv.data);
    free(c.q_norm);
    free(c.k_norm);
    free(c.rope);
    free(host);
    free(got.data);
    all_free();
}

static void rope_test(void **state)
{
    (void)state;
    SCHEDULES {
        struct rng r;
        rng_init(&r, 5);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            rope_case(&r, &shapes[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embed_test), cmocka_unit_test(norm_test), cmocka_unit_test(act_test), cmocka_unit_test(gather_test),
        cmocka_unit_test(rope_test),
    };
    on_device_open();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    on_device_close();
    return failed;
}
