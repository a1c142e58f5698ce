/* tokmill tokenize: lines of text to lines of token ids, and back.  One row out for each line in. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/cmd.h"
#include "data/json.h"
#include "data/tokenizer.h"
#include "data/zfile.h"

struct tokenize_opts { const char *model; bool no_bos, decode; };

const struct opt tokenize_options[] = {
    {"model", 'm', OPT_TEXT, "MODEL", offsetof(struct tokenize_opts, model), NULL, "model folder or tokenizer.json", NULL, 0, 0},
    {"no-bos", 0, OPT_FLAG, NULL, offsetof(struct tokenize_opts, no_bos), NULL,
     "do not put the model's first and last tokens around a text (with --decode: do not take them off)", NULL, 0, 0},
    {"decode", 0, OPT_FLAG, NULL, offsetof(struct tokenize_opts, decode), NULL, "turn {\"ids\": [...]} into {\"text\": ...}", NULL, 0, 0},
    {0},
};

struct work {
    const struct tokenize_opts *opts;
    const struct tokenizer *tokenizer;
    struct tok_state *state;
    struct tok_ids ids;        /* of the line at hand */
    struct buf text, row;
};

static void put_id(struct buf *row, int32_t id)
{
    char digits[10];
    size_t n = 0;
    for (uint32_t rest = (uint32_t)id; n == 0 || rest; rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    while (n)
        buf_putc(row, digits[--n]);
}

static int encode(struct work *w, const struct json *line)
{
    size_t len;
    const char *text = json_text(json_get(line, "text"), &len);
    if (!text)
        return err_set("\"text\" must be a string, not %s", json_kind_name(json_get(line, "text")));
    w->ids.n = 0;
    if (tokenizer_encode(w->state, text, len, !w->opts->no_bos, &w->ids) < 0)
        return -1;
    buf_puts(&w->row, "{\"ids\":[");
    for (size_t i = 0; i < w->ids.n; i++) {
        if (i)
            buf_putc(&w->row, ',');
        put_id(&w->row, w->ids.ids[i]);
    }
    buf_puts(&w->row, "]}\n");
    return 0;
}

static int read_ids(struct work *w, const struct json *list)
{
    if (!list || json_kind(list) != JSON_KIND_ARRAY)
        return err_set("\"ids\" must be an array, not %s", json_kind_name(list));
    if (json_len(list) > w->ids.cap) {
        w->ids.cap = json_len(list);
        w->ids.ids = mem_resize(w->ids.ids, w->ids.cap, sizeof *w->ids.ids);
    }
    for (w->ids.n = 0; w->ids.n < json_len(list); w->ids.n++) {
        int64_t id;
        if (!json_int(json_at(list, w->ids.n), &id) || id < 0 || id >= tokenizer_n_vocab(w->tokenizer))
            return err_set("\"ids\"[%zu] must be a whole number from 0 to %u", w->ids.n, tokenizer_n_vocab(w->tokenizer) - 1);
        w->ids.ids[w->ids.n] = (int32_t)id;
    }
    return 0;
}

static int decode(struct work *w, const struct json *line)
{
    if (read_ids(w, json_get(line, "ids")) < 0)
        return -1;
    const int32_t *ids = w->ids.ids;
    size_t n = w->ids.n;
    if (!w->opts->no_bos)
        tokenizer_trim(w->tokenizer, &ids, &n);
    buf_clear(&w->text);
    tokenizer_decode(w->state, ids, n, false, &w->text);
    buf_puts(&w->row, "{\"text\":");
    json_put_string(&w->row, w->text.data, w->text.len);
    buf_puts(&w->row, "}\n");
    return 0;
}

/* The row of line `number`; -1: it is an error row. */
static int convert(struct work *w, const char *line, size_t len, uint64_t number)
{
    int rc;
    struct json *j = NULL;
    buf_clear(&w->row);
    if (!line)
        rc = err_set("the line has %zu bytes, more than %zu", len, ZFILE_MAX_LINE);
    else if (!(j = json_parse_line(line, len)))
        rc = -1;
    else
        rc = w->opts->decode ? decode(w, j) : encode(w, j);
    json_free(j);
    if (rc == 0)
        return 0;
    err_wrap("line %llu", (unsigned long long)number);
    buf_puts(&w->row, "{\"error\":");
    json_put_string(&w->row, err_text(), strlen(err_text()));
    buf_puts(&w->row, "}\n");
    return -1;
}

/* Returns the number of error rows. */
static uint64_t convert_all(struct work *w, struct zreader *in, struct zwriter *out)
{
    uint64_t line = 0, failed = 0;
    char *text;
    size_t len;
    int rc;
    while ((rc = zreader_line(in, &text, &len)) > 0) {
        failed += convert(w, text, len, ++line) < 0;
        if (zwriter_put(out, w->row.data, w->row.len) < 0)
            die("%s", err_text());
    }
    if (rc < 0)
        log_error("%s", err_text());
    return failed + (rc < 0);
}

int cmd_tokenize(int argc, char **argv)
{
    struct tokenize_opts o = {0};
    int rest = cmd_options(&o, argc, argv);
    if (!o.model)
        die("tokenize: which model? give -m FOLDER or -m tokenizer.json");
    if (argc - rest > 1)
        die("tokenize: one file at most, not \"%s\" too", argv[rest + 1]);
    struct tokenizer *t = tokenizer_open(o.model);
    struct zreader *in = t ? zreader_open(rest < argc ? argv[rest] : "-") : NULL;
    struct zwriter *out = in ? zwriter_open("-") : NULL;
    if (!out)
        die("%s", err_text());
    struct work w = { .opts = &o, .tokenizer = t, .state = tok_state_open(t) };
    uint64_t failed = convert_all(&w, in, out);
    if (zwriter_close(out) < 0)
        die("%s", err_text());
    zreader_close(in);
    free(w.ids.ids);
    buf_free(&w.text);
    buf_free(&w.row);
    tok_state_close(w.state);
    tokenizer_close(t);
    return failed ? EXIT_SOME_FAILED : EXIT_GOOD;
}
