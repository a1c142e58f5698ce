/* rope.c - the rotations of all positions as a table.  In float where transformers computes in float, so that the angles
 * of far positions are the same. */
#define _GNU_SOURCE     /* sincosf, M_PI */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "model/config.h"

/* Long waves (fewer than low_freq turns over the trained length) are stretched by the factor, short ones kept, those
 * between are mixed. */
static float llama3_frequency(float inv, const struct rope_config *r)
{
    float factor = (float)r->factor, wave = 2 * (float)M_PI / inv, trained = (float)r->original_max;
    if (wave < trained / (float)r->high_freq)
        return inv;
    if (wave > trained / (float)r->low_freq)
        return inv / factor;
    float smooth = (trained / wave - (float)r->low_freq) / (float)(r->high_freq - r->low_freq);
    return (1 - smooth) * inv / factor + smooth * inv;
}

/* The dimension that turns `turns` times over the trained length. */
static double yarn_dimension(double turns, const struct rope_config *r, uint32_t d)
{
    return d * log(r->original_max / (turns * 2 * M_PI)) / (2 * log(r->theta));
}

/* Peng et al. 2023, "YaRN": dimensions below `low` are kept, those above `high` stretched, a ramp between. */
static void yarn_frequencies(float *inv, uint32_t d, const struct rope_config *r)
{
    double low = yarn_dimension(r->beta_fast, r, d), high = yarn_dimension(r->beta_slow, r, d);
    if (r->truncate)
        low = floor(low), high = ceil(high);
    low = fmax(low, 0), high = fmin(high, d - 1);
    if (low == high)
        high += 0.001;
    for (uint32_t i = 0; i < d / 2; i++) {
        float ramp = fminf(fmaxf(((float)i - (float)low) / (float)(high - low), 0), 1);
        inv[i] = inv[i] / (float)r->factor * ramp + inv[i] * (1 - ramp);
    }
}

static void frequencies(float *inv, const struct model_config *c)
{
    const struct rope_config *r = &c->rope;
    uint32_t d = c->d_head;
    for (uint32_t i = 0; i < d / 2; i++) {
        inv[i] = 1 / powf((float)r->theta, (float)(2 * i) / (float)d);
        if (r->kind == ROPE_LINEAR)
            inv[i] /= (float)r->factor;
        else if (r->kind == ROPE_LLAMA3)
            inv[i] = llama3_frequency(inv[i], r);
    }
    if (r->kind == ROPE_YARN)
        yarn_frequencies(inv, d, r);
}

void rope_table(float *table, uint32_t n_pos, const struct model_config *c)
{
    uint32_t half = c->d_head / 2;
    float *inv = mem_array(half, sizeof *inv);
    float scale = c->rope.kind == ROPE_YARN ? (float)c->rope.attention_factor : 1;
    frequencies(inv, c);
    for (uint32_t pos = 0; pos < n_pos; pos++) {
        float *row = table + (size_t)pos * c->d_head;
        for (uint32_t i = 0; i < half; i++) {
            sincosf((float)pos * inv[i], &row[half + i], &row[i]);
            row[i] *= scale, row[half + i] *= scale;
        }
    }
    free(inv);
}
