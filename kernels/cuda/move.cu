/* move.cu - kernels that only move memory, bound by its bandwidth: the cast of a vector (linear's bias), patches of block
 * tables, and the read that measures the bound. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/prim.h"

enum { BLOCK = 256 };

static __global__ void cast_kernel(const float *x, uint16_t *y, size_t n)
{
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    if (i < n)
        y[i] = bf16_of_f32(x[i]);
}

cudaError_t cuda_cast(struct cuda_device *d, const float *x, uint16_t *y, size_t n)
{
    return prim_launch(cast_kernel, dim3((unsigned)((n + BLOCK - 1) / BLOCK)), BLOCK, 0, d->stream, x, y, n);
}

static __global__ void __launch_bounds__(BLOCK) scatter_kernel(struct scatter op)
{
    uint32_t i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < op.n)
        op.y[op.patches[i].at] = op.patches[i].value;
}

cudaError_t cuda_scatter(struct cuda_device *d, const struct scatter *op)
{
    return op->n ? prim_launch(scatter_kernel, (op->n + BLOCK - 1) / BLOCK, BLOCK, 0, d->stream, *op) : cudaSuccess;
}

/* [n] of 16 bytes, four on the way at a time.  The sum is written where it is what it never is by chance, so that no load
 * can be left out. */
static __global__ void read_kernel(const uint4 *p, size_t n, uint32_t *sink)
{
    size_t step = (size_t)gridDim.x * BLOCK;
    uint32_t sum = 0;
    for (size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x; i < n; i += 4 * step) {
        UNROLL for (size_t k = 0; k < 4; k++)
            if (i + k * step < n) {
                uint4 v = load16_once(p + i + k * step);
                sum ^= v.x ^ v.y ^ v.z ^ v.w;
            }
    }
    if (sum == 0x9e3779b9)
        *sink = sum;
}

cudaError_t cuda_read(struct cuda_device *d, const void *p, size_t size, uint32_t *sink)
{
    return prim_launch(read_kernel, dim3((unsigned)d->n_sm * 8), BLOCK, 0, d->stream, (const uint4 *)p, size / 16, sink);
}
