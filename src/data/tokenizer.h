/* tokenizer.h - text to token ids and back, as a Hugging Face tokenizer.json says: added tokens, normalizer,
 * pre-tokenizer, BPE, post-processor, decoder.  PCRE2 and utf8proc enter here (tok_regex.c, tok_norm.c) and nowhere else.
 * A tokenizer is read-only after loading; each thread has its own struct tok_state (scratch and word cache). */
#ifndef DATA_TOKENIZER_H
#define DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct tokenizer;
struct tok_state;

/* path: a model folder (tokenizer.json, and tokenizer_config.json if there) or a tokenizer.json itself.
 * NULL: err_text() names the file, what it holds that is not supported, and what is. */
struct tokenizer *tokenizer_open(const char *path);
struct tokenizer *tokenizer_parse(const char *json, size_t len);   /* the text of a tokenizer.json */
void              tokenizer_close(struct tokenizer *t);

uint32_t tokenizer_n_vocab(const struct tokenizer *t);     /* highest id + 1 */
bool     tokenizer_find(const struct tokenizer *t, const char *content, int32_t *id);   /* a token by its exact content */

struct tok_state *tok_state_open(const struct tokenizer *t);
void              tok_state_close(struct tok_state *s);

struct tok_ids { int32_t *ids; size_t n, cap; };           /* grows; zeroed = empty; free(ids) */

/* Appends the ids of text (UTF-8, at most 256 MiB) to out.  special: the post-processor adds its tokens (BOS, ...).
 * 0, or -1: err_text(), and out is as it was. */
int tokenizer_encode(struct tok_state *s, const char *text, size_t len, bool special, struct tok_ids *out);

/* Appends the text of ids to out, which is UTF-8 whatever the ids.  skip_special leaves out special added tokens;
 * ids that are no tokens are left out in any case. */
void tokenizer_decode(struct tok_state *s, const int32_t *ids, size_t n, bool skip_special, struct buf *out);

/* Appends what one token stands for behind others: a space in front of it is kept.  false: those are bytes that are no
 * whole characters. */
bool tokenizer_piece(struct tok_state *s, int32_t id, struct buf *out);

/* Takes the tokens that the post-processor puts around a text off both ends of ids, if they are there. */
void tokenizer_trim(const struct tokenizer *t, const int32_t **ids, size_t *n);

/* Decoding as the tokens come: each call appends what is certain, so that all calls together, tok_stream_end's too, give
 * what tokenizer_decode gives for all ids.  Held back are half characters, and the byte tokens of byte fallback until
 * another token follows.  Zero the struct to begin; keep one for each sequence.  After tok_stream_end it may begin anew. */
struct tok_stream { struct tok_stage *stages; size_t n_stage; };
void tok_stream_put(struct tok_state *s, struct tok_stream *st, int32_t id, bool skip_special, struct buf *out);
void tok_stream_end(struct tok_state *s, struct tok_stream *st, struct buf *out);
void tok_stream_free(struct tok_stream *st);

#endif
