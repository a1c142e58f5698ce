/* tok_parts.h - the parts of a tokenizer, shared by tokenizer.c and tok_*.c and by nobody else.
 *
 *   text -> added tokens (raw) -> normalizer -> added tokens (normalized) -> pre-tokenizer -> BPE -> ids
 *           tok_added.c           tok_norm.c    tok_added.c                  tok_split.c      tok_bpe.c
 *   ids -> decoders (tok_decode.c) -> text
 *
 * Text runs depth first: each part hands every piece it finds straight to the next, so no list of pieces exists.
 * What a file says is checked when it is read (tok_load.c, *_load below); after that only a text can fail. */
#ifndef DATA_TOK_PARTS_H
#define DATA_TOK_PARTS_H

#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "data/json.h"
#include "data/tokenizer.h"

#define TOK_MAX_TEXT ((size_t)256 << 20)   /* bytes of a text, and of what a normalizer may make of it */
#define TOK_MAX_ID   (1 << 22)             /* ids at or over this are refused: tables are indexed by id */
#define TOK_MAX_STEP 64                    /* normalizers, pre-tokenizers or decoders in a row */
#define TOK_MAX_GROWTH (1 << 16)           /* of a text by all decoders that replace: each could double it */
#define TOK_NONE     UINT32_MAX            /* no token, no rank */

/* ---- characters (tok_utf8.c) ---- */

enum utf8_kind { UTF8_GOOD, UTF8_BAD, UTF8_CUT };

/* The first character of p[0..n), n > 0.  GOOD: *cp, returns its length.  BAD: the length of the maximal subpart
 * that one U+FFFD stands for.  CUT: all n bytes begin a character that more bytes would finish. */
size_t tok_utf8_next(const char *p, size_t n, uint32_t *cp, enum utf8_kind *kind);
size_t tok_utf8_get(const char *p, size_t n, uint32_t *cp);        /* the same where the text is known to be UTF-8 */
void   tok_utf8_put(struct buf *b, uint32_t cp);
bool   tok_is_space(uint32_t cp);                                  /* Unicode White_Space */
size_t tok_spaces_before(const char *text, size_t end);            /* where the white space that ends at `end` begins */
size_t tok_spaces_after(const char *text, size_t len, size_t from);

/* The byte alphabet of GPT-2: each byte has a printable character. */
uint32_t tok_byte_to_char(uint8_t byte);
int      tok_char_to_byte(uint32_t cp);                            /* -1: not in the alphabet */
void     tok_bytes_to_chars(struct buf *out, const char *p, size_t n);

/* ---- regular expressions (tok_regex.c) ---- */

struct tok_regex;
struct tok_matcher;                                                /* scratch of one thread */
enum tok_flavor { TOK_ONIGURUMA, TOK_PCRE, TOK_LITERAL };

struct tok_regex   *tok_regex_open(const char *pattern, size_t len, enum tok_flavor flavor);   /* NULL: err_text() */
void                tok_regex_close(struct tok_regex *r);
struct tok_matcher *tok_matcher_open(void);
void                tok_matcher_close(struct tok_matcher *m);

/* All matches in text, one after the other.  Set regex, matcher, text, len; zero the rest.
 * 1: a match in [start, end), which may be empty but never directly behind the match before; 0: no more; -1: err_text(). */
struct tok_find {
    const struct tok_regex *regex;
    struct tok_matcher *matcher;
    const char *text;
    size_t len, from, last, start, end;
    bool found;
};
int tok_find_next(struct tok_find *f);

/* Appends text with every match replaced. 0, or -1. */
int tok_replace(const struct tok_regex *r, struct tok_matcher *m, const char *text, size_t len,
                const char *with, size_t with_len, struct buf *out);

/* {"String": s} or {"Regex": s}, as Split and Replace have it. */
struct tok_regex *tok_pattern_load(const struct json *pattern);

/* ---- normalizer (tok_norm.c) ---- */

enum tok_norm_kind { TOK_NORM_UNICODE, TOK_NORM_REPLACE, TOK_NORM_PREPEND, TOK_NORM_STRIP, TOK_NORM_LOWER };

struct tok_norm {
    enum tok_norm_kind kind;
    int form;                      /* UNICODE: utf8proc's options */
    bool left, right;              /* STRIP */
    struct tok_regex *regex;       /* REPLACE */
    const char *text;              /* REPLACE: put in its place; PREPEND */
    size_t len;
};

struct tok_norm_scratch { struct buf text[2]; int32_t *cp; size_t n_cp; };

int tok_norm_load(struct tokenizer *t, const struct json *j);

/* Normalizes text; the result borrows from text or from the state until the next call.
 * *at_start turns false where the first character of the text was taken away. */
int tok_normalize(struct tok_state *s, const char **text, size_t *len, bool *at_start);

/* ---- added tokens (tok_added.c) ---- */

struct tok_added {
    const char *text;              /* what is looked for (normalized where the token is) */
    uint32_t len, id;
    bool single_word, lstrip, rstrip;
};

struct tok_added_set { struct tok_added *tokens; size_t n; bool begins[256]; };    /* sorted by text */

int tok_added_load(struct tokenizer *t, const struct json *list);

/* Calls rest() for each stretch of text between added tokens and puts the tokens' ids out. */
typedef int tok_rest(struct tok_state *s, const char *text, size_t len, bool at_start);
int tok_added_split(struct tok_state *s, const struct tok_added_set *set, const char *text, size_t len,
                    bool at_start, tok_rest *rest);

/* ---- pre-tokenizer (tok_split.c) ---- */

enum tok_step_kind { TOK_STEP_SPLIT, TOK_STEP_SPACE, TOK_STEP_BYTES, TOK_STEP_META };
enum tok_behavior { TOK_REMOVED, TOK_ISOLATED, TOK_MERGED_PREVIOUS, TOK_MERGED_NEXT, TOK_CONTIGUOUS };
enum tok_prepend { TOK_PREPEND_ALWAYS, TOK_PREPEND_FIRST, TOK_PREPEND_NEVER };

struct tok_step {
    enum tok_step_kind kind;
    struct tok_regex *regex;       /* SPLIT */
    enum tok_behavior behavior;
    bool invert;
    const char *mark;              /* META: stands for a space */
    size_t mark_len;
    enum tok_prepend prepend;
};

int tok_split_load(struct tokenizer *t, const struct json *j);
int tok_split(struct tok_state *s, const char *text, size_t len, bool at_start);   /* pieces go to tok_bpe */

/* ---- BPE (tok_bpe.c, its tables in tok_vocab.c) ---- */

struct tok_token { const char *text; uint32_t len; bool special; };       /* text NULL: the id is free */
struct tok_merge { uint32_t left, right, rank, id; };                     /* rank TOK_NONE: an empty slot */

struct tok_model {
    struct tok_token *tokens;      /* [n_id], added tokens too */
    uint32_t n_id, n_vocab;        /* n_vocab: how many of them are the model's */
    char *text;                    /* of the model's tokens */
    uint32_t *slots;               /* hash of the text -> id, of the model's tokens; TOK_NONE: empty */
    struct tok_merge *merges;      /* hash of (left, right) */
    uint32_t slot_mask, merge_mask;
    uint32_t first[256];           /* the token of a byte (byte_level) or of an ASCII character */
    uint64_t *joins, *whole;       /* which neighbours may merge (tok_vocab.c); NULL: not known */
    uint32_t fallback[256];        /* <0x00>...; TOK_NONE where missing */
    const char *unk_text;          /* NULL: characters that are not there are dropped */
    uint32_t unk;
    bool byte_level, ignore_merges, byte_fallback, fuse_unk;
};

int      tok_model_load(struct tokenizer *t, const struct json *j);
void     tok_model_free(struct tok_model *m);
uint32_t tok_model_find(const struct tok_model *m, const char *text, size_t len);          /* TOK_NONE: not there */
const struct tok_merge *tok_model_merge(const struct tok_model *m, uint32_t left, uint32_t right);  /* NULL: none */

/* False: no merge can ever join the characters a and b, and both are tokens. */
bool     tok_model_joins(const struct tok_model *m, uint32_t a, uint32_t b);

#define TOK_CACHE ((size_t)1 << 15)    /* words; 2 MiB a state */
struct tok_cached { uint8_t len, n; char text[30]; int32_t ids[8]; };     /* one cache line; len 0: empty */
struct tok_bpe_scratch { uint32_t *id, *rank, *prev, *next; uint64_t *heap; size_t n_heap, cap, heap_cap; };

int tok_bpe(struct tok_state *s, const char *piece, size_t len);

/* ---- decoders (tok_decode.c) ---- */

enum tok_decoder_kind {
    TOK_DECODE_JOIN, TOK_DECODE_REPLACE, TOK_DECODE_FALLBACK, TOK_DECODE_FUSE, TOK_DECODE_STRIP, TOK_DECODE_BYTES,
    TOK_DECODE_META, TOK_DECODE_SUFFIX,
};

struct tok_decoder {
    enum tok_decoder_kind kind;
    struct tok_regex *regex;       /* REPLACE, SUFFIX */
    bool local;                    /* REPLACE of one fixed character: works on any part of a string */
    const char *text;              /* REPLACE: what comes in; STRIP, META: the character */
    size_t len, start, stop;       /* start, stop: STRIP */
    bool drop_first;               /* META: the first token's marks vanish */
};

int tok_decoder_load(struct tokenizer *t, const struct json *j);

/* ---- the whole ---- */

struct tokenizer {
    struct arena arena;            /* texts named above that are not the model's */
    struct tok_model model;
    struct tok_added_set added[2]; /* [0] looked for in the raw text, [1] in the normalized text */
    struct map added_ids;          /* their texts as the file has them -> id */
    struct tok_regex *word;        /* a word character, for single_word */
    struct tok_norm *norms;
    size_t n_norm;
    struct tok_step *steps;
    size_t n_step;
    struct tok_decoder *decoders;
    size_t n_decoder, growth;      /* growth: how many times as long the decoders that replace may make a text; 0: none does */
    struct tok_ids before, after;  /* what the post-processor puts around a text */
};

struct tok_state {
    const struct tokenizer *t;
    struct tok_matcher *matcher;
    struct tok_norm_scratch norm;
    struct buf *step_text;         /* [n_step]: a rewriting step's piece */
    struct buf chars;              /* a piece written in the byte alphabet */
    struct tok_cached *cache;
    struct tok_bpe_scratch bpe;
    struct tok_ids *out;
    struct tok_stream stream;      /* tokenizer_decode's */
};

void tok_put_id(struct tok_ids *out, uint32_t id);

int tok_load_text(struct tokenizer *t, const char *json, size_t len);
int tok_load(struct tokenizer *t, const char *json_path, const char *config_path);         /* config_path may be NULL */

/* Reading of JSON: 0, or -1 with a message that names the key. */
int tok_json_bool(const struct json *object, const char *key, bool missing, bool *out);
int tok_json_text(const struct json *object, const char *key, const char **text, size_t *len);     /* must be there */
int tok_json_char(const struct json *object, const char *key, const char **text, size_t *len);     /* one character */
const char *tok_json_type(const struct json *part);        /* "type" of a part; "" where it has none */
/* load(t, element) for each element of the array object[key]. */
int tok_json_each(struct tokenizer *t, const struct json *object, const char *key,
                  int (*load)(struct tokenizer *t, const struct json *j));

#endif
