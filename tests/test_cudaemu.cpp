/* The emulation of a GPU (tests/cudaemu/) against what it stands for: functions of kernels one by one, the order in which
 * streams, events and graphs run, and that every planted bug and every misuse is found. */
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

/* The same of e4m3, K = 32; b by columns: b[n][k]. */
static __global__ void product_e4m3_kernel(float *c, const uint8_t *a, const uint8_t *b)
{
    uint32_t g = lane_id() / 4, t = lane_id() % 4, fa[4], fb[2];
    for (uint32_t i = 0; i < 4; i++)
        fa[i] = *(const uint32_t *)(a + (g + i % 2 * 8) * 32 + i / 2 * 16 + 4 * t);
    for (uint32_t i = 0; i < 2; i++)
        fb[i] = *(const uint32_t *)(b + g * 32 + i * 16 + 4 * t);
    float sum[4] = {0, 0, 0, 0};
    mma_e4m3(sum, fa, fb);
    for (uint32_t i = 0; i < 4; i++)
        c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

static float whole(uint32_t u)
{
    return (float)(int)(u % 17) - 8;
}

/* a [16, k], b [k, 8] of whole numbers; kernel(c, a, b) takes them as T. */
template <class T> static void check_fragments(void (*kernel)(float *, const T *, const T *), int k, const float *a, const float *b, const T *ta, const T *tb)
{
    T *device_a, *device_b;
    float c[128], *device_c;
    cudaStream_t s;
    assert_int_equal(cudaStreamCreate(&s), cudaSuccess);
    cudaMalloc((void **)&device_a, 16 * k * sizeof *ta);
    cudaMalloc((void **)&device_b, 8 * k * sizeof *tb);
    cudaMalloc((void **)&device_c, sizeof c);
    cudaMemcpyAsync(device_a, ta, 16 * k * sizeof *ta, cudaMemcpyHostToDevice, s);
    cudaMemcpyAsync(device_b, tb, 8 * k * sizeof *tb, cudaMemcpyHostToDevice, s);
    assert_int_equal(prim_launch(kernel, 1, 32, 0, s, device_c, device_a, device_b), cudaSuccess);
    cudaMemcpyAsync(c, device_c, sizeof c, cudaMemcpyDeviceToHost, s);
    for (int i = 0; i < 128; i++) {
        float sum = 0;
        for (int j = 0; j < k; j++)
            sum += a[i / 8 * k + j] * b[j * 8 + i % 8];
        assert_true(c[i] == sum);
    }
    cudaFree(device_a);
    cudaFree(device_b);
    cudaFree(device_c);
    cudaStreamDestroy(s);
}

static void test_product_by_fragments(void **state)
{
    (void)state;
    uint32_t in[CONFORM_IN];
    float a[512], b[256];
    uint16_t bf16_a[256], bf16_b[128];
    uint8_t e4m3_a[512], e4m3_b[256];
    conform_input(in);
    for (int i = 0; i < 512; i++)
        a[i] = whole(in[i]);
    for (int i = 0; i < 256; i++)
        b[i] = whole(in[i + 512]);
    for (int i = 0; i < 256; i++)
        bf16_a[i] = bf16_of_f32(a[i]);
    for (int i = 0; i < 128; i++)
        bf16_b[i] = bf16_of_f32(b[i]);
    for (int i = 0; i < 512; i++)
        e4m3_a[i] = (uint8_t)prim_e4m3_of_f32(a[i]);
    for (int i = 0; i < 256; i++)
        e4m3_b[i % 8 * 32 + i / 8] = (uint8_t)prim_e4m3_of_f32(b[i]);
    check_fragments(product_kernel, 16, a, b, bf16_a, bf16_b);
    check_fragments(product_e4m3_kernel, 32, a, b, e4m3_a, e4m3_b);
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
        cmocka_unit_test(test_planted),               cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
