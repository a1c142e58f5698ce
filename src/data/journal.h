/* journal.h - which lines of a run have their rows on disk: a file beside the output, FILE.journal, from the first row until all are
 * there.  A record is appended after the rows it speaks of have been synced, so whatever is cut off by a kill or a power
 * cut is behind what the journal promises: opening it again drops what is torn, tells how much of the output is whole, and
 * which lines are done.
 *
 * It begins with the facts that decide the answers, and is refused to a run with others.  Memory: eight bytes a line. */
#ifndef DATA_JOURNAL_H
#define DATA_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* A fact as people know it: "--temperature", "0.7". */
struct journal_fact { const char *name; char value[256]; };

enum { JOURNAL_N_FILE = 2 };       /* rows, error rows */

struct journal;

/* The journal at the path, or a new one if there is none; sizes: of the files that are there, 0 for none.  NULL: err_text():
 * another run's (with the fact that differs), not to be read, or
 * (*busy) one that another run writes now. */
struct journal *journal_open(const char *path, const struct journal_fact *facts, size_t n_fact, const uint64_t sizes[JOURNAL_N_FILE], bool *busy);

/* Files: what of each is promised, to be cut to it before anything is added. */
uint64_t journal_end(const struct journal *j, int file);
bool     journal_is_new(const struct journal *j);

enum journal_line { JOURNAL_TODO, JOURNAL_DONE, JOURNAL_CHANGED };     /* changed: done, but the line was another one */
enum journal_line journal_line(const struct journal *j, uint64_t index, uint64_t hash);

void journal_cut(struct journal *j, uint64_t n_row);                   /* so many rows are cut off the output and will be made again */
void journal_add(struct journal *j, uint64_t index, uint64_t hash, bool failed);       /* a row was put */
int  journal_commit(struct journal *j, const uint64_t ends[JOURNAL_N_FILE]);           /* and all so far are cut and synced: 0, or -1: err_text() */

/* As the file says, read anew: for the accounts at the end. */
struct journal_count { uint64_t n_row, n_failed, n_again, n_line; };   /* again: cut off and made again; line: different ones */
int  journal_counts(const struct journal *j, struct journal_count *c); /* 0, or -1: err_text() */

void journal_close(struct journal *j);                                 /* the file stays: the next run goes on */
int  journal_end_run(struct journal *j);                               /* all rows are there: removes the file, and closes; 0, or -1: err_text() */

#endif
