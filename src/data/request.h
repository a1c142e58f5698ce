/* request.h - one line of a corpus as a struct: what is asked, and how to sample.  The three kinds of line are
 * told by their keys (results/README.md lists them).  Knows no tokenizer and no engine; it holds the room that the later
 * stages fill, so that nothing is allocated while the engine steps. */
#ifndef DATA_REQUEST_H
#define DATA_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/map.h"
#include "base/mem.h"

enum request_kind { REQUEST_PLAIN, REQUEST_BATCH, REQUEST_TRTLLM };

struct logit_bias { int32_t id; float bias; };

/* How to sample.  Defaults of a run come from the command line; a line's keys override them. */
struct sampling {
    int32_t  max_tokens, min_tokens;           /* max_tokens 0: up to the model's context */
    int32_t  n;                                /* answers to give */
    float    temperature;                      /* 0: greedy */
    float    top_p, min_p;                     /* 1 and 0: off */
    int32_t  top_k;                            /* 0 or -1: off */
    float    presence_penalty, frequency_penalty, repetition_penalty;  /* off: 0, 0, 1 */
    uint64_t seed;
    bool     own_seed, own_max_tokens;         /* the line gave it: it alone decides; a default max_tokens is cut to what fits */
    bool     ignore_eos, echo;
    int32_t  logprobs;                         /* -1: none; k: the chosen token's and the k best */
    const char **stop;  uint32_t n_stop;       /* stop strings, in the request's arena */
    int32_t *stop_ids;  uint32_t n_stop_id;
    struct logit_bias *bias; uint32_t n_bias;
};

struct request {
    struct arena arena;                /* everything below that is variable in size */
    uint64_t index;                    /* input line over all corpora, from 0 */
    const char *file;  uint64_t line;  /* where it stands, line from 1: for messages; file is borrowed */
    enum request_kind kind;
    const char *id;                    /* custom_id / id / task_id as text; NULL: none given */
    bool id_is_int;                    /* `id` was a JSON number: written back as one */
    const char *prompt; size_t prompt_len;     /* NULL: prompt_ids, or messages */
    int32_t *prompt_ids; uint32_t n_prompt;    /* given, or filled by the tokenizer */
    const struct json *messages;       /* held by doc; the chat template's seam */
    struct json *doc;                  /* the parsed line; freed with the request */
    const char *expected; size_t expected_len; /* NULL: no score */
    double arrival_s;                  /* < 0: none given */
    struct sampling sampling;
    char *error;                       /* not NULL: the line is bad, this says why; goes to an error row */
    int64_t read_ns;                   /* clock when the line had been read */
    uint64_t line_hash;                /* of its text, for the journal */
};

/* What request_parse remembers over lines: custom_ids and where each was seen first, unknown keys that were warned
 * about.  Zeroed but for the defaults at the start; for one thread at a time. */
struct request_place { const char *file; uint64_t line; };
struct request_reader {
    struct sampling defaults;          /* its stop strings and so on must outlive the requests */
    struct map ids, warned;            /* value of an id: index into seen */
    struct request_place *seen; size_t n_seen, room;
    struct arena names;                /* the maps' keys */
};

/* Never fails: a bad line gives a request with `error` set ("column 17: ..." where JSON is broken), and with its id
 * where that could be read.  text NULL: the line was too long (len bytes).  Free with request_free. */
struct request *request_parse(struct request_reader *rr, const char *file, uint64_t line, uint64_t index, const char *text, size_t len);
/* A request that no line asks for: exactly n_output tokens behind these ids; arrival_s as in struct request. */
struct request *request_of_ids(const struct request_reader *rr, uint64_t index, const int32_t *ids, uint32_t n, uint32_t n_output, double arrival_s);

void            request_fail(struct request *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));    /* the first error stays */
void            request_free(struct request *r);
void            request_reader_free(struct request_reader *rr);

#endif
