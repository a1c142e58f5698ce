/* config_json.c - the other direction: a config as the files that a Hugging Face folder holds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/json.h"
#include "model/arch.h"
#include "model/config.h"

static void put_u32(struct buf *b, const char *key, uint32_t v)
{
    buf_printf(b, ",\n  \"%s\": %u", key, v);
}

/* With a point even where it is whole: older readers insist on a float. */
static void put_real(struct buf *b, const char *key, double v)
{
    buf_printf(b, ",\n  \"%s\": ", key);
    size_t at = b->len;
    json_put_real(b, v);
    if (!strpbrk(b->data + at, ".e"))
        buf_puts(b, ".0");
}

/* A float as the shortest number that reads back the same: 1e-06 and not 9.99999997e-07. */
static void put_float(struct buf *b, const char *key, float v)
{
    char text[32];
    int digits = 5;
    do
        snprintf(text, sizeof text, "%.*g", ++digits, (double)v);
    while (digits < 9 && strtof(text, NULL) != v);
    buf_printf(b, ",\n  \"%s\": %s", key, text);
}

static void put_bool(struct buf *b, const char *key, bool v)
{
    buf_printf(b, ",\n  \"%s\": %s", key, v ? "true" : "false");
}

static void put_eos(struct buf *b, const struct model_config *c)
{
    if (c->n_eos == 1) {
        buf_printf(b, "\"eos_token_id\": %d", c->eos[0]);
        return;
    }
    buf_puts(b, "\"eos_token_id\": ");
    for (uint32_t i = 0; i < c->n_eos; i++)
        buf_printf(b, "%s%d", i ? ", " : "[", c->eos[i]);
    buf_puts(b, c->n_eos ? "]" : "null");
}

static void put_rope(struct buf *b, const struct rope_config *r)
{
    static const char *const names[] = { [ROPE_LINEAR] = "linear", [ROPE_LLAMA3] = "llama3", [ROPE_YARN] = "yarn" };
    put_real(b, "rope_theta", r->theta);
    if (r->kind == ROPE_PLAIN) {
        buf_puts(b, ",\n  \"rope_scaling\": null");
        return;
    }
    buf_printf(b, ",\n  \"rope_scaling\": {\n  \"rope_type\": \"%s\"", names[r->kind]);
    put_real(b, "factor", r->factor);
    if (r->kind != ROPE_LINEAR)
        put_u32(b, "original_max_position_embeddings", (uint32_t)r->original_max);
    if (r->kind == ROPE_LLAMA3) {
        put_real(b, "low_freq_factor", r->low_freq);
        put_real(b, "high_freq_factor", r->high_freq);
    } else if (r->kind == ROPE_YARN) {
        put_real(b, "beta_fast", r->beta_fast);
        put_real(b, "beta_slow", r->beta_slow);
        put_real(b, "attention_factor", r->attention_factor);
        put_bool(b, "truncate", r->truncate);
    }
    buf_puts(b, "\n  }");
}

static void put_window(struct buf *b, const struct model_config *c)
{
    if (!c->arch->window)
        return;
    if (c->window)
        put_u32(b, "sliding_window", c->window);
    else
        buf_puts(b, ",\n  \"sliding_window\": null");
    if (c->arch->window_needs_flag) {
        put_bool(b, "use_sliding_window", c->window != 0);
        put_u32(b, "max_window_layers", c->window ? c->window_from : c->n_layer);
    }
}

void config_put_json(struct buf *b, const struct model_config *c)
{
    buf_printf(b, "{\n  \"architectures\": [\"%s\"],\n  \"model_type\": \"%s\"", c->arch->class_name, c->model_type);
    put_u32(b, "hidden_size", c->d_model);
    put_u32(b, "intermediate_size", c->d_ff);
    put_u32(b, "num_hidden_layers", c->n_layer);
    put_u32(b, "num_attention_heads", c->n_head);
    put_u32(b, "num_key_value_heads", c->n_kv_head);
    put_u32(b, "head_dim", c->d_head);
    put_u32(b, "vocab_size", c->n_vocab);
    put_u32(b, "max_position_embeddings", c->max_position);
    put_float(b, "rms_norm_eps", c->norm_eps);
    put_rope(b, &c->rope);
    put_window(b, c);
    if (c->arch->attention_bias)
        put_bool(b, "attention_bias", c->out_bias);
    if (c->arch->mlp_bias)
        put_bool(b, "mlp_bias", c->mlp_bias);
    put_bool(b, "tie_word_embeddings", c->tied);
    buf_puts(b, ",\n  \"hidden_act\": \"silu\",\n  \"torch_dtype\": \"bfloat16\",\n  ");
    put_eos(b, c);
    buf_puts(b, "\n}\n");
}

void config_put_generation_json(struct buf *b, const struct model_config *c)
{
    buf_puts(b, "{\n  ");
    put_eos(b, c);
    buf_puts(b, "\n}\n");
}
