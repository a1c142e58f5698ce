/* resume.h - a run that goes on where an earlier one was broken off: the journal of its output, and the accounts at the end. */
#ifndef CMD_RESUME_H
#define CMD_RESUME_H

#include "base/opt.h"
#include "cmd/pipeline.h"

/* What answers depend on: options by the table (but not where and how fast), the model's files, the device, the corpora. */
struct resume_facts {
    const struct opt *options; const void *values;
    const char *model, *device;
    char **corpora; int n_corpus;
};

/* Where the rows go, and the name they get when all are there (cmd/shard.h); NULL: they have it from the start. */
struct resume_names { const char *output, *published; };

/* True: there is nothing to do, because the output is whole: it is there, and has no journal (any more). */
bool resume_is_whole(const char *output);

/* Opens output (and errors, or NULL) for the pipeline, with a journal where the output is a file: as they were left, or
 * anew; errors as they were left only if they are of all runs together (pipeline.keeps_errors).  False: the whole has been published
 * by another run, and there is nothing to do.  What is wrong ends the program; another run writing them now, with EXIT_AGAIN. */
bool resume_open(struct pipeline *p, const struct resume_facts *f, const struct resume_names *n, const char *errors);

/* After the outputs are closed: the accounts of all runs together, worked out from the files (pipeline.n_failed, too).  When all
 * lines have their row they are published and the journal ends.  0, or -1: err_text(); pipeline.lasting: they do not close. */
int resume_close(struct pipeline *p, const struct resume_names *n, bool interrupted);

#endif
