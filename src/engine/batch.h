/* batch.h - a step as flat arrays on the device: one block of memory made at opening, one upload a step.  The block
 * tables stay on the device, one row a slot; only entries that are new are patched.  A step may be padded, so that its sizes,
 * and with them the places of its arrays, are those of an earlier one (struct step). */
#ifndef ENGINE_BATCH_H
#define ENGINE_BATCH_H

#include "engine/sched.h"
#include "kernels/device.h"

struct batch {
    struct device *device;
    uint32_t block_size, table_cols, max_tok, max_seqs;
    bool      padded;
    uint32_t *host;                /* [n_word] arrays of the step, one behind the other, then patches */
    uint32_t *memory;              /* the same on the device */
    uint32_t *table;               /* device, [max_seqs, table_cols] */
    size_t    n_word, table_size;
    struct patch *patches; uint32_t n_patch;       /* of the tables, not yet on the device */
    struct step step;              /* device pointers */
};

void batch_open(struct batch *b, struct device *d, const struct sched_config *c, uint32_t max_len, uint32_t block_size, bool padded);
void batch_close(struct batch *b);

/* Lays out and uploads the plan; prev: device, where the ids that the step before it sampled begin at prev_at.  The step is
 * valid until the next call, which may come while the device still runs it: what is uploaded then is enqueued behind it. */
const struct step *batch_build(struct batch *b, const struct plan *p, const int32_t *prev, uint32_t prev_at);

#endif
