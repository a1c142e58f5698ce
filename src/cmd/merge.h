/* merge.h - what the parts of tokmill merge share. */
#ifndef CMD_MERGE_H
#define CMD_MERGE_H

#include <stdint.h>

/* Adds up the summaries of the shards' runs in the folder (each has one of its own in there, and so has each try) and writes
 * summary.csv and summary.json of them all there.  What is wrong ends the program. */
void merge_results(const char *folder, uint32_t n_shard);

#endif
