/* The emulation of a GPU (tests/cudaemu/) against what it stands for: functions of kernels one by one, the order in which
 * streams, events and graphs run, products, and that every planted bug and every misuse is found. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern "C" {
#include <cmocka.h>
}
#include <cublasLt.h>

#include "conformance.h"
#include "control.h"
#include "kernels/cuda/prim.h"
#include "misuse.h"
#include "planted.h"

#if defined EMU_ASAN
#define VARIANT ASAN
#elif defined EMU_TSAN
#define VARIANT TSAN
#else
#define VARIANT PLAIN
#endif
enum { PLAIN, ASAN, TSAN };

/* The first report ends the program. */
extern "C" const char *__tsan_default_options(void);
extern "C" const char *__tsan_default_options(void)
{
    return "halt_on_error=1 atexit_sleep_ms=0";
}

/* ---- every schedule ---- */

enum { N_SCHEDULE = 8 };

static void set_schedule(int i)
{
    struct emu_options o = emu_get();
    o.schedule = i == 0 ? EMU_IN_ORDER : i == 1 ? EMU_REVERSE : EMU_RANDOM;
    o.copies = i == 7 ? EMU_MIXED : i == 6 ? EMU_EAGER : EMU_LAZY;
    o.seed = (uint64_t)i;
    emu_set(&o);
}

/* ---- children: this program again, with a word for what to do and numbers ---- */

struct end { bool well; char text[8192]; };       /* exit status 0, and what it wrote to stderr */

static struct end in_child(const char *what, int a, int b, int c)
{
    char number[3][16];
    snprintf(number[0], sizeof number[0], "%d", a);
    snprintf(number[1], sizeof number[1], "%d", b);
    snprintf(number[2], sizeof number[2], "%d", c);
    FILE *f = tmpfile();
    assert_non_null(f);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fileno(f), 2);
        if (b) {                       /* a report is expected; its names would take long */
            setenv("ASAN_OPTIONS", "symbolize=0", 1);
            setenv("TSAN_OPTIONS", "symbolize=0", 1);
        }
        execl("/proc/self/exe", "test_cudaemu", what, number[0], number[1], number[2], (char *)NULL);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    struct end e;
    e.well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    rewind(f);
    e.text[fread(e.text, 1, sizeof e.text - 1, f)] = 0;
    fclose(f);
    return e;
}

/* ---- planted bugs ---- */

/* Whether this variant must find it on some schedule: order alone shows most, three need a sanitizer. */
static bool must_find(enum planted p)
{
    switch (p) {
    case PLANTED_GLOBAL_INDEX: return VARIANT == ASAN;
    case PLANTED_LOST_UPDATE: case PLANTED_NO_FENCE: return VARIANT == TSAN;
    default: return true;
    }
}

static void test_planted(void **state)
{
    (void)state;
    for (int p = 0; p < N_PLANTED; p++) {
        int found = 0;
        for (int s = 0; s < N_SCHEDULE; s++) {
            struct end e = in_child("planted", p, false, s);
            if (!e.well)
                fail_msg("'%s' without its bug, schedule %d: %s", planted_name((enum planted)p), s, e.text);
            found += !in_child("planted", p, true, s).well;
        }
        printf("%-18s found by %d of %d schedules\n", planted_name((enum planted)p), found, N_SCHEDULE);
        if (must_find((enum planted)p) && !found)
            fail_msg("the planted bug '%s' was not found", planted_name((enum planted)p));
    }
}

/* ---- misuse ---- */

static void test_misuse(void **state)
{
    (void)state;
    for (int i = 0; i < n_misuse; i++) {
        struct end e = in_child("misuse", i, true, 0);
        if (e.well || !strstr(e.text, misuse[i].text))
            fail_msg("'%s' should end with '%s', but gave: %s", misuse[i].name, misuse[i].text, e.well ? "no error" : e.text);
    }
}

/* ---- functions of kernels ---- */

static bool alike(uint32_t got, uint32_t want, float tolerance)
{
    float x = f32_of_bits(got), y = f32_of_bits(want);
    return got == want || (tolerance > 0 && fabsf(x - y) <= tolerance * fmaxf(1, fabsf(y)));
}

static void compare(const struct conform *c, const uint32_t *got, const uint32_t *want, const char *with)
{
    for (uint32_t i = 0; i < c->n_out; i++)
        if (!alike(got[i], want[i], c->tolerance))
            fail_msg("%s: word %u is %#x (%g), but %s it is %#x (%g)", c->name, i, got[i], (double)f32_of_bits(got[i]), with, want[i],
                     (double)f32_of_bits(want[i]));
}

static void test_same_on_all_schedules(void **state)
{
    (void)state;
    for (int c = 0; c < n_conform; c++) {
        uint32_t first[CONFORM_OUT], out[CONFORM_OUT];
        for (int s = 0; s < N_SCHEDULE; s++) {
            set_schedule(s);
            conform_run(&conform_case[c], s ? out : first);
            struct conform exact = conform_case[c];
            exact.tolerance = 0;
            if (s)
                compare(&exact, out, first, "in order");
        }
    }
}

/* What a GPU gave, where that has been recorded. */
static void test_golden(void **state)
{
    (void)state;
    FILE *f = fopen("tests/golden/cuda_conformance.txt", "r");
    if (!f)
        skip();
    for (int c = 0; c < n_conform; c++) {
        uint32_t out[CONFORM_OUT], want[CONFORM_OUT], n;
        char name[64];
        assert_int_equal(fscanf(f, "%63s %u", name, &n), 2);
        assert_string_equal(name, conform_case[c].name);
        assert_int_equal(n, conform_case[c].n_out);
        for (uint32_t i = 0; i < n; i++)
            assert_int_equal(fscanf(f, "%x", &want[i]), 1);
        conform_run(&conform_case[c], out);
        compare(&conform_case[c], out, want, "on a GPU");
    }
    fclose(f);
}

/* C += A B by fragments, where matrices lie in shared memory as an author would have them, against plain sums. */
static __global__ void product_kernel(float *c, const uint16_t *a, const uint16_t *b)
{
    SHARED(uint16_t, tile_a, 16 * 24);             /* [16, 16], by rows */
    SHARED(uint16_t, tile_b, 16 * 24);             /* [k 16, n 8], by rows; the rest is not used */
    uint32_t t = threadIdx.x, fa[4], fb[4];
    for (uint32_t i = t; i < 256; i += 32)
        tile_a[i / 16 * 24 + i % 16] = a[i];
    for (uint32_t i = t; i < 256; i += 32)
        tile_b[i / 16 * 24 + i % 16] = i % 16 < 8 ? b[i / 16 * 8 + i % 16] : 0;
    warp_sync();
    ldmatrix_x4(fa, tile_a + t % 16 * 24 + t / 16 * 8);
    ldmatrix_x4_trans(fb, tile_b + t % 16 * 24 + t / 16 * 8);
    float sum[4] = {0, 0, 0, 0};
    mma_bf16(sum, fa, fb);
    for (uint32_t i = 0; i < 4; i++)
        c[(t / 4 + i / 2 * 8) * 8 + t % 4 * 2 + i % 2] = sum[i];
}

static void test_product_by_fragments(void **state)
{
    (void)state;
    uint32_t in[CONFORM_IN];
    uint16_t a[256], b[128], *device_a, *device_b;
    float c[128], *device_c;
    cudaStream_t s;
    conform_input(in);
    for (int i = 0; i < 256; i++)
        a[i] = bf16_of_f32((float)(in[i] % 65) - 32);
    for (int i = 0; i < 128; i++)
        b[i] = bf16_of_f32((float)(in[i + 256] % 65) - 32);
    assert_int_equal(cudaStreamCreate(&s), cudaSuccess);
    cudaMalloc((void **)&device_a, sizeof a);
    cudaMalloc((void **)&device_b, sizeof b);
    cudaMalloc((void **)&device_c, sizeof c);
    cudaMemcpyAsync(device_a, a, sizeof a, cudaMemcpyHostToDevice, s);
    cudaMemcpyAsync(device_b, b, sizeof b, cudaMemcpyHostToDevice, s);
    assert_int_equal(prim_launch(product_kernel, 1, 32, 0, s, device_c, device_a, device_b), cudaSuccess);
    cudaMemcpyAsync(c, device_c, sizeof c, cudaMemcpyDeviceToHost, s);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++) {
            float sum = 0;
            for (int k = 0; k < 16; k++)
                sum += f32_of_bf16(a[m * 16 + k]) * f32_of_bf16(b[k * 8 + n]);
            assert_true(c[m * 8 + n] == sum);
        }
    cudaFree(device_a);
    cudaFree(device_b);
    cudaFree(device_c);
    cudaStreamDestroy(s);
}

/* Every f16 and e4m3 is itself again, and what lies between two goes to the nearer, to the even one in the middle. */
static void test_narrow_numbers(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float x = emu_f32_of_f16(h), up = h < 0x7bff ? emu_f32_of_f16(h + 1) : 65536, mid = x + (up - x) / 2;
        assert_int_equal(emu_f16_of_f32(x), h);
        assert_int_equal(emu_f16_of_f32(-x), h | 0x8000);
        assert_int_equal(emu_f16_of_f32(mid), h + h % 2);
        assert_int_equal(emu_f16_of_f32(nextafterf(mid, 0)), h);
        assert_int_equal(emu_f16_of_f32(nextafterf(mid, 1e9f)), h + 1);
    }
    for (uint32_t v = 0; v < 0x7e; v++) {
        float x = prim_f32_of_e4m3(v), mid = x + (prim_f32_of_e4m3(v + 1) - x) / 2;
        assert_int_equal(prim_e4m3_of_f32(x), v);
        assert_int_equal(prim_e4m3_of_f32(-x), v | 0x80);
        assert_int_equal(prim_e4m3_of_f32(mid), v + v % 2);
        assert_int_equal(prim_e4m3_of_f32(nextafterf(mid, 0)), v);
        assert_int_equal(prim_e4m3_of_f32(nextafterf(mid, 1e9f)), v + 1);
    }
    assert_true(prim_f32_of_e4m3(0x7e) == 448 && prim_f32_of_e4m3(1) == 0x1p-9f && isnan(prim_f32_of_e4m3(0x7f)));
    assert_int_equal(prim_e4m3_of_f32(1e9f), 0x7e);
    assert_int_equal(prim_e4m3_of_f32(-INFINITY), 0xfe);
}

/* ---- the runtime ---- */

static __global__ void add_kernel(uint32_t *y, uint32_t n, uint32_t what)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        y[i] = y[i] * 3 + what;
}

enum { N = 100 };
struct run { uint32_t *device, *pinned; cudaStream_t a, b; cudaEvent_t e; };

static struct run run_open(int schedule)
{
    struct run r;
    set_schedule(schedule);
    assert_int_equal(cudaMalloc((void **)&r.device, N * 4), cudaSuccess);
    assert_int_equal(cudaMallocHost((void **)&r.pinned, N * 4), cudaSuccess);
    cudaStreamCreateWithFlags(&r.a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&r.b, cudaStreamNonBlocking);
    cudaEventCreate(&r.e);
    return r;
}

static void run_close(struct run *r)
{
    cudaEventDestroy(r->e);
    cudaStreamDestroy(r->a);
    cudaStreamDestroy(r->b);
    cudaFree(r->device);
    cudaFreeHost(r->pinned);
    assert_int_equal(emu_allocated(), 0);
}

static void add(struct run *r, uint32_t what, cudaStream_t s)
{
    assert_int_equal(prim_launch(add_kernel, 2, 64, 0, s, r->device, N, what), cudaSuccess);
}

static uint32_t fetch_first(struct run *r)
{
    uint32_t host[N];
    cudaMemcpyAsync(host, r->device, sizeof host, cudaMemcpyDeviceToHost, r->a);
    return host[0];
}

/* Nothing runs before somebody waits; memory is not a number at first; a pageable source is read at once, a pinned one later. */
static void test_lazy(void **state)
{
    (void)state;
    struct run r = run_open(0);
    uint32_t host[N] = {5};
    assert_int_equal(fetch_first(&r), ~0u);
    uint64_t before = emu_operations();
    cudaMemcpyAsync(r.device, host, sizeof host, cudaMemcpyHostToDevice, r.a);
    add(&r, 1, r.a);
    host[0] = 7;
    assert_int_equal(emu_operations(), before);
    assert_false(emu_idle());
    assert_int_equal(fetch_first(&r), 16);
    assert_true(emu_idle());
    r.pinned[0] = 5;
    cudaMemcpyAsync(r.device, r.pinned, N * 4, cudaMemcpyHostToDevice, r.a);
    r.pinned[0] = 7;
    assert_int_equal(fetch_first(&r), 7);
    cudaMemcpyAsync(r.pinned, r.device, N * 4, cudaMemcpyDeviceToHost, r.a);
    assert_int_equal(r.pinned[0], ~0u);
    while (cudaStreamQuery(r.a) == cudaErrorNotReady)
        ;
    assert_int_equal(r.pinned[0], 7);
    run_close(&r);
}

/* Streams keep their own order and that of events, and no other. */
static void test_events(void **state)
{
    (void)state;
    bool seen[2] = {};
    for (int s = 0; s < N_SCHEDULE; s++) {
        struct run r = run_open(s);
        float ms;
        cudaMemsetAsync(r.device, 0, N * 4, r.a);
        cudaEventRecord(r.e, r.a);
        cudaStreamWaitEvent(r.b, r.e, 0);
        add(&r, 1, r.a);
        add(&r, 2, r.b);
        cudaDeviceSynchronize();
        uint32_t y = fetch_first(&r);
        assert_true(y == 5 || y == 7);             /* (0 3 + 1) 3 + 2 or (0 3 + 2) 3 + 1 */
        seen[y == 7] = true;
        assert_int_equal(cudaEventQuery(r.e), cudaSuccess);
        assert_int_equal(cudaEventElapsedTime(&ms, r.e, r.e), cudaSuccess);
        run_close(&r);
    }
    assert_true(seen[0] && seen[1]);
}

static cudaGraph_t capture(struct run *r, uint32_t what)
{
    cudaGraph_t g;
    cudaStreamBeginCapture(r->a, cudaStreamCaptureModeGlobal);
    add(r, what, r->a);
    cudaMemcpyAsync(r->pinned, r->device, N * 4, cudaMemcpyDeviceToHost, r->a);
    assert_int_equal(cudaStreamEndCapture(r->a, &g), cudaSuccess);
    return g;
}

static void test_graphs(void **state)
{
    (void)state;
    for (int s = 0; s < N_SCHEDULE; s++) {
        struct run r = run_open(s);
        cudaGraphExec_t exec;
        cudaGraphExecUpdateResultInfo info;
        cudaMemsetAsync(r.device, 0, N * 4, r.a);
        cudaStreamSynchronize(r.a);
        cudaGraph_t g = capture(&r, 1);
        assert_int_equal(fetch_first(&r), 0);      /* captured, not run */
        assert_int_equal(cudaGraphInstantiate(&exec, g, 0), cudaSuccess);
        cudaGraphDestroy(g);
        cudaGraphLaunch(exec, r.a);
        cudaGraphLaunch(exec, r.a);
        assert_int_equal(r.pinned[0], ~0u);
        cudaStreamSynchronize(r.a);
        assert_int_equal(r.pinned[N - 1], 4);
        g = capture(&r, 2);
        assert_int_equal(cudaGraphExecUpdate(exec, g, &info), cudaSuccess);
        cudaGraphDestroy(g);
        cudaGraphLaunch(exec, r.a);
        cudaStreamSynchronize(r.a);
        assert_int_equal(r.pinned[N - 1], 14);
        cudaStreamBeginCapture(r.a, cudaStreamCaptureModeGlobal);
        add(&r, 1, r.a);
        cudaStreamEndCapture(r.a, &g);
        assert_int_equal(cudaGraphExecUpdate(exec, g, &info), cudaErrorGraphExecUpdateFailure);
        cudaGraphDestroy(g);
        cudaGraphExecDestroy(exec);
        cudaGetLastError();
        run_close(&r);
    }
}

static void test_memory(void **state)
{
    (void)state;
    void *p[8];
    size_t free_size, total;
    struct emu_options o = emu_get();
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 8; i++) {
            assert_int_equal(cudaMalloc(&p[i], (size_t)(i * 37 + round * 11 + 1)), cudaSuccess);
            assert_int_equal((uintptr_t)p[i] % 256, 0);
        }
        for (int i = 0; i < 8; i++)
            cudaFree(p[(i * 3 + round) % 8]);
    }
    cudaMemGetInfo(&free_size, &total);
    assert_int_equal(free_size, total);
    assert_int_equal(total, o.memory);
    assert_int_equal(cudaMalloc(&p[0], o.memory + 1), cudaErrorMemoryAllocation);
    assert_null(p[0]);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

/* A device that fails takes everything after with it. */
static bool failing(void)
{
    struct run r = run_open(0);
    struct emu_options o = emu_get();
    o.fail_at = 2;
    emu_set(&o);
    cudaMemsetAsync(r.device, 0, N * 4, r.a);
    if (cudaStreamSynchronize(r.a) != cudaSuccess)
        return false;
    add(&r, 1, r.a);
    if (cudaStreamSynchronize(r.a) != cudaErrorIllegalAddress || cudaGetLastError() != cudaErrorIllegalAddress)
        return false;
    return prim_launch(add_kernel, 1, 64, 0, r.a, r.device, N, 0) == cudaErrorIllegalAddress && cudaMemsetAsync(r.device, 0, 4, r.a) == cudaErrorIllegalAddress;
}

static void test_failure(void **state)
{
    (void)state;
    struct end e = in_child("failing", 0, 0, 0);
    if (!e.well)
        fail_msg("%s", e.text);
}

/* ---- products ---- */

struct shape { int m, n, k; cudaDataType in, out; bool transa, transb, bias, residual, row_major, vector_scales; };

static size_t width(cudaDataType t)
{
    return t == CUDA_R_32F ? 4 : t == CUDA_R_16BF ? 2 : 1;
}

static double get(const void *p, cudaDataType t, size_t i)
{
    return t == CUDA_R_32F ? ((const float *)p)[i] : t == CUDA_R_16BF ? f32_of_bf16(((const uint16_t *)p)[i]) : prim_f32_of_e4m3(((const uint8_t *)p)[i]);
}

static void put(void *p, cudaDataType t, size_t i, float x)
{
    if (t == CUDA_R_32F)
        ((float *)p)[i] = x;
    else if (t == CUDA_R_16BF)
        ((uint16_t *)p)[i] = bf16_of_f32(x);
    else
        ((uint8_t *)p)[i] = (uint8_t)prim_e4m3_of_f32(x);
}

/* A matrix or vector of random numbers on both sides. */
struct both { char *host; void *device; size_t size; cudaDataType type; int rows, cols, ld; bool row_major; };

static struct both both_new(int rows, int cols, int ld, bool row_major, cudaDataType type, uint32_t seed)
{
    struct both b = { NULL, NULL, (size_t)ld * (row_major ? rows : cols) * width(type), type, rows, cols, ld, row_major };
    b.host = (char *)malloc(b.size);
    for (size_t i = 0; i < b.size / width(type); i++) {
        seed = seed * 1664525u + 1013904223u;
        put(b.host, type, i, (float)(int)(seed >> 8) * 0x1p-23f - 1);
    }
    assert_int_equal(cudaMalloc(&b.device, b.size), cudaSuccess);
    return b;
}

static double at(const struct both *b, int row, int col)
{
    return get(b->host, b->type, b->row_major ? (size_t)row * b->ld + col : (size_t)col * b->ld + row);
}

static void both_free(struct both *b)
{
    free(b->host);
    cudaFree(b->device);
}

static cublasLtMatrixLayout_t layout_of(const struct both *b)
{
    cublasLtMatrixLayout_t l;
    int32_t order = b->row_major ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL;
    assert_int_equal(cublasLtMatrixLayoutCreate(&l, b->type, b->rows, b->cols, b->ld), CUBLAS_STATUS_SUCCESS);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order);
    return l;
}

template <class T> static void set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t a, T v)
{
    assert_int_equal(cublasLtMatmulDescSetAttribute(d, a, &v, sizeof v), CUBLAS_STATUS_SUCCESS);
}

struct matrices { struct both a, b, d, bias, scale_a, scale_b; };

static struct matrices matrices_new(const struct shape *s)
{
    struct matrices x;
    bool t = s->row_major;
    int pad = s->in == CUDA_R_8F_E4M3 ? 16 : 3;
    x.a = s->transa ? both_new(s->k, s->m, (t ? s->m : s->k) + pad, t, s->in, 1) : both_new(s->m, s->k, (t ? s->k : s->m) + pad, t, s->in, 1);
    x.b = s->transb ? both_new(s->n, s->k, (t ? s->k : s->n) + pad, t, s->in, 2) : both_new(s->k, s->n, (t ? s->n : s->k) + pad, t, s->in, 2);
    x.d = both_new(s->m, s->n, (t ? s->n : s->m) + (s->in == CUDA_R_8F_E4M3 ? 8 : 1), t, s->out, 3);
    x.bias = both_new(s->m, 1, s->m, false, s->in == CUDA_R_8F_E4M3 ? CUDA_R_16BF : s->out, 4);
    x.scale_a = both_new(s->m, 1, s->m, false, CUDA_R_32F, 5);
    x.scale_b = both_new(s->n, 1, s->n, false, CUDA_R_32F, 6);
    return x;
}

static double want(const struct shape *s, const struct matrices *x, int i, int j)
{
    double sum = 0;
    for (int k = 0; k < s->k; k++)
        sum += (s->transa ? at(&x->a, k, i) : at(&x->a, i, k)) * (s->transb ? at(&x->b, j, k) : at(&x->b, k, j));
    if (s->in == CUDA_R_8F_E4M3)
        sum *= at(&x->scale_a, s->vector_scales ? i : 0, 0) * at(&x->scale_b, s->vector_scales ? j : 0, 0);
    return sum * 0.5 + (s->residual ? at(&x->d, i, j) : 0) + (s->bias ? at(&x->bias, i, 0) : 0);
}

static cublasLtMatmulDesc_t desc_of(const struct shape *s, const struct matrices *x)
{
    cublasLtMatmulDesc_t d;
    cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    set(d, CUBLASLT_MATMUL_DESC_TRANSA, (int32_t)(s->transa ? CUBLAS_OP_T : CUBLAS_OP_N));
    set(d, CUBLASLT_MATMUL_DESC_TRANSB, (int32_t)(s->transb ? CUBLAS_OP_T : CUBLAS_OP_N));
    if (s->bias) {
        set(d, CUBLASLT_MATMUL_DESC_EPILOGUE, (uint32_t)CUBLASLT_EPILOGUE_BIAS);
        set(d, CUBLASLT_MATMUL_DESC_BIAS_POINTER, x->bias.device);
        set(d, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, (int32_t)x->bias.type);
    }
    if (s->in == CUDA_R_8F_E4M3) {
        set(d, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, x->scale_a.device);
        set(d, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, x->scale_b.device);
        int32_t mode = s->vector_scales ? CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F : CUBLASLT_MATMUL_MATRIX_SCALE_SCALAR_32F;
        set(d, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, mode);
        set(d, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, mode);
    }
    return d;
}

/* Runs the best algorithm; the status of the question for it. */
static cublasStatus_t multiply(const struct shape *s, const struct matrices *x, cudaStream_t stream)
{
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t pref;
    cublasLtMatmulHeuristicResult_t best;
    cublasLtMatmulDesc_t d = desc_of(s, x);
    cublasLtMatrixLayout_t a = layout_of(&x->a), b = layout_of(&x->b), out = layout_of(&x->d);
    uint64_t room = 8 << 20;
    float alpha = 0.5f, beta = s->residual ? 1 : 0;
    void *workspace;
    int n;
    cublasLtCreate(&handle);
    cudaMalloc(&workspace, room);
    cublasLtMatmulPreferenceCreate(&pref);
    cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room);
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, d, a, b, out, out, pref, 1, &best, &n);
    if (status == CUBLAS_STATUS_SUCCESS)
        assert_int_equal(cublasLtMatmul(handle, d, &alpha, x->a.device, a, x->b.device, b, &beta, x->d.device, out, x->d.device, out, &best.algo,
                                        workspace, best.workspaceSize, stream), CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulPreferenceDestroy(pref);
    cublasLtMatrixLayoutDestroy(a);
    cublasLtMatrixLayoutDestroy(b);
    cublasLtMatrixLayoutDestroy(out);
    cublasLtMatmulDescDestroy(d);
    cublasLtDestroy(handle);
    cudaFree(workspace);
    return status;
}

static void check_product(const struct shape *s)
{
    struct matrices x = matrices_new(s);
    struct both *all[] = { &x.a, &x.b, &x.d, &x.bias, &x.scale_a, &x.scale_b };
    cudaStream_t stream;
    cudaStreamCreate(&stream);
    for (struct both *b : all)
        cudaMemcpyAsync(b->device, b->host, b->size, cudaMemcpyHostToDevice, stream);
    assert_int_equal(multiply(s, &x, stream), CUBLAS_STATUS_SUCCESS);
    struct both got = x.d;
    got.host = (char *)malloc(got.size);
    cudaMemcpyAsync(got.host, got.device, got.size, cudaMemcpyDeviceToHost, stream);
    for (int i = 0; i < s->m; i++)
        for (int j = 0; j < s->n; j++) {
            double y = want(s, &x, i, j), most = (s->out == CUDA_R_16BF ? 0x1p-8 : 0) * fabs(y) + 1e-6 * s->k;
            if (!(fabs(at(&got, i, j) - y) <= most))
                fail_msg("product %d x %d x %d: [%d, %d] is %g, but it should be %g", s->m, s->n, s->k, i, j, at(&got, i, j), y);
        }
    free(got.host);
    for (struct both *b : all)
        both_free(b);
    cudaStreamDestroy(stream);
}

static void test_products(void **state)
{
    (void)state;
    const cudaDataType f32 = CUDA_R_32F, bf16 = CUDA_R_16BF, e4m3 = CUDA_R_8F_E4M3;
    const struct shape shape[] = {
        { 1, 1, 1, f32, f32, false, false, false, false, false, false },
        { 17, 5, 33, f32, f32, true, false, true, true, false, false },
        { 40, 7, 24, bf16, bf16, true, false, true, true, false, false },
        { 13, 21, 50, bf16, f32, true, false, false, true, false, false },
        { 13, 21, 50, bf16, f32, false, true, true, false, false, false },
        { 9, 20, 31, bf16, bf16, false, true, false, true, true, false },
        { 32, 5, 48, e4m3, bf16, true, false, true, false, false, false },
        { 16, 19, 64, e4m3, f32, true, false, false, true, false, true },
    };
    for (const struct shape &s : shape)
        check_product(&s);
}

static void test_products_refused(void **state)
{
    (void)state;
    const struct shape shape[] = {
        { 16, 16, 16, CUDA_R_16BF, CUDA_R_8F_E4M3, true, false, false, false, false, false },
        { 16, 16, 16, CUDA_R_8F_E4M3, CUDA_R_16BF, false, false, false, false, false, false },
        { 24, 16, 40, CUDA_R_8F_E4M3, CUDA_R_16BF, true, false, false, false, false, false },
    };
    cudaStream_t stream;
    cudaStreamCreate(&stream);
    for (const struct shape &s : shape) {
        struct matrices x = matrices_new(&s);
        assert_int_equal(multiply(&s, &x, stream), CUBLAS_STATUS_NOT_SUPPORTED);
        for (struct both *b : { &x.a, &x.b, &x.d, &x.bias, &x.scale_a, &x.scale_b })
            both_free(b);
    }
    cudaStreamDestroy(stream);
}

static int child(const char *what, int a, int b, int c)
{
    set_schedule(c);
    if (!strcmp(what, "planted"))
        return planted_run((enum planted)a, b) ? 0 : 1;
    if (!strcmp(what, "failing"))
        return failing() ? 0 : 1;
    misuse[a].run();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 5)
        _exit(child(argv[1], atoi(argv[2]), atoi(argv[3]), atoi(argv[4])));      /* what it leaves does not matter */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_on_all_schedules), cmocka_unit_test(test_golden),    cmocka_unit_test(test_product_by_fragments),
        cmocka_unit_test(test_narrow_numbers),        cmocka_unit_test(test_lazy),      cmocka_unit_test(test_events),
        cmocka_unit_test(test_graphs),                cmocka_unit_test(test_memory),    cmocka_unit_test(test_failure),
        cmocka_unit_test(test_products),              cmocka_unit_test(test_products_refused),
        cmocka_unit_test(test_planted),               cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
