/* order.c - when things happen: what the host waits for, how long the device took, and graphs of ops that are enqueued at once. */
#include <cuda_runtime_api.h>
#include <stdlib.h>

#include "base/mem.h"
#include "kernels/cuda/cuda.h"

void cuda_sync(struct device *base)
{
    struct cuda_device *d = cuda_of(base);
    cuda_need(d, "an op before sync", cudaStreamSynchronize(d->stream));
    cuda_need(d, "a download before sync", cudaStreamSynchronize(d->down));
}

void cuda_mark(struct device *base, int i)
{
    struct cuda_device *d = cuda_of(base);
    cuda_need(d, "mark", cudaEventRecord(d->marks[i].passed, d->stream));
    cuda_need(d, "mark", cudaEventRecord(d->marks[i].fetched, d->down));
}

void cuda_wait(struct device *base, int i)
{
    struct cuda_device *d = cuda_of(base);
    cuda_need(d, "an op before wait", cudaEventSynchronize(d->marks[i].passed));
    cuda_need(d, "a download before wait", cudaEventSynchronize(d->marks[i].fetched));
}

double cuda_elapsed(struct device *base, int from, int to)
{
    struct cuda_device *d = cuda_of(base);
    float ms = 0;
    cuda_need(d, "elapsed", cudaEventElapsedTime(&ms, d->marks[from].passed, d->marks[to].passed));
    return (double)ms * 1e-3;
}

/* ---- graphs ---- */

struct graph { cudaGraphExec_t exec; const void *scratch; };   /* scratch: where it was; its addresses stand in the ops */

void cuda_record(struct device *base)
{
    struct cuda_device *d = cuda_of(base);
    d->recording = true;
    cuda_need(d, "record", cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal));
}

struct graph *cuda_record_end(struct device *base)
{
    struct cuda_device *d = cuda_of(base);
    struct graph *g = mem_alloc(sizeof *g);
    cudaGraph_t ops;
    cuda_need(d, "record", cudaStreamEndCapture(d->stream, &ops));
    cuda_need(d, "cudaGraphInstantiate", cudaGraphInstantiate(&g->exec, ops, 0));
    cuda_need(d, "cudaGraphDestroy", cudaGraphDestroy(ops));
    g->scratch = d->scratch.data;
    d->recording = false;
    return g;
}

bool cuda_replay(struct device *base, const struct graph *g)
{
    struct cuda_device *d = cuda_of(base);
    if (g->scratch != d->scratch.data)
        return false;
    cuda_need(d, "cudaGraphLaunch", cudaGraphLaunch(g->exec, d->stream));
    return true;
}

void cuda_graph_free(struct device *d, struct graph *g)
{
    if (!g)
        return;
    cuda_need(cuda_of(d), "cudaGraphExecDestroy", cudaGraphExecDestroy(g->exec));
    free(g);
}
