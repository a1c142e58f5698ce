/* device.h - the one door to compute.  An op takes one struct; a fusion is a new optional field, never a new op.
 *
 * Shapes: n_tok tokens run in a step, of n_seq sequences; n_out rows are sampled.  Tensors are row-major.
 * Pointers inside the structs are device memory (device->ops->alloc) unless their comment says host.
 * Ops are enqueued in order, but a download runs beside those behind it; `sync` waits.  Nothing here allocates after weights,
 * KV and scratch are made.
 *
 * Sameness: on a device that is `deterministic` the order of every sum depends on the row alone, never on what else is in
 * the batch, on how a prompt is cut into steps, or on the number of threads.  The CPU device is so always; the CUDA device
 * becomes so, and slower, when the field is set between opening and the first op. */
#ifndef KERNELS_DEVICE_H
#define KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

struct tensor { void *data; enum dtype dtype; uint32_t rows, cols; };      /* [rows, cols]; data NULL: absent */

struct weight;         /* a matrix packed for this device: y = x w^T, w is [n_out, n_in] */
struct kv;             /* the paged KV memory of all layers; its layout belongs to the device */
struct graph;          /* ops recorded, to be run again */

#define SLOT_NONE UINT32_MAX   /* of a token that pads a step: nothing is stored */

/* What runs in one step.  Sequence s holds the tokens seq_start[s] .. seq_start[s+1]-1 of the step, which are
 * consecutive positions ending at kv_len[s]-1.  The last tokens may be of no sequence, and the last sequences without tokens
 * (kv_len 0): they pad the step to a size that has run before, and their rows hold what they will. */
struct step {
    uint32_t n_tok, n_seq, n_out;
    const int32_t  *ids, *prev;    /* [n_tok]; of an id below 0 see struct embed */
    const uint32_t *pos;           /* [n_tok] position in its sequence */
    const uint32_t *slot;          /* [n_tok] KV slot: block * block_size + offset */
    const uint32_t *seq_start;     /* [n_seq + 1] */
    const uint32_t *kv_len;        /* [n_seq] */
    const uint32_t *table_row;     /* [n_seq] row of the sequence in block_table */
    const uint32_t *block_table;   /* [max_seq, table_cols] block numbers */
    uint32_t table_cols;
    const uint32_t *out_rows;      /* [n_out] tokens of the step whose logits are wanted, ascending */
};

/* block_size: a multiple of 16.  dtype: that of compute, or e4m3 on the CUDA device, where d_head is a multiple of 16. */
struct kv_shape { uint32_t n_layer, n_block, block_size, n_kv_head, d_head; enum dtype dtype; };

/* y[i] = scale * table[ids[i]]; an id below 0 stands for prev[~id], which an op before has yet to write when the step is built. */
struct embed {
    const struct weight *table;    /* [n_vocab, d_model] */
    const int32_t *ids;            /* [y.rows] */
    const int32_t *prev;           /* NULL where no id is below 0 */
    float scale;
    struct tensor y;               /* [n_tok, d_model] f32 */
};

struct norm {                      /* y = x / sqrt(mean(x^2) + eps) * w   (Zhang & Sennrich 2019) */
    struct tensor x;               /* [n, d] f32 */
    const float *w;                /* [d] */
    float eps;
    struct tensor y;               /* [n, d] f32 or bf16; may be x itself */
};

struct linear {                    /* y = x w^T + bias + residual */
    struct tensor x;               /* [n, n_in] f32 or bf16 */
    const struct weight *w;        /* [n_out, n_in] */
    const float *bias;             /* [n_out] or NULL */
    struct tensor residual;        /* [n, n_out] f32 or absent; may be y itself */
    struct tensor y;               /* [n, n_out] f32 or bf16 */
};

/* Per head: q and k are normed (if weights are given), rotated by their position (HALF layout: the pairs are
 * (i, i + d_rot/2)), q goes to `q`, k and v into the KV slot of the token. */
struct rope_store {
    struct tensor qkv;             /* [n_tok, (n_head + 2 n_kv_head) d_head], rows [q | k | v] */
    uint32_t n_head;
    const float *q_norm, *k_norm;  /* [d_head] or NULL */
    float eps;
    const float *rope;             /* [max_pos, d_rot] cos of the d_rot/2 angles, then their sin */
    uint32_t d_rot;
    struct kv *kv;
    uint32_t layer;
    const struct step *step;
    struct tensor q;               /* [n_tok, n_head d_head] */
};

/* Causal attention over the sequence's KV, ragged: prefill and decode in one call.  Query head h reads KV head
 * h / (n_head / n_kv_head).  s = scale q.k, softcapped where set; key p is seen from position t if p <= t and
 * (window == 0 or p > t - window); sinks[h] is one more term of the softmax's denominator. */
struct attention {
    struct tensor q;               /* [n_tok, n_head d_head] */
    const struct kv *kv;
    uint32_t layer;
    const struct step *step;
    float scale, softcap;          /* softcap 0: none */
    uint32_t window;               /* 0: all */
    const float *sinks;            /* [n_head] or NULL */
    struct tensor y;               /* [n_tok, n_head d_head] */
};

enum act_kind { ACT_SILU, ACT_GELU_TANH };

struct act {                       /* y = f(x[:, :d]) * x[:, d:] */
    enum act_kind kind;
    struct tensor x;               /* [n, 2 d], rows [gate | up] */
    struct tensor y;               /* [n, d] */
};

struct gather {                    /* y[i] = x[rows[i]] */
    struct tensor x;
    const uint32_t *rows;          /* [y.rows] */
    struct tensor y;
};

struct patch { uint32_t at, value; };

struct scatter {                   /* y[p.at] = p.value for each patch p; no two at one place */
    const struct patch *patches; uint32_t n;
    uint32_t *y;
};

/* Changes to one logit before sampling: l = (l > 0 ? l / repeat : l * repeat) + add */
struct logit_edit { int32_t id; float repeat, add; };

struct sample_row {
    float temperature;             /* 0: the arg-max (lowest id on ties), nothing random */
    float top_p, min_p;            /* 1 and 0: off */
    uint32_t top_k;                /* 0: off */
    uint64_t seed, stream;         /* random numbers are a function of (seed, stream, token id) */
    uint32_t edit_start, n_edit;   /* this row's part of `edits` */
    int32_t n_top;                 /* -1: no logprobs; k: the chosen token's and the k best (raw logits, before edits) */
};

/* Filters act in vLLM's order: edits, temperature, min_p, top_k, top_p; the pick is Gumbel-max over what is left,
 * g = -log(-log(u(seed, stream, id))), so CPU and GPU pick the same token for the same logits. */
struct sample {
    struct tensor logits;          /* [n_out, n_vocab] f32, destroyed */
    float logit_scale, softcap;    /* l = softcap(l * logit_scale); 1 and 0: none */
    const struct sample_row *rows; /* [n_out] host */
    const struct logit_edit *edits;/* host */
    uint32_t max_top;              /* columns of the top arrays */
    int32_t *ids;                  /* [n_out] */
    float   *logprobs;             /* [n_out] of the chosen token, where n_top >= 0 */
    int32_t *top_ids;              /* [n_out, max_top], best first */
    float   *top_logprobs;         /* [n_out, max_top] */
};

/* What slows a device's clock, as bits. */
enum throttle { THROTTLE_POWER = 1, THROTTLE_HEAT = 2, THROTTLE_HARDWARE = 4, THROTTLE_SETTING = 8, N_THROTTLE = 4 };

struct telemetry {                 /* a moment of the device; NaN: it cannot tell */
    double energy_j;               /* used since some moment */
    double power_w, clock_mhz;     /* of the multiprocessors */
    double memory_bytes;           /* in use, by whomever */
    double throttle;               /* sum of enum throttle */
};

struct device;

enum { N_MARK = 4 };

struct device_ops {
    void  (*close)(struct device *d);
    void *(*alloc)(struct device *d, size_t size);                 /* zeroed */
    void  (*free)(struct device *d, void *p, size_t size);
    void *(*host_alloc)(struct device *d, size_t size);            /* host memory that a download does not wait for */
    void  (*host_free)(struct device *d, void *p, size_t size);
    void  (*upload)(struct device *d, void *dst, const void *host, size_t size);   /* host is free again at return */
    void  (*download)(struct device *d, void *host, const void *src, size_t size); /* src stays as it is until sync or wait */
    void  (*sync)(struct device *d);

    /* Marks between ops, numbered below N_MARK.  wait is like sync, but only for what was enqueued before the last mark(i);
     * elapsed: seconds that the device took from one mark to a later one, when both have been waited for. */
    void   (*mark)(struct device *d, int i);
    void   (*wait)(struct device *d, int i);
    double (*elapsed)(struct device *d, int from, int to);

    /* Only where `async`.  The ops between record and record_end are not run but kept; each has run before with the same sizes,
     * and its memory is there as long as the graph is used.  replay: enqueues them, or returns false: the device has moved
     * memory of its own, record them anew. */
    void          (*record)(struct device *d);
    struct graph *(*record_end)(struct device *d);
    bool          (*replay)(struct device *d, const struct graph *g);
    void          (*graph_free)(struct device *d, struct graph *g);

    /* Packs host matrices of equal width, one below the other, as one weight of type f32, bf16, int8 or e4m3 (the last two: per-row
     * scale of the weight, per-row scale of x at run time).  NULL: the device has no such weights; err_text(). */
    struct weight *(*weight_pack)(struct device *d, const struct tensor *parts, int n_part, enum dtype dtype);
    size_t         (*weight_size)(const struct weight *w);         /* bytes held */
    void           (*weight_free)(struct device *d, struct weight *w);

    struct kv *(*kv_open)(struct device *d, const struct kv_shape *s);
    size_t     (*kv_block_size)(struct device *d, const struct kv_shape *s);       /* bytes of one block over all layers */
    void       (*kv_close)(struct device *d, struct kv *kv);

    void (*embed)(struct device *d, const struct embed *op);
    void (*norm)(struct device *d, const struct norm *op);
    void (*linear)(struct device *d, const struct linear *op);
    void (*rope_store)(struct device *d, const struct rope_store *op);
    void (*attention)(struct device *d, const struct attention *op);
    void (*act)(struct device *d, const struct act *op);
    void (*gather)(struct device *d, const struct gather *op);
    void (*scatter)(struct device *d, const struct scatter *op);
    void (*sample)(struct device *d, const struct sample *op);

    /* Between on and off an op of a new shape may try ways of doing it, and wait for them; the fastest is kept, for later processes too.
     * What it writes meanwhile may be wrong. */
    void (*tune)(struct device *d, bool on);

    /* Measured on the machine at hand, about a second each: matrix FLOP/s of the type (int8: op/s), read bytes/s.
     * NaN: the device does not multiply that, or has no memory left to measure with. */
    double (*peak_flops)(struct device *d, enum dtype dtype);
    double (*peak_bandwidth)(struct device *d);

    void (*telemetry)(struct device *d, struct telemetry *t);      /* takes milliseconds; any thread may ask */
};

struct device {
    const struct device_ops *ops;
    char   name[64];               /* "cpu", "cuda:0" */
    char   text[128];              /* for people: "AMD EPYC, 2 threads, AVX-512 bf16" */
    size_t memory;                 /* bytes there are for weights and KV */
    enum dtype compute;            /* f32 or bf16: of activations, q, k and v */
    bool   async;                  /* ops return before they are done: the host had better work ahead, in steps of few sizes */
    bool   deterministic;          /* see "Sameness" */
};

/* name: "auto", "cpu" or "cuda:N"; compute as above; n_thread 0: all cores (CPU device only).  NULL: err_text(). */
struct device *device_open(const char *name, enum dtype compute, int n_thread);

/* The next of few numbers of rows, at most 15 or an eighth above n: what steps are padded to, so that they share plans and graphs. */
uint32_t device_bucket(uint32_t n);

#endif
