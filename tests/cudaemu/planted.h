/* planted.h - kernels with a known bug each, and the same without it, so that what finds bugs is itself tested. */
#ifndef CUDAEMU_PLANTED_H
#define CUDAEMU_PLANTED_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum planted {
    PLANTED_NO_BARRIER,        /* between a write and a read of shared memory */
    PLANTED_NO_WARP_SYNC,      /* likewise in a warp */
    PLANTED_NO_COPY_WAIT,      /* cp.async data read at once */
    PLANTED_EARLY_COPY,        /* cp.async into a buffer that others still read */
    PLANTED_SHARED_INDEX,      /* a write past the end of a shared array */
    PLANTED_GLOBAL_INDEX,      /* a read past the end of an allocation */
    PLANTED_LOST_UPDATE,       /* += on global memory by several blocks */
    PLANTED_NO_FENCE,          /* the last block reads what others wrote without a fence */
    PLANTED_LOOP_CARRIED,      /* a loop's next write before all have read */
    PLANTED_EARLY_READ,        /* the host reads a result before it waits for the copy */
    PLANTED_NO_EVENT,          /* a stream uses what another one makes */
    PLANTED_NO_EDGE,           /* the same in a captured graph */
    N_PLANTED
};

const char *planted_name(enum planted p);

/* Whether the result was right; with the bug or without. */
bool planted_run(enum planted p, bool bug);

#ifdef __cplusplus
}
#endif
#endif
