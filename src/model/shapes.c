#include "model/shapes.h"

#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "model/arch.h"

/* As in the config.json that the makers published beside the weights (Qwen2.5: of the -Instruct models; Mistral: v0.3). */
static const struct shape {
    const char *name, *model_type;
    uint32_t n_layer, d_model, n_head, n_kv_head, d_head, d_ff, n_vocab, max_position;
    bool     tied;
    float    norm_eps;
    double   theta, llama3_factor;     /* 0: plain rope */
} shapes[] = {
    { "qwen3-0.6b",   "qwen3",   28, 1024, 16,  8, 128,  3072, 151936,  40960, true,  1e-6f, 1e6, 0 },
    { "qwen3-1.7b",   "qwen3",   28, 2048, 16,  8, 128,  6144, 151936,  40960, true,  1e-6f, 1e6, 0 },
    { "qwen3-4b",     "qwen3",   36, 2560, 32,  8, 128,  9728, 151936,  40960, true,  1e-6f, 1e6, 0 },
    { "qwen3-8b",     "qwen3",   36, 4096, 32,  8, 128, 12288, 151936,  40960, false, 1e-6f, 1e6, 0 },
    { "qwen3-14b",    "qwen3",   40, 5120, 40,  8, 128, 17408, 151936,  40960, false, 1e-6f, 1e6, 0 },
    { "qwen3-32b",    "qwen3",   64, 5120, 64,  8, 128, 25600, 151936,  40960, false, 1e-6f, 1e6, 0 },
    { "qwen2.5-0.5b", "qwen2",   24,  896, 14,  2,  64,  4864, 151936,  32768, true,  1e-6f, 1e6, 0 },
    { "qwen2.5-1.5b", "qwen2",   28, 1536, 12,  2, 128,  8960, 151936,  32768, true,  1e-6f, 1e6, 0 },
    { "qwen2.5-7b",   "qwen2",   28, 3584, 28,  4, 128, 18944, 152064,  32768, false, 1e-6f, 1e6, 0 },
    { "llama-2-7b",   "llama",   32, 4096, 32, 32, 128, 11008,  32000,   4096, false, 1e-5f, 1e4, 0 },
    { "llama-3.1-8b", "llama",   32, 4096, 32,  8, 128, 14336, 128256, 131072, false, 1e-5f, 5e5, 8 },
    { "llama-3.2-1b", "llama",   16, 2048, 32,  8,  64,  8192, 128256, 131072, true,  1e-5f, 5e5, 32 },
    { "llama-3.2-3b", "llama",   28, 3072, 24,  8, 128,  8192, 128256, 131072, true,  1e-5f, 5e5, 32 },
    { "mistral-7b",   "mistral", 32, 4096, 32,  8, 128, 14336,  32768,  32768, false, 1e-5f, 1e6, 0 },
};

bool shape_find(struct model_config *c, const char *name)
{
    const struct shape *s = shapes;
    while (s < shapes + sizeof shapes / sizeof *shapes && strcmp(s->name, name) != 0)
        s++;
    if (s == shapes + sizeof shapes / sizeof *shapes)
        return false;
    *c = (struct model_config){
        .arch = arch_find(s->model_type), .n_layer = s->n_layer, .n_head = s->n_head, .n_kv_head = s->n_kv_head, .d_head = s->d_head,
        .d_model = s->d_model, .d_ff = s->d_ff, .n_vocab = s->n_vocab, .max_position = s->max_position, .norm_eps = s->norm_eps,
        .tied = s->tied, .rope = { .theta = s->theta },
    };
    if (s->llama3_factor != 0)
        c->rope = (struct rope_config){ ROPE_LLAMA3, .theta = s->theta, .factor = s->llama3_factor, .original_max = 8192,
                                        .low_freq = 1, .high_freq = 4 };
    snprintf(c->model_type, sizeof c->model_type, "%s", s->model_type);
    c->qkv_bias = c->arch->qkv_bias;
    c->qk_norm = c->arch->qk_norm;
    return true;
}

int shape_unknown(const char *name)
{
    struct buf names = {0};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        buf_printf(&names, "%s, ", shapes[i].name);
    err_set("no shape \"%.100s\"; there are %sand any config.json by its path", name, names.data);
    buf_free(&names);
    return -1;
}
