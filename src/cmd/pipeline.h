/* pipeline.h - the two threads beside the engine: the reader turns files into tokenized requests, or takes them from a
 * workload, the writer turns answers into rows.  Bounded queues join them, so memory stays bounded whatever the corpus. */
#ifndef CMD_PIPELINE_H
#define CMD_PIPELINE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/queue.h"
#include "cmd/pace.h"
#include "cmd/shard.h"
#include "data/answer.h"
#include "data/journal.h"
#include "data/request.h"
#include "data/tokenizer.h"
#include "data/zfile.h"
#include "engine/meter.h"
#include "plan/workload.h"

struct pipeline {
    /* given */
    char **corpora; int n_corpus;
    struct workload *workload;             /* instead of corpora; NULL: none */
    struct pace *pace;                     /* NULL: requests come as fast as they are taken */
    int64_t limit;                         /* lines, or requests, to take; 0: all */
    struct shard shard;                    /* of these, the lines to take */
    const struct line_set *only, *poison;  /* lines to take alone; lines that get an error row; NULL: all, none */
    bool ordered;
    uint32_t n_vocab, max_len;             /* ids must be below; tokens that a sequence may have */
    const struct tokenizer *tokenizer;
    struct request_reader requests;
    struct row_style style;
    struct zwriter *rows, *errors;         /* NULL: none kept */
    struct journal *journal;               /* of the rows, and of the error rows if keeps_errors; NULL: none */
    bool keeps_errors;
    struct meter *meter;
    atomic_bool *stop;                     /* set when rows can no longer be written, or the workload made */
    /* between the threads */
    struct queue *in, *out;                /* struct answer */
    pthread_t reader, writer;
    atomic_bool failed;                    /* the writer could not write, or what is read is bad: the run must end */
    atomic_bool lasting;                   /* what failed will not pass by itself: it was what is read */
    char error[512];
    pthread_mutex_t lock; pthread_cond_t moved;
    uint64_t next_row;                     /* ordered: the serial to write next, under lock */
    struct row *held;                      /* ordered: rows waiting for their turn, [ORDER_WINDOW] */
    uint64_t n_put;                        /* writer: rows on their way into the file */
    uint64_t n_line, n_resumed;            /* reader: lines that get a row; of them, had one already */
    uint64_t n_failed;                     /* error rows in the output, of all runs: from resume_close */
};

void pipeline_start(struct pipeline *p);

/* After engine_run has returned: waits until the last row is durable.  interrupted: the reader may be waiting for input; it is left. */
void pipeline_finish(struct pipeline *p, bool interrupted);

/* A first look at a corpus before anything is loaded: can it be opened?  0, or -1: err_text(). */
int pipeline_probe(const char *corpus);

#endif
