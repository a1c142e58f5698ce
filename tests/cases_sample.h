/* cases_sample.h - sampling through the door of any device, against a sort and a softmax in float64: which tokens the
 * filters leave, which of them is picked, how often, and logprobs. */
#ifndef TESTS_CASES_SAMPLE_H
#define TESTS_CASES_SAMPLE_H

#include "tests/tensors.h"

struct logits { struct tensor t; uint32_t n_row, n; float *keep; };

static struct logits logits_new(uint32_t n_row, uint32_t n)
{
    struct logits l = { .t = tensor_new(n_row, n, DTYPE_F32), .n_row = n_row, .n = n };
    l.keep = mem_array((size_t)n_row * n, sizeof *l.keep);
    return l;
}

static void logits_free(struct logits *l)
{
    free(l->t.data);
    free(l->keep);
}

enum { MOST_TOP = 24 };

struct sampled { int32_t *ids, *top_ids; float *logprobs, *top_logprobs; };

static struct sampled sampled_new(uint32_t n)
{
    return (struct sampled){ mem_array(n, 4), mem_array((size_t)n * MOST_TOP, 4), mem_array(n, 4), mem_array((size_t)n * MOST_TOP, 4) };
}

static void sampled_free(struct sampled *s)
{
    free(s->ids);
    free(s->top_ids);
    free(s->logprobs);
    free(s->top_logprobs);
}

static void sample_run(struct device *d, const struct logits *l, const struct sample_row *rows, const struct logit_edit *edits,
                       float scale, float cap, struct sampled *s)
{
    memcpy(l->t.data, l->keep, (size_t)l->n_row * l->n * 4);
    size_t size = l->n_row * sizeof *s->ids;
    d->ops->sample(d, &(struct sample){ .logits = tensor_on(d, &l->t), .logit_scale = scale, .softcap = cap, .rows = rows, .edits = edits,
                                        .max_top = MOST_TOP, .ids = on(d, s->ids, size), .logprobs = on(d, s->logprobs, size),
                                        .top_ids = on(d, s->top_ids, size * MOST_TOP), .top_logprobs = on(d, s->top_logprobs, size * MOST_TOP) });
    back(d);
}

struct want { double x; uint32_t id; bool in; };

static int by_value(const void *a, const void *b)
{
    const struct want *x = a, *y = b;
    return x->x != y->x ? (x->x > y->x ? -1 : 1) : x->id < y->id ? -1 : x->id > y->id;
}

/* The row's tokens from best to worst, with those that the filters leave marked.  False where the edge of a filter is
 * nearer than f32 can tell. */
static bool filter_want(const float *l, uint32_t n, const struct sample_row *r, struct want *w)
{
    float scale = 1 / r->temperature;
    for (uint32_t i = 0; i < n; i++)
        w[i] = (struct want){ (double)(l[i] * scale), i, true };
    qsort(w, n, sizeof *w, by_value);
    double total = 0, sum = 0, top = w[0].x, least = r->min_p > 0 ? log((double)r->min_p) : -1e9;
    bool sure = true;
    for (uint32_t i = 0; i < n; i++) {
        w[i].in = w[i].x - top >= least && !(r->top_k && i >= r->top_k);
        sure &= fabs(w[i].x - top - least) > 1e-5;
        total += w[i].in ? exp(w[i].x - top) : 0;
    }
    for (uint32_t i = 0; r->top_p < 1 && i < n && w[i].in; i++) {
        sure &= fabs(sum / total - (double)r->top_p) > 1e-6;
        w[i].in = i == 0 || sum < (double)r->top_p * total;
        sum += exp(w[i].x - top);
    }
    return sure;
}

/* From the definition in kernels/cpu/vec_sample.c */
static double gumbel_want(uint64_t seed, uint64_t stream, uint32_t id)
{
    uint32_t word[4];
    rng_block(seed, stream, id / 64 * 16 + id % 16, word);
    double t = fmin((double)(((float)(word[id / 16 % 4] >> 1) + 0.5f) * 0x1p-31f), 1 - 0x1p-24);
    return -log(-log1p(-t));
}

static void pick_check(const float *l, uint32_t n, const struct sample_row *r, uint32_t got)
{
    struct want *w = mem_array(n, sizeof *w);
    if (filter_want(l, n, r, w)) {
        double best = -INFINITY, mine = -INFINITY;
        for (uint32_t i = 0; i < n; i++) {
            double score = w[i].in ? w[i].x + gumbel_want(r->seed, r->stream, w[i].id) : -INFINITY;
            best = score > best ? score : best;
            mine = w[i].id == got ? score : mine;
        }
        if (!(mine > best - 1e-5))
            fail_msg("token %u scores %.8g of %.8g: k %u p %g min %g T %g", got, mine, best, r->top_k, (double)r->top_p,
                     (double)r->min_p, (double)r->temperature);
    }
    free(w);
}

static struct sample_row row_random(struct rng *r, uint32_t n)
{
    struct sample_row row = { .temperature = 0.3f + 2 * rng_uniform(r), .top_p = 1, .seed = rng_u32(r), .stream = rng_u32(r), .n_top = -1 };
    row.seed |= (uint64_t)rng_u32(r) << 32;
    row.stream |= (uint64_t)rng_u32(r) << 32;
    if (rng_below(r, 2))
        row.top_k = 1 + rng_below(r, rng_below(r, 2) ? n + 3 : 20);
    if (rng_below(r, 2))
        row.top_p = rng_uniform(r);
    if (rng_below(r, 3) == 0)
        row.min_p = 0.3f * rng_uniform(r);
    return row;
}

/* Some rows are spread out, some have many equal values, some are all but flat. */
static void logits_random(struct logits *l, struct rng *r)
{
    for (uint32_t i = 0; i < l->n_row; i++) {
        uint32_t kind = rng_below(r, 3);
        for (uint32_t j = 0; j < l->n; j++) {
            float x = 2 * rng_normal(r);
            l->keep[(size_t)i * l->n + j] = kind == 0 ? x : kind == 1 ? roundf(2 * x) / 2 : 1e-3f * x;
        }
    }
}

static void filter_here(struct device *d)
{
    static const uint32_t sizes[] = { 1, 5, 64, 100, 1000, 3001, 40000 };
    struct rng r;
    rng_init(&r, 20);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint32_t n = sizes[i], n_row = n > 3001 ? 2 : 12;
        struct logits l = logits_new(n_row, n);
        struct sampled s = sampled_new(n_row);
        struct sample_row rows[12];
        logits_random(&l, &r);
        for (uint32_t k = 0; k < n_row; k++)
            rows[k] = row_random(&r, n);
        sample_run(d, &l, rows, NULL, 1, 0, &s);
        for (uint32_t k = 0; k < n_row; k++)
            pick_check(l.keep + (size_t)k * n, n, &rows[k], (uint32_t)s.ids[k]);
        sampled_free(&s);
        logits_free(&l);
    }
}

static void greedy_here(struct device *d)
{
    enum { N = 2500, ROWS = 5 };
    struct logits l = logits_new(ROWS, N);
    struct sampled s = sampled_new(ROWS);
    struct rng r;
    rng_init(&r, 21);
    for (size_t i = 0; i < ROWS * N; i++)
        l.keep[i] = -1 - rng_uniform(&r);
    struct sample_row rows[ROWS] = { { .n_top = -1 }, { .n_top = -1 }, { .n_top = -1 }, { .n_top = -1, .n_edit = 2 },
                                     { .n_top = 2, .edit_start = 2, .n_edit = 2 } };
    static const struct logit_edit edits[] = { { 7, 4, 0 }, { 8, 1, 2 }, { 30, 2, -1 }, { 2499, 1, 3 } };
    l.keep[2499] = l.keep[1234] = 0.5f;                 /* the lowest id on ties */
    for (uint32_t j = 0; j < N; j++)
        l.keep[N + j] = -INFINITY;
    l.keep[2 * N + 5] = NAN;                            /* is never best */
    l.keep[2 * N + 6] = -0.5f;
    l.keep[3 * N + 7] = 6;                              /* 6 / 4 < -0.5 + 2 + a bit */
    l.keep[3 * N + 8] = -0.25f;
    l.keep[4 * N + 30] = 4;                             /* becomes 1 */
    sample_run(d, &l, rows, edits, 1, 0, &s);
    static const int32_t want[ROWS] = { 1234, 0, 6, 8, 2499 };
    assert_memory_equal(s.ids, want, sizeof want);
    assert_int_equal(s.top_ids[4 * MOST_TOP], 30);      /* raw logits */
    assert_true(s.logprobs[4] < s.top_logprobs[4 * MOST_TOP + 1] + 1e-6f);
    sampled_free(&s);
    logits_free(&l);
}

/* logprobs of l = softcap(logit_scale l), the best first, equal ones by id; the chosen token's though it was edited. */
static void logprob_here(struct device *d)
{
    enum { N = 1111, ROWS = 4 };
    struct logits l = logits_new(ROWS, N);
    struct sampled s = sampled_new(ROWS);
    struct sample_row rows[ROWS];
    struct logit_edit edits[ROWS];
    struct want *w = mem_array(N, sizeof *w);
    struct rng r;
    rng_init(&r, 22);
    logits_random(&l, &r);
    for (int32_t i = 0; i < ROWS; i++) {
        edits[i] = (struct logit_edit){ 100 + i, 1, 50 };       /* so that it is chosen */
        rows[i] = (struct sample_row){ .temperature = (float)i, .top_p = 1, .n_top = i * 8, .edit_start = (uint32_t)i, .n_edit = 1 };
    }
    sample_run(d, &l, rows, edits, 1.5f, 4, &s);
    for (uint32_t i = 0; i < ROWS; i++) {
        double total = 0;
        for (uint32_t j = 0; j < N; j++) {
            w[j] = (struct want){ 4 * tanh((double)l.keep[i * N + j] * 1.5 / 4), j, true };
            total += exp(w[j].x);
        }
        assert_int_equal(s.ids[i], 100 + (int)i);
        close_to((double)s.logprobs[i], w[s.ids[i]].x - log(total), DTYPE_F32, 3);
        for (int32_t k = 0; k < rows[i].n_top; k++) {
            int32_t id = s.top_ids[i * MOST_TOP + k], before = k ? s.top_ids[i * MOST_TOP + k - 1] : -1;
            close_to((double)s.top_logprobs[i * MOST_TOP + k], w[id].x - log(total), DTYPE_F32, 3);
            assert_true(!k || w[id].x < w[before].x + 1e-6);
            assert_true(!k || l.keep[i * N + id] != l.keep[i * N + before] || id > before);
        }
    }
    free(w);
    sampled_free(&s);
    logits_free(&l);
}

/* Pearson's chi-square of many picks against the softmax; 39 degrees of freedom go beyond 90 once in 150,000 times. */
static void statistics_of(struct device *d, uint32_t n_row)
{
    enum { N = 40 };
    struct logits l = logits_new(n_row, N);
    struct sampled s = sampled_new(n_row);
    struct sample_row *rows = mem_array(n_row, sizeof *rows);
    struct rng r;
    rng_init(&r, 23);
    double p[N], total = 0, chi = 0, count[N] = { 0 };
    for (uint32_t j = 0; j < N; j++) {
        float x = rng_normal(&r);
        total += p[j] = exp((double)x);
        for (size_t i = 0; i < n_row; i++)
            l.keep[i * N + j] = 0.7f * x;
    }
    for (uint32_t i = 0; i < n_row; i++)
        rows[i] = (struct sample_row){ .temperature = 0.7f, .top_p = 1, .seed = 5, .stream = i, .n_top = -1 };
    sample_run(d, &l, rows, NULL, 1, 0, &s);
    for (uint32_t i = 0; i < n_row; i++)
        count[s.ids[i]]++;
    for (uint32_t j = 0; j < N; j++)
        chi += pow(count[j] - n_row * p[j] / total, 2) / (n_row * p[j] / total);
    if (chi > 90)
        fail_msg("chi-square %g", chi);
    free(rows);
    sampled_free(&s);
    logits_free(&l);
}

#endif
