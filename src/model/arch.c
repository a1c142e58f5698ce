#include "model/arch.h"

#include <string.h>

#include "base/buf.h"
#include "base/err.h"

/* Defaults: transformers, models/<type>/configuration_<type>.py. */
static const struct arch archs[] = {
    { .model_type = "llama", .class_name = "LlamaForCausalLM", .norm_eps = 1e-6f, .rope_theta = 10000, .max_position = 2048,
      .attention_bias = true, .mlp_bias = true, .act = ACT_SILU },
    { .model_type = "mistral", .class_name = "MistralForCausalLM", .norm_eps = 1e-6f, .rope_theta = 10000, .max_position = 131072,
      .n_kv_head = 8, .window = 4096, .act = ACT_SILU },
    { .model_type = "qwen2", .class_name = "Qwen2ForCausalLM", .norm_eps = 1e-6f, .rope_theta = 10000, .max_position = 32768,
      .n_kv_head = 32, .window = 4096, .window_needs_flag = true, .qkv_bias = true, .act = ACT_SILU },
    { .model_type = "qwen3", .class_name = "Qwen3ForCausalLM", .norm_eps = 1e-6f, .rope_theta = 10000, .max_position = 32768,
      .n_kv_head = 32, .d_head = 128, .window = 4096, .window_needs_flag = true, .attention_bias = true, .qk_norm = true,
      .act = ACT_SILU },
};

const struct arch *arch_at(size_t i)
{
    return i < sizeof archs / sizeof *archs ? &archs[i] : NULL;
}

const struct arch *arch_find(const char *model_type)
{
    struct buf names = {0};
    for (size_t i = 0; arch_at(i); i++) {
        if (strcmp(archs[i].model_type, model_type) == 0) {
            buf_free(&names);
            return &archs[i];
        }
        buf_printf(&names, "%s%s", i ? ", " : "", archs[i].model_type);
    }
    err_set("model_type \"%.60s\" is not supported; supported are %s", model_type, names.data);
    buf_free(&names);
    return NULL;
}
