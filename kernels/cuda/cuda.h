/* cuda.h - what the files of the CUDA device share; C, and C++ for the .cu files.
 * A launcher cuda_<op> checks types and shapes (CHECK), enqueues on the device's stream and returns the launch's error; it
 * allocates nothing and waits for nothing: cuda_<op>_scratch tells beforehand what it needs of d->scratch.  device.c puts all
 * of them behind the door and turns an error into words.  The device belongs to the thread that opened it. */
#ifndef KERNELS_CUDA_CUDA_H
#define KERNELS_CUDA_CUDA_H

#include <cuda_runtime_api.h>

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cublaslt;               /* linear.c: the library, its handle and workspace, and the plans made so far (plans.h) */
struct nvml;                   /* nvml.c */

/* Pinned memory on the way to the device: pieces in turn, each free again when what was copied from it has arrived. */
#define CUDA_PIECE ((size_t)4 << 20)
enum { CUDA_N_PIECE = 4 };
struct cuda_staging {
    char *data;                /* [CUDA_N_PIECE][CUDA_PIECE] */
    cudaEvent_t arrived[CUDA_N_PIECE];
    int piece;
    size_t used;               /* bytes of the piece */
};

struct cuda_buffer { void *data; size_t size; };       /* device memory that grows and stays grown */

/* What is enqueued goes to the stream; what comes back leaves it for a second one, so that no op waits for a copy. */
struct cuda_marks { cudaEvent_t passed, fetched; };     /* of the stream; of the downloads enqueued before it */

struct cuda_device {
    struct device base;        /* first: a struct device * of this device is a struct cuda_device * */
    char gpu[64];
    int ordinal, n_sm;
    int capability;            /* 90 for sm_90 */
    size_t shared_most;        /* bytes of dynamic shared memory that a block may ask for */
    cudaStream_t stream, down;
    cudaEvent_t ready;         /* what is to be downloaded */
    struct cuda_staging staging;
    struct cuda_marks marks[N_MARK];
    bool recording;
    struct cublaslt *lt;
    struct nvml *nvml;
    struct cuda_buffer scratch;        /* an op may use it until the next op */
    struct cuda_buffer rows, edits;    /* sample's */
};

static inline struct cuda_device *cuda_of(struct device *d)
{
    return (struct cuda_device *)d;
}

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

/* rows.cu; quantise: x bf16 or f32, row r of it about y[r] * scale[r] in e4m3, with the largest of a row at e4m3's largest. */
cudaError_t cuda_quantise(struct cuda_device *d, const struct tensor *x, uint8_t *y, float *scale);
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

/* move.cu: scatter; y = bf16 of x; and reads all of p, whose size is a multiple of 16, for nothing but the time it takes. */
cudaError_t cuda_scatter(struct cuda_device *d, const struct scatter *op);
cudaError_t cuda_cast(struct cuda_device *d, const float *x, uint16_t *y, size_t n);
cudaError_t cuda_read(struct cuda_device *d, const void *p, size_t size, uint32_t *sink);

/* linear.c: x bf16, w bf16 or e4m3 (then x is quantised, a scale a row), sums in f32; a residual goes with y in f32 only.
 * Opening: 0, or -1: err_text(), and close frees what was opened. */
int         cublaslt_open(struct cuda_device *d);
void        cublaslt_close(struct cuda_device *d);
cudaError_t cuda_linear(struct cuda_device *d, const struct linear *op);
size_t      cuda_linear_scratch(const struct linear *op);
void        cuda_tune(struct device *d, bool on);

/* memory.c; out of memory ends the program with what to lower. */
void  *cuda_alloc(struct device *d, size_t size);
void   cuda_free(struct device *d, void *p, size_t size);
void  *cuda_host_alloc(struct device *d, size_t size);                                 /* pinned */
void   cuda_host_free(struct device *d, void *p, size_t size);
void   cuda_upload(struct device *d, void *dst, const void *host, size_t size);        /* host is free again at return */
void   cuda_download(struct device *d, void *host, const void *src, size_t size);
void  *cuda_grow(struct cuda_device *d, struct cuda_buffer *b, size_t size);           /* at least that large; content is lost */
struct weight *cuda_weight_pack(struct device *d, const struct tensor *parts, int n_part, enum dtype dtype);
size_t cuda_weight_size(const struct weight *w);
void   cuda_weight_free(struct device *d, struct weight *w);
struct kv *cuda_kv_open(struct device *d, const struct kv_shape *s);
size_t cuda_kv_block_size(struct device *d, const struct kv_shape *s);
void   cuda_kv_close(struct device *d, struct kv *kv);

/* order.c: when things happen */
void   cuda_sync(struct device *d);
void   cuda_mark(struct device *d, int i);
void   cuda_wait(struct device *d, int i);
double cuda_elapsed(struct device *d, int from, int to);
void   cuda_record(struct device *d);
struct graph *cuda_record_end(struct device *d);
bool   cuda_replay(struct device *d, const struct graph *g);
void   cuda_graph_free(struct device *d, struct graph *g);

/* ceilings.c */
double cuda_peak_flops(struct device *d, enum dtype dtype);
double cuda_peak_bandwidth(struct device *d);

/* nvml.c: NULL where there is no NVML or it does not know the device; then all it reads is NaN. */
struct nvml *nvml_open(int ordinal);
void         nvml_close(struct nvml *n);
void         nvml_read(const struct nvml *n, struct telemetry *t);

/* library.c: an open library, or NULL: err_text().  The tests have another in its place. */
void *cuda_library(const char *name);

/* device.c: nothing, or the end of the program: `what` of the device did not go well. */
void cuda_need(const struct cuda_device *d, const char *what, cudaError_t e);

#ifdef __cplusplus
}
#endif
#endif
