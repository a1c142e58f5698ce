/* random.h - weights out of nothing: the tensors that a config implies, by their Hugging Face names, and their contents as
 * a function of (seed, tensor name, element).  So a model made in memory and one written to disk are the same. */
#ifndef MODEL_RANDOM_H
#define MODEL_RANDOM_H

#include "base/map.h"
#include "base/mem.h"
#include "data/tensors.h"
#include "model/config.h"

#define RANDOM_LEVELS 4096

struct random_model {
    struct tensor_info *infos; size_t n, cap;      /* all bf16, without data, in the order of a checkpoint */
    struct map names;                              /* -> index into infos */
    struct arena arena;
    uint64_t seed;
    uint16_t level[RANDOM_LEVELS];                 /* bf16: quantiles of a normal distribution */
};

void random_open(struct random_model *r, const struct model_config *c, uint64_t seed);
void random_close(struct random_model *r);
const struct tensor_info *random_find(const struct random_model *r, const char *name);     /* NULL: not there */
uint64_t random_elements(const struct tensor_info *info);

/* Elements first .. first+n-1 of the tensor as bf16; first is a multiple of 4. */
void random_fill(const struct random_model *r, const struct tensor_info *info, uint64_t first, uint16_t *out, size_t n);

#endif
