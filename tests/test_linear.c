/* Packed weights, linear and embed against naive sums in float64, and their sameness: a row's result has the same
 * bits whatever rows are beside it and however many threads there are.  On the tiers below the machine's best the
 * products are oneDNN's; and the whole program runs a second time with oneDNN told that there is nothing but AVX2,
 * where its kernels are others and bf16 and int8 are widened.
 *
 * With --perf: the speed of each type on shapes of real models, as shares of what the machine can do. */
#define _GNU_SOURCE         /* MAP_ANONYMOUS */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/cpu/cpu.h"

/* ---- memory whose end is the end of a page that nothing follows: reading or writing past it is a fault ---- */

#define PAGE ((size_t)4096)

static size_t guarded_pages(size_t size)
{
    return (size + PAGE - 1) / PAGE * PAGE;
}

static void *guarded(size_t size)
{
    size_t pages = guarded_pages(size);
    char *p = mmap(NULL, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + pages, PAGE, PROT_NONE), 0);
    return p + pages - size;
}

static void unguard(void *p, size_t size)
{
    if (p)
        munmap((char *)p + size - guarded_pages(size), guarded_pages(size) + PAGE);
}

static size_t tensor_bytes(const struct tensor *t)
{
    return (size_t)t->rows * t->cols * dtype_size(t->dtype);
}

static struct tensor make_tensor(uint32_t rows, uint32_t cols, enum dtype dtype)
{
    struct tensor t = { .dtype = dtype, .rows = rows, .cols = cols };
    t.data = guarded(tensor_bytes(&t));
    return t;
}

static struct tensor random_tensor(struct rng *r, uint32_t rows, uint32_t cols, enum dtype dtype)
{
    struct tensor t = make_tensor(rows, cols, dtype);
    for (size_t i = 0; i < (size_t)rows * cols; i++) {
        float v = rng_normal(r);
        num_from_f32((char *)t.data + i * dtype_size(dtype), dtype, &v, 1);
    }
    return t;
}

static void free_tensor(struct tensor *t)
{
    unguard(t->data, tensor_bytes(t));
}

static double value(const struct tensor *t, uint32_t row, uint32_t col)
{
    float v;
    size_t i = (size_t)row * t->cols + col;
    num_to_f32(&v, (const char *)t->data + i * dtype_size(t->dtype), t->dtype, 1);
    return v;
}

/* The device on a tier that this machine has; NULL: it has not. */
static struct device *open_tier(int tier, int n_thread)
{
    struct device *d = device_open("cpu", DTYPE_BF16, n_thread);
    assert_non_null(d);
    if (tier <= (int)cpu_of(d)->tier) {
        cpu_of(d)->tier = (enum cpu_tier)tier;
        return d;
    }
    d->ops->close(d);
    return NULL;
}

/* ---- one case ---- */

struct linear_case {
    enum dtype w, x, y;            /* w: packed as */
    uint32_t n_in, n_out, n_row;
    enum { PLAIN, BIAS, RESIDUAL, BOTH, IN_PLACE } more;
    enum dtype source;             /* of the host matrices */
    int n_part;
};

static const struct linear_case cases[] = {
    { DTYPE_F32,  DTYPE_F32,  DTYPE_F32,   64,   8,  1, PLAIN,    DTYPE_F32,  1 },
    { DTYPE_F32,  DTYPE_F32,  DTYPE_F32,  172, 512, 67, BOTH,     DTYPE_F32,  3 },
    { DTYPE_F32,  DTYPE_F32,  DTYPE_BF16,  24,  65,  9, RESIDUAL, DTYPE_BF16, 2 },
    { DTYPE_F32,  DTYPE_BF16, DTYPE_F32,    7, 300,  5, BIAS,     DTYPE_F16,  1 },
    { DTYPE_F32,  DTYPE_F32,  DTYPE_F32, 1024, 257, 31, IN_PLACE, DTYPE_F32,  2 },
    { DTYPE_BF16, DTYPE_BF16, DTYPE_F32,   64,   8,  1, PLAIN,    DTYPE_BF16, 1 },
    { DTYPE_BF16, DTYPE_BF16, DTYPE_BF16, 172, 512, 67, BOTH,     DTYPE_F32,  3 },
    { DTYPE_BF16, DTYPE_F32,  DTYPE_F32,   24,  65,  9, RESIDUAL, DTYPE_F16,  2 },
    { DTYPE_BF16, DTYPE_F32,  DTYPE_BF16,   7, 300,  5, BIAS,     DTYPE_BF16, 1 },
    { DTYPE_BF16, DTYPE_BF16, DTYPE_F32, 3072, 576, 33, IN_PLACE, DTYPE_BF16, 1 },
    { DTYPE_BF16, DTYPE_BF16, DTYPE_F32,    1,   1,  1, PLAIN,    DTYPE_BF16, 1 },
    { DTYPE_I8,   DTYPE_F32,  DTYPE_F32,   64,   8,  1, PLAIN,    DTYPE_F32,  1 },
    { DTYPE_I8,   DTYPE_BF16, DTYPE_BF16, 172, 512, 67, BOTH,     DTYPE_BF16, 3 },
    { DTYPE_I8,   DTYPE_F32,  DTYPE_BF16,  24,  65,  9, RESIDUAL, DTYPE_F16,  2 },
    { DTYPE_I8,   DTYPE_BF16, DTYPE_F32,    7, 300,  5, BIAS,     DTYPE_BF16, 1 },
    { DTYPE_I8,   DTYPE_BF16, DTYPE_F32, 3072, 576, 33, IN_PLACE, DTYPE_BF16, 1 },
    { DTYPE_I8,   DTYPE_F32,  DTYPE_F32,    1,   1,  3, PLAIN,    DTYPE_F32,  1 },
};

#define N_CASE (sizeof cases / sizeof cases[0])
#define MAX_PART 3

struct setup { struct tensor parts[MAX_PART], x, bias, residual, y; struct weight *w; };

static void random_parts(struct setup *s, struct rng *r, const struct linear_case *c)
{
    uint32_t left = c->n_out;
    for (int i = 0; i < c->n_part; i++) {
        uint32_t rows = i + 1 == c->n_part ? left : 1 + rng_below(r, left / 2);
        s->parts[i] = random_tensor(r, rows, c->n_in, c->source);
        left -= rows;
    }
}

static struct setup make_setup(struct device *d, struct rng *r, const struct linear_case *c)
{
    struct setup s = { 0 };
    random_parts(&s, r, c);
    s.w = d->ops->weight_pack(d, s.parts, c->n_part, c->w);
    s.x = random_tensor(r, c->n_row, c->n_in, c->x);
    if (c->more == BIAS || c->more == BOTH)
        s.bias = random_tensor(r, 1, c->n_out, DTYPE_F32);
    if (c->more >= RESIDUAL)
        s.residual = random_tensor(r, c->n_row, c->n_out, DTYPE_F32);
    s.y = make_tensor(c->n_row, c->n_out, c->y);
    if (c->more == IN_PLACE)
        memcpy(s.y.data, s.residual.data, tensor_bytes(&s.y));
    return s;
}

static void free_setup(struct device *d, struct setup *s)
{
    for (int i = 0; i < MAX_PART; i++)
        free_tensor(&s->parts[i]);
    free_tensor(&s->x);
    free_tensor(&s->bias);
    free_tensor(&s->residual);
    free_tensor(&s->y);
    d->ops->weight_free(d, s->w);
}

static void run(struct device *d, const struct linear_case *c, const struct setup *s)
{
    d->ops->linear(d, &(struct linear){
        .x = s->x, .w = s->w, .bias = s->bias.data, .residual = c->more == IN_PLACE ? s->y : s->residual, .y = s->y,
    });
    d->ops->sync(d);
}

/* ---- the reference ---- */

static double as_packed(const struct linear_case *c, double v)
{
    return c->w == DTYPE_BF16 ? bf16_to_f32(bf16_from_f32((float)v)) : v;
}

static double weight_at(const struct setup *s, uint32_t n, uint32_t k)
{
    const struct tensor *part = s->parts;
    for (; n >= part->rows; part++)
        n -= part->rows;
    return value(part, n, k);
}

/* y[row][n] in float64 and how far off it may be: sums in f32, bf16's rounding of x and y where it happens, and for
 * int8 six standard deviations of the rounding to steps. */
static double reference(const struct linear_case *c, const struct setup *s, uint32_t row, uint32_t n, double *slack)
{
    double sum = 0, size = 0, x2 = 0, w2 = 0, x_max = 0, w_max = 0;
    for (uint32_t k = 0; k < c->n_in; k++) {
        double x = as_packed(c, value(&s->x, row, k)), w = as_packed(c, weight_at(s, n, k));
        sum += x * w;
        size += fabs(x * w);
        x2 += x * x;
        w2 += w * w;
        x_max = fmax(x_max, fabs(x));
        w_max = fmax(w_max, fabs(w));
    }
    *slack = size * 4e-7 * sqrt(c->n_in);
    if (c->w == DTYPE_BF16 && c->x == DTYPE_F32)
        *slack += size / 256;       /* a CPU without bf16 dot products does not round x */
    if (c->w == DTYPE_I8)
        *slack += 6 * sqrt((x_max * x_max * w2 + w_max * w_max * x2) / 127 / 127 / 12);
    sum += s->bias.data ? value(&s->bias, 0, n) : 0;
    sum += s->residual.data ? value(&s->residual, row, n) : 0;
    *slack += fabs(sum) * (c->y == DTYPE_BF16 ? 1.0 / 256 : 1e-6);
    return sum;
}

static void check_case(const struct linear_case *c, const struct setup *s)
{
    double slack;
    for (uint32_t i = 0; i < c->n_row; i++)
        for (uint32_t n = 0; n < c->n_out; n++) {
            double want = reference(c, s, i, n, &slack), got = value(&s->y, i, n);
            if (!(fabs(got - want) <= slack))
                fail_msg("case %d: y[%u][%u] = %g, want %g within %g", (int)(c - cases), i, n, got, want, slack);
        }
}

static void check_linear(struct device *d, const struct linear_case *c, struct rng *r)
{
    struct setup s = make_setup(d, r, c);
    run(d, c, &s);
    check_case(c, &s);
    free_setup(d, &s);
}

/* Every case on every tier. */
static void each_case(void (*check)(struct device *d, const struct linear_case *c, struct rng *r))
{
    struct rng r;
    struct device *d;
    rng_init(&r, 1);
    for (int tier = CPU_BASE; tier <= CPU_AMX && (d = open_tier(tier, 2)); tier++) {
        for (size_t i = 0; i < N_CASE; i++)
            check(d, &cases[i], &r);
        d->ops->close(d);
    }
}

static void test_linear(void **state)
{
    (void)state;
    each_case(check_linear);
}

/* ---- embed ---- */

static void check_embed(struct device *d, const struct linear_case *c, struct rng *r)
{
    struct setup s = make_setup(d, r, c);
    struct tensor y = make_tensor(c->n_row, c->n_in, DTYPE_F32);
    int32_t *ids = guarded(c->n_row * sizeof *ids);
    for (uint32_t i = 0; i < c->n_row; i++)
        ids[i] = i ? (int32_t)rng_below(r, c->n_out) : (int32_t)c->n_out - 1;
    d->ops->embed(d, &(struct embed){ .table = s.w, .ids = ids, .scale = 0.5f, .y = y });
    for (uint32_t i = 0; i < c->n_row; i++) {
        double max = 0;
        for (uint32_t k = 0; k < c->n_in; k++)
            max = fmax(max, fabs(weight_at(&s, (uint32_t)ids[i], k)));
        for (uint32_t k = 0; k < c->n_in; k++) {
            double want = 0.5 * as_packed(c, weight_at(&s, (uint32_t)ids[i], k));
            assert_true(fabs(value(&y, i, k) - want) <= (c->w == DTYPE_I8 ? 0.5001 * 0.5 * max / 127 : 0));
        }
    }
    unguard(ids, c->n_row * sizeof *ids);
    free_tensor(&y);
    free_setup(d, &s);
}

static void test_embed(void **state)
{
    (void)state;
    each_case(check_embed);
}

/* ---- sizes ---- */

static void test_weight_size(void **state)
{
    (void)state;
    static const struct { enum dtype dtype; size_t bytes; } kinds[] = {
        { DTYPE_F32, 1024 * 640 * 4 }, { DTYPE_BF16, 1024 * 640 * 2 }, { DTYPE_I8, 1024 * 640 + 640 * 8 },
    };
    struct rng r;
    struct device *d = device_open("cpu", DTYPE_BF16, 1);
    rng_init(&r, 3);
    struct tensor t = random_tensor(&r, 640, 1024, DTYPE_BF16);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct weight *w = d->ops->weight_pack(d, &t, 1, kinds[i].dtype);
        assert_int_equal(d->ops->weight_size(w), kinds[i].bytes);
        d->ops->weight_free(d, w);
    }
    free_tensor(&t);
    d->ops->close(d);
}

/* ---- sameness ---- */

#define MOST_ROWS 200

/* All rows in one call on one thread: what every other way of computing them must equal. */
struct same { struct linear_case c; struct setup s; int tier; };

static void check_rows(struct device *d, const struct same *t, struct weight *w, uint32_t first, uint32_t n)
{
    size_t row_bytes = t->c.n_out * sizeof(float);
    struct setup part = t->s;
    part.w = w;
    part.x.data = (char *)t->s.x.data + first * t->c.n_in * dtype_size(t->c.x);
    part.x.rows = n;
    part.y = make_tensor(n, t->c.n_out, t->c.y);
    run(d, &t->c, &part);
    if (memcmp(part.y.data, (char *)t->s.y.data + first * row_bytes, n * row_bytes))
        fail_msg("%s, n_in %u: rows %u to %u differ on %s", dtype_name(t->c.w), t->c.n_in, first, first + n - 1, d->text);
    free_tensor(&part.y);
}

static void check_threads(const struct same *t, int n_thread, uint32_t row_step, struct rng *r)
{
    struct device *d = open_tier(t->tier, n_thread);
    struct weight *w = d->ops->weight_pack(d, t->s.parts, 1, t->c.w);
    for (uint32_t n = 1; n <= 67; n += row_step)
        check_rows(d, t, w, rng_below(r, MOST_ROWS - n + 1), n);
    check_rows(d, t, w, 0, MOST_ROWS);
    d->ops->weight_free(d, w);
    d->ops->close(d);
}

static void check_same(int tier, enum dtype w, enum dtype x, uint32_t n_in, struct rng *r)
{
    struct device *d = open_tier(tier, 1);
    struct same t = { .c = { w, x, DTYPE_F32, n_in, 330, MOST_ROWS, PLAIN, DTYPE_F32, 1 }, .tier = tier };
    if (!d)
        return;
    t.s = make_setup(d, r, &t.c);
    run(d, &t.c, &t.s);
    check_threads(&t, 1, 1, r);
    check_threads(&t, 2, 13, r);
    check_threads(&t, 3, 13, r);
    free_setup(d, &t.s);
    d->ops->close(d);
}

static void test_sameness(void **state)
{
    (void)state;
    static const enum dtype types[] = { DTYPE_F32, DTYPE_BF16, DTYPE_I8 };
    static const uint32_t widths[] = { 24, 64, 172, 1024 };
    struct rng r;
    rng_init(&r, 4);
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 4; i++) {
            check_same(CPU_AVX2, types[t], i % 2 ? DTYPE_BF16 : DTYPE_F32, widths[i], &r);
            check_same(CPU_AVX512, types[t], i % 2 ? DTYPE_BF16 : DTYPE_F32, widths[i], &r);
            check_same(CPU_AMX, types[t], i % 2 ? DTYPE_BF16 : DTYPE_F32, widths[i], &r);
        }
}

static void test_open_refuses(void **state)
{
    (void)state;
    assert_null(device_open("gpu", DTYPE_F32, 1));
    assert_string_equal(err_text(), "unknown device \"gpu\"; use \"auto\", \"cpu\" or \"cuda:N\"");
    assert_null(device_open("cpu", DTYPE_I8, 1));
}

/* ---- --perf ---- */

struct perf_shape { const char *name; uint32_t n_in, n_out; };

static double best_seconds(struct device *d, const struct linear *op)
{
    double best = 1e9;
    int64_t start = clock_ns();
    for (int i = 0; i < 3 || clock_ns() - start < 300000000; i++) {
        int64_t from = clock_ns();
        d->ops->linear(d, op);
        d->ops->sync(d);
        best = fmin(best, (double)(clock_ns() - from) * 1e-9);
    }
    return best;
}

static void perf_rows(struct device *d, const struct perf_shape *p, enum dtype dtype, double flops, double bandwidth)
{
    static const uint32_t rows[] = { 1, 8, 32, 64, 512 };
    struct rng r;
    rng_init(&r, 5);
    struct tensor w = random_tensor(&r, p->n_out, p->n_in, DTYPE_BF16);
    int64_t start = clock_ns();
    struct weight *packed = d->ops->weight_pack(d, &w, 1, dtype);
    double seconds = (double)(clock_ns() - start) * 1e-9;
    printf("%-4s %-8s [%u, %u] packed in %.3f s, %.2f GB/s\n", dtype_name(dtype), p->name, p->n_out, p->n_in, seconds,
           (double)tensor_bytes(&w) / seconds * 1e-9);
    free_tensor(&w);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && (p->n_out < 100000 || rows[i] <= 64); i++) {
        struct tensor x = random_tensor(&r, rows[i], p->n_in, dtype == DTYPE_F32 ? DTYPE_F32 : DTYPE_BF16);
        struct tensor y = { .rows = rows[i], .cols = p->n_out };
        y.data = mem_pages(tensor_bytes(&y));
        seconds = best_seconds(d, &(struct linear){ .x = x, .w = packed, .y = y });
        double rate = 2.0 * rows[i] * p->n_in * p->n_out / seconds;
        double bytes = (double)d->ops->weight_size(packed) / seconds;
        printf("     %4u rows %8.3f ms %8.1f GFLOP/s %5.1f %% of peak %7.2f GB/s %6.1f %% of read bandwidth\n", rows[i],
               seconds * 1e3, rate * 1e-9, 100 * rate / flops, bytes * 1e-9, 100 * bytes / bandwidth);
        mem_pages_free(y.data, tensor_bytes(&y));
        free_tensor(&x);
    }
    d->ops->weight_free(d, packed);
}

static int perf(int n_thread)
{
    static const struct perf_shape shapes[] = {
        { "qkv", 1024, 4096 }, { "out", 2048, 1024 }, { "gate_up", 1024, 6144 }, { "down", 3072, 1024 },
        { "lm_head", 1024, 151936 },
    };
    static const enum dtype types[] = { DTYPE_BF16, DTYPE_I8, DTYPE_F32 };
    struct device *d = device_open("cpu", DTYPE_BF16, n_thread);
    double bandwidth = d->ops->peak_bandwidth(d);
    printf("%s\nread bandwidth %.1f GB/s\n", d->text, bandwidth * 1e-9);
    for (int t = 0; t < 3; t++) {
        double flops = d->ops->peak_flops(d, types[t]);
        printf("%s: peak %.1f GFLOP/s\n", dtype_name(types[t]), flops * 1e-9);
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            perf_rows(d, &shapes[i], types[t], flops, bandwidth);
    }
    d->ops->close(d);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_weight_size),
        cmocka_unit_test(test_sameness),
        cmocka_unit_test(test_open_refuses),
    };
    if (argc > 1 && !strcmp(argv[1], "--perf"))
        return perf(argc > 2 ? atoi(argv[2]) : 0);
    int failed = cmocka_run_group_tests_name("linear", tests, NULL, NULL);
    if (failed || getenv("ONEDNN_MAX_CPU_ISA"))
        return failed;
    setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);       /* read once a process, so it takes another one */
    execv("/proc/self/exe", argv);
    return 1;
}
