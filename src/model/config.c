#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "data/json.h"
#include "model/arch.h"
#include "model/shapes.h"

/* Limits of what a file may ask for: what the devices' kernels hold, and no product of sizes leaves 64 bits (one row of
 * a matrix stays within 32). */
#define MAX_LAYER    1024
#define MAX_HEAD     4096
#define MAX_D_HEAD   256        /* and a multiple of 8 */
#define MAX_D_MODEL  (1 << 17)
#define MAX_D_FF     (1 << 20)
#define MAX_VOCAB    (1 << 19)
#define MAX_POSITION (1 << 27)

/* One object of a file whose keys are read; `where` stands before the key in messages. */
struct keys { const struct json *object; const char *where; };

static int bad_value(const struct keys *k, const char *key, const struct json *value, const char *wanted)
{
    struct buf text = {0};
    json_put_json(&text, value);
    err_set("%s: %s is %.80s; %s", k->where, key, text.data, wanted);
    buf_free(&text);
    return -1;
}

/* The key's value; NULL where it is missing or null, which mean the same but for sliding_window. */
static const struct json *value_of(const struct keys *k, const char *key)
{
    const struct json *value = json_get(k->object, key);
    return value && json_kind(value) != JSON_KIND_NULL ? value : NULL;
}

/* The readers leave *out, which holds the default, where the key is missing. */
static int read_u32(const struct keys *k, const char *key, uint32_t min, uint32_t max, uint32_t *out)
{
    const struct json *value = value_of(k, key);
    int64_t v;
    if (!value)
        return 0;
    if (!json_int(value, &v) || v < min || v > max) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "a whole number from %u to %u is expected", min, max);
        return bad_value(k, key, value, wanted);
    }
    *out = (uint32_t)v;
    return 0;
}

static int need_u32(const struct keys *k, const char *key, uint32_t min, uint32_t max, uint32_t *out)
{
    return value_of(k, key) ? read_u32(k, key, min, max, out) : err_set("%s: %s is missing", k->where, key);
}

static int read_real(const struct keys *k, const char *key, double min, double max, double *out)
{
    const struct json *value = value_of(k, key);
    double v;
    if (!value)
        return 0;
    if (!json_number(value, &v) || !(v >= min && v <= max)) {
        char wanted[80];
        snprintf(wanted, sizeof wanted, "a number from %g to %g is expected", min, max);
        return bad_value(k, key, value, wanted);
    }
    *out = v;
    return 0;
}

static int read_bool(const struct keys *k, const char *key, bool *out)
{
    const struct json *value = value_of(k, key);
    if (value && !json_bool(value, out))
        return bad_value(k, key, value, "true or false is expected");
    return 0;
}

/* ---- rope ----------------------------------------------------------------------------------------------------- */

static int rope_kind(const struct keys *k, enum rope_kind *kind)
{
    static const char *const names[] = { [ROPE_PLAIN] = "default", [ROPE_LINEAR] = "linear", [ROPE_LLAMA3] = "llama3", [ROPE_YARN] = "yarn" };
    const struct json *value = value_of(k, "rope_type");
    if (!value)
        value = value_of(k, "type");        /* before 2024 */
    const char *text = json_text(value, NULL);
    *kind = ROPE_PLAIN;
    if (!value)
        return 0;
    for (size_t i = 0; text && i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *kind = (enum rope_kind)i;
            return 0;
        }
    return bad_value(k, "rope_type", value, "default, linear, llama3 and yarn are supported");
}

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static int read_yarn(const struct keys *k, struct model_config *c)
{
    struct rope_config *r = &c->rope;
    double mscale = 0, mscale_all_dim = 0;
    r->beta_fast = 32, r->beta_slow = 1, r->truncate = true;
    if (r->factor == 0)
        r->factor = c->max_position / r->original_max;
    if (read_real(k, "beta_fast", 1e-3, 1e6, &r->beta_fast) != 0 || read_real(k, "beta_slow", 1e-3, 1e6, &r->beta_slow) != 0 ||
        read_real(k, "mscale", 0, 100, &mscale) != 0 || read_real(k, "mscale_all_dim", 0, 100, &mscale_all_dim) != 0 ||
        read_bool(k, "truncate", &r->truncate) != 0)
        return -1;
    r->attention_factor = yarn_mscale(r->factor, 1);
    if (mscale != 0 && mscale_all_dim != 0)
        r->attention_factor = yarn_mscale(r->factor, mscale) / yarn_mscale(r->factor, mscale_all_dim);
    if (read_real(k, "attention_factor", 1e-3, 1e3, &r->attention_factor) != 0)
        return -1;
    double reach = fmin(r->original_max * r->factor, MAX_POSITION);    /* files keep max_position at the trained length */
    if (reach > c->max_position)
        c->max_position = (uint32_t)reach;
    return 0;
}

static int read_llama3(const struct keys *k, struct rope_config *r)
{
    r->low_freq = 1, r->high_freq = 4;
    if (read_real(k, "low_freq_factor", 1e-3, 1e3, &r->low_freq) != 0 || read_real(k, "high_freq_factor", 1e-3, 1e3, &r->high_freq) != 0)
        return -1;
    return r->high_freq > r->low_freq ? 0 : err_set("%s: high_freq_factor must be above low_freq_factor", k->where);
}

/* What the kind needs beside theta. */
static int read_scaling(const struct keys *root, const struct keys *k, struct model_config *c)
{
    struct rope_config *r = &c->rope;
    double partial = 1;
    if (read_real(k, "partial_rotary_factor", 1, 1, &partial) != 0 || rope_kind(k, &r->kind) != 0)
        return -1;
    if (r->kind == ROPE_PLAIN)
        return 0;
    r->original_max = c->max_position;
    if (read_real(k, "factor", 1e-3, 1e6, &r->factor) != 0 ||
        read_real(k, "original_max_position_embeddings", 1, MAX_POSITION, &r->original_max) != 0 ||
        read_real(root, "original_max_position_embeddings", 1, MAX_POSITION, &r->original_max) != 0)     /* it wins */
        return -1;
    if (r->kind == ROPE_YARN)
        return read_yarn(k, c);
    if (r->factor == 0)
        return err_set("%s: factor is missing", k->where);
    return r->kind == ROPE_LLAMA3 ? read_llama3(k, r) : 0;
}

static int read_rope(const struct keys *k, struct model_config *c)
{
    c->rope = (struct rope_config){ .theta = c->arch->rope_theta };
    const char *key = value_of(k, "rope_scaling") ? "rope_scaling" : "rope_parameters";
    const struct json *object = value_of(k, key);
    char where[512];
    snprintf(where, sizeof where, "%.400s: %s", k->where, key);
    struct keys scaling = { object, where };
    double partial = 1;
    if (read_real(k, "rope_theta", 2, 1e12, &c->rope.theta) != 0 || read_real(k, "partial_rotary_factor", 1, 1, &partial) != 0)
        return -1;
    if (!object)
        return 0;
    if (json_kind(object) != JSON_KIND_OBJECT)
        return bad_value(k, key, object, "an object is expected");
    if (json_get(object, "full_attention") || json_get(object, "sliding_attention"))
        return err_set("%s: one for each layer type is not supported; one for all layers is", where);
    if (read_real(&scaling, "rope_theta", 2, 1e12, &c->rope.theta) != 0)
        return -1;
    return read_scaling(k, &scaling, c);
}

/* ---- window --------------------------------------------------------------------------------------------------- */

/* layer_types, where it is given, decides; a window must then hold from some layer to the last one. */
static int read_layer_types(const struct keys *k, struct model_config *c)
{
    const struct json *types = value_of(k, "layer_types");
    if (!types)
        return 0;
    if (json_kind(types) != JSON_KIND_ARRAY || json_len(types) != c->n_layer)
        return bad_value(k, "layer_types", types, "a list with one entry for each layer is expected");
    uint32_t from = c->n_layer;
    for (uint32_t i = 0; i < c->n_layer; i++) {
        const char *type = json_text(json_at(types, i), NULL);
        bool sliding = type && strcmp(type, "sliding_attention") == 0;
        if (!type || (!sliding && strcmp(type, "full_attention") != 0))
            return bad_value(k, "layer_types", json_at(types, i), "full_attention and sliding_attention are supported");
        if (sliding && from == c->n_layer)
            from = i;
        if (!sliding && from < c->n_layer)
            return err_set("%s: layer_types: full_attention after sliding_attention (layer %u) is not supported", k->where, i);
    }
    c->window_from = from;
    return 0;
}

static int read_window(const struct keys *k, struct model_config *c)
{
    const struct arch *a = c->arch;
    const struct json *value = json_get(k->object, "sliding_window");
    bool wanted = !a->window_needs_flag;
    c->window = c->window_from = 0;
    if (!a->window || (value && json_kind(value) == JSON_KIND_NULL))    /* null is off, missing is the default */
        return 0;
    if (a->window_needs_flag && read_bool(k, "use_sliding_window", &wanted) != 0)
        return -1;
    if (!wanted)
        return 0;
    c->window = a->window;
    c->window_from = a->window_needs_flag ? 28 : 0;     /* max_window_layers of the Qwen classes */
    if (read_u32(k, "sliding_window", 1, MAX_POSITION, &c->window) != 0)
        return -1;
    if (a->window_needs_flag &&
        (read_u32(k, "max_window_layers", 0, MAX_LAYER, &c->window_from) != 0 || read_layer_types(k, c) != 0))
        return -1;
    if (c->window_from >= c->n_layer)
        c->window = c->window_from = 0;
    return 0;
}

/* ---- the whole file ------------------------------------------------------------------------------------------- */

static int read_shape(const struct keys *k, struct model_config *c)
{
    const struct arch *a = c->arch;
    double eps = a->norm_eps;
    if (need_u32(k, "num_hidden_layers", 1, MAX_LAYER, &c->n_layer) != 0 || need_u32(k, "num_attention_heads", 1, MAX_HEAD, &c->n_head) != 0 ||
        need_u32(k, "hidden_size", 1, MAX_D_MODEL, &c->d_model) != 0 || need_u32(k, "intermediate_size", 1, MAX_D_FF, &c->d_ff) != 0 ||
        need_u32(k, "vocab_size", 1, MAX_VOCAB, &c->n_vocab) != 0)
        return -1;
    bool null_kv_head = json_get(k->object, "num_key_value_heads") && !value_of(k, "num_key_value_heads");
    c->n_kv_head = a->n_kv_head && !null_kv_head ? a->n_kv_head : c->n_head;
    c->d_head = a->d_head ? a->d_head : c->d_model / c->n_head;
    c->max_position = a->max_position;
    c->tied = a->tied;
    if (read_u32(k, "num_key_value_heads", 1, MAX_HEAD, &c->n_kv_head) != 0 || read_u32(k, "head_dim", 1, MAX_D_MODEL, &c->d_head) != 0 ||
        read_u32(k, "max_position_embeddings", 1, MAX_POSITION, &c->max_position) != 0 ||
        read_real(k, "rms_norm_eps", 0, 1, &eps) != 0 || read_bool(k, "tie_word_embeddings", &c->tied) != 0)
        return -1;
    c->norm_eps = (float)eps;
    return 0;
}

static int check_shape(const struct keys *k, const struct model_config *c)
{
    if (c->n_head % c->n_kv_head)
        return err_set("%s: num_attention_heads (%u) is not a multiple of num_key_value_heads (%u)", k->where, c->n_head, c->n_kv_head);
    if (!c->d_head || c->d_head % 8 || c->d_head > MAX_D_HEAD)
        return err_set("%s: the head size (head_dim, or hidden_size / num_attention_heads) is %u; multiples of 8 up to %d are supported",
                       k->where, c->d_head, MAX_D_HEAD);
    if (!value_of(k, "head_dim") && !c->arch->d_head && c->d_model % c->n_head)
        return err_set("%s: hidden_size (%u) is not a multiple of num_attention_heads (%u) and head_dim is missing", k->where, c->d_model, c->n_head);
    return 0;
}

static int read_biases(const struct keys *k, struct model_config *c)
{
    const struct arch *a = c->arch;
    bool attention = false, mlp = false;
    if (read_bool(k, "attention_bias", &attention) != 0 || read_bool(k, "mlp_bias", &mlp) != 0)
        return -1;
    c->out_bias = a->attention_bias && attention;
    c->qkv_bias = a->qkv_bias || c->out_bias;
    c->mlp_bias = a->mlp_bias && mlp;
    c->qk_norm = a->qk_norm;
    return 0;
}

static int refuse_unknown(const struct keys *k)
{
    const char *act = json_text(json_get(k->object, "hidden_act"), NULL);
    if (json_get(k->object, "hidden_act") && (!act || strcmp(act, "silu") != 0))
        return bad_value(k, "hidden_act", json_get(k->object, "hidden_act"), "silu is supported");
    if (value_of(k, "quantization_config")) {
        const char *method = json_text(json_get(value_of(k, "quantization_config"), "quant_method"), NULL);
        return err_set("%s: quantization_config (%.40s) is not supported; weights in f32, bf16 and f16 are", k->where, method ? method : "no quant_method");
    }
    return 0;
}

/* eos_token_id: one id or a list.  *found tells if the key was there. */
static int read_eos(const struct keys *k, struct model_config *c, bool *found)
{
    const struct json *value = value_of(k, "eos_token_id");
    *found = value != NULL;
    if (!value)
        return 0;
    bool list = json_kind(value) == JSON_KIND_ARRAY;
    size_t n = list ? json_len(value) : 1;
    if (n > CONFIG_MAX_EOS)
        return bad_value(k, "eos_token_id", value, "at most 8 ids are supported");
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        if (!json_int(list ? json_at(value, i) : value, &id) || id < 0 || id > INT32_MAX)
            return bad_value(k, "eos_token_id", value, "a token id or a list of them is expected");
        c->eos[i] = (int32_t)id;
    }
    c->n_eos = (uint32_t)n;
    return 0;
}

static int read_config(const struct keys *k, struct model_config *c)
{
    const char *type = json_text(json_get(k->object, "model_type"), NULL);
    bool found;
    *c = (struct model_config){0};
    if (!type)
        return err_set("%s: model_type is missing", k->where);
    if (!(c->arch = arch_find(type)))
        return err_wrap("%s", k->where);
    snprintf(c->model_type, sizeof c->model_type, "%s", type);
    if (refuse_unknown(k) != 0 || read_shape(k, c) != 0 || check_shape(k, c) != 0 || read_biases(k, c) != 0 ||
        read_rope(k, c) != 0 || read_window(k, c) != 0 || read_eos(k, c, &found) != 0)
        return -1;
    return 0;
}

static int load_file(struct model_config *c, const char *path)
{
    struct json *root = json_parse_file(path);
    if (!root)
        return -1;
    int bad = read_config(&(struct keys){ root, path }, c);
    json_free(root);
    return bad;
}

/* generation_config.json is what generation stops by; config.json's ids are the fallback. */
static int load_generation(struct model_config *c, const char *path)
{
    if (access(path, F_OK) != 0)
        return 0;
    struct json *root = json_parse_file(path);
    if (!root)
        return -1;
    bool found;
    int bad = read_eos(&(struct keys){ root, path }, c, &found);
    json_free(root);
    return bad;
}

int config_load(struct model_config *c, const char *folder)
{
    struct stat st;
    if (stat(folder, &st) == 0 && !S_ISDIR(st.st_mode))
        return err_set("\"%s\" is a file; a model is a Hugging Face folder (config.json, safetensors, tokenizer.json), and GGUF is not supported", folder);
    struct buf path = {0};
    buf_printf(&path, "%s/config.json", folder);
    int bad = load_file(c, path.data);
    buf_clear(&path);
    buf_printf(&path, "%s/generation_config.json", folder);
    if (!bad)
        bad = load_generation(c, path.data);
    buf_free(&path);
    return bad;
}

int config_shape(struct model_config *c, const char *name_or_file)
{
    struct stat st;
    if (!shape_find(c, name_or_file)) {
        if (stat(name_or_file, &st) != 0)
            return shape_unknown(name_or_file);
        if (S_ISDIR(st.st_mode) ? config_load(c, name_or_file) : load_file(c, name_or_file))
            return -1;
    }
    c->n_eos = c->n_vocab > BYTE_TOKENIZER_EOS;
    c->eos[0] = BYTE_TOKENIZER_EOS;
    return 0;
}
