/* trace.h - recorded requests, one row at a time: when each came, how long it was and how long its answer.  The format is
 * told by the content; the file may be plain, zstd or gzip, and "-" is standard input.
 *
 *   azure      CSV  TIMESTAMP,ContextTokens,GeneratedTokens; dates with up to 9 digits of a second and perhaps a zone
 *   lengths    CSV  the same columns with XXX for every time (NanoFlow's ShareGPT lengths): no arrivals
 *   burstgpt   CSV  Timestamp (seconds), Request tokens, Response tokens, and others between them
 *   vidur      CSV  arrived_at (seconds), num_prefill_tokens, num_decode_tokens
 *   mooncake   JSON lines  timestamp (ms), input_length, output_length, and perhaps hash_ids: one for each 512 tokens of the
 *              input, the last block may be short; requests with the same leading ids begin with the same tokens
 *   sharegpt   one JSON array of {"conversations": [{"value": text}, ...]}; the first two turns are prompt and answer
 *
 * CSV goes by the names in the header, in any order.  Memory is bounded by the longest line (ShareGPT: entry). */
#ifndef DATA_TRACE_H
#define DATA_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRACE_MAX_TOKENS ((uint32_t)1 << 24)   /* of an input or an output; a row with more is bad */
#define TRACE_BLOCK 512                        /* tokens to a hash id */

struct trace_row {
    double arrival_s;                          /* from the first row given on, never less than the row before; NaN: the format has none */
    uint32_t n_input, n_output;                /* tokens, at least 1; 0 in ShareGPT */
    const uint64_t *hash_ids; uint32_t n_hash; /* of the first n_hash blocks of the input */
    const char *prompt, *answer;               /* ShareGPT, at least a byte each; else NULL */
    size_t prompt_len, answer_len;
};

struct trace_counts {
    uint64_t n_dropped;    /* rows passed over: no input or no output (BurstGPT: failed), fewer than two turns */
    uint64_t n_late;       /* rows with a time before that of an earlier row: they arrive with it */
};

struct trace;

struct trace       *trace_open(const char *path);              /* NULL: err_text() */
void                trace_close(struct trace *t);
const char         *trace_format(const struct trace *t);       /* "azure", ... as above */
bool                trace_has_arrivals(const struct trace *t);
bool                trace_has_text(const struct trace *t);     /* rows have texts in place of lengths */
struct trace_counts trace_counts(const struct trace *t);       /* so far */

/* The next row; what it points to is valid until the next call.  1: a row; 0: the end; -1: a bad row or a broken file,
 * err_text() says the file, the line and the value.  Nothing is to be read after that. */
int trace_next(struct trace *t, struct trace_row *row);

#endif
