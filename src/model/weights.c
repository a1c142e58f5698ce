#include "model/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "data/tensors.h"
#include "model/random.h"

#define MAX_PART 3          /* q, k, v */

/* A tensor on its way to the device: in the mapped file, or in memory of ours (made at random, or moved to an aligned
 * place).  The memory is used again for the next tensor. */
struct part {
    const struct tensor_info *info;
    const void *data;
    void *own; size_t own_size;
};

struct loader {
    struct model *m;
    const char *path;
    struct tensors *file;               /* NULL: random */
    struct random_model random;
    const char *prefix;                 /* of all names but lm_head: "model." or "" */
    enum dtype dtype;                   /* to pack the next matrices in */
    struct part parts[MAX_PART];
};

/* What is wanted: `name` under the layer's prefix, [rows, cols], or [rows] where cols is 0. */
struct want { const char *name; uint32_t rows, cols; };

static const struct tensor_info *find(const struct loader *l, const char *name)
{
    return l->file ? tensors_find(l->file, name) : random_find(&l->random, name);
}

static void own_reserve(struct part *p, size_t size)
{
    if (size <= p->own_size)
        return;
    mem_pages_free(p->own, p->own_size);
    p->own = mem_pages(size);
    p->own_size = size;
}

static void own_free(struct loader *l)
{
    for (int i = 0; i < MAX_PART; i++) {
        mem_pages_free(l->parts[i].own, l->parts[i].own_size);
        l->parts[i] = (struct part){0};
    }
}

static int check(const struct loader *l, const struct tensor_info *info, const struct want *w)
{
    char has[200], wanted[64];
    if (!info->is_float)
        return err_set("%s: tensor \"%s\" is %s; f32, bf16 and f16 are supported", l->path, info->name, info->type);
    if (info->n_dim == (w->cols ? 2 : 1) && info->dim[0] == w->rows && (!w->cols || info->dim[1] == w->cols))
        return 0;
    tensors_shape_text(has, sizeof has, info);
    snprintf(wanted, sizeof wanted, w->cols ? "[%u, %u]" : "[%u]", w->rows, w->cols);
    return err_set("%s: tensor \"%s\" is %s, config.json says %s", l->path, info->name, has, wanted);
}

/* 0: p holds it; 1: not there; -1: err_text(). */
static int part_get(struct loader *l, struct part *p, const char *prefix, const struct want *w)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s", prefix, w->name);
    p->info = find(l, name);
    if (!p->info)
        return 1;
    if (check(l, p->info, w) != 0)
        return -1;
    p->data = p->info->data;
    l->m->read_bytes += l->file ? p->info->size : 0;
    if (!l->file) {
        size_t n = random_elements(p->info);
        own_reserve(p, n * sizeof(uint16_t));
        random_fill(&l->random, p->info, 0, p->own, n);
        p->data = p->own;
    } else if ((uintptr_t)p->data % dtype_size(p->info->dtype)) {      /* the format promises no alignment */
        own_reserve(p, p->info->size);
        memcpy(p->own, p->data, p->info->size);
        p->data = p->own;
    }
    return 0;
}

static void part_release(struct loader *l, struct part *p)
{
    if (l->file)
        tensors_release(l->file, p->info);
}

static int missing(const struct loader *l, const char *prefix, const char *name)
{
    return err_set("%s: tensor \"%s%s\" is missing", l->path, prefix, name);
}

/* The wanted matrices, one below the other, as one packed weight. */
static int load_matrix(struct loader *l, struct weight **out, const char *prefix, const struct want *wants, int n)
{
    struct device *d = l->m->device;
    struct tensor parts[MAX_PART] = {0};
    for (int i = 0; i < n; i++) {
        struct part *p = &l->parts[i];
        int got = part_get(l, p, prefix, &wants[i]);
        if (got != 0)
            return got < 0 ? -1 : missing(l, prefix, wants[i].name);
        parts[i] = (struct tensor){ (void *)p->data, p->info->dtype, wants[i].rows, wants[i].cols };
    }
    *out = d->ops->weight_pack(d, parts, n, l->dtype);
    for (int i = 0; i < n; i++)
        part_release(l, &l->parts[i]);
    if (!*out)
        return err_wrap("%s: tensor \"%s%s\"", l->path, prefix, wants[0].name);
    l->m->weight_bytes += d->ops->weight_size(*out);
    return 0;
}

static uint32_t total_rows(const struct want *wants, int n)
{
    uint32_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += wants[i].rows;
    return sum;
}

/* The wanted vectors, one after the other, as floats on the device; *out stays NULL if none of them is there. */
static int load_vector(struct loader *l, float **out, const char *prefix, const struct want *wants, int n)
{
    struct device *d = l->m->device;
    size_t size = (size_t)total_rows(wants, n) * sizeof(float);
    float *host = mem_alloc(size), *at = host;
    int n_absent = 0, got = 0;
    for (int i = 0; i < n && got >= 0; i++, at += wants[i - 1].rows) {
        struct part *p = &l->parts[i];
        got = part_get(l, p, prefix, &wants[i]);
        if (got == 0)
            num_to_f32(at, p->data, p->info->dtype, wants[i].rows);
        else if (got > 0 && n_absent++ != i)
            got = missing(l, prefix, wants[i].name);
    }
    if (got >= 0 && n_absent && n_absent < n)
        got = missing(l, prefix, wants[0].name);
    if (got >= 0 && !n_absent) {
        *out = d->ops->alloc(d, size);
        d->ops->upload(d, *out, host, size);
        l->m->weight_bytes += size;
    }
    free(host);
    return got < 0 ? -1 : 0;
}

static int need_vector(struct loader *l, float **out, const char *prefix, const struct want *want)
{
    if (load_vector(l, out, prefix, want, 1) != 0)
        return -1;
    return *out ? 0 : missing(l, prefix, want->name);
}

static int load_attention(struct loader *l, struct layer *layer, const char *prefix)
{
    const struct model_config *c = &l->m->config;
    uint32_t d_q = c->n_head * c->d_head, d_kv = c->n_kv_head * c->d_head;
    const struct want qkv[] = { { "self_attn.q_proj.weight", d_q, c->d_model }, { "self_attn.k_proj.weight", d_kv, c->d_model },
                                { "self_attn.v_proj.weight", d_kv, c->d_model } };
    const struct want bias[] = { { "self_attn.q_proj.bias", d_q, 0 }, { "self_attn.k_proj.bias", d_kv, 0 }, { "self_attn.v_proj.bias", d_kv, 0 } };
    const struct want out = { "self_attn.o_proj.weight", c->d_model, d_q }, out_bias = { "self_attn.o_proj.bias", c->d_model, 0 };
    const struct want q_norm = { "self_attn.q_norm.weight", c->d_head, 0 }, k_norm = { "self_attn.k_norm.weight", c->d_head, 0 };
    const struct want norm = { "input_layernorm.weight", c->d_model, 0 };
    if (need_vector(l, &layer->norm_attn, prefix, &norm) != 0 || load_matrix(l, &layer->qkv, prefix, qkv, 3) != 0 ||
        load_vector(l, &layer->qkv_bias, prefix, bias, 3) != 0 || load_matrix(l, &layer->out, prefix, &out, 1) != 0 ||
        load_vector(l, &layer->out_bias, prefix, &out_bias, 1) != 0 || load_vector(l, &layer->q_norm, prefix, &q_norm, 1) != 0 ||
        load_vector(l, &layer->k_norm, prefix, &k_norm, 1) != 0)
        return -1;
    return 0;
}

static int load_ffn(struct loader *l, struct layer *layer, const char *prefix)
{
    const struct model_config *c = &l->m->config;
    const struct want gate_up[] = { { "mlp.gate_proj.weight", c->d_ff, c->d_model }, { "mlp.up_proj.weight", c->d_ff, c->d_model } };
    const struct want bias[] = { { "mlp.gate_proj.bias", c->d_ff, 0 }, { "mlp.up_proj.bias", c->d_ff, 0 } };
    const struct want down = { "mlp.down_proj.weight", c->d_model, c->d_ff }, down_bias = { "mlp.down_proj.bias", c->d_model, 0 };
    const struct want norm = { "post_attention_layernorm.weight", c->d_model, 0 };
    if (need_vector(l, &layer->norm_ffn, prefix, &norm) != 0 || load_matrix(l, &layer->gate_up, prefix, gate_up, 2) != 0 ||
        load_vector(l, &layer->gate_up_bias, prefix, bias, 2) != 0 || load_matrix(l, &layer->down, prefix, &down, 1) != 0 ||
        load_vector(l, &layer->down_bias, prefix, &down_bias, 1) != 0)
        return -1;
    return 0;
}

/* Whether lm_head is the embedding.  A head in the file counts even if the config says tied, unless it is the same. */
static bool is_tied(const struct loader *l)
{
    char name[64];
    snprintf(name, sizeof name, "%sembed_tokens.weight", l->prefix);
    const struct tensor_info *head = find(l, "lm_head.weight"), *embed = find(l, name);
    if (!head)
        return true;
    return l->m->config.tied && embed && l->file && head->dtype == embed->dtype && head->size == embed->size &&
           memcmp(head->data, embed->data, head->size) == 0;
}

/* The embedding and the head first: they are the largest, and what holds them on the way is given back before the rest. */
static int load_ends(struct loader *l)
{
    struct model *m = l->m;
    const struct model_config *c = &m->config;
    const struct want embed = { "embed_tokens.weight", c->n_vocab, c->d_model }, head = { "lm_head.weight", c->n_vocab, c->d_model };
    const struct want norm = { "norm.weight", c->d_model, 0 };
    l->dtype = m->head_dtype;
    if (need_vector(l, &m->norm_final, l->prefix, &norm) != 0 || load_matrix(l, &m->embed, l->prefix, &embed, 1) != 0)
        return -1;
    m->config.tied = is_tied(l);
    if (m->config.tied)
        m->lm_head = m->embed;
    else if (load_matrix(l, &m->lm_head, "", &head, 1) != 0)
        return -1;
    own_free(l);
    l->dtype = m->weight_dtype;
    return 0;
}

static int load(struct loader *l)
{
    struct model *m = l->m;
    l->prefix = find(l, "model.embed_tokens.weight") || !find(l, "embed_tokens.weight") ? "model." : "";
    if (load_ends(l) != 0)
        return -1;
    m->layers = mem_array(m->config.n_layer, sizeof *m->layers);
    for (uint32_t i = 0; i < m->config.n_layer; i++) {
        char prefix[64];
        snprintf(prefix, sizeof prefix, "%slayers.%u.", l->prefix, i);
        if (load_attention(l, &m->layers[i], prefix) != 0 || load_ffn(l, &m->layers[i], prefix) != 0)
            return -1;
    }
    return 0;
}

static int open_source(struct loader *l, const char *path, uint64_t seed)
{
    l->path = path;
    if (strncmp(path, "random:", 7) == 0) {
        if (config_shape(&l->m->config, path + 7) != 0)
            return -1;
        random_open(&l->random, &l->m->config, seed);
        return 0;
    }
    if (config_load(&l->m->config, path) != 0)
        return -1;
    l->file = tensors_open(path);
    return l->file ? 0 : -1;
}

struct model *model_open(struct device *d, const char *path, enum dtype weight_dtype, uint64_t seed)
{
    struct model *m = mem_alloc(sizeof *m);
    struct loader l = { .m = m };
    m->device = d;
    m->weight_dtype = weight_dtype;
    m->head_dtype = weight_dtype == DTYPE_E4M3 ? DTYPE_BF16 : weight_dtype;
    int bad = open_source(&l, path, seed) != 0 || load(&l) != 0;
    own_free(&l);
    tensors_close(l.file);
    random_close(&l.random);
    if (!bad)
        return m;
    model_close(m);
    return NULL;
}

static void vector_free(struct model *m, float *v, uint32_t n)
{
    if (v)
        m->device->ops->free(m->device, v, n * sizeof *v);
}

static void matrix_free(struct model *m, struct weight *w)
{
    if (w)
        m->device->ops->weight_free(m->device, w);
}

static void layer_free(struct model *m, struct layer *l)
{
    const struct model_config *c = &m->config;
    vector_free(m, l->norm_attn, c->d_model);
    vector_free(m, l->norm_ffn, c->d_model);
    vector_free(m, l->q_norm, c->d_head);
    vector_free(m, l->k_norm, c->d_head);
    vector_free(m, l->qkv_bias, (c->n_head + 2 * c->n_kv_head) * c->d_head);
    vector_free(m, l->out_bias, c->d_model);
    vector_free(m, l->gate_up_bias, 2 * c->d_ff);
    vector_free(m, l->down_bias, c->d_model);
    matrix_free(m, l->qkv);
    matrix_free(m, l->out);
    matrix_free(m, l->gate_up);
    matrix_free(m, l->down);
}

void model_close(struct model *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; m->layers && i < m->config.n_layer; i++)
        layer_free(m, &m->layers[i]);
    vector_free(m, m->norm_final, m->config.d_model);
    if (m->lm_head != m->embed)
        matrix_free(m, m->lm_head);
    matrix_free(m, m->embed);
    free(m->layers);
    free(m);
}
