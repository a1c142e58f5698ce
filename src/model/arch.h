/* arch.h - the families as rows of a table.  A row holds what config.json does not say; the presence of a tensor
 * (bias, q/k norm, lm_head) is the truth about the rest. */
#ifndef MODEL_ARCH_H
#define MODEL_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"

struct arch {
    const char *model_type;        /* config.json */
    const char *class_name;        /* architectures[0] */
    float    norm_eps;             /* class defaults where the file says nothing */
    double   rope_theta;
    uint32_t max_position;
    uint32_t n_kv_head;            /* 0: n_head */
    uint32_t d_head;               /* 0: d_model / n_head */
    uint32_t window;               /* sliding window if the key is missing; 0: the family has none */
    bool     window_needs_flag;    /* only with use_sliding_window, from max_window_layers on */
    bool     tied;
    bool     attention_bias;       /* the family knows the key: biases on q, k, v and the output projection */
    bool     mlp_bias;             /* the family knows the key: biases on gate, up and down */
    bool     qkv_bias, qk_norm;    /* always there */
    enum act_kind act;
};

const struct arch *arch_find(const char *model_type);      /* NULL: err_text() lists the supported ones */
const struct arch *arch_at(size_t i);                      /* NULL after the last */

#endif
