/* The tokenizer against vectors of the reference implementation (tests/golden), against naive versions of itself, and
 * against broken files. */
#define _GNU_SOURCE         /* mkdtemp */
#include "tests/tokenizer_check.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"

/* ---- the reference's vectors ---- */

static size_t check_row(const struct json *row, size_t line)
{
    struct buf text = {0};
    json_put_json(&text, json_get(row, "tokenizer"));
    struct pair p = open_text(text.data, text.len);
    buf_free(&text);
    size_t wrong = 0, len, n;
    const struct json *encode = json_get(row, "encode"), *decode = json_get(row, "decode");
    for (size_t i = 0; i < json_len(encode); i++) {
        const char *s = json_text(json_at(json_at(encode, i), 0), &len);
        int32_t *ids = read_ids(json_at(json_at(encode, i), 1), &n);
        wrong += !encodes_to(p.s, s, len, false, ids, n);
        free(ids);
    }
    for (size_t i = 0; i < json_len(decode); i++) {
        int32_t *ids = read_ids(json_at(json_at(decode, i), 0), &n);
        const char *s = json_text(json_at(json_at(decode, i), 1), &len);
        wrong += !decodes_to(p.s, ids, n, false, s, len);
        free(ids);
    }
    close_pair(&p);
    if (wrong)
        print_message("line %zu: %zu wrong\n", line, wrong);
    return wrong;
}

static void test_golden(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);       /* the ids of added tokens are left at 0 there, of which a warning tells */
    struct zreader *r = zreader_open("tests/golden/tokenizer.jsonl.zst");
    if (!r)
        fail_msg("%s", err_text());
    char *text;
    size_t len, line = 0, wrong = 0;
    while (zreader_line(r, &text, &len) > 0) {
        struct json *row = json_parse(text, len);
        assert_non_null(row);
        wrong += check_row(row, ++line);
        json_free(row);
    }
    zreader_close(r);
    log_set_level(LOG_INFO);
    assert_true(line > 150);
    assert_int_equal(wrong, 0);
}

/* ---- files of our own ---- */

#define MODEL(more) "\"model\":{\"type\":\"BPE\",\"vocab\":{\"<s>\":0,\"a\":1,\"b\":2,\"ab\":3,\"</s>\":4,\" \":5},\"merges\":[\"a b\"]" more "}"
#define ADDED "\"added_tokens\":[{\"content\":\"<s>\",\"special\":true},{\"content\":\"</s>\",\"special\":true},{\"content\":\"<x>\",\"special\":false}]"
#define TEMPLATE(single) "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[" single "],\"special_tokens\":{\"<s>\":{\"ids\":[0]},\"</s>\":{\"ids\":[4,4]}}}"
#define BOS "{\"SpecialToken\":{\"id\":\"<s>\"}}"
#define EOS "{\"SpecialToken\":{\"id\":\"</s>\"}}"
#define TEXT "{\"Sequence\":{\"id\":\"A\"}}"

static void test_post_processors(void **state)
{
    (void)state;
    static const struct { const char *post; size_t n; int32_t ids[8]; } cases[] = {
        { "\"post_processor\":null", 1, { 3 } },
        { TEMPLATE(TEXT), 1, { 3 } },
        { TEMPLATE(BOS "," TEXT), 2, { 0, 3 } },
        { TEMPLATE(BOS "," TEXT "," EOS), 4, { 0, 3, 4, 4 } },
        { "\"post_processor\":{\"type\":\"RobertaProcessing\",\"cls\":[\"<s>\",0],\"sep\":[\"</s>\",4]}", 3, { 0, 3, 4 } },
        { "\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},{\"type\":\"TemplateProcessing\",\"single\":["
          TEXT "]},{\"type\":\"BertProcessing\",\"cls\":[\"<s>\",0],\"sep\":[\"</s>\",4]}]}", 3, { 0, 3, 4 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        buf_printf(&b, "{\"version\":\"1.0\"," MODEL("") "," ADDED ",%s}", cases[i].post);
        struct pair p = open_text(b.data, b.len);
        assert_true(encodes_to(p.s, "ab", 2, true, cases[i].ids, cases[i].n));
        assert_true(encodes_to(p.s, "ab", 2, false, (const int32_t[]){ 3 }, 1));
        const int32_t *ids = cases[i].ids;
        size_t n = cases[i].n;
        tokenizer_trim(p.t, &ids, &n);
        assert_true(n == 1 && ids[0] == 3);
        close_pair(&p);
        buf_free(&b);
    }
}

static void test_config(void **state)
{
    (void)state;
    static const struct { const char *config; size_t n; int32_t ids[4]; } cases[] = {
        { "{}", 2, { 0, 3 } },
        { "{\"add_bos_token\":null,\"bos_token\":\"</s>\"}", 2, { 0, 3 } },
        { "{\"add_bos_token\":false,\"bos_token\":\"<s>\"}", 1, { 3 } },
        { "{\"add_bos_token\":true,\"bos_token\":{\"content\":\"</s>\",\"lstrip\":false}}", 2, { 4, 3 } },
        { "{\"add_bos_token\":true,\"bos_token\":null}", 1, { 3 } },
        { "{\"add_eos_token\":true,\"eos_token\":\"</s>\"}", 2, { 3, 4 } },
        { "{\"add_eos_token\":true,\"eos_token\":\"</s>\",\"add_bos_token\":true,\"bos_token\":\"<s>\","
          "\"model_max_length\":1000000000000000019884624838656}", 3, { 0, 3, 4 } },
    };
    static const char json[] = "{\"version\":\"1.0\"," MODEL("") "," ADDED "," TEMPLATE(BOS "," TEXT) "}";
    write_file("tokenizer.json", json, sizeof json - 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file("tokenizer_config.json", cases[i].config, strlen(cases[i].config));
        struct pair p = open_path(folder);
        assert_true(encodes_to(p.s, "ab", 2, true, cases[i].ids, cases[i].n));
        close_pair(&p);
    }
    static const char missing[] = "{\"add_bos_token\":true,\"bos_token\":\"<b>\"}";
    write_file("tokenizer_config.json", missing, sizeof missing - 1);
    assert_null(tokenizer_open(folder));
    assert_non_null(strstr(err_text(), "bos_token is \"<b>\", which is not in the vocabulary"));
}

static void test_find_and_special(void **state)
{
    (void)state;
    static const char json[] = "{\"version\":\"1.0\"," MODEL("") "," ADDED ",\"decoder\":{\"type\":\"Fuse\"}}";
    struct pair p = open_text(json, sizeof json - 1);
    int32_t id = -1;
    assert_int_equal(tokenizer_n_vocab(p.t), 7);
    assert_true(tokenizer_find(p.t, "ab", &id) && id == 3);
    assert_true(tokenizer_find(p.t, "</s>", &id) && id == 4);
    assert_true(tokenizer_find(p.t, "<x>", &id) && id == 6);
    assert_false(tokenizer_find(p.t, "zz", &id));
    static const int32_t ids[] = { 0, 3, 6, 99, -1, INT32_MAX, 4 };
    assert_true(decodes_to(p.s, ids, 7, true, "ab<x>", 5));
    assert_true(decodes_to(p.s, ids, 7, false, "<s>ab<x></s>", 12));
    close_pair(&p);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct { const char *json, *message; } cases[] = {
        { "[]", "this is no tokenizer of version 1.0" },
        { "{\"version\":\"2.0\"," MODEL("") "}", "version 1.0" },
        { "{\"version\":\"1.0\"}", "model: \"vocab\" must be an object" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",0]]}}", "type \"Unigram\" is not supported (supported: BPE)" },
        { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", "type \"WordPiece\"" },
        { "{\"model\":{\"vocab\":{}}}", "\"merges\" must be an array" },
        { "{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", "the id of token \"a\" must be a whole number" },
        { "{\"model\":{\"vocab\":{\"a\":4194304},\"merges\":[]}}", "the id of token \"a\"" },
        { "{\"model\":{\"vocab\":{\"a\":1.5},\"merges\":[]}}", "the id of token \"a\"" },
        { "{\"model\":{\"vocab\":{\"a\":1e300},\"merges\":[]}}", "the id of token \"a\"" },
        { "{\"model\":{\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]}}", "have the same id 1" },
        { "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[\"a\"]}}", "merge 0: \"a\" is not two tokens with a space between" },
        { "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[\"a b c\"]}}", "merge 0: \"a b c\" is not two tokens" },
        { "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[\"#version: 0.2\",\"a b\"]}}", "merge 1: \"b\" is not in the vocabulary" },
        { "{\"model\":{\"vocab\":{\"a\":1,\"b\":2},\"merges\":[[\"a\",\"b\"]]}}", "merge 0: \"ab\" is not in the vocabulary" },
        { "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[[\"a\"]]}}", "merge 0: it must be" },
        { "{\"model\":{\"vocab\":{\"a\":1},\"merges\":[7]}}", "merge 0: it must be" },
        { "{" MODEL(",\"dropout\":0.1") "}", "\"dropout\" over 0" },
        { "{" MODEL(",\"end_of_word_suffix\":\"</w>\"") "}", "\"end_of_word_suffix\" is not supported" },
        { "{" MODEL(",\"byte_fallback\":3") "}", "\"byte_fallback\" must be true or false, not an integer" },
        { "{" MODEL("") ",\"normalizer\":{\"type\":\"Precompiled\"}}", "normalizer: kind \"Precompiled\" is not supported (supported:" },
        { "{" MODEL("") ",\"normalizer\":{\"type\":\"Sequence\"}}", "normalizer: \"normalizers\" must be an array" },
        { "{" MODEL("") ",\"normalizer\":{\"type\":\"Prepend\"}}", "\"prepend\" must be a string, not nothing" },
        { "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}}", "pre_tokenizer: kind \"BertPreTokenizer\"" },
        { "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a\"}}}", "\"(a\" is not valid at byte 2" },
        { "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a\"}}}", "\"[\" without \"]\"" },
        { "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\\\\\"}}}", "ends with a backslash" },
        { "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\\u0000\"}}}", "NUL" },
        { "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a[^b]]\"}}}", "in a class within a class" },
        { "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":\"a\"}}", "\"pattern\" must be" },
        { "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Kept\"}}", "\"behavior\" must be" },
        { "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}}", "\"replacement\" must be one character" },
        { "{" MODEL("") ",\"added_tokens\":[{\"content\":7}]}", "added_tokens: added token 0: \"content\" must be a string" },
        { "{\"model\":{\"vocab\":{\"a\":0,\"b\":2},\"merges\":[]},\"added_tokens\":[{\"content\":\"x\"}]}", "\"x\" would get the id 2, which is \"b\"" },
        { "{" MODEL("") ",\"post_processor\":{\"type\":\"Other\"}}", "post_processor: kind \"Other\"" },
        { "{" MODEL("") "," TEMPLATE(BOS) "}", "\"single\" must hold the text once, not 0 times" },
        { "{" MODEL("") "," TEMPLATE("{\"SpecialToken\":{\"id\":\"<q>\"}}," TEXT) "}", "\"special_tokens\" does not have \"<q>\"" },
        { "{" MODEL("") ",\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"x\",99],\"sep\":[\"y\",1]}}", "the id of \"cls\"" },
        { "{" MODEL("") ",\"decoder\":{\"type\":\"WordPiece\"}}", "decoder: kind \"WordPiece\" is not supported (supported:" },
        { "{" MODEL("") ",\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":-1,\"stop\":0}}", "\"start\" must be a whole number" },
        { "{" MODEL("") ",\"decoder\":7}", "decoder: kind \"\" is not supported" },
        { "{\"model\":", "is not JSON" },
    };
    char path[128];
    snprintf(path, sizeof path, "%s/one.json", folder);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file("one.json", cases[i].json, strlen(cases[i].json));
        struct tokenizer *t = tokenizer_open(path);
        if (t || !strstr(err_text(), cases[i].message) || !strstr(err_text(), path))
            fail_msg("%s\n gives \"%s\"\n instead of \"%s\"", cases[i].json, t ? "no error" : err_text(), cases[i].message);
    }
    static const char *const nests[] = { "[", "[a&&[", "(", "[a[" };
    for (size_t i = 0; i < 4; i++) {
        struct buf b = {0};
        buf_puts(&b, "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"");
        for (int k = 0; k < 100000; k++)
            buf_puts(&b, nests[i]);
        buf_puts(&b, "\"}}}");
        write_file("one.json", b.data, b.len);
        buf_free(&b);
        assert_null(tokenizer_open(path));
    }
    assert_null(tokenizer_open("/nowhere/at/all"));
    assert_non_null(strstr(err_text(), "/nowhere/at/all"));
    assert_null(tokenizer_open("tests"));
    assert_non_null(strstr(err_text(), "the folder \"tests\" has no tokenizer.json"));
}

/* Each decoder could double a text, and 64 of them fill any memory. */
static void test_decoders_that_grow(void **state)
{
    (void)state;
    static const struct { const char *decoder; int most; } cases[] = {
        { "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aa\"}", 16 },
        { "{\"type\":\"Replace\",\"pattern\":{\"String\":\"ab\"},\"content\":\"a\"}", 64 },
        { "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x*\"},\"content\":\"aaa\"}", 8 },
        { "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x*\"},\"content\":\"\"}", 64 },
        { "{\"type\":\"BPEDecoder\",\"suffix\":\"\"}", 16 },
        { "{\"type\":\"BPEDecoder\"}", 64 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int n = cases[i].most; n <= cases[i].most + 1; n++) {
            struct buf b = {0};
            buf_puts(&b, "{" MODEL("") ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[");
            for (int k = 0; k < n; k++)
                buf_printf(&b, "%s%s", k ? "," : "", cases[i].decoder);
            buf_puts(&b, "]}}");
            struct tokenizer *t = tokenizer_parse(b.data, b.len);
            if ((t != NULL) != (n <= cases[i].most))
                fail_msg("%d of %s: %s", n, cases[i].decoder, t ? "taken" : err_text());
            tokenizer_close(t);
            buf_free(&b);
        }
}

static void test_text_refused(void **state)
{
    (void)state;
    static const char unknown[] = "{" MODEL(",\"unk_token\":\"<unk>\"") "}";
    struct tok_ids ids = {0};
    struct pair p = open_text(unknown, sizeof unknown - 1);
    assert_int_equal(tokenizer_encode(p.s, "ab", 2, false, &ids), 0);
    assert_int_equal(tokenizer_encode(p.s, "abz", 3, false, &ids), -1);
    assert_string_equal(err_text(), "the text needs the unknown token \"<unk>\", which is not in the vocabulary");
    assert_int_equal(ids.n, 1);         /* what was there before stays */
    assert_int_equal(tokenizer_encode(p.s, "ab\xc3", 3, false, &ids), -1);
    assert_string_equal(err_text(), "the text is not UTF-8 at byte 2");
    close_pair(&p);
    static const char wild[] = "{" MODEL("") ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a+)+[bc]\"}}}";
    static const char grows[] = "{" MODEL("") ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"%s\"}}";
    char *as = mem_alloc(100001);
    memset(as, 'a', 100000);
    p = open_text(wild, sizeof wild - 1);
    if (tokenizer_encode(p.s, as, 100000, false, &ids) == 0)
        fail_msg("a pattern without end comes to one");
    assert_non_null(strstr(err_text(), "a regular expression of the tokenizer fails on this text"));
    close_pair(&p);
    struct buf b = {0};
    buf_printf(&b, grows, as);
    p = open_text(b.data, b.len);
    assert_int_equal(tokenizer_encode(p.s, as, 100000, false, &ids), -1);
    assert_non_null(strstr(err_text(), "the text grows over"));
    close_pair(&p);
    buf_free(&b);
    free(as);
    free(ids.ids);
}

/* Every file that is cut short or has a byte changed is refused or works: it never crashes. */
static void test_changed_files(void **state)
{
    (void)state;
    static const char json[] = "{\"version\":\"1.0\"," MODEL(",\"unk_token\":\"<s>\",\"byte_fallback\":true") "," ADDED "," TEMPLATE(BOS "," TEXT)
        ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[a-b]{1,2}+\"},\"content\":\"ab\"}]}"
        ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s)|[^\\\\W_]+|\\\\s+(?!\\\\S)\"},"
        "\"behavior\":\"MergedWithNext\",\"invert\":true},{\"type\":\"Metaspace\",\"replacement\":\"_\"},{\"type\":\"ByteLevel\"}]}"
        ",\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":1}]}}";
    char path[128], text[sizeof json];
    struct rng r;
    rng_init(&r, 5);
    snprintf(path, sizeof path, "%s/one.json", folder);
    log_set_level(LOG_ERROR);
    for (int i = 0; i < 1500; i++) {
        memcpy(text, json, sizeof json);
        for (uint32_t k = 0, n = 1 + rng_below(&r, 3); k < n; k++)
            text[rng_below(&r, sizeof json - 1)] = "{}[]\",:\\ab0()?*+^&|"[rng_below(&r, 19)];
        write_file("one.json", text, i % 10 ? sizeof json - 1 : rng_below(&r, sizeof json));
        struct tokenizer *t = tokenizer_open(path);
        if (!t)
            continue;
        struct tok_state *s = tok_state_open(t);
        struct tok_ids ids = {0};
        struct buf out = {0};
        if (tokenizer_encode(s, " ab <x>a\xc3\xa9 'S b", 15, true, &ids) == 0)
            tokenizer_decode(s, ids.ids, ids.n, false, &out);
        free(ids.ids);
        buf_free(&out);
        tok_state_close(s);
        tokenizer_close(t);
    }
    log_set_level(LOG_INFO);
}

/* ---- BPE against a naive version ---- */

#define N_MERGE 40

/* A vocabulary of the letters a to h and of random merges of them; side[i] are the ids that make 8 + i. */
struct naive { int32_t side[N_MERGE][2]; char text[8 + N_MERGE][16]; int n; };

static void make_naive(struct naive *v, struct rng *r, struct buf *json)
{
    *v = (struct naive){ .n = 8 };
    for (int i = 0; i < 8; i++)
        v->text[i][0] = (char)('a' + i);
    for (int tries = 0; tries < 300 && v->n < 8 + N_MERGE; tries++) {
        int a = (int)rng_below(r, (uint32_t)v->n), b = (int)rng_below(r, (uint32_t)v->n);
        char joined[32];
        bool fresh = strlen(v->text[a]) + strlen(v->text[b]) < 12;
        snprintf(joined, sizeof joined, "%.15s%.15s", v->text[a], v->text[b]);
        for (int i = 0; i < v->n; i++)
            fresh = fresh && strcmp(v->text[i], joined) != 0;
        if (fresh) {
            memcpy(v->text[v->n], joined, sizeof v->text[0]);
            v->side[v->n - 8][0] = a;
            v->side[v->n++ - 8][1] = b;
        }
    }
    buf_puts(json, "{\"model\":{\"vocab\":{");
    for (int i = 0; i < v->n; i++)
        buf_printf(json, "%s\"%s\":%d", i ? "," : "", v->text[i], i);
    buf_puts(json, "},\"merges\":[");
    for (int i = 8; i < v->n; i++)
        buf_printf(json, "%s[\"%s\",\"%s\"]", i > 8 ? "," : "", v->text[v->side[i - 8][0]], v->text[v->side[i - 8][1]]);
    buf_puts(json, "]}}");
}

/* As the definition says: the first rule in the list that applies anywhere, at its leftmost place, again and again. */
static size_t merge_naive(const struct naive *v, int32_t *ids, size_t n)
{
    for (;;) {
        int best = v->n;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (int m = 8; m < best; m++)
                if (v->side[m - 8][0] == ids[i] && v->side[m - 8][1] == ids[i + 1]) {
                    best = m;
                    at = i;
                }
        if (best == v->n)
            return n;
        ids[at] = best;
        n--;
        memmove(ids + at + 1, ids + at + 2, (n - at - 1) * sizeof *ids);
    }
}

static void test_merges(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 3);
    for (int round = 0; round < 30; round++) {
        struct naive v;
        struct buf json = {0};
        make_naive(&v, &r, &json);
        struct pair p = open_text(json.data, json.len);
        buf_free(&json);
        for (int i = 0; i < 40; i++) {
            char text[400];
            int32_t ids[400];
            uint32_t letters = 2 + rng_below(&r, 7);
            size_t n = rng_below(&r, i % 8 ? 60 : 400);        /* below and above where the heap takes over */
            for (size_t k = 0; k < n; k++) {
                ids[k] = (int32_t)rng_below(&r, letters);
                text[k] = (char)('a' + ids[k]);
            }
            size_t merged = merge_naive(&v, ids, n);
            assert_true(encodes_to(p.s, text, n, false, ids, merged));
        }
        close_pair(&p);
    }
}

/* A megabyte without a place to cut it takes no time to speak of, and what it gives reads back. */
static void test_long_piece(void **state)
{
    (void)state;
    static const char json[] = "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"aa\":2,\"ab\":3,\"aaaa\":4,\"ba\":5,\"bb\":6},"
        "\"merges\":[\"a a\",\"aa aa\",\"a b\",\"b a\",\"b b\"]},\"decoder\":{\"type\":\"Fuse\"}}";
    size_t n = (size_t)1 << 20;
    char *text = mem_alloc(n);
    struct rng r;
    rng_init(&r, 1);
    for (size_t i = 0; i < n; i++)
        text[i] = rng_below(&r, 5) ? 'a' : 'b';
    struct pair p = open_text(json, sizeof json - 1);
    struct tok_ids ids = {0};
    int64_t start = clock_ns();
    assert_int_equal(tokenizer_encode(p.s, text, n, false, &ids), 0);
    assert_true(clock_ns() - start < (int64_t)10 * 1000000000);
    assert_true(decodes_to(p.s, ids.ids, ids.n, false, text, n));
    free(ids.ids);
    free(text);
    close_pair(&p);
}

/* ---- decoding as the tokens come ---- */

static void test_streams(void **state)
{
    (void)state;
    static const char *const decoders[] = {
        ("{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"\\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
         "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"),
        "{\"type\":\"ByteLevel\"}", "null", "{\"type\":\"BPEDecoder\",\"suffix\":\"a\"}",
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\u2581+\"},\"content\":\" \"}]}",
        "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\"},{\"type\":\"Strip\",\"content\":\"a\",\"start\":2,\"stop\":1}]}",
    };
    struct buf vocab = {0};
    struct rng r;
    rng_init(&r, 11);
    for (int i = 0; i < 256; i++)
        buf_printf(&vocab, "\"<0x%02X>\":%d,", i, i);
    static const char *const more[] = { "a", "ab", "\xe2\x96\x81", "\xe2\x96\x81\x61", "\xc3\x83", "\xc2\xa9", "\xc3\xb0", "\xc5\x81", "\xc4\xa0", "\xe6\xbc\xa2" };
    for (int i = 0; i < 10; i++)
        buf_printf(&vocab, "\"%s\":%d%s", more[i], 256 + i, i < 9 ? "," : "");
    for (size_t d = 0; d < sizeof decoders / sizeof *decoders; d++) {
        struct buf json = {0};
        buf_printf(&json, "{\"model\":{\"vocab\":{%s},\"merges\":[]},\"decoder\":%s}", vocab.data, decoders[d]);
        struct pair p = open_text(json.data, json.len);
        buf_free(&json);
        for (int i = 0; i < 2000; i++) {
            int32_t ids[12];
            size_t n = rng_below(&r, 13);
            for (size_t k = 0; k < n; k++)     /* bytes that often are pieces of characters, and the rest */
                ids[k] = (int32_t)(rng_below(&r, 2) ? 256 + rng_below(&r, 10) : (uint32_t)(uint8_t)"\xc3\xa9\xf0\x9f\x98\x80\x61\xe6\xbc\xa2\xed\xff"[rng_below(&r, 12)]);
            struct buf whole = {0};
            tokenizer_decode(p.s, ids, n, false, &whole);
            size_t at;
            assert_true(utf8_valid(whole.data ? whole.data : "", whole.len, &at));
            assert_true(streams_to(p.s, ids, n, false, whole.data, whole.len));
            buf_free(&whole);
        }
        close_pair(&p);
    }
    buf_free(&vocab);
}

/* What is certain is shown at once: only a character that is not whole waits. */
static void test_stream_shows(void **state)
{
    (void)state;
    static const char json[] = "{\"model\":{\"vocab\":{\"a\":0,\"\xc3\x83\":1,\"\xc2\xa9\":2},\"merges\":[]},\"decoder\":{\"type\":\"ByteLevel\"}}";
    struct pair p = open_text(json, sizeof json - 1);
    struct tok_stream st = {0};
    struct buf out = {0};
    static const struct { int32_t id; size_t shown; } steps[] = { { 0, 1 }, { 1, 1 }, { 2, 3 }, { 1, 3 }, { 0, 7 }, { 2, 10 }, { 1, 10 } };
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        tok_stream_put(p.s, &st, steps[i].id, true, &out);
        assert_int_equal(out.len, steps[i].shown);
    }
    tok_stream_end(p.s, &st, &out);
    assert_string_equal(out.data, "a\xc3\xa9\xef\xbf\xbd" "a\xef\xbf\xbd\xef\xbf\xbd");
    buf_clear(&out);
    tok_stream_put(p.s, &st, 0, true, &out);       /* it begins anew */
    assert_string_equal(out.data, "a");
    buf_free(&out);
    tok_stream_free(&st);
    close_pair(&p);
}

/* A token's own text, as it stands behind others; bytes that are no whole characters are told apart. */
static void test_pieces(void **state)
{
    (void)state;
    static const char *const json[] = {
        "{\"model\":{\"vocab\":{\"a\":0,\"\xe2\x96\x81\x61\":1,\"<0xC3>\":2,\"<0x0A>\":3},\"merges\":[]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
        "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}}",
        "{\"model\":{\"vocab\":{\"a\":0,\"\xc4\xa0\x61\":1,\"\xc3\x83\":2,\"\xc4\x8a\":3},\"merges\":[]},\"decoder\":{\"type\":\"ByteLevel\"}}",
    };
    static const struct { int32_t id; const char *text; bool whole; } cases[] = {
        { 0, "a", true }, { 1, " a", true }, { 2, "\xc3", false }, { 3, "\n", true }, { 4, "", true }, { -1, "", true },
    };
    for (size_t d = 0; d < 2; d++) {
        struct pair p = open_text(json[d], strlen(json[d]));
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct buf out = {0};
            assert_int_equal(tokenizer_piece(p.s, cases[i].id, &out), cases[i].whole);
            assert_int_equal(out.len, strlen(cases[i].text));
            assert_memory_equal(out.data ? out.data : "", cases[i].text, out.len);
            buf_free(&out);
        }
        close_pair(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden), cmocka_unit_test(test_post_processors), cmocka_unit_test(test_config),
        cmocka_unit_test(test_find_and_special), cmocka_unit_test(test_refused), cmocka_unit_test(test_decoders_that_grow),
        cmocka_unit_test(test_text_refused),
        cmocka_unit_test(test_changed_files), cmocka_unit_test(test_merges), cmocka_unit_test(test_long_piece),
        cmocka_unit_test(test_streams), cmocka_unit_test(test_stream_shows), cmocka_unit_test(test_pieces),
    };
    return cmocka_run_group_tests_name("tokenizer", tests, make_folder, drop_folder);
}
