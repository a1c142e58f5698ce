/* A tokenizer.json, and behind a NUL byte a text for it: ids are in the vocabulary, texts are UTF-8, streams give what decoding gives,
 * and where nothing of a text can get lost it comes back. */
#include "tests/fuzz/fuzz.h"

#include "data/json.h"
#include "data/tok_parts.h"     /* to know whether all of a text is kept */

static bool keeps_all(const struct tokenizer *t)
{
    const struct tok_model *m = &t->model;
    bool whole = m->byte_level && !t->n_norm && !t->added[0].n && !t->added[1].n && t->n_decoder == 1 && t->decoders[0].kind == TOK_DECODE_BYTES;
    for (size_t i = 0; i < t->n_step; i++)
        whole &= t->steps[i].kind == TOK_STEP_SPLIT && t->steps[i].behavior != TOK_REMOVED;
    for (size_t i = 0; i < 256; i++)
        whole &= m->first[i] != TOK_NONE;
    return whole;
}

static void check_stream(struct tok_state *s, const struct tok_ids *ids, const struct buf *want)
{
    struct tok_stream stream = {0};
    struct buf text = {0};
    for (size_t i = 0; i < ids->n; i++)
        tok_stream_put(s, &stream, ids->ids[i], false, &text);
    tok_stream_end(s, &stream, &text);
    CHECK(text.len == want->len && (!text.len || memcmp(text.data, want->data, text.len) == 0));
    tok_stream_free(&stream);
    buf_free(&text);
}

static void check_pieces(struct tok_state *s, const struct tok_ids *ids)
{
    struct buf piece = {0};
    size_t at;
    for (size_t i = 0; i < ids->n && i < 32; i++) {
        buf_clear(&piece);
        bool whole = tokenizer_piece(s, ids->ids[i], &piece);
        CHECK(whole == (!piece.len || utf8_valid(piece.data, piece.len, &at)));
    }
    buf_free(&piece);
}

static void check_decoding(struct tok_state *s, const struct tok_ids *ids, const char *text, size_t len)
{
    struct buf back = {0};
    size_t at;
    tokenizer_decode(s, ids->ids, ids->n, false, &back);
    CHECK(!back.len || utf8_valid(back.data, back.len, &at));
    if (keeps_all(s->t))
        CHECK(back.len == len && (!len || memcmp(back.data, text, len) == 0));
    check_stream(s, ids, &back);
    check_pieces(s, ids);
    buf_free(&back);
}

static void check_encoding(const struct tokenizer *t, const char *text, size_t len)
{
    struct tok_state *s = tok_state_open(t);
    struct tok_ids ids = {0}, again = {0}, special = {0};
    int rc = tokenizer_encode(s, text, len, false, &ids);
    for (size_t i = 0; i < ids.n; i++)
        CHECK(ids.ids[i] >= 0 && (uint32_t)ids.ids[i] < tokenizer_n_vocab(t));
    CHECK(rc == 0 || ids.n == 0);
    CHECK(tokenizer_encode(s, text, len, false, &again) == rc && again.n == ids.n);     /* the cache knows the words now */
    CHECK(!ids.n || memcmp(again.ids, ids.ids, ids.n * sizeof *ids.ids) == 0);
    if (rc == 0) {
        check_decoding(s, &ids, text, len);
        CHECK(tokenizer_encode(s, text, len, true, &special) == 0 && special.n == ids.n + t->before.n + t->after.n);
    } else {
        fuzz_said_why();
    }
    free(ids.ids);
    free(again.ids);
    free(special.ids);
    tok_state_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct part json = fuzz_part(&data, &size);
    struct tokenizer *t = tokenizer_parse(json.at, json.len);
    if (t)
        check_encoding(t, (const char *)data, size < 300 ? size : 300);
    else
        fuzz_said_why();
    tokenizer_close(t);
    return 0;
}
