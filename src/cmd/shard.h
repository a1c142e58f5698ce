/* shard.h - part K of N of a run: of the lines that are not blank, counted over all corpora, K, K + N, K + 2N and so on.  So a stream
 * is cut without knowing its end, lines that lie together (of one task, of one length) are spread over all shards, and rows in
 * input order are taken from the shards in turn to make the whole.
 *
 * A shard's rows lie under a name that others do not see until they are whole, and then get theirs by link(), which never
 * replaces a file: whoever comes second finds the shard there. */
#ifndef CMD_SHARD_H
#define CMD_SHARD_H

#include <stdbool.h>
#include <stdint.h>

enum { MOST_SHARDS = 99999 };

struct shard { uint32_t k, n; };       /* k from 0; n = 0: all lines */

/* "3/8"; "auto" and "auto/8" take K from the environment: a task of a Slurm array (and N, if its indexes have no gaps), an index of a
 * Kubernetes Job, a job of GNU parallel.  0, or -1: err_text(). */
int shard_parse(struct shard *s, const char *text);

/* "dir/out.jsonl.zst" -> "dir/out.00003-of-00008.jsonl.zst"; free() it.  The other way about: false: it has no such name. */
char *shard_path(const struct shard *s, const char *path);
bool  shard_of_path(struct shard *s, const char *path);

/* "dir/name" -> "dir/.name", which patterns of the shell pass over; free() it. */
char *shard_hidden_path(const char *path);

/* Gives the file at `hidden` the name, or leaves the one that is there, and removes `hidden`.  0, or -1: err_text(). */
int shard_publish(const char *hidden, const char *path);

#endif
