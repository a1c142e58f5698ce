#include "model/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/hash.h"

#define DEVIATION 0.02

/* ---- which tensors -------------------------------------------------------------------------------------------- */

static void add(struct random_model *r, const char *name, uint32_t rows, uint32_t cols)
{
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 256;
        r->infos = mem_resize(r->infos, r->cap, sizeof *r->infos);
    }
    r->infos[r->n++] = (struct tensor_info){
        .name = arena_dup(&r->arena, name, strlen(name)), .type = "BF16", .is_float = true, .dtype = DTYPE_BF16,
        .n_dim = cols ? 2 : 1, .dim = { rows, cols },
    };
}

static void add_layer_tensor(struct random_model *r, uint32_t layer, const char *part, const char *kind, uint32_t rows, uint32_t cols)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%u.%s.%s", layer, part, kind);
    add(r, name, rows, cols);
}

static void add_linear(struct random_model *r, uint32_t layer, const char *part, uint32_t n_out, uint32_t n_in, bool bias)
{
    add_layer_tensor(r, layer, part, "weight", n_out, n_in);
    if (bias)
        add_layer_tensor(r, layer, part, "bias", n_out, 0);
}

static void add_layer(struct random_model *r, uint32_t i, const struct model_config *c)
{
    uint32_t d_q = c->n_head * c->d_head, d_kv = c->n_kv_head * c->d_head;
    add_layer_tensor(r, i, "input_layernorm", "weight", c->d_model, 0);
    add_linear(r, i, "self_attn.q_proj", d_q, c->d_model, c->qkv_bias);
    add_linear(r, i, "self_attn.k_proj", d_kv, c->d_model, c->qkv_bias);
    add_linear(r, i, "self_attn.v_proj", d_kv, c->d_model, c->qkv_bias);
    add_linear(r, i, "self_attn.o_proj", c->d_model, d_q, c->out_bias);
    if (c->qk_norm) {
        add_layer_tensor(r, i, "self_attn.q_norm", "weight", c->d_head, 0);
        add_layer_tensor(r, i, "self_attn.k_norm", "weight", c->d_head, 0);
    }
    add_layer_tensor(r, i, "post_attention_layernorm", "weight", c->d_model, 0);
    add_linear(r, i, "mlp.gate_proj", c->d_ff, c->d_model, c->mlp_bias);
    add_linear(r, i, "mlp.up_proj", c->d_ff, c->d_model, c->mlp_bias);
    add_linear(r, i, "mlp.down_proj", c->d_model, c->d_ff, c->mlp_bias);
}

/* ---- their contents ------------------------------------------------------------------------------------------- */

/* The x that a standard normal number stays below with probability p <= 1/2, by bisection. */
static double normal_quantile(double p)
{
    double low = -8, high = 0;
    for (int i = 0; i < 60; i++) {
        double mid = (low + high) / 2;
        if (erfc(-mid / sqrt(2)) / 2 < p)
            low = mid;
        else
            high = mid;
    }
    return low;
}

static void make_levels(uint16_t level[RANDOM_LEVELS])
{
    for (int i = 0; i < RANDOM_LEVELS / 2; i++) {
        float x = (float)(normal_quantile((i + 0.5) / RANDOM_LEVELS) * DEVIATION);
        level[i] = bf16_from_f32(x);
        level[RANDOM_LEVELS - 1 - i] = bf16_from_f32(-x);
    }
}

/* SplitMix64's output function (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). */
static inline uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

void random_fill(const struct random_model *r, const struct tensor_info *info, uint64_t first, uint16_t *out, size_t n)
{
    CHECK(first % 4 == 0);
    size_t len = strlen(info->name);
    if (len >= 11 && strcmp(info->name + len - 11, "norm.weight") == 0) {
        for (size_t i = 0; i < n; i++)
            out[i] = bf16_from_f32(1);
        return;
    }
    uint64_t z = hash_bytes(info->name, len, r->seed) + first / 4 * 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < n; i += 4, z += 0x9E3779B97F4A7C15u) {
        uint64_t bits = mix(z);         /* four numbers of 16 bits, of which the upper 12 choose a level */
        uint16_t four[4] = { r->level[bits >> 4 & 4095], r->level[bits >> 20 & 4095], r->level[bits >> 36 & 4095], r->level[bits >> 52] };
        memcpy(out + i, four, n - i < 4 ? (n - i) * 2 : sizeof four);
    }
}

void random_open(struct random_model *r, const struct model_config *c, uint64_t seed)
{
    *r = (struct random_model){ .seed = seed };
    make_levels(r->level);
    add(r, "model.embed_tokens.weight", c->n_vocab, c->d_model);
    for (uint32_t i = 0; i < c->n_layer; i++)
        add_layer(r, i, c);
    add(r, "model.norm.weight", c->d_model, 0);
    if (!c->tied)
        add(r, "lm_head.weight", c->n_vocab, c->d_model);
    for (size_t i = 0; i < r->n; i++)
        map_put(&r->names, r->infos[i].name, strlen(r->infos[i].name), (uint32_t)i);
}

void random_close(struct random_model *r)
{
    free(r->infos);
    map_free(&r->names);
    arena_free(&r->arena);
    *r = (struct random_model){0};
}

const struct tensor_info *random_find(const struct random_model *r, const char *name)
{
    uint32_t i;
    return map_get(&r->names, name, strlen(name), &i) ? &r->infos[i] : NULL;
}

uint64_t random_elements(const struct tensor_info *info)
{
    return info->dim[0] * (info->n_dim == 2 ? info->dim[1] : 1);
}

uint64_t config_params(const struct model_config *c)
{
    struct random_model r;
    uint64_t sum = 0;
    random_open(&r, c, 0);
    for (size_t i = 0; i < r.n; i++)
        sum += random_elements(&r.infos[i]);
    random_close(&r);
    return sum;
}

uint64_t config_packed_bytes(const struct model_config *c, enum dtype weight)
{
    struct random_model r;
    uint64_t sum = 0;
    random_open(&r, c, 0);
    for (size_t i = 0; i < r.n; i++) {
        const struct tensor_info *t = &r.infos[i];
        enum dtype type = weight == DTYPE_E4M3 && t->dim[0] == c->n_vocab ? DTYPE_BF16 : weight;   /* embedding and head */
        uint64_t row_extra = type == DTYPE_I8 ? 8 : type == DTYPE_E4M3 ? 4 : 0;        /* int8: a scale and a sum for each row, e4m3: a scale */
        sum += t->n_dim == 1 ? t->dim[0] * sizeof(float) : t->dim[0] * (t->dim[1] * dtype_size(type) + row_extra);
    }
    random_close(&r);
    return sum;
}

uint64_t config_kv_bytes(const struct model_config *c, enum dtype kv)
{
    return (uint64_t)2 * c->n_layer * c->n_kv_head * c->d_head * dtype_size(kv);
}
