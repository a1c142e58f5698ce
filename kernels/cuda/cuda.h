/* cuda.h - what the files of the CUDA device share; C, and C++ for the .cu files.
 * A launcher cuda_<op> checks types and shapes (CHECK), enqueues on the device's stream and returns the launch's error; it
 * allocates nothing and waits for nothing.  device.c puts all of them behind the door and turns an error into words. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include <cuda_runtime_api.h>

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cublaslt;               /* linear.c: the library, its handle and workspace, and the plans made so far */

struct cuda_device {
    struct device base;        /* first: a struct device * of this device is a struct cuda_device * */
    int ordinal, n_sm;
    int capability;            /* 90 for sm_90 */
    size_t shared_most;        /* bytes of dynamic shared memory that a block may ask for */
    cudaStream_t stream;
    struct cublaslt *lt;
    struct { void *data; size_t size; } scratch;   /* device memory that an op may use until the next op; grows before steps begin */
    struct { void *host, *data; size_t size; } rows;       /* pinned, and its copy: sample's rows and edits */
};

/* [n_out, n_in] row-major, as the host has it: cublasLt takes it as it lies. */
struct weight {
    enum dtype dtype;          /* bf16; fp8 e4m3 with a scale a row */
    uint32_t n_in, n_out;
    void *data;
    float *scale;              /* [n_out] fp8: what a step of the row is worth; or NULL */
    size_t size;               /* bytes of both */
};

/* [n_layer][n_block][n_kv_head][K, V][block_size][d_head], bf16 or fp8 e4m3: what one KV head reads of a block is one
 * stretch of memory, and a row of it a multiple of 16 bytes. */
struct kv { struct kv_shape shape; char *data; size_t size, head_size; };      /* head_size: bytes of K, or of V, of a head of a block */

#ifdef __CUDACC__
#define KV_INLINE static __host__ __device__ inline
#else
#define KV_INLINE static inline
#endif

/* K of a KV head in a block; its V is head_size behind. */
KV_INLINE char *kv_head_at(const struct kv *kv, uint32_t layer, uint32_t block, uint32_t head)
{
    return kv->data + (((size_t)layer * kv->shape.n_block + block) * kv->shape.n_kv_head + head) * 2 * kv->head_size;
}

/* rows.cu */
cudaError_t cuda_embed(struct cuda_device *d, const struct embed *op);
cudaError_t cuda_norm(struct cuda_device *d, const struct norm *op);
cudaError_t cuda_act(struct cuda_device *d, const struct act *op);
cudaError_t cuda_gather(struct cuda_device *d, const struct gather *op);

/* rope.cu */
cudaError_t cuda_rope_store(struct cuda_device *d, const struct rope_store *op);

/* attention.cu chooses between prefill.cu (tensor cores) and decode.cu (split over the keys), sequence by sequence.  Scratch: of
 * the op, its n_seq and table_cols being the largest to come; pointers are not looked at. */
cudaError_t cuda_attention(struct cuda_device *d, const struct attention *op);
size_t      cuda_attention_scratch(const struct attention *op);

/* sample.cu: rows and edits are on the device here; the edits are used up. */
cudaError_t cuda_sample(struct cuda_device *d, const struct sample *op, const struct sample_row *rows, struct logit_edit *edits);

/* linear.c */
cudaError_t cuda_linear(struct cuda_device *d, const struct linear *op);

#ifdef __cplusplus
}
#endif
#endif
