/* Sampling on the CUDA device, emulated, beside the CPU device's: the same token for the same logits, whatever the filters,
 * and logprobs, which are also checked in float64; over schedules. */
#include "tests/cudaemu/on_device.h"

enum { MOST_TOP = 24, MOST_ROWS = 16, MOST_EDITS = 40 };

static struct device *cpu;

struct sampled { int32_t ids[MOST_ROWS], top_ids[MOST_ROWS * MOST_TOP]; float logprobs[MOST_ROWS], top_logprobs[MOST_ROWS * MOST_TOP]; };

/* Everything that a call is given. */
struct call {
    uint32_t n_row, n;
    float scale, softcap;
    float *logits;
    struct sample_row rows[MOST_ROWS];
    struct logit_edit edits[MOST_ROWS * MOST_EDITS];
};

static struct sample op_of(const struct call *c, struct tensor logits, struct sampled *s)
{
    return (struct sample){ .logits = logits, .logit_scale = c->scale, .softcap = c->softcap, .rows = c->rows, .edits = c->edits,
                            .max_top = MOST_TOP, .ids = s->ids, .logprobs = s->logprobs, .top_ids = s->top_ids,
                            .top_logprobs = s->top_logprobs };
}

static void run_cpu(const struct call *c, struct sampled *s)
{
    struct tensor l = tensor_new(c->n_row, c->n, DTYPE_F32);
    memset(s, 0xff, sizeof *s);
    memcpy(l.data, c->logits, tensor_size(&l));
    struct sample op = op_of(c, l, s);
    cpu->ops->sample(cpu, &op);
    free(l.data);
}

static void run_cuda(const struct call *c, struct sampled *s)
{
    struct tensor l = { up(c->logits, (size_t)c->n_row * c->n * 4), DTYPE_F32, c->n_row, c->n };
    struct sampled *on_device = up(NULL, sizeof *s);
    struct sample op = op_of(c, l, on_device);
    ok(cuda_sample(&device, &op, up(c->rows, sizeof c->rows), up(c->edits, sizeof c->edits)));
    down(s, on_device, sizeof *s);
    all_free();
}

static void floats_equal(const float *got, const float *want, int n)
{
    for (int i = 0; i < n; i++)
        if (isnan(want[i]) ? !isnan(got[i]) : got[i] != want[i])
            fail_msg("number %d: %.9g, on the CPU %.9g", i, (double)got[i], (double)want[i]);
}

static void compare(const struct call *c, const struct sampled *want, const struct sampled *got)
{
    for (uint32_t i = 0; i < c->n_row; i++) {
        const struct sample_row *r = &c->rows[i];
        if (got->ids[i] != want->ids[i])
            fail_msg("row %u of %u: token %d, on the CPU %d: k %u p %.9g min %g T %g edits %u", i, c->n, got->ids[i], want->ids[i], r->top_k,
                     (double)r->top_p, (double)r->min_p, (double)r->temperature, r->n_edit);
    }
    /* The logarithms are the same here; on a GPU the logprobs may differ in their last bit. */
    assert_memory_equal(got->top_ids, want->top_ids, sizeof want->top_ids);
    floats_equal(got->top_logprobs, want->top_logprobs, MOST_ROWS * MOST_TOP);
    floats_equal(got->logprobs, want->logprobs, MOST_ROWS);
}

static void call_check(const struct call *c)
{
    static struct sampled want, got;
    run_cpu(c, &want);
    SCHEDULES {
        run_cuda(c, &got);
        compare(c, &want, &got);
    }
}

/* ---- random calls ---- */

static float temperature_random(struct rng *r)
{
    static const float edge[] = { 0, 1e-5f, 1.1e-5f, 1e-3f, 1, 50, 1e30f, 1e38f };
    return rng_below(r, 3) ? 0.3f + 2 * rng_uniform(r) : edge[rng_below(r, sizeof edge / sizeof *edge)];
}

static void row_random(struct rng *r, uint32_t n, struct sample_row *row)
{
    static const float p[] = { 0, 1e-7f, 0.5f, 0.95f, 1 - 0x1p-24f }, least[] = { 1e-30f, 0.05f, 1, 2 };
    *row = (struct sample_row){ .temperature = temperature_random(r), .top_p = 1, .seed = rng_u32(r), .stream = rng_u32(r) };
    row->seed |= (uint64_t)rng_u32(r) << 32;
    row->stream |= (uint64_t)rng_u32(r) << 32;
    row->n_top = (int32_t)rng_below(r, MOST_TOP + 2) - 1;
    if (rng_below(r, 2))
        row->top_k = 1 + rng_below(r, rng_below(r, 2) ? n + 3 : 20);
    if (rng_below(r, 2))
        row->top_p = rng_below(r, 2) ? rng_uniform(r) : p[rng_below(r, sizeof p / sizeof *p)];
    if (rng_below(r, 3) == 0)
        row->min_p = rng_below(r, 2) ? 0.3f * rng_uniform(r) : least[rng_below(r, sizeof least / sizeof *least)];
}

/* Some ids, rising. */
static void edits_random(struct rng *r, struct call *c, uint32_t row)
{
    struct sample_row *s = &c->rows[row];
    s->edit_start = row * MOST_EDITS;
    for (uint32_t id = rng_below(r, 7); rng_below(r, 2) && id < c->n && s->n_edit < MOST_EDITS; id += 1 + rng_below(r, c->n / 20 + 1))
        c->edits[s->edit_start + s->n_edit++] = (struct logit_edit){
            .id = (int32_t)id, .repeat = rng_below(r, 2) ? 1 : 1.3f, .add = rng_below(r, 4) ? 3 * rng_normal(r) : -INFINITY };
}

enum kind { SPREAD, MANY_EQUAL, FLAT, ALL_EQUAL, ZEROS, HOLES, NO_NUMBERS, NOTHING, N_KIND };

static float logit_random(struct rng *r, enum kind kind)
{
    float x = 2 * rng_normal(r);
    switch (kind) {
    case SPREAD:     return x;
    case MANY_EQUAL: return roundf(x);
    case FLAT:       return 1e-3f * x;
    case ALL_EQUAL:  return 0.75f;
    case ZEROS:      return rng_below(r, 2) ? -0.0f : 0;
    case HOLES:      return rng_below(r, 5) ? -INFINITY : x;
    case NO_NUMBERS: return rng_below(r, 3) ? x : rng_below(r, 40) ? NAN : INFINITY;
    default:         return -INFINITY;
    }
}

static void random_calls(uint32_t n, uint32_t n_row, int n_call)
{
    struct rng r;
    rng_init(&r, n);
    struct call *c = mem_alloc(sizeof *c);
    c->logits = mem_array((size_t)n_row * n, sizeof *c->logits);
    for (int call = 0; call < n_call; call++) {
        c->n_row = n_row;
        c->n = n;
        c->scale = call % 3 == 2 ? 0.5f : 1;
        c->softcap = call % 2 ? 0 : 3;
        for (uint32_t i = 0; i < n_row; i++) {
            enum kind kind = rng_below(&r, 3) ? rng_below(&r, 3) : rng_below(&r, N_KIND);
            for (uint32_t j = 0; j < n; j++)
                c->logits[(size_t)i * n + j] = logit_random(&r, kind);
            row_random(&r, n, &c->rows[i]);
            edits_random(&r, c, i);
        }
        call_check(c);
    }
    free(c->logits);
    free(c);
}

static void small_test(void **state)
{
    (void)state;
    random_calls(1, 5, 3);
    random_calls(2, 8, 3);
    random_calls(31, MOST_ROWS, 3);
    random_calls(1000, 12, 4);
}

/* More columns than the list has places: rows that are searched themselves. */
static void large_test(void **state)
{
    (void)state;
    random_calls(5003, 8, 4);
    random_calls(20011, 3, 2);
}

/* Many draws among equal tokens that one warp looks at, in several rounds: none is passed over for a bound on its number. */
static void draw_test(void **state)
{
    (void)state;
    enum { N = 8192 };
    struct call *c = mem_alloc(sizeof *c);
    *c = (struct call){ .n_row = MOST_ROWS, .n = N, .scale = 1, .logits = mem_array((size_t)MOST_ROWS * N, sizeof *c->logits) };
    for (uint32_t i = 0; i < MOST_ROWS * N; i++)
        c->logits[i] = i % 2048 < 128 ? 0 : -INFINITY;
    schedule_set(0);
    for (uint64_t seed = 0; seed < 4; seed++) {
        static struct sampled want, got;
        for (uint32_t i = 0; i < MOST_ROWS; i++)
            c->rows[i] = (struct sample_row){ .temperature = 1, .top_p = 1, .seed = seed, .stream = i, .n_top = -1 };
        run_cpu(c, &want);
        run_cuda(c, &got);
        compare(c, &want, &got);
    }
    free(c->logits);
    free(c);
}

/* Every filter where it meets equal values, on the list and on the row. */
static void tie_test(void **state)
{
    (void)state;
    enum { N = 5003, ROWS = 9 };
    struct call *c = mem_alloc(sizeof *c);
    *c = (struct call){ .n_row = ROWS, .n = N, .scale = 1, .logits = mem_array((size_t)ROWS * N, sizeof *c->logits) };
    for (uint32_t i = 0; i < ROWS; i++) {
        for (uint32_t j = 0; j < N; j++)
            c->logits[(size_t)i * N + j] = i < 4 ? 1 : (float)(j * 7 % 50 == 0);
        c->rows[i] = (struct sample_row){ .temperature = 1, .top_p = 1, .seed = 9, .stream = i, .n_top = 20 };
        if (i % 4 < 3)
            c->rows[i].top_k = 7 + 300 * (i % 4);
        if (i % 4 > 0)
            c->rows[i].top_p = i % 4 == 1 ? 0.01f : 0.4f;
    }
    c->logits[8 * N + 4000] = INFINITY;
    call_check(c);
    free(c->logits);
    free(c);
}

/* ---- where the CPU changes its mind ---- */

static int32_t cpu_id(const struct call *c)
{
    static struct sampled s;
    run_cpu(c, &s);
    return s.ids[0];
}

/* The two neighbours of *knob between which the only row's token changes on the CPU; false if both ends have the same. */
static bool change_of_mind(const struct call *c, float *knob, float from, float to, float edge[2])
{
    *knob = from;
    int32_t first = cpu_id(c);
    *knob = to;
    if (cpu_id(c) == first)
        return false;
    edge[0] = from, edge[1] = to;
    for (float mid; mid = edge[0] + (edge[1] - edge[0]) / 2, mid != edge[0] && mid != edge[1];) {
        *knob = mid;
        edge[cpu_id(c) != first] = mid;
    }
    return true;
}

/* Rows of `all` from `at` on: the one of c, with the knob at both edges. */
static void put_both(struct call *all, const struct call *c, float *knob, const float edge[2])
{
    for (int i = 0; i < 2; i++, all->n_row++) {
        *knob = edge[i];
        memcpy(all->logits + (size_t)all->n_row * c->n, c->logits, c->n * 4);
        all->rows[all->n_row] = c->rows[0];
    }
}

/* Of two tokens, the logit that the second needs; of some, the top_p at which another can be had: one wrong bit in a random
 * number or in a mass is seen. */
static void edge_case(struct rng *r, uint32_t n, bool top_p)
{
    struct call *all = mem_alloc(sizeof *all), *c = mem_alloc(sizeof *c);
    *all = (struct call){ .n = n, .scale = 1, .logits = mem_array((size_t)MOST_ROWS * n, sizeof *all->logits) };
    *c = (struct call){ .n_row = 1, .n = n, .scale = 1, .logits = mem_array(n, sizeof *c->logits) };
    while (all->n_row < MOST_ROWS) {
        float edge[2], *knob = top_p ? &c->rows[0].top_p : &c->logits[n - 1];
        for (uint32_t j = 0; j < n; j++)
            c->logits[j] = all->n_row % 4 ? 0.5f * rng_normal(r) : (float)rng_below(r, 2);
        c->rows[0] = (struct sample_row){ .temperature = 1, .top_p = 1, .seed = rng_u32(r), .stream = rng_u32(r), .n_top = -1 };
        if (change_of_mind(c, knob, top_p ? 1e-6f : -30, top_p ? 1 : 30, edge))
            put_both(all, c, knob, edge);
    }
    struct sampled want, got;
    run_cpu(all, &want);
    run_cuda(all, &got);
    compare(all, &want, &got);
    free(c->logits);
    free(all->logits);
    free(c);
    free(all);
}

static void edge_test(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 31);
    schedule_set(0);
    for (int i = 0; i < 12; i++) {
        edge_case(&r, 2, false);
        edge_case(&r, 100, false);
        edge_case(&r, 30, true);
    }
}

/* ---- float64 ---- */

struct want { double x; int32_t id; };

static int by_value(const void *a, const void *b)
{
    const struct want *x = a, *y = b;
    return x->x != y->x ? (x->x > y->x ? -1 : 1) : x->id < y->id ? -1 : x->id > y->id;
}

/* logprobs of l = softcap(logit_scale l); the chosen token's though an edit made it the best. */
static void logprob_test(void **state)
{
    (void)state;
    enum { N = 1111, ROWS = 4 };
    struct rng r;
    rng_init(&r, 30);
    struct call *c = mem_alloc(sizeof *c);
    *c = (struct call){ .n_row = ROWS, .n = N, .scale = 1.5f, .softcap = 4, .logits = floats_random(&r, ROWS * N) };
    for (int32_t i = 0; i < ROWS; i++) {
        c->edits[i] = (struct logit_edit){ 100 + i, 1, 50 };
        c->rows[i] = (struct sample_row){ .temperature = (float)i, .top_p = 1, .n_top = i * 8, .edit_start = (uint32_t)i, .n_edit = 1 };
    }
    SCHEDULES {
        struct sampled s;
        struct want w[N];
        run_cuda(c, &s);
        for (int i = 0; i < ROWS; i++) {
            double total = 0;
            for (int32_t j = 0; j < N; j++) {
                w[j] = (struct want){ 4 * tanh((double)c->logits[i * N + j] * 1.5 / 4), j };
                total += exp(w[j].x);
            }
            assert_int_equal(s.ids[i], 100 + i);
            close_to((double)s.logprobs[i], w[100 + i].x - log(total), DTYPE_F32, 3);
            qsort(w, N, sizeof *w, by_value);
            for (int k = 0; k < c->rows[i].n_top; k++) {
                assert_int_equal(s.top_ids[i * MOST_TOP + k], w[k].id);
                close_to((double)s.top_logprobs[i * MOST_TOP + k], w[k].x - log(total), DTYPE_F32, 3);
            }
        }
    }
    free(c->logits);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_test), cmocka_unit_test(large_test), cmocka_unit_test(draw_test),
        cmocka_unit_test(tie_test), cmocka_unit_test(edge_test), cmocka_unit_test(logprob_test),
    };
    cpu = cpu_open(DTYPE_BF16, 1);
    on_device_open();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    on_device_close();
    cpu->ops->close(cpu);
    return failed;
}
