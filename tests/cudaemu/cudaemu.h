/* cudaemu.h - what kernels/cuda/prim.h offers to kernels, for the host: every function of the same name and meaning,
 * with its use checked.  A thread is a fiber; it runs until it must wait for others.
 *
 * This header is compiled into the kernels, so that the sanitizers see its loads and stores as the kernel's own; what it
 * calls (emu_*, block.cpp and memory.cpp) is not instrumented. */
#ifndef CUDAEMU_H
#define CUDAEMU_H

#include <functional>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tuple>

#include <cuda_runtime_api.h>

#define DEVICE [[maybe_unused]] static inline
#define UNROLL
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif

/* Where a call stands, for messages: a last argument that nobody gives. */
struct emu_site {
    const char *file;
    int line;
    emu_site(const char *f = __builtin_FILE(), int l = __builtin_LINE()) : file(f), line(l) {}
};
#define EMU_AT emu_site at = emu_site()

struct emu_index { uint3 thread, block; dim3 block_dim, grid_dim; };
extern const emu_index *emu_index_now;
#define threadIdx (emu_index_now->thread)
#define blockIdx  (emu_index_now->block)
#define blockDim  (emu_index_now->block_dim)
#define gridDim   (emu_index_now->grid_dim)

/* ---- the core ---- */

struct emu_lane { uint32_t word[6]; };

/* Waits until all lanes of the warp have called it; what they gave, by lane, until the next call but one. */
const emu_lane *emu_gather(const char *what, const uint32_t *word, int n, emu_site at);
void emu_warp_sync(emu_site at);
void emu_block_sync(emu_site at);
void emu_fence(void);

enum emu_space { EMU_GLOBAL = 1, EMU_SHARED = 2, EMU_BOTH = 3 };
void emu_check(const char *what, const void *p, size_t size, size_t align, int space, emu_site at);
void emu_atomic(const char *what, void *p, size_t size, emu_site at);      /* checks, and orders with fences */

void emu_readonly(const void *p);                      /* 16 bytes that the kernel must not write */

void *emu_shared(const void *key, size_t size, const char *name, emu_site at);
void *emu_dynamic_shared(void);

struct emu_copy { void *to; const void *from; uint32_t size, group; };
bool emu_copy_issue(void *shared, const void *global, uint32_t size, emu_site at);     /* true: copy at once */
void emu_copy_commit(void);
bool emu_copy_due(uint32_t n_left, emu_copy *c);       /* the next that the wait covers */
void emu_hide(void *p, size_t size);                   /* nobody may touch it until shown */
void emu_show(void *p, size_t size);

void emu_mma_bf16(float c[4], const emu_lane *all, uint32_t lane);
void emu_mma_e4m3(float c[4], const emu_lane *all, uint32_t lane);

uint32_t emu_f16_of_f32(float x);
float    emu_f32_of_f16(uint32_t h);

struct emu_kernel {
    emu_site at;
    const void *function;
    dim3 grid;
    uint32_t block;
    size_t dynamic_shared;
    std::function<void()> body;        /* one thread */
};
cudaError_t emu_launch(const emu_kernel &k, cudaStream_t stream);

/* ---- shared memory ---- */

#define SHARED(type, name, n)                                                                              \
    static char name##_key;                                                                                \
    type (&name)[n] = *(type (*)[n])emu_shared(&name##_key, sizeof(type[n]), #name, emu_site{__FILE__, __LINE__})
#define SHARED_DYNAMIC(type, name) type *name = (type *)emu_dynamic_shared()

/* ---- threads, warps, blocks ---- */

DEVICE uint32_t lane_id(void) { return threadIdx.x % 32; }
DEVICE uint32_t warp_id(void) { return threadIdx.x / 32; }

DEVICE void block_sync(EMU_AT) { emu_block_sync(at); }
DEVICE void warp_sync(EMU_AT)  { emu_warp_sync(at); }
DEVICE void fence(void)        { emu_fence(); }

template <class T> DEVICE T emu_value(const emu_lane *l)
{
    T v;
    static_assert(sizeof v == 4 || sizeof v == 8);
    memcpy(&v, l->word, sizeof v);
    return v;
}

template <class T> DEVICE const emu_lane *emu_gather_value(const char *what, T v, emu_site at)
{
    uint32_t word[2] = {};
    static_assert(sizeof v == 4 || sizeof v == 8);
    memcpy(word, &v, sizeof v);
    return emu_gather(what, word, sizeof v / 4, at);
}

template <class T> DEVICE T emu_shuffle(const char *what, T v, uint32_t from, emu_site at)
{
    const emu_lane *all = emu_gather_value(what, v, at);
    return emu_value<T>(&all[from]);
}

template <class T> DEVICE T warp_shuffle(T v, uint32_t lane, EMU_AT)     { return emu_shuffle("warp_shuffle", v, lane % 32, at); }
template <class T> DEVICE T warp_shuffle_xor(T v, uint32_t mask, EMU_AT) { return emu_shuffle("warp_shuffle_xor", v, (lane_id() ^ mask) % 32, at); }
template <class T> DEVICE T warp_shuffle_down(T v, uint32_t step, EMU_AT)
{
    return emu_shuffle("warp_shuffle_down", v, lane_id() + step < 32 ? lane_id() + step : lane_id(), at);
}
template <class T> DEVICE T warp_shuffle_up(T v, uint32_t step, EMU_AT)
{
    return emu_shuffle("warp_shuffle_up", v, lane_id() >= step ? lane_id() - step : lane_id(), at);
}

DEVICE uint32_t emu_vote(const char *what, bool yes, emu_site at)
{
    const emu_lane *all = emu_gather_value(what, (uint32_t)yes, at);
    uint32_t mask = 0;
    for (int i = 0; i < 32; i++)
        mask |= all[i].word[0] << i;
    return mask;
}

DEVICE uint32_t warp_ballot(bool yes, EMU_AT) { return emu_vote("warp_ballot", yes, at); }
DEVICE bool     warp_any(bool yes, EMU_AT)    { return emu_vote("warp_any", yes, at) != 0; }
DEVICE bool     warp_all(bool yes, EMU_AT)    { return emu_vote("warp_all", yes, at) == ~0u; }

/* The steps of prim.h that lead to this lane's result, in its order: v[i] is what lane i ^ lane_id() has. */
template <class T, class F> DEVICE T emu_butterfly(const emu_lane *all, F join)
{
    T v[32];
    for (uint32_t i = 0; i < 32; i++)
        v[i] = emu_value<T>(&all[i ^ lane_id()]);
    for (uint32_t step = 16; step; step /= 2)
        for (uint32_t i = 0; i < step; i++)
            v[i] = join(v[i], v[i + step]);
    return v[0];
}

template <class T> DEVICE T warp_sum(T v, EMU_AT)
{
    return emu_butterfly<T>(emu_gather_value("warp_sum", v, at), [](T a, T b) { return (T)(a + b); });
}
template <class T> DEVICE T warp_max(T v, EMU_AT)
{
    return emu_butterfly<T>(emu_gather_value("warp_max", v, at), [](T a, T b) { return b > a ? b : a; });
}

/* ---- atomics: relaxed, so that the race detector takes them for no order ---- */

template <class T> DEVICE T emu_atomic_add(T *p, T v, emu_site at)
{
    emu_atomic("atomic_add", p, sizeof *p, at);
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}

template <class T> DEVICE T emu_atomic_max(T *p, T v, emu_site at)
{
    emu_atomic("atomic_max", p, sizeof *p, at);
    T old = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (v > old && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        ;
    return old;
}

template <class T> DEVICE T emu_atomic_cas(T *p, T old, T v, emu_site at)
{
    emu_atomic("atomic_cas", p, sizeof *p, at);
    __atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return old;
}

DEVICE uint32_t atomic_add(uint32_t *p, uint32_t v, EMU_AT) { return emu_atomic_add(p, v, at); }
DEVICE uint64_t atomic_add(uint64_t *p, uint64_t v, EMU_AT) { return emu_atomic_add(p, v, at); }
DEVICE uint32_t atomic_max(uint32_t *p, uint32_t v, EMU_AT) { return emu_atomic_max(p, v, at); }
DEVICE int32_t  atomic_max(int32_t *p, int32_t v, EMU_AT)   { return emu_atomic_max(p, v, at); }
DEVICE uint64_t atomic_max(uint64_t *p, uint64_t v, EMU_AT) { return emu_atomic_max(p, v, at); }
DEVICE uint32_t atomic_cas(uint32_t *p, uint32_t old, uint32_t v, EMU_AT) { return emu_atomic_cas(p, old, v, at); }
DEVICE uint64_t atomic_cas(uint64_t *p, uint64_t old, uint64_t v, EMU_AT) { return emu_atomic_cas(p, old, v, at); }

DEVICE float atomic_add(float *p, float v, EMU_AT)
{
    emu_atomic("atomic_add", p, sizeof *p, at);
    uint32_t *u = (uint32_t *)p, old = __atomic_load_n(u, __ATOMIC_RELAXED), sum;
    float f;
    do {
        memcpy(&f, &old, 4);
        f += v;
        memcpy(&sum, &f, 4);
    } while (!__atomic_compare_exchange_n(u, &old, sum, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    memcpy(&f, &old, 4);
    return f;
}

/* ---- 16 bytes at a time ---- */

DEVICE uint4 load16(const void *p, EMU_AT)
{
    emu_check("load16", p, 16, 16, EMU_BOTH, at);
    return *(const uint4 *)p;
}
DEVICE void store16(void *p, uint4 v, EMU_AT)
{
    emu_check("store16", p, 16, 16, EMU_BOTH, at);
    *(uint4 *)p = v;
}
DEVICE uint4 load16_readonly(const void *p, EMU_AT)
{
    emu_check("load16_readonly", p, 16, 16, EMU_GLOBAL, at);
    emu_readonly(p);
    return *(const uint4 *)p;
}
DEVICE uint4 load16_once(const void *p, EMU_AT)
{
    emu_check("load16_once", p, 16, 16, EMU_GLOBAL, at);
    emu_readonly(p);
    return *(const uint4 *)p;
}

/* ---- cp.async: the destination is not a number from the call until the copy, and nobody's ---- */

DEVICE void emu_copy_now(const emu_copy *c)
{
    uint8_t *to = (uint8_t *)c->to;
    const uint8_t *from = (const uint8_t *)c->from;
    emu_show(to, 16);
    for (uint32_t i = 0; i < 16; i++)
        to[i] = i < c->size ? from[i] : 0;
}

DEVICE void cp_async16(void *shared, const void *global, uint32_t src_bytes, EMU_AT)
{
    if (emu_copy_issue(shared, global, src_bytes, at)) {
        emu_copy c = {shared, global, src_bytes, 0};
        emu_copy_now(&c);
    } else {
        *(uint4 *)shared = uint4{~0u, ~0u, ~0u, ~0u};
        emu_hide(shared, 16);
    }
}

DEVICE void cp_async_commit(void) { emu_copy_commit(); }

template <int N> DEVICE void cp_async_wait(void)
{
    for (emu_copy c; emu_copy_due(N, &c);)
        emu_copy_now(&c);
}

/* ---- tensor cores ---- */

DEVICE const emu_lane *emu_matrix_rows(const char *what, const void *row, emu_site at)
{
    emu_check(what, row, 16, 16, EMU_SHARED, at);
    uint4 v = *(const uint4 *)row;
    uint32_t word[4] = {v.x, v.y, v.z, v.w};
    return emu_gather(what, word, 4, at);
}

DEVICE void ldmatrix_x4(uint32_t r[4], const void *row, EMU_AT)
{
    const emu_lane *all = emu_matrix_rows("ldmatrix_x4", row, at);
    for (uint32_t j = 0; j < 4; j++)
        r[j] = all[8 * j + lane_id() / 4].word[lane_id() % 4];
}

DEVICE void ldmatrix_x4_trans(uint32_t r[4], const void *row, EMU_AT)
{
    const emu_lane *all = emu_matrix_rows("ldmatrix_x4_trans", row, at);
    uint32_t column = lane_id() / 4, shift = column % 2 * 16;
    for (uint32_t j = 0; j < 4; j++) {
        const emu_lane *two = &all[8 * j + lane_id() % 4 * 2];
        r[j] = (two[0].word[column / 2] >> shift & 0xffff) | (two[1].word[column / 2] >> shift & 0xffff) << 16;
    }
}

DEVICE void mma_bf16(float c[4], const uint32_t a[4], const uint32_t b[2], EMU_AT)
{
    uint32_t word[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    emu_mma_bf16(c, emu_gather("mma_bf16", word, 6, at), lane_id());
}

DEVICE void mma_e4m3(float c[4], const uint32_t a[4], const uint32_t b[2], EMU_AT)
{
    uint32_t word[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    emu_mma_e4m3(c, emu_gather("mma_e4m3", word, 6, at), lane_id());
}

/* ---- numbers (compiled with -ffp-contract=off: nothing is fused unasked) ---- */

DEVICE float mul_rn(float a, float b)          { return a * b; }
DEVICE float add_rn(float a, float b)          { return a + b; }
DEVICE float sub_rn(float a, float b)          { return a - b; }
DEVICE float div_rn(float a, float b)          { return a / b; }
DEVICE float sqrt_rn(float a)                  { return sqrtf(a); }
DEVICE float fma_rn(float a, float b, float c) { return fmaf(a, b, c); }

DEVICE float exp2_fast(float x)  { return exp2f(x); }
DEVICE float log2_fast(float x)  { return log2f(x); }
DEVICE float rsqrt_fast(float x) { return (float)(1 / sqrt((double)x)); }
DEVICE float rcp_fast(float x)   { return 1 / x; }

DEVICE uint32_t bits_of_f32(float x)    { uint32_t u; memcpy(&u, &x, 4); return u; }
DEVICE float    f32_of_bits(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }
DEVICE uint32_t mul_high(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
DEVICE uint64_t mul_high(uint64_t a, uint64_t b) { return (uint64_t)((unsigned __int128)a * b >> 64); }
DEVICE uint32_t count_ones(uint32_t u)    { return (uint32_t)__builtin_popcount(u); }
DEVICE uint32_t leading_zeros(uint32_t u) { return u ? (uint32_t)__builtin_clz(u) : 32; }

DEVICE uint32_t emu_bf16_of_f32(float x)
{
    uint32_t u = bits_of_f32(x);
    return (u & 0x7fffffff) > 0x7f800000 ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

DEVICE uint32_t bf16x2_pack(float x, float y) { return emu_bf16_of_f32(x) | emu_bf16_of_f32(y) << 16; }
DEVICE uint32_t f16x2_pack(float x, float y)  { return emu_f16_of_f32(x) | emu_f16_of_f32(y) << 16; }
DEVICE float2   f16x2_unpack(uint32_t u)      { return float2{emu_f32_of_f16(u & 0xffff), emu_f32_of_f16(u >> 16)}; }

/* What every nvcc kernel has without an include. */
DEVICE int      min(int a, int b)           { return a < b ? a : b; }
DEVICE int      max(int a, int b)           { return a > b ? a : b; }
DEVICE uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
DEVICE uint32_t max(uint32_t a, uint32_t b) { return a > b ? a : b; }
DEVICE float    min(float a, float b)       { return fminf(a, b); }
DEVICE float    max(float a, float b)       { return fmaxf(a, b); }

/* ---- launch: the arguments are copied at once, the kernel runs when its stream must ---- */

template <class... P, class... A>
static cudaError_t emu_prim_launch(emu_site at, void (*kernel)(P...), dim3 grid, uint32_t block, size_t dynamic_shared, cudaStream_t stream, A... args)
{
    std::tuple<P...> copy((P)args...);
    return emu_launch({at, (const void *)kernel, grid, block, dynamic_shared, [kernel, copy] { std::apply(kernel, copy); }}, stream);
}
#define prim_launch(...) emu_prim_launch(emu_site{__FILE__, __LINE__}, __VA_ARGS__)

#endif
