/* misuse.cu - see misuse.h. */
#include "misuse.h"

#include "kernels/cuda/prim.h"

/* ---- kernels ---- */

#define KERNEL(name) static __global__ void name##_kernel([[maybe_unused]] float *y)

KERNEL(parted_lanes)
{
    if (lane_id() < 16)
        y[threadIdx.x] = warp_sum(1.0f);
    else
        y[threadIdx.x] = warp_max(1.0f);
}

KERNEL(parted_places)
{
    if (lane_id() < 16)
        y[threadIdx.x] = warp_sum(1.0f);
    else
        y[threadIdx.x] = warp_sum(1.0f);
}

KERNEL(gone_lane)
{
    if (lane_id() == 3)
        return;
    y[threadIdx.x] = warp_sum(1.0f);
}

KERNEL(gone_thread)
{
    if (threadIdx.x == 40)
        return;
    block_sync();
}

KERNEL(parted_barriers)
{
    if (warp_id() == 0)
        block_sync();
    else
        block_sync();
}

KERNEL(deadlock)
{
    if (warp_id() == 0 || lane_id() < 5)
        block_sync();
    else
        warp_sync();
}

KERNEL(misaligned)
{
    store16(y + 1, uint4{0, 0, 0, 0});
}

KERNEL(past_the_end)
{
    store16(y + 1024 + 4 * threadIdx.x, uint4{0, 0, 0, 0});
}

KERNEL(shared_for_global)
{
    SHARED(float, tile, 256);
    y[threadIdx.x] = f32_of_bits(load16_readonly(tile).x);
}

KERNEL(global_for_shared)
{
    uint32_t r[4];
    ldmatrix_x4(r, y);
}

KERNEL(host_address)
{
    static float host[4];
    y[threadIdx.x] = f32_of_bits(load16(host).x);
}

KERNEL(written_readonly)
{
    uint4 v = load16_readonly(y + 4 * threadIdx.x);
    y[4 * threadIdx.x] = f32_of_bits(v.x ^ 1);
}

KERNEL(copy_past_the_end)
{
    SHARED(float, tile, 256);
    cp_async16(tile + 8 * (threadIdx.x % 32), y + 1020, 16);
    cp_async16(tile + 8 * (threadIdx.x % 32) + 4, y + 1024, 16);
    cp_async_commit();
    cp_async_wait<0>();
}

KERNEL(copy_left)
{
    SHARED(float, tile, 256);
    cp_async16(tile + 4 * (threadIdx.x % 64), y, 16);
    cp_async_commit();
}

KERNEL(copy_uncommitted)
{
    SHARED(float, tile, 256);
    cp_async16(tile + 4 * (threadIdx.x % 64), y, 16);
    cp_async_wait<0>();
}

KERNEL(shared_past_the_end)
{
    SHARED_DYNAMIC(float, tile);
    tile[threadIdx.x + 1] = 1;
}

KERNEL(global_past_the_end)
{
    y[1024 + threadIdx.x] = 1;
}

KERNEL(nothing)
{
}

KERNEL(much_shared)
{
    SHARED(float, tile, 32 << 10);
    tile[threadIdx.x] = 1;
}

KERNEL(much_stack)
{
    volatile char local[1 << 20];
    for (uint32_t i = sizeof local; i; i -= 1024)
        local[i - 1] = 1;
    y[0] = (float)local[threadIdx.x];
}

/* ---- programs ---- */

static cudaStream_t stream(void)
{
    cudaStream_t s;
    cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    return s;
}

static float *floats(size_t n)
{
    float *p;
    cudaMalloc((void **)&p, n * sizeof *p);
    return p;
}

template <void (*KERNEL)(float *), uint32_t BLOCK, uint32_t DYNAMIC> static void launch(void)
{
    cudaStream_t s = stream();
    prim_launch(KERNEL, 1, BLOCK, DYNAMIC, s, floats(1024));
    cudaStreamSynchronize(s);
}

static void empty_grid(void)
{
    prim_launch(nothing_kernel, 0, 32, 0, stream(), floats(1));
}

static void default_stream(void)
{
    prim_launch(nothing_kernel, 1, 32, 0, 0, floats(1));
}

static void host_reads(void)
{
    volatile float *p = floats(1);
    (void)p[0];
}

static void copy_too_much(void)
{
    static float host[16];
    cudaMemcpyAsync(floats(8), host, sizeof host, cudaMemcpyHostToDevice, stream());
}

static void copy_of_wrong_kind(void)
{
    static float host[16];
    cudaMemcpyAsync(floats(16), host, sizeof host, cudaMemcpyDeviceToHost, stream());
}

static void pageable_in_capture(void)
{
    static float host[16];
    cudaStream_t s = stream();
    float *p = floats(16);
    cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
    cudaMemcpyAsync(p, host, sizeof host, cudaMemcpyHostToDevice, s);
}

static void wait_in_capture(void)
{
    cudaStream_t s = stream();
    cudaStreamBeginCapture(s, cudaStreamCaptureModeGlobal);
    cudaStreamSynchronize(s);
}

static void unjoined_capture(void)
{
    cudaStream_t a = stream(), b = stream();
    cudaEvent_t e;
    cudaGraph_t g;
    float *p = floats(16);
    cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
    cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal);
    cudaEventRecord(e, a);
    cudaStreamWaitEvent(b, e, 0);
    cudaMemsetAsync(p, 0, 64, b);
    cudaStreamEndCapture(a, &g);
}

static void event_of_ended_capture(void)
{
    cudaStream_t a = stream(), b = stream();
    cudaEvent_t e;
    cudaGraph_t g;
    cudaEventCreateWithFlags(&e, cudaEventDisableTiming);
    cudaStreamBeginCapture(a, cudaStreamCaptureModeGlobal);
    cudaEventRecord(e, a);
    cudaStreamEndCapture(a, &g);
    cudaStreamWaitEvent(b, e, 0);
}

static void free_twice(void)
{
    float *p = floats(16);
    cudaFree(p);
    cudaFree(p);
}

const struct misuse misuse[] = {
    { "lanes in different calls", launch<parted_lanes_kernel, 32, 0>, "the lanes of a warp part" },
    { "lanes in different places", launch<parted_places_kernel, 32, 0>, "the lanes of a warp part" },
    { "a lane has returned", launch<gone_lane_kernel, 32, 0>, "waits for" },
    { "a thread has returned", launch<gone_thread_kernel, 64, 0>, "block_sync waits for" },
    { "different barriers", launch<parted_barriers_kernel, 64, 0>, "the threads of a block part" },
    { "deadlock", launch<deadlock_kernel, 64, 0>, "threads 37 to 63 wait in warp_sync at tests/cudaemu/misuse.cu:" },
    { "misaligned store", launch<misaligned_kernel, 32, 0>, "no multiple of 16" },
    { "store past the end", launch<past_the_end_kernel, 32, 0>, "outside of what was allocated" },
    { "shared for global", launch<shared_for_global_kernel, 32, 0>, "wants an address in global memory" },
    { "global for shared", launch<global_for_shared_kernel, 32, 0>, "wants an address in shared memory" },
    { "host address", launch<host_address_kernel, 32, 0>, "neither device nor shared memory" },
    { "read-only, but written", launch<written_readonly_kernel, 32, 0>, "a read-only load at" },
    { "copy past the end", launch<copy_past_the_end_kernel, 32, 0>, "outside of what was allocated" },
    { "copy never waited for", launch<copy_left_kernel, 32, 0>, "copies under way" },
    { "copy never committed", launch<copy_uncommitted_kernel, 32, 0>, "copies under way" },
    { "shared write past the end", launch<shared_past_the_end_kernel, 32, 128>, "" },
    { "global write past the end", launch<global_past_the_end_kernel, 32, 0>, "" },
    { "block of 48", launch<nothing_kernel, 48, 0>, "a block of 48 threads" },
    { "block of 2048", launch<nothing_kernel, 2048, 0>, "a block of 2048 threads" },
    { "49 KiB without asking", launch<nothing_kernel, 32, 49 << 10>, "need prim_allow_shared" },
    { "228 KiB", launch<nothing_kernel, 32, 228 << 10>, "is the most" },
    { "128 KiB static", launch<much_shared_kernel, 32, 0>, "is the most" },
    { "1 MiB of stack", launch<much_stack_kernel, 32, 0>, "" },
    { "empty grid", empty_grid, "a grid of 0 x 1 x 1 blocks" },
    { "default stream", default_stream, "on the default stream" },
    { "host reads device memory", host_reads, "the host touches device memory: byte 0 of the allocation of 4 bytes" },
    { "copy past an allocation", copy_too_much, "cudaMemcpyAsync of 64 bytes" },
    { "copy of the wrong kind", copy_of_wrong_kind, "of kind 2" },
    { "pageable memory in a capture", pageable_in_capture, "pageable memory while a stream is captured" },
    { "waiting in a capture", wait_in_capture, "cudaStreamSynchronize while a stream is captured" },
    { "unjoined capture", unjoined_capture, "has not been joined" },
    { "event of an ended capture", event_of_ended_capture, "of a capture that has ended" },
    { "freed twice", free_twice, "which is no allocation" },
};
const int n_misuse = sizeof misuse / sizeof misuse[0];
