/* weights.h - a model's tensors, packed for a device.  Each tensor is read once, packed, and its pages given back:
 * weights are never held twice. */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include <stddef.h>

#include "kernels/device.h"
#include "model/config.h"

struct layer {
    float *norm_attn, *norm_ffn;           /* [d_model] */
    float *q_norm, *k_norm;                /* [d_head] or NULL */
    struct weight *qkv, *out;              /* [(n_head + 2 n_kv_head) d_head, d_model], [d_model, n_head d_head] */
    float *qkv_bias, *out_bias;            /* or NULL */
    struct weight *gate_up, *down;         /* [2 d_ff, d_model], [d_model, d_ff] */
    float *gate_up_bias, *down_bias;       /* or NULL */
};

struct model {
    struct model_config config;
    struct device *device;
    enum dtype weight_dtype, head_dtype;   /* of the layers' matrices, of embedding and head */
    struct weight *embed, *lm_head;        /* [n_vocab, d_model]; one and the same if tied */
    float *norm_final;                     /* [d_model] */
    struct layer *layers;                  /* [n_layer] */
    size_t weight_bytes;                   /* packed */
    size_t read_bytes;                     /* as they lie in the file; 0 if they are random */
};

/* path: a Hugging Face folder, or "random:SHAPE" (seed: of its weights).  weight_dtype f32, bf16, int8 or e4m3, as the
 * device has them; beside e4m3 embedding and head are bf16.  NULL: err_text() names the file and tensor. */
struct model *model_open(struct device *d, const char *path, enum dtype weight_dtype, uint64_t seed);
void          model_close(struct model *m);

/* Writes a folder with config.json, generation_config.json, weights (bf16; shards of 5 GB and their index) and, if n_vocab
 * has room for it, a byte-level tokenizer.  They are the very weights that "random:" gives with the seed (normal, deviation
 * 0.02; norms 1).  0, or -1: err_text(). */
int model_make(const struct model_config *c, uint64_t seed, const char *folder);

#endif
