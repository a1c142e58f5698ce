/* planted.cu - see planted.h.  Every kernel has BUG as a constant of its template; without it, it is right. */
#include "planted.h"

#include "kernels/cuda/prim.h"

enum { N_THREAD = 128, N_BLOCK = 6, N = N_THREAD * N_BLOCK };

/* ---- kernels: n is N; what each should give is in the table at the end ---- */

/* y[i] = x[i ^ 32] */
template <bool BUG> static __global__ void swap_kernel(float *y, const float *x)
{
    SHARED(float, tile, N_THREAD);
    uint32_t t = threadIdx.x, i = blockIdx.x * N_THREAD + t;
    tile[t] = x[i];
    if (!BUG)
        block_sync();
    y[i] = tile[t ^ 32];
}

/* y[i] = x[i ^ 1] */
template <bool BUG> static __global__ void swap_in_warp_kernel(float *y, const float *x)
{
    SHARED(float, tile, N_THREAD);
    uint32_t t = threadIdx.x, i = blockIdx.x * N_THREAD + t;
    tile[t] = x[i];
    if (!BUG)
        warp_sync();
    y[i] = tile[t ^ 1];
}

/* y[i] = x[i] by 16 bytes a thread. */
template <bool BUG> static __global__ void copy_kernel(float *y, const float *x)
{
    SHARED(float, tile, N_THREAD);
    uint32_t t = threadIdx.x, i = blockIdx.x * N_THREAD + t;
    if (t < N_THREAD / 4)
        cp_async16(tile + 4 * t, x + blockIdx.x * N_THREAD + 4 * t, 16);
    cp_async_commit();
    if (!BUG)
        cp_async_wait<0>();
    block_sync();
    y[i] = tile[t];
    cp_async_wait<0>();
}

/* y[i] = sum over blocks b of x[b * N_THREAD + (i ^ 32) % N_THREAD], through two buffers filled ahead */
template <bool BUG> static __global__ void ring_kernel(float *y, const float *x)
{
    SHARED(float, tile, 2 * N_THREAD);
    uint32_t t = threadIdx.x;
    float sum = 0;
    for (uint32_t b = 0; b <= N_BLOCK; b++) {
        if (!BUG)
            block_sync();
        if (b < N_BLOCK && t < N_THREAD / 4)
            cp_async16(tile + b % 2 * N_THREAD + 4 * t, x + b * N_THREAD + 4 * t, 16);
        cp_async_commit();
        cp_async_wait<1>();
        block_sync();
        if (b)
            sum += tile[(b - 1) % 2 * N_THREAD + (t ^ 32)];
    }
    cp_async_wait<0>();
    y[blockIdx.x * N_THREAD + t] = sum;
}

/* y[i] = x[i] */
template <bool BUG> static __global__ void shared_index_kernel(float *y, const float *x)
{
    SHARED(float, tile, N_THREAD);
    uint32_t t = threadIdx.x, i = blockIdx.x * N_THREAD + t;
    tile[t] = x[i];
    if (BUG)
        tile[t + 1] = x[i];
    y[i] = tile[t];
}

/* y[i] = x[i] + 0 x[i + 1] */
template <bool BUG> static __global__ void global_index_kernel(float *y, const float *x, uint32_t n)
{
    uint32_t i = blockIdx.x * N_THREAD + threadIdx.x;
    float beside = i + 1 < n || BUG ? x[i + 1] : 0;
    y[i] = x[i] + (beside > 1e30f ? 1.0f : 0.0f);
}

/* y[t] = sum over blocks of x[b * N_THREAD + t], of whole numbers */
template <bool BUG> static __global__ void update_kernel(float *y, const float *x)
{
    uint32_t t = threadIdx.x, i = blockIdx.x * N_THREAD + t;
    if (BUG)
        y[t] += x[i];
    else
        atomic_add(y + t, x[i]);
}

/* y[0] = sum of x, of whole numbers, by the block that is last to count itself */
template <bool BUG> static __global__ void last_block_kernel(float *y, const float *x, float *part, uint32_t *count)
{
    SHARED(float, scratch, 32);
    SHARED(uint32_t, last, 1);
    float sum = block_sum(x[blockIdx.x * N_THREAD + threadIdx.x], scratch);
    if (threadIdx.x == 0) {
        part[blockIdx.x] = sum;
        if (!BUG)
            fence();
        last[0] = atomic_add(count, 1u) == gridDim.x - 1;
        fence();
    }
    block_sync();
    if (!last[0])
        return;
    sum = block_sum(threadIdx.x < gridDim.x ? part[threadIdx.x] : 0.0f, scratch);
    if (threadIdx.x == 0)
        y[0] = sum;
}

/* y[i] = sum over b of x[b * N_THREAD + (i ^ 32) % N_THREAD] */
template <bool BUG> static __global__ void loop_kernel(float *y, const float *x)
{
    SHARED(float, tile, N_THREAD);
    uint32_t t = threadIdx.x;
    float sum = 0;
    for (uint32_t b = 0; b < N_BLOCK; b++) {
        tile[t] = x[b * N_THREAD + t];
        block_sync();
        sum += tile[t ^ 32];
        if (!BUG)
            block_sync();
    }
    y[blockIdx.x * N_THREAD + t] = sum;
}

static __global__ void double_kernel(float *y, const float *x)
{
    uint32_t i = blockIdx.x * N_THREAD + threadIdx.x;
    y[i] = 2 * x[i];
}

/* ---- what they work on ---- */

struct place {
    float *x, *y, *part;               /* device: [N], [N], [N_BLOCK] */
    uint32_t *count;
    float *in, *out;                   /* pinned [N] */
    cudaStream_t a, b;
    cudaEvent_t event;
};

static void place_open(struct place *p)
{
    cudaMalloc((void **)&p->x, N * sizeof(float));
    cudaMalloc((void **)&p->y, N * sizeof(float));
    cudaMalloc((void **)&p->part, N_BLOCK * sizeof(float));
    cudaMalloc((void **)&p->count, sizeof(uint32_t));
    cudaMallocHost((void **)&p->in, N * sizeof(float));
    cudaMallocHost((void **)&p->out, N * sizeof(float));
    cudaStreamCreateWithFlags(&p->a, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&p->b, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&p->event, cudaEventDisableTiming);
    for (int i = 0; i < N; i++)
        p->in[i] = (float)(i * 37 % 101);
    cudaMemsetAsync(p->y, 0, N * sizeof(float), p->a);
    cudaMemsetAsync(p->count, 0, sizeof(uint32_t), p->a);
    cudaMemcpyAsync(p->x, p->in, N * sizeof(float), cudaMemcpyHostToDevice, p->a);
    cudaStreamSynchronize(p->a);
}

static void place_close(struct place *p)
{
    cudaFree(p->x);
    cudaFree(p->y);
    cudaFree(p->part);
    cudaFree(p->count);
    cudaFreeHost(p->in);
    cudaFreeHost(p->out);
    cudaStreamDestroy(p->a);
    cudaStreamDestroy(p->b);
    cudaEventDestroy(p->event);
}

static void fetch(struct place *p, cudaStream_t s)
{
    cudaMemcpyAsync(p->out, p->y, N * sizeof(float), cudaMemcpyDeviceToHost, s);
}

#define PICK(kernel) (bug ? kernel<true> : kernel<false>)

static void run_kernel(enum planted which, bool bug, struct place *p)
{
    switch (which) {
    case PLANTED_NO_BARRIER:   prim_launch(PICK(swap_kernel), N_BLOCK, N_THREAD, 0, p->a, p->y, p->x); break;
    case PLANTED_NO_WARP_SYNC: prim_launch(PICK(swap_in_warp_kernel), N_BLOCK, N_THREAD, 0, p->a, p->y, p->x); break;
    case PLANTED_NO_COPY_WAIT: prim_launch(PICK(copy_kernel), N_BLOCK, N_THREAD, 0, p->a, p->y, p->x); break;
    case PLANTED_EARLY_COPY:   prim_launch(PICK(ring_kernel), N_BLOCK, N_THREAD, 0, p->a, p->y, p->x); break;
    case PLANTED_SHARED_INDEX: prim_launch(PICK(shared_index_kernel), N_BLOCK, N_THREAD, 0, p->a, p->y, p->x); break;
    case PLANTED_GLOBAL_INDEX: prim_launch(PICK(global_index_kernel), N_BLOCK, N_THREAD, 0, p->a, p->y, p->x, N); break;
    case PLANTED_LOST_UPDATE:  prim_launch(PICK(update_kernel), N_BLOCK, N_THREAD, 0, p->a, p->y, p->x); break;
    case PLANTED_NO_FENCE:
        prim_launch(PICK(last_block_kernel), N_BLOCK, N_THREAD, 0, p->a, p->y, p->x, p->part, p->count);
        break;
    case PLANTED_LOOP_CARRIED: prim_launch(PICK(loop_kernel), N_BLOCK, N_THREAD, 0, p->a, p->y, p->x); break;
    default:                   prim_launch(double_kernel, N_BLOCK, N_THREAD, 0, p->a, p->y, p->x); break;
    }
    fetch(p, p->a);
    if (!(which == PLANTED_EARLY_READ && bug))
        cudaStreamSynchronize(p->a);
}

/* One stream makes y, the other fetches it. */
static void run_two_streams(bool bug, struct place *p)
{
    prim_launch(double_kernel, N_BLOCK, N_THREAD, 0, p->a, p->y, p->x);
    if (!bug) {
        cudaEventRecord(p->event, p->a);
        cudaStreamWaitEvent(p->b, p->event, 0);
    }
    fetch(p, p->b);
    cudaStreamSynchronize(p->b);
}

/* Captured: a makes y; b fetches it and is joined. */
static void run_graph(bool bug, struct place *p)
{
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    cudaStreamBeginCapture(p->a, cudaStreamCaptureModeGlobal);
    if (bug) {
        cudaEventRecord(p->event, p->a);
        cudaStreamWaitEvent(p->b, p->event, 0);
    }
    prim_launch(double_kernel, N_BLOCK, N_THREAD, 0, p->a, p->y, p->x);
    if (!bug) {
        cudaEventRecord(p->event, p->a);
        cudaStreamWaitEvent(p->b, p->event, 0);
    }
    fetch(p, p->b);
    cudaEventRecord(p->event, p->b);
    cudaStreamWaitEvent(p->a, p->event, 0);
    cudaStreamEndCapture(p->a, &graph);
    cudaGraphInstantiate(&exec, graph, 0);
    cudaGraphDestroy(graph);
    cudaGraphLaunch(exec, p->a);
    cudaStreamSynchronize(p->a);
    cudaGraphExecDestroy(exec);
}

/* ---- what is right ---- */

static float want(enum planted which, const float *x, int i)
{
    int t = i % N_THREAD;
    float sum = 0;
    switch (which) {
    case PLANTED_NO_BARRIER: return x[i ^ 32];
    case PLANTED_NO_WARP_SYNC: return x[i ^ 1];
    case PLANTED_NO_COPY_WAIT: case PLANTED_SHARED_INDEX: case PLANTED_GLOBAL_INDEX: return x[i];
    case PLANTED_EARLY_COPY: case PLANTED_LOOP_CARRIED: case PLANTED_LOST_UPDATE:
        if (which == PLANTED_LOST_UPDATE && i >= N_THREAD)
            return 0;
        for (int b = 0; b < N_BLOCK; b++)
            sum += x[b * N_THREAD + (which == PLANTED_LOST_UPDATE ? t : t ^ 32)];
        return sum;
    case PLANTED_NO_FENCE:
        for (int j = 0; j < N && i == 0; j++)
            sum += x[j];
        return sum;
    default: return 2 * x[i];
    }
}

bool planted_run(enum planted which, bool bug)
{
    struct place p;
    place_open(&p);
    if (which == PLANTED_NO_EVENT)
        run_two_streams(bug, &p);
    else if (which == PLANTED_NO_EDGE)
        run_graph(bug, &p);
    else
        run_kernel(which, bug, &p);
    bool right = true;
    for (int i = 0; i < N; i++)
        right = right && p.out[i] == want(which, p.in, i);
    place_close(&p);
    return right;
}

const char *planted_name(enum planted p)
{
    static const char *const name[N_PLANTED] = {
        "no barrier", "no warp sync", "no cp.async wait", "early cp.async", "shared index", "global index", "lost update",
        "no fence", "loop carried", "early read", "no event", "no edge",
    };
    return name[p];
}
