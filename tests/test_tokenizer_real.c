/* The tokenizer on real vocabularies and texts, where they are at hand: every id must be the reference's. */
#define _GNU_SOURCE         /* mkdtemp */
#include "tests/tokenizer_check.h"

#define MATERIAL "../shared/material/"

static bool have(const char *path)
{
    if (access(path, R_OK) == 0)
        return true;
    print_message("skipped: no %s\n", path);
    return false;
}

/* vocab.json and merges.txt of the GPT-2 kind as a tokenizer.json. */
static struct pair open_vocab_merges(const char *vocab_path, const char *merges_path)
{
    size_t len;
    char *vocab = zfile_read_all(vocab_path, &len), *merges = zfile_read_all(merges_path, &len);
    assert_true(vocab && merges);
    struct buf b = {0};
    buf_printf(&b, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"},"
               "\"model\":{\"vocab\":%s,\"merges\":[", vocab);
    bool first = true;
    for (char *line = merges, *end; *line; line = end + (*end != 0)) {
        end = line + strcspn(line, "\n");
        if (end == line || strncmp(line, "#version", 8) == 0)
            continue;
        buf_puts(&b, first ? "" : ",");
        json_put_string(&b, line, (size_t)(end - line));
        first = false;
    }
    buf_puts(&b, "]}}");
    struct pair p = open_text(b.data, b.len);
    buf_free(&b);
    free(vocab);
    free(merges);
    return p;
}

static size_t check_oracle(struct tok_state *s, const char *ids_path)
{
    struct zreader *texts = zreader_open(MATERIAL "2-tokenizer-vectors/oracle/texts.jsonl"), *rows = zreader_open(ids_path);
    assert_true(texts && rows);
    char *line;
    size_t len, n, wrong = 0, lines = 0;
    while (zreader_line(texts, &line, &len) > 0) {
        struct json *text = json_parse(line, len);
        assert_int_equal(zreader_line(rows, &line, &len), 1);
        struct json *row = json_parse(line, len);
        const char *t = json_text(json_get(text, "text"), &len);
        int32_t *ids = read_ids(json_get(row, "ids"), &n);
        wrong += !encodes_to(s, t, len, false, ids, n);
        lines++;
        free(ids);
        json_free(text);
        json_free(row);
    }
    zreader_close(texts);
    zreader_close(rows);
    print_message("%s: %zu texts, %zu wrong\n", ids_path + sizeof MATERIAL "2-tokenizer-vectors/oracle" - 1, lines, wrong);
    return wrong;
}

static void test_oracle(void **state)
{
    (void)state;
    static const char *const names[] = { "qwen3", "qwen2", "gpt-neox-20b", "llama2", "mistral", "minimind", "phi-2", "stories-tok512" };
    char json[256], ids[256];
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(json, sizeof json, MATERIAL "1-tokenizers/%s/tokenizer.json", names[i]);
        if (strcmp(names[i], "stories-tok512") == 0)
            strcpy(json, MATERIAL "3-weights/stories260K/hf/tokenizer.json");
        snprintf(ids, sizeof ids, MATERIAL "2-tokenizer-vectors/oracle/%s.ids.jsonl", names[i]);
        if (!have(json) || !have(ids))
            continue;
        struct pair p = open_path(json);
        wrong += check_oracle(p.s, ids);
        close_pair(&p);
    }
    assert_int_equal(wrong, 0);
}

/* llama.cpp's texts, one between each two marks, and lines of ids. */
static size_t check_llama_cpp(struct tok_state *s, const char *name)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    char path[256];
    size_t len, wrong = 0;
    snprintf(path, sizeof path, MATERIAL "2-tokenizer-vectors/llama.cpp/%s.inp", name);
    char *texts = zfile_read_all(path, &len);
    snprintf(path, sizeof path, MATERIAL "2-tokenizer-vectors/llama.cpp/%s.out", name);
    char *rows = zfile_read_all(path, &len);
    assert_true(texts && rows);
    char *row = rows;
    for (char *text = texts, *end; *row && (end = strstr(text, mark)); text = end + sizeof mark - 1) {
        int32_t ids[512];
        size_t n = 0;
        for (char *stop; *row && *row != '\n'; row = stop) {
            ids[n++] = (int32_t)strtol(row, &stop, 10);
            stop += strspn(stop, " ");
        }
        row += *row == '\n';
        wrong += !encodes_to(s, text, (size_t)(end - text), false, ids, n);
    }
    free(texts);
    free(rows);
    return wrong;
}

static size_t check_swift(struct tok_state *s, const char *path, bool special)
{
    struct json *j = json_parse_file(path);
    assert_non_null(j);
    size_t len, n;
    const char *text = json_text(json_get(j, "text"), &len);
    int32_t *ids = read_ids(json_get(j, "token_ids"), &n);
    size_t wrong = !encodes_to(s, text, len, special, ids, n);
    wrong += !decodes_to(s, ids, n, true, text, len);
    free(ids);
    json_free(j);
    return wrong;
}

static size_t check_tiktoken(struct tok_state *s, const char *path)
{
    size_t len, wrong = 0;
    char *plan = zfile_read_all(path, &len);
    assert_non_null(plan);
    for (char *at = plan; (at = strstr(at, "EncodingName: r50k_base\nSample: "));) {
        char *text = strchr(at, '\n') + sizeof "Sample: ", *end = strstr(text, "\nEncoded: "), *stop = strchr(end + 1, '\n');
        struct json *list = json_parse(end + 10, stop ? (size_t)(stop - end - 10) : strlen(end + 10));
        assert_non_null(list);
        size_t n;
        int32_t *ids = read_ids(list, &n);
        wrong += !encodes_to(s, text, (size_t)(end - text), false, ids, n);
        free(ids);
        json_free(list);
        at = end;
    }
    free(plan);
    return wrong;
}

static void test_other_vectors(void **state)
{
    (void)state;
    size_t wrong = 0;
    if (!have(MATERIAL "2-tokenizer-vectors/oracle/texts.jsonl"))
        return;
    struct pair p = open_vocab_merges(MATERIAL "1-tokenizers/gpt2/vocab.json", MATERIAL "1-tokenizers/gpt2/merges.txt");
    wrong += check_llama_cpp(p.s, "ggml-vocab-gpt-2.gguf");
    wrong += check_swift(p.s, MATERIAL "2-tokenizer-vectors/swift-transformers/gpt2_encoded_tokens.json", false);
    wrong += check_tiktoken(p.s, MATERIAL "2-tokenizer-vectors/tiktoken-TestPlans-r50k-cl100k.txt");
    close_pair(&p);
    p = open_path(MATERIAL "1-tokenizers/qwen2/tokenizer.json");
    wrong += check_llama_cpp(p.s, "ggml-vocab-qwen2.gguf");
    close_pair(&p);
    p = open_path(MATERIAL "1-tokenizers/llama2/tokenizer.json");
    wrong += check_llama_cpp(p.s, "ggml-vocab-llama-spm.gguf");
    wrong += check_swift(p.s, MATERIAL "2-tokenizer-vectors/swift-transformers/llama_encoded.json", true);
    close_pair(&p);
    assert_int_equal(wrong, 0);
}

/* Columns of NormalizationTest.txt: source; NFC; NFD; NFKC; NFKD, code points in hex. */
static size_t read_columns(const char *line, struct buf column[5])
{
    size_t n = 0;
    for (; n < 5 && *line && *line != '#' && *line != '@'; n++) {
        buf_clear(&column[n]);
        for (char *end; *line && *line != ';'; line = end + strspn(end, " ")) {
            uint32_t cp = (uint32_t)strtoul(line, &end, 16);
            if (cp < 0x80)
                buf_putc(&column[n], (char)cp);
            else if (cp < 0x800)
                buf_put(&column[n], (char[]){ (char)(0xc0 | cp >> 6), (char)(0x80 | (cp & 63)) }, 2);
            else if (cp < 0x10000)
                buf_put(&column[n], (char[]){ (char)(0xe0 | cp >> 12), (char)(0x80 | (cp >> 6 & 63)), (char)(0x80 | (cp & 63)) }, 3);
            else
                buf_put(&column[n], (char[]){ (char)(0xf0 | cp >> 18), (char)(0x80 | (cp >> 12 & 63)), (char)(0x80 | (cp >> 6 & 63)), (char)(0x80 | (cp & 63)) }, 4);
        }
        line += *line == ';';
    }
    return n;
}

/* A tokenizer whose ids are bytes gives back what the normalizer made of a text. */
static struct pair open_bytes(const char *form)
{
    struct buf b = {0};
    buf_printf(&b, "{\"normalizer\":{\"type\":\"%s\"},\"decoder\":{\"type\":\"ByteFallback\"},\"model\":{\"byte_fallback\":true,\"merges\":[],\"vocab\":{", form);
    for (int i = 0; i < 256; i++)
        buf_printf(&b, "%s\"<0x%02X>\":%d", i ? "," : "", i, i);
    buf_puts(&b, "}}}");
    struct pair p = open_text(b.data, b.len);
    buf_free(&b);
    return p;
}

static void test_normal_forms(void **state)
{
    (void)state;
    static const struct { const char *form; int want[5]; } forms[] = {
        { "NFC", { 1, 1, 1, 3, 3 } }, { "NFD", { 2, 2, 2, 4, 4 } }, { "NFKC", { 3, 3, 3, 3, 3 } }, { "NFKD", { 4, 4, 4, 4, 4 } },
    };
    if (!have(MATERIAL "2-tokenizer-vectors/unicode/NormalizationTest.txt"))
        return;
    for (size_t f = 0; f < 4; f++) {
        struct pair p = open_bytes(forms[f].form);
        struct zreader *r = zreader_open(MATERIAL "2-tokenizer-vectors/unicode/NormalizationTest.txt");
        struct buf column[5] = {0}, out = {0}, row = {0};
        struct tok_ids ids = {0};
        char *line;
        size_t len, lines = 0;
        while (zreader_line(r, &line, &len) > 0) {
            buf_clear(&row);
            buf_put(&row, line, len);
            if (lines++ % 4 != f || read_columns(row.data, column) < 5)    /* a fourth of the lines for each form */
                continue;
            for (int i = 0; i < 5; i++) {
                const struct buf *want = &column[forms[f].want[i]];
                ids.n = 0;
                buf_clear(&out);
                assert_int_equal(tokenizer_encode(p.s, column[i].data, column[i].len, false, &ids), 0);
                tokenizer_decode(p.s, ids.ids, ids.n, false, &out);
                if (out.len != want->len || memcmp(out.data, want->data, out.len) != 0)
                    fail_msg("%s of column %d: %s", forms[f].form, i + 1, row.data);
            }
        }
        assert_true(lines > 15000);
        for (int i = 0; i < 5; i++)
            buf_free(&column[i]);
        buf_free(&out);
        buf_free(&row);
        free(ids.ids);
        zreader_close(r);
        close_pair(&p);
    }
}

/* The default model's own tokenizer: what it encodes reads back. */
static void test_default(void **state)
{
    (void)state;
    if (!have("datasets/default/tokenizer.json"))
        return;
    struct pair p = open_path("datasets/default");
    static const char *const texts[] = { "12 + 34 =", "{\"name\": \"Anna\", \"age\": 7}", "sort: pear apple fig\n", "  \t two\r\n\r\nlines  ", "caf\xc3\xa9 \xe6\xbc\xa2 \xf0\x9f\x98\x80" };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct tok_ids ids = {0};
        assert_int_equal(tokenizer_encode(p.s, texts[i], strlen(texts[i]), false, &ids), 0);
        assert_true(decodes_to(p.s, ids.ids, ids.n, true, texts[i], strlen(texts[i])));
        free(ids.ids);
    }
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle), cmocka_unit_test(test_other_vectors), cmocka_unit_test(test_normal_forms),
        cmocka_unit_test(test_default),
    };
    return cmocka_run_group_tests_name("tokenizer, real", tests, make_folder, drop_folder);
}
