/* config.h - a model's shape as one struct, from config.json and generation_config.json, or from a built-in row
 * (random:qwen3-0.6b).  Knows the keys and their defaults (the family's row in arch.c holds those that differ);
 * knows no tensors and no device.  Files are untrusted: every number is held to limits within which no size overflows. */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/num.h"

#define CONFIG_MAX_EOS 8

enum rope_kind { ROPE_PLAIN, ROPE_LINEAR, ROPE_LLAMA3, ROPE_YARN };

struct rope_config {
    enum rope_kind kind;
    double theta, factor;
    double original_max;               /* positions seen in training */
    double low_freq, high_freq;        /* llama3 */
    double beta_fast, beta_slow;       /* yarn */
    double attention_factor;           /* yarn: cos and sin are multiplied by it */
    bool   truncate;                   /* yarn: round the ramp's ends to whole dimensions */
};

struct model_config {
    char model_type[32];
    const struct arch *arch;
    uint32_t n_layer, n_head, n_kv_head, d_head, d_model, d_ff, n_vocab, max_position;
    float norm_eps;
    bool tied;                         /* lm_head is the embedding */
    bool qkv_bias, out_bias, mlp_bias, qk_norm;    /* what random weights get; of a file the tensors themselves tell */
    struct rope_config rope;
    uint32_t window, window_from;      /* sliding window of the layers from window_from on; 0: none */
    int32_t eos[CONFIG_MAX_EOS]; uint32_t n_eos;
};

/* From the folder's config.json (+ generation_config.json).  0, or -1: err_text() names file, key and what is supported. */
int config_load(struct model_config *c, const char *folder);

/* A built-in shape by name ("qwen3-0.6b"), or a config.json file.  It is for random weights, so eos is the byte-level
 * tokenizer's end of text that make-model writes (BYTE_TOKENIZER_EOS) where the vocabulary has room for it.
 * 0, or -1: err_text() lists the names. */
int config_shape(struct model_config *c, const char *name_or_file);

#define BYTE_TOKENIZER_EOS 256

/* A tokenizer.json for random weights: a token for each byte (id = byte) and <|endoftext|>. */
void byte_tokenizer_put_json(struct buf *b);

/* As a config.json that config_load (and transformers) reads. */
void config_put_json(struct buf *b, const struct model_config *c);
void config_put_generation_json(struct buf *b, const struct model_config *c);

uint64_t config_params(const struct model_config *c);      /* parameters, the tied head once */
uint64_t config_packed_bytes(const struct model_config *c, enum dtype weight);     /* of the weights on a device, about */
uint64_t config_kv_bytes(const struct model_config *c, enum dtype kv);             /* of one token over all layers */

/* [n_pos, d_head] for rope_store: cos | sin, the attention factor in them (formulas: transformers, modeling_rope_utils.py). */
void rope_table(float *table, uint32_t n_pos, const struct model_config *c);

#endif
