/* tokmill verify: has every line of the corpora exactly one row?  And, of some rows taken at random: does the same come out again?
 * Memory: a byte a line, and the ids of Batch lines. */
#define _GNU_SOURCE             /* mkdtemp */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cmd/child.h"
#include "cmd/cmd.h"
#include "data/json.h"
#include "data/zfile.h"

enum { MOST_NAMED = 10 };       /* lines and rows that are named one by one, of each kind */

struct verify_opts { int64_t limit, sample, seed; const char *model, *run; };

const struct opt verify_options[] = {
    {"limit", 0, OPT_INT, "N", offsetof(struct verify_opts, limit), NULL, "the run had this --limit", NULL, 1, 1e18},
    {"sample", 0, OPT_INT, "K", offsetof(struct verify_opts, sample), NULL, "run the lines of K random rows again and compare the tokens", NULL, 1, 1e6},
    {"model", 'm', OPT_TEXT, "MODEL", offsetof(struct verify_opts, model), NULL, "with --sample: the model of the run", NULL, 0, 0},
    {"run", 0, OPT_TEXT, "OPTIONS", offsetof(struct verify_opts, run), NULL, "with --sample: other options of the run, such as '--temperature 0.7 -n 2'", NULL, 0, 0},
    {"seed", 0, OPT_INT, "N", offsetof(struct verify_opts, seed), "0", "which rows --sample takes", NULL, 0, 0},
    {0},
};

/* A row of the sample: first as it was, then as it comes again. */
struct sampled { uint64_t index; struct buf text; };

struct verify {
    struct verify_opts opts;
    const char *output;
    char **corpora; int n_corpus;
    uint64_t *first;                   /* [n_corpus + 1] index of each corpus' first line */
    unsigned char *line; uint64_t n, room;     /* by index: ASKED, SEEN, or neither for a blank line */
    struct map ids; struct arena names;        /* custom_id to index; of those that are there twice the first */
    uint64_t n_line, n_done, n_failed, n_lost, n_twice, n_unknown;
    struct sampled *sample; uint64_t n_sample;
    struct rng rng;
};

enum { ASKED = 1, SEEN = 2 };

/* ---- the corpora ---- */

static void mark_line(struct verify *v, const char *text, size_t len, bool first)
{
    if (v->n == v->room) {
        v->room = v->room ? 2 * v->room : 4096;
        v->line = mem_resize(v->line, v->room, 1);
    }
    bool blank = text && strspn(text, " \t\r") >= len;
    v->line[v->n++] = blank ? 0 : ASKED;
    v->n_line += !blank;
    size_t bom = first && text && strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    struct json *line = text && !blank ? json_parse_line(text + bom, len - bom) : NULL;
    const char *id = json_text(json_get(line, "custom_id"), &len);
    uint32_t at;
    if (id && v->n <= UINT32_MAX && !map_get(&v->ids, id, len, &at))
        map_put(&v->ids, arena_dup(&v->names, id, len), len, (uint32_t)(v->n - 1));
    json_free(line);
}

static bool is_open(const struct verify *v, uint64_t n)
{
    return !v->opts.limit || n < (uint64_t)v->opts.limit;
}

/* A corpus that breaks off has one row for all that is behind. */
static void read_corpus(struct verify *v, const char *path)
{
    struct zreader *z = zreader_open(path);
    char *text;
    size_t len;
    int rc = 1;
    if (!z)
        die("%s", err_text());
    for (uint64_t from = v->n; is_open(v, v->n) && (rc = zreader_line(z, &text, &len)) > 0;)
        mark_line(v, text, len, v->n == from);
    if (rc < 0 && zreader_may_pass(z))
        die("%s", err_text());
    if (rc < 0)
        mark_line(v, NULL, 0, false);
    zreader_close(z);
}

/* "corpus.jsonl:17" */
static void put_place(struct buf *b, const struct verify *v, uint64_t index)
{
    int i = 0;
    while (index >= v->first[i + 1])
        i++;
    buf_clear(b);
    buf_printf(b, "%s:%llu", v->corpora[i], (unsigned long long)(index - v->first[i] + 1));
}

/* ---- the rows ---- */

/* The index in "batch_req_17", the id that rows of Batch lines have here. */
static bool batch_index(const struct json *row, int64_t *index)
{
    const char *id = json_text(json_get(row, "id"), NULL);
    int end = 0;
    long long n;
    bool ours = id && sscanf(id, "batch_req_%18lld%n", &n, &end) == 1 && !id[end];
    if (ours)
        *index = n;
    return ours;
}

/* The line of a row: 0, or -1: there is none, err_text().  A custom_id that several lines have is the row's of any. */
static int find_line(const struct verify *v, const struct json *row, uint64_t *index)
{
    size_t len;
    const char *id = json_text(json_get(row, "custom_id"), &len);
    uint32_t at;
    int64_t n = -1;
    bool has_id = id && map_get(&v->ids, id, len, &at);
    if (id && !has_id)
        return err_set("no line has the custom_id \"%.100s\"", id);
    if (!batch_index(row, &n) && !json_int(json_get(row, "index"), &n) && has_id)
        n = at;
    if (n < 0)
        return err_set("it has neither \"custom_id\" nor \"index\": not a row of a run");
    if ((uint64_t)n >= v->n || !(v->line[n] & ASKED))
        return err_set("there is no line for index %lld", (long long)n);
    *index = (uint64_t)n;
    return 0;
}

static bool is_failed(const struct json *row)
{
    const struct json *error = json_get(row, "error"), *response = json_get(row, "response");
    int64_t status = 200;
    json_int(json_get(response, "status_code"), &status);
    return status != 200 || (error && json_kind(error) == JSON_KIND_OBJECT);
}

/* Each of the n rows so far is in the sample with the same chance (Vitter's algorithm R). */
static void maybe_sample(struct verify *v, uint64_t index, const char *text, size_t len)
{
    uint64_t most = (uint64_t)v->opts.sample, place = v->n_sample;
    if (v->n_sample < most)
        v->n_sample++;
    else
        place = rng_below(&v->rng, v->n_done < UINT32_MAX ? (uint32_t)v->n_done : UINT32_MAX);
    if (place >= most)
        return;
    v->sample[place].index = index;
    buf_clear(&v->sample[place].text);
    buf_put(&v->sample[place].text, text, len);
}

static void name(uint64_t n, const char *what, const char *of)
{
    if (n <= MOST_NAMED + 1)
        printf("%s: %s\n", what, n <= MOST_NAMED ? of : "and more");
}

static void take_row(struct verify *v, const char *text, size_t len, uint64_t number)
{
    struct json *row = text ? json_parse_line(text, len) : NULL;
    struct buf of = {0};
    uint64_t index = 0;
    if (!text)
        err_set("it is too long");
    if (!row || find_line(v, row, &index)) {
        buf_printf(&of, "row %llu: %s", (unsigned long long)number, err_text());
        name(++v->n_unknown, "unknown", of.data);
    } else if (v->line[index] & SEEN) {
        put_place(&of, v, index);
        buf_printf(&of, ", by row %llu", (unsigned long long)number);
        name(++v->n_twice, "duplicated", of.data);
    } else {
        bool failed = is_failed(row);
        v->line[index] |= SEEN;
        v->n_failed += failed;
        v->n_done += !failed;
        if (!failed && v->opts.sample)
            maybe_sample(v, index, text, len);
    }
    buf_free(&of);
    json_free(row);
}

static bool is_unfinished(const struct verify *v)
{
    struct buf path = {0};
    buf_printf(&path, "%s.journal", v->output);
    bool there = access(path.data, F_OK) == 0;
    buf_free(&path);
    return there;
}

/* False: they break off, which is told. */
static bool read_rows(struct verify *v)
{
    struct zreader *z = zreader_open(v->output);
    char *text;
    size_t len;
    uint64_t number = 0;
    int rc;
    if (!z)
        die("%s", err_text());
    while ((rc = zreader_line(z, &text, &len)) > 0)
        take_row(v, text, len, ++number);
    if (rc < 0 && zreader_may_pass(z))
        die("%s", err_text());
    if (rc < 0)
        log_error("%s", err_text());
    zreader_close(z);
    return rc == 0;
}

static bool accounts_close(struct verify *v)
{
    struct buf place = {0};
    for (uint64_t i = 0; i < v->n; i++)
        if (v->line[i] == ASKED) {
            put_place(&place, v, i);
            name(++v->n_lost, "lost", place.data);
        }
    buf_free(&place);
    if (is_unfinished(v))
        printf("the run has not finished: %s.journal is there, and the command of the run goes on\n", v->output);
    printf("lines %llu = done %llu + failed %llu, lost %llu, duplicated %llu, unknown %llu\n", (unsigned long long)v->n_line, (unsigned long long)v->n_done,
           (unsigned long long)v->n_failed, (unsigned long long)v->n_lost, (unsigned long long)v->n_twice, (unsigned long long)v->n_unknown);
    return !v->n_lost && !v->n_twice && !v->n_unknown;
}

/* ---- the sample ---- */

static int by_index(const void *a, const void *b)
{
    uint64_t x = ((const struct sampled *)a)->index, y = ((const struct sampled *)b)->index;
    return (x > y) - (x < y);
}

/* The lines of the sample in their places, blank ones for all others: what is drawn at random depends on the place. */
static void write_lines(struct verify *v, const char *path)
{
    struct zwriter *w = zwriter_open(path);
    uint64_t index = 0, k = 0;
    char *text;
    size_t len;
    int rc = w ? 0 : -1;
    for (int i = 0; i < v->n_corpus && k < v->n_sample && !rc; i++) {
        struct zreader *z = zreader_open(v->corpora[i]);
        if (!z)
            die("%s", err_text());
        for (; k < v->n_sample && index < v->first[i + 1] && !rc && zreader_line(z, &text, &len) > 0; index++) {
            bool taken = v->sample[k].index == index;
            k += taken;
            rc = (taken && zwriter_put(w, text, len)) || zwriter_put(w, "\n", 1) ? -1 : 0;
        }
        zreader_close(z);
    }
    if (rc || zwriter_close(w))
        die("%s", err_text());
}

/* What is compared: of each choice the token ids where both rows have them, else the text. */
static void put_answers(struct buf *b, const struct json *row, bool ids)
{
    const struct json *choices = json_get(row, "choices") ? json_get(row, "choices") : json_get(json_get(json_get(row, "response"), "body"), "choices");
    size_t n = choices ? json_len(choices) : 1;
    for (size_t i = 0; i < n; i++) {
        const struct json *choice = choices ? json_at(choices, i) : row, *said = json_get(choice, ids ? "token_ids" : "text");
        if (said)
            json_put_json(b, said);
        buf_putc(b, '\n');
    }
}

static bool has_ids(const struct buf *text)
{
    return strstr(text->data, "\"token_ids\":[");
}

static bool is_same(const struct sampled *s, const char *text, size_t len)
{
    struct json *old = json_parse_line(s->text.data, s->text.len), *new = json_parse_line(text, len);
    struct buf a = {0}, b = {0};
    bool ids = has_ids(&s->text);
    put_answers(&a, old, ids);
    put_answers(&b, new, ids);
    bool same = new && !is_failed(new) && a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
    buf_free(&a);
    buf_free(&b);
    json_free(old);
    json_free(new);
    return same;
}

static uint64_t compare_rows(struct verify *v, const char *path)
{
    struct zreader *z = zreader_open(path);
    struct buf place = {0};
    char *text;
    size_t len;
    uint64_t n_same = 0, n_other = 0;
    for (uint64_t k = 0; k < v->n_sample; k++) {
        bool same = z && zreader_line(z, &text, &len) > 0 && is_same(&v->sample[k], text, len);
        put_place(&place, v, v->sample[k].index);
        n_same += same;
        if (!same)
            name(++n_other, "other tokens", place.data);
    }
    zreader_close(z);
    buf_free(&place);
    return n_same;
}

/* Returns the child's exit status. */
static int run_again(const struct verify *v, const char *lines, const char *rows)
{
    struct child c = {0};
    char *options = mem_dup(v->opts.run ? v->opts.run : "", v->opts.run ? strlen(v->opts.run) : 0);
    static const char *const words[] = { "tokmill", "run", "--quiet", "--log-level", "error", "--ordered", "--results", "none", "-m" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        child_add(&c, words[i]);
    child_add(&c, v->opts.model);
    child_split(&c, options);
    if (has_ids(&v->sample[0].text))
        child_add(&c, "--token-ids");
    child_add(&c, "-o");
    child_add(&c, rows);
    child_add(&c, lines);
    int status = child_run(&c);
    child_free(&c);
    free(options);
    return status;
}

static bool sample_same(struct verify *v)
{
    char folder[] = "/tmp/tokmill-verify-XXXXXX", lines[64], rows[64];
    if (!v->n_sample) {
        printf("sample: there is no row to run again\n");
        return true;
    }
    if (!mkdtemp(folder))
        die("verify: cannot make a folder in /tmp");
    snprintf(lines, sizeof lines, "%s/lines.zst", folder);
    snprintf(rows, sizeof rows, "%s/rows.zst", folder);
    qsort(v->sample, v->n_sample, sizeof *v->sample, by_index);
    write_lines(v, lines);
    int status = run_again(v, lines, rows);
    bool ran = status == EXIT_GOOD || status == EXIT_SOME_FAILED;
    uint64_t n_same = ran ? compare_rows(v, rows) : 0;
    unlink(lines);
    unlink(rows);
    rmdir(folder);
    if (!ran)
        die("verify: the lines of the sample could not be run again: status %d", status);
    printf("sample: %llu of %llu rows have the same %s again\n", (unsigned long long)n_same, (unsigned long long)v->n_sample,
           has_ids(&v->sample[0].text) ? "tokens" : "text");
    return n_same == v->n_sample;
}

static void parse_options(struct verify *v, int argc, char **argv)
{
    int first = cmd_options(&v->opts, argc, argv);
    if (argc - first < 2)
        die("verify: give the rows and the corpora that they answer: tokmill verify OUT CORPUS...");
    v->output = argv[first];
    v->corpora = argv + first + 1;
    v->n_corpus = argc - first - 1;
    if (!v->opts.sample)
        return;
    if (!v->opts.model)
        die("verify: --sample needs the model of the run: -m MODEL");
    for (int i = 0; i < v->n_corpus; i++)
        if (strcmp(v->corpora[i], "-") == 0)
            die("verify: --sample reads the corpora twice: standard input cannot be one");
    v->sample = mem_array((size_t)v->opts.sample, sizeof *v->sample);
    rng_init(&v->rng, (uint64_t)v->opts.seed);
}

static void free_all(struct verify *v)
{
    for (uint64_t i = 0; i < v->n_sample; i++)
        buf_free(&v->sample[i].text);
    free(v->sample);
    free(v->line);
    free(v->first);
    map_free(&v->ids);
    arena_free(&v->names);
}

int cmd_verify(int argc, char **argv)
{
    struct verify v = {0};
    parse_options(&v, argc, argv);
    v.first = mem_array((size_t)v.n_corpus + 1, sizeof *v.first);
    for (int i = 0; i < v.n_corpus; i++) {
        v.first[i] = v.n;
        read_corpus(&v, v.corpora[i]);
    }
    v.first[v.n_corpus] = v.n;
    bool whole = read_rows(&v), good = accounts_close(&v) && whole;
    if (v.opts.sample)
        good = sample_same(&v) && good;
    free_all(&v);
    return good ? EXIT_GOOD : EXIT_SOME_FAILED;
}
