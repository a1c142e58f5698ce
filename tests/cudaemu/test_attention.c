/* Attention on the CUDA device, emulated, against naive sums in float64: ragged steps of prompts, pieces of prompts and single
 * tokens, over schedules and both times of copying.  KV memory that no token wrote is NaN, and entries of the block table that
 * no token needs are wild.
 *
 * Sameness: with more than one token in a step, a prompt gives the same bits however it is cut; a single token gives the same
 * bits whatever else is in the step.  On a deterministic device both are the same bits. */
#include "tests/cudaemu/on_device.h"

struct shape {
    uint32_t n_head, n_kv_head, d_head, block_size, window;
    float softcap;
    bool sinks;
    enum dtype kv, y;
};

static const struct shape shapes[] = {
    { 4,  1, 64,  16, 0,  0,  false, DTYPE_BF16, DTYPE_F32 },
    { 4,  2, 128, 16, 0,  0,  false, DTYPE_BF16, DTYPE_BF16 },
    { 6,  2, 80,  16, 0,  30, false, DTYPE_BF16, DTYPE_F32 },
    { 2,  2, 96,  48, 40, 0,  true,  DTYPE_BF16, DTYPE_F32 },
    { 3,  1, 256, 16, 70, 50, true,  DTYPE_BF16, DTYPE_BF16 },
    { 3,  3, 8,   32, 0,  0,  false, DTYPE_BF16, DTYPE_F32 },      /* less than the kernels have room for */
    { 7,  1, 112, 64, 0,  0,  true,  DTYPE_BF16, DTYPE_F32 },
    { 34, 1, 24,  16, 5,  0,  false, DTYPE_BF16, DTYPE_F32 },      /* more heads than a tile has rows */
    { 2,  1, 200, 16, 1,  0,  false, DTYPE_BF16, DTYPE_F32 },
    { 4,  2, 64,  16, 0,  0,  true,  DTYPE_E4M3, DTYPE_F32 },
    { 5,  1, 80,  32, 33, 0,  false, DTYPE_E4M3, DTYPE_BF16 },
    { 2,  1, 96,  16, 0,  20, false, DTYPE_E4M3, DTYPE_F32 },
    { 3,  1, 128, 16, 0,  0,  true,  DTYPE_E4M3, DTYPE_F32 },
    { 2,  1, 240, 16, 0,  0,  false, DTYPE_E4M3, DTYPE_F32 },
};

enum { N_SHAPE = sizeof shapes / sizeof *shapes, MOST_SEQ = 150, WILD = 0xf1 };

/* Sequences with queries, keys and values of all their positions. */
struct scene {
    struct shape s;
    uint32_t n_seq, len[MOST_SEQ], row[MOST_SEQ], n_row;           /* row: of its first position in what follows */
    uint16_t *q;               /* [n_row, n_head, d_head] */
    void *k, *v;               /* [n_row, n_kv_head, d_head] as the KV memory has them */
    float *sinks;              /* [n_head] */
    struct tensor y;           /* [n_row, n_head d_head]: what was computed last */
};

/* n tokens of a sequence, which end at position end - 1. */
struct piece { uint32_t seq, end, n; };

static void *elements_random(struct rng *r, size_t n, enum dtype type)
{
    uint16_t *x = mem_array(n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        if (type == DTYPE_BF16)
            x[i] = bf16_from_f32(rng_normal(r));
        else
            ((uint8_t *)x)[i] = (uint8_t)(rng_below(r, 65) | rng_below(r, 2) << 7);        /* to 2 */
    return x;
}

static double element(const void *x, size_t i, enum dtype type)
{
    return type == DTYPE_BF16 ? (double)bf16_to_f32(((const uint16_t *)x)[i]) : e4m3_value(((const uint8_t *)x)[i]);
}

static struct scene scene_new(struct rng *r, const struct shape *s, uint32_t n_seq, const uint32_t *len)
{
    struct scene c = { .s = *s, .n_seq = n_seq };
    for (uint32_t i = 0; i < n_seq; i++) {
        c.len[i] = len[i];
        c.row[i] = c.n_row;
        c.n_row += len[i];
    }
    c.q = elements_random(r, (size_t)c.n_row * s->n_head * s->d_head, DTYPE_BF16);
    c.k = elements_random(r, (size_t)c.n_row * s->n_kv_head * s->d_head, s->kv);
    c.v = elements_random(r, (size_t)c.n_row * s->n_kv_head * s->d_head, s->kv);
    c.sinks = floats_random(r, s->n_head);
    c.y = tensor_new(c.n_row, s->n_head * s->d_head, s->y);
    return c;
}

static void scene_free(struct scene *c)
{
    free(c->q);
    free(c->k);
    free(c->v);
    free(c->sinks);
    free(c->y.data);
}

static float scale_of(const struct scene *c)
{
    return 1 / sqrtf((float)c->s.d_head);
}

/* ---- what it should be ---- */

static uint32_t first_seen(const struct scene *c, uint32_t pos)
{
    return c->s.window && pos >= c->s.window ? pos + 1 - c->s.window : 0;
}

/* w[p] = the share of key p in what head makes of pos. */
static void weights_want(const struct scene *c, uint32_t seq, uint32_t pos, uint32_t head, double *w)
{
    uint32_t d = c->s.d_head, kv_head = head / (c->s.n_head / c->s.n_kv_head);
    double total = c->s.sinks ? exp((double)c->sinks[head]) : 0;
    for (uint32_t p = first_seen(c, pos); p <= pos; p++) {
        double s = 0;
        for (uint32_t i = 0; i < d; i++)
            s += element(c->q, ((size_t)(c->row[seq] + pos) * c->s.n_head + head) * d + i, DTYPE_BF16)
               * element(c->k, ((size_t)(c->row[seq] + p) * c->s.n_kv_head + kv_head) * d + i, c->s.kv);
        s *= (double)scale_of(c);
        w[p] = exp(c->s.softcap > 0 ? (double)c->s.softcap * tanh(s / (double)c->s.softcap) : s);
        total += w[p];
    }
    for (uint32_t p = first_seen(c, pos); p <= pos; p++)
        w[p] /= total;
}

/* Each weight may be off by half a step of bf16, by which their sum is also off. */
static void row_check(const struct scene *c, uint32_t seq, uint32_t pos, uint32_t head, double *w)
{
    uint32_t d = c->s.d_head, kv_head = head / (c->s.n_head / c->s.n_kv_head);
    weights_want(c, seq, pos, head, w);
    for (uint32_t i = 0; i < d; i++) {
        double want = 0, off = 0;
        const size_t at = (size_t)c->row[seq] * c->s.n_kv_head + kv_head;
        for (uint32_t p = first_seen(c, pos); p <= pos; p++)
            want += w[p] * element(c->v, (at + (size_t)p * c->s.n_kv_head) * d + i, c->s.kv);
        for (uint32_t p = first_seen(c, pos); p <= pos; p++)
            off += w[p] * fabs(element(c->v, (at + (size_t)p * c->s.n_kv_head) * d + i, c->s.kv) - want);
        double got = get(&c->y, ((size_t)(c->row[seq] + pos) * c->s.n_head + head) * d + i);
        double most = 0x1p-8 * off + (c->s.y == DTYPE_BF16 ? 0x1p-8 : 0) * fabs(want) + 1e-4;
        if (!(fabs(got - want) <= most))
            fail_msg("d_head %u, sequence %u of %u, position %u, head %u, dimension %u: %.9g, but it should be %.9g (to within %.3g)", d, seq,
                     c->n_seq, pos, head, i, got, want, most);
    }
}

static void pieces_check(const struct scene *c, const struct piece *piece, uint32_t n_piece)
{
    uint32_t longest = 0;
    for (uint32_t i = 0; i < c->n_seq; i++)
        longest = c->len[i] > longest ? c->len[i] : longest;
    double *w = mem_array(longest, sizeof *w);
    for (uint32_t s = 0; s < n_piece; s++)
        for (uint32_t pos = piece[s].end - piece[s].n; pos < piece[s].end; pos++)
            for (uint32_t head = 0; head < c->s.n_head; head++)
                row_check(c, piece[s].seq, pos, head, w);
    free(w);
}

/* ---- a step ---- */

/* Where keys and values are: blocks in random order, NaN but for what is in them. */
struct memory { struct kv kv; char *host; uint32_t *order, used; };

static struct memory memory_new(struct rng *r, const struct scene *c)
{
    struct kv_shape shape = { .n_layer = 2, .n_block = 3, .block_size = c->s.block_size, .n_kv_head = c->s.n_kv_head, .d_head = c->s.d_head,
                              .dtype = c->s.kv };
    for (uint32_t i = 0; i < c->n_seq; i++)
        shape.n_block += (c->len[i] + shape.block_size - 1) / shape.block_size;
    struct memory m = { .kv = { .shape = shape, .head_size = (size_t)shape.block_size * shape.d_head * dtype_size(shape.dtype) } };
    m.kv.size = 2 * shape.n_layer * shape.n_block * shape.n_kv_head * m.kv.head_size;
    m.kv.data = m.host = mem_alloc(m.kv.size);
    memset(m.host, 0xff, m.kv.size);
    m.order = mem_array(shape.n_block, sizeof *m.order);
    for (uint32_t i = 0; i < shape.n_block; i++) {
        uint32_t other = rng_below(r, i + 1);
        m.order[i] = m.order[other];
        m.order[other] = i;
    }
    return m;
}

/* Writes what the piece sees into new blocks; the table gets entries for these alone. */
static void memory_write(struct memory *m, const struct scene *c, const struct piece *p, uint32_t *table)
{
    uint32_t size = c->s.block_size, first = first_seen(c, p->end - p->n);
    size_t row = (size_t)c->s.d_head * dtype_size(c->s.kv);
    for (uint32_t pos = first; pos < p->end; pos++) {
        if (pos == first || pos % size == 0)
            table[pos / size] = m->order[m->used++];
        for (uint32_t h = 0; h < c->s.n_kv_head; h++) {
            char *k = kv_head_at(&m->kv, 1, table[pos / size], h) + pos % size * row;
            size_t from = ((size_t)(c->row[p->seq] + pos) * c->s.n_kv_head + h) * row;
            memcpy(k, (char *)c->k + from, row);
            memcpy(k + m->kv.head_size, (char *)c->v + from, row);
        }
    }
}

static void put(const void *to, const void *from, size_t size)
{
    ok(cudaMemcpyAsync((void *)(uintptr_t)to, from, size, cudaMemcpyHostToDevice, device.stream));
}

/* Captured before the device knows what is in the step. */
static void attention_captured(const struct attention *op, cudaGraphExec_t *exec)
{
    cudaGraph_t graph;
    ok(cudaStreamBeginCapture(device.stream, cudaStreamCaptureModeThreadLocal));
    ok(cuda_attention(&device, op));
    ok(cudaStreamEndCapture(device.stream, &graph));
    ok(cudaGraphInstantiate(exec, graph, 0));
    ok(cudaGraphDestroy(graph));
}

/* Computes the pieces' rows of c->y in one step. */
static void step_run(struct rng *r, struct scene *c, const struct piece *piece, uint32_t n_piece)
{
    struct memory m = memory_new(r, c);
    uint32_t start[MOST_SEQ + 1] = { 0 }, len[MOST_SEQ], table_row[MOST_SEQ], cols = 0;
    for (uint32_t i = 0; i < c->n_seq; i++) {
        uint32_t n = (c->len[i] + c->s.block_size - 1) / c->s.block_size;
        cols = n > cols ? n : cols;
    }
    size_t table_size = (size_t)(n_piece + 1) * cols * sizeof(uint32_t), q_row = (size_t)c->s.n_head * c->s.d_head;
    uint32_t *table = mem_alloc(table_size);
    memset(table, WILD, table_size);
    for (uint32_t i = 0; i < n_piece; i++) {
        start[i + 1] = start[i] + piece[i].n;
        len[i] = piece[i].end;
        table_row[i] = n_piece - i;
        memory_write(&m, c, &piece[i], table + (size_t)table_row[i] * cols);
    }
    uint32_t n_tok = start[n_piece];
    m.kv.data = up(m.host, m.kv.size);
    struct step step = { .n_tok = n_tok, .n_seq = n_piece, .seq_start = up(NULL, (n_piece + 1) * 4), .kv_len = up(NULL, n_piece * 4),
                         .table_row = up(NULL, n_piece * 4), .block_table = up(NULL, table_size), .table_cols = cols };
    struct tensor q = { up(NULL, n_tok * q_row * 2), DTYPE_BF16, n_tok, (uint32_t)q_row }, y = { NULL, c->s.y, n_tok, (uint32_t)q_row };
    y.data = up(NULL, tensor_size(&y));
    struct attention op = { .q = q, .kv = &m.kv, .layer = 1, .step = &step, .scale = scale_of(c), .softcap = c->s.softcap, .window = c->s.window,
                            .sinks = c->s.sinks ? up(c->sinks, c->s.n_head * 4) : NULL, .y = y };
    device.scratch.size = cuda_attention_scratch(&op);
    device.scratch.data = up(NULL, device.scratch.size);
    device.n_sm = 1 + (int)rng_below(r, 3);
    cudaGraphExec_t exec;
    attention_captured(&op, &exec);
    put(step.seq_start, start, (n_piece + 1) * 4);
    put(step.kv_len, len, n_piece * 4);
    put(step.table_row, table_row, n_piece * 4);
    put(step.block_table, table, table_size);
    for (uint32_t i = 0; i < n_piece; i++)
        put((uint16_t *)q.data + start[i] * q_row, c->q + (c->row[piece[i].seq] + len[i] - piece[i].n) * q_row, piece[i].n * q_row * 2);
    ok(cudaGraphLaunch(exec, device.stream));
    size_t y_row = tensor_size(&y) / n_tok;
    for (uint32_t i = 0; i < n_piece; i++)
        down((char *)c->y.data + (c->row[piece[i].seq] + len[i] - piece[i].n) * y_row, (char *)y.data + start[i] * y_row, piece[i].n * y_row);
    ok(cudaGraphExecDestroy(exec));
    all_free();
    free(m.host);
    free(m.order);
    free(table);
}

/* ---- tests ---- */

static void both_set(int i)
{
    static const enum emu_copies copying[N_SCHEDULE] = { EMU_LAZY, EMU_EAGER, EMU_LAZY, EMU_MIXED };
    schedule_set(i);
    struct emu_options o = emu_get();
    o.copies = copying[i];
    emu_set(&o);
}

/* Every shape, with prompts, pieces and single tokens in a step. */
static void step_test(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < N_SHAPE; i++) {
        struct rng r;
        rng_init(&r, i);
        uint32_t len[] = { 1, 1 + rng_below(&r, 40), 257 + rng_below(&r, 60), 30 + rng_below(&r, 120), 66 + rng_below(&r, 60), 2 };
        struct scene c = scene_new(&r, &shapes[i], 6, len);
        struct piece piece[] = { { 3, len[3], len[3] < 70 ? len[3] : 70 }, { 0, 1, 1 }, { 1, len[1], 1 }, { 4, len[4], 2 }, { 2, len[2], 1 }, { 5, 2, 2 } };
        both_set((int)i % N_SCHEDULE);
        step_run(&r, &c, piece, 6);
        pieces_check(&c, piece, 6);
        scene_free(&c);
    }
}

/* The first shape with every schedule, and single tokens alone, when the other kernel is not launched. */
static void schedule_test(void **state)
{
    (void)state;
    static const uint32_t len[] = { 300, 90, 17 };
    for (int i = 0; i < N_SCHEDULE; i++) {
        struct rng r;
        rng_init(&r, 100 + (uint64_t)i);
        struct scene c = scene_new(&r, &shapes[i % 2], 3, len);
        struct piece mixed[] = { { 0, 300, 1 }, { 1, 90, 40 }, { 2, 17, 17 } }, single[] = { { 2, 17, 1 }, { 1, 64, 1 }, { 0, 257, 1 } };
        both_set(i);
        step_run(&r, &c, mixed, 3);
        pieces_check(&c, mixed, 3);
        step_run(&r, &c, single, 3);
        pieces_check(&c, single, 3);
        scene_free(&c);
    }
}

/* More sequences than a warp counts at a time. */
static void many_test(void **state)
{
    (void)state;
    static const struct shape s = { 1, 1, 16, 16, 0, 0, false, DTYPE_BF16, DTYPE_F32 };
    uint32_t len[MOST_SEQ];
    struct piece piece[MOST_SEQ];
    struct rng r;
    rng_init(&r, 200);
    for (uint32_t i = 0; i < MOST_SEQ; i++) {
        len[i] = 1 + rng_below(&r, 20);
        piece[i] = (struct piece){ i, len[i], i % 3 && len[i] > 1 ? 1 + rng_below(&r, len[i]) : 1 };
    }
    struct scene c = scene_new(&r, &s, MOST_SEQ, len);
    both_set(0);
    step_run(&r, &c, piece, MOST_SEQ);
    pieces_check(&c, piece, MOST_SEQ);
    scene_free(&c);
}

/* Splits longer than the shortest, and more blocks than a warp looks up at a time. */
static void long_test(void **state)
{
    (void)state;
    static const struct shape s = { 1, 1, 8, 16, 0, 0, false, DTYPE_BF16, DTYPE_F32 }, window = { 1, 1, 8, 16, 4500, 0, false, DTYPE_BF16, DTYPE_F32 };
    static const uint32_t len[] = { 33500, 4999, 4097 };
    for (int i = 0; i < 2; i++) {
        struct rng r;
        rng_init(&r, 300);
        struct scene c = scene_new(&r, i ? &window : &s, 3, len);
        struct piece piece[] = { { 0, 33500, 1 }, { 1, 4999, 1 }, { 2, 4097, 1 } };
        both_set(0);
        step_run(&r, &c, piece, 3);
        pieces_check(&c, piece, 3);
        scene_free(&c);
    }
}

/* Copies of a scene's y, to compare with the next. */
static void *y_take(const struct scene *c)
{
    size_t size = tensor_size(&c->y);
    void *y = mem_alloc(size);
    memcpy(y, c->y.data, size);
    memset(c->y.data, 0, size);
    return y;
}

static void cut_case(uint32_t shape)
{
    static const uint32_t len[] = { 150, 40 };
    struct rng r;
    rng_init(&r, 400 + shape);
    struct scene c = scene_new(&r, &shapes[shape], 2, len);
    step_run(&r, &c, (struct piece[]){ { 0, 150, 150 }, { 1, 40, 40 } }, 2);
    void *whole = y_take(&c);
    step_run(&r, &c, (struct piece[]){ { 1, 11, 11 }, { 0, 67, 67 } }, 2);
    step_run(&r, &c, (struct piece[]){ { 0, 69, 2 }, { 1, 40, 29 } }, 2);
    step_run(&r, &c, (struct piece[]){ { 0, 150, 81 } }, 1);
    assert_memory_equal(c.y.data, whole, tensor_size(&c.y));
    free(whole);
    scene_free(&c);
}

static void cut_test(void **state)
{
    (void)state;
    static const uint32_t some[] = { 0, 1, 3, 4, 10 };
    for (uint32_t i = 0; i < 5; i++)
        cut_case(some[i]);
}

static void company_case(uint32_t shape)
{
    static const uint32_t len[] = { 300, 70, 20, 64 };
    static const struct piece single[] = { { 0, 300, 1 }, { 1, 70, 1 }, { 2, 20, 1 } };
    struct rng r;
    rng_init(&r, 500 + shape);
    struct scene c = scene_new(&r, &shapes[shape], 4, len);
    for (int i = 0; i < 3; i++)
        step_run(&r, &c, &single[i], 1);
    void *alone = y_take(&c);
    step_run(&r, &c, (struct piece[]){ single[2], single[0], { 3, 64, 9 }, single[1] }, 4);
    memset((char *)c.y.data + c.row[3] * tensor_size(&c.y) / c.y.rows, 0, len[3] * tensor_size(&c.y) / c.y.rows);
    assert_memory_equal(c.y.data, alone, tensor_size(&c.y));
    free(alone);
    scene_free(&c);
}

static void company_test(void **state)
{
    (void)state;
    static const uint32_t some[] = { 0, 1, 3, 4, 10 };
    for (uint32_t i = 0; i < 5; i++)
        company_case(some[i]);
}

/* Whether a prompt has the same bits whole and cut, also into single tokens, alone and among others. */
static bool same_bits(uint32_t shape, bool deterministic)
{
    static const uint32_t len[] = { 150, 40, 90 }, single[] = { 0, 15, 16, 63, 64, 65, 127, 128, 149 };
    struct rng r;
    rng_init(&r, 600 + shape);
    struct scene c = scene_new(&r, &shapes[shape], 3, len);
    device.base.deterministic = deterministic;
    both_set((int)shape % N_SCHEDULE);
    step_run(&r, &c, (struct piece[]){ { 0, 150, 150 }, { 1, 40, 40 }, { 2, 90, 90 } }, 3);
    pieces_check(&c, (struct piece[]){ { 0, 150, 150 }, { 1, 40, 40 } }, 2);
    void *whole = y_take(&c);
    step_run(&r, &c, (struct piece[]){ { 1, 13, 13 }, { 0, 101, 101 } }, 2);
    step_run(&r, &c, (struct piece[]){ { 0, 150, 49 }, { 1, 39, 26 }, { 2, 89, 89 } }, 3);
    step_run(&r, &c, (struct piece[]){ { 1, 40, 1 }, { 2, 90, 1 } }, 2);
    for (uint32_t i = 0; i < sizeof single / sizeof *single; i++)
        step_run(&r, &c, (struct piece[]){ { 0, single[i] + 1, 1 }, { 1, 3 + i, 1 + i % 3 } }, 1 + i % 2);
    bool same = !memcmp(c.y.data, whole, tensor_size(&c.y));
    device.base.deterministic = false;
    free(whole);
    scene_free(&c);
    return same;
}

static void deterministic_test(void **state)
{
    (void)state;
    static const uint32_t some[] = { 0, 1, 2, 3, 4, 6, 7, 9, 10, 12, 13 };
    for (uint32_t i = 0; i < sizeof some / sizeof *some; i++) {
        assert_true(same_bits(some[i], true));
        assert_false(same_bits(some[i], false));
    }
}

/* In steps of one token, as the engine has them when it decodes: one after the other. */
static void token_by_token_test(void **state)
{
    (void)state;
    static const uint32_t len[] = { 70 };
    struct rng r;
    rng_init(&r, 700);
    struct scene c = scene_new(&r, &shapes[9], 1, len);
    device.base.deterministic = true;
    both_set(0);
    step_run(&r, &c, (struct piece[]){ { 0, 70, 70 } }, 1);
    void *whole = y_take(&c);
    for (uint32_t end = 1; end <= 70; end++)
        step_run(&r, &c, (struct piece[]){ { 0, end, 1 } }, 1);
    device.base.deterministic = false;
    assert_memory_equal(c.y.data, whole, tensor_size(&c.y));
    free(whole);
    scene_free(&c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_test), cmocka_unit_test(schedule_test), cmocka_unit_test(many_test), cmocka_unit_test(long_test),
        cmocka_unit_test(cut_test), cmocka_unit_test(company_test), cmocka_unit_test(deterministic_test), cmocka_unit_test(token_by_token_test),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    on_device_open();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    on_device_close();
    return failed;
}
