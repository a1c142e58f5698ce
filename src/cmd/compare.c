/* tokmill compare: are these runs as good as those?  Options and sides; the rest is in compare_*.c. */
#include "cmd/compare.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "cmd/cmd.h"
#include "data/zfile.h"

struct compare_opts { struct opt_list metrics, fail_on; const char *config; double threshold; int format; bool answers, different_workloads; };

#define AT(field) offsetof(struct compare_opts, field)
#define FORMATS "table|md|json|junit|github-bigger|github-smaller|gobench|google-benchmark|bencher"

const struct opt compare_options[] = {
    {.help = "What is compared"},
    {"metric", 0, OPT_LIST, "NAME,...", AT(metrics), NULL, "compare these only (default: all that both sides have)", NULL, 0, 0},
    {"answers", 0, OPT_FLAG, NULL, AT(answers), NULL, "the files are rows of answers whatever their names (default: .jsonl, .jsonl.zst and .jsonl.gz are)", NULL, 0, 0},
    {"different-workloads", 0, OPT_FLAG, NULL, AT(different_workloads), NULL, "compare although model or corpus differ", NULL, 0, 0},
    {.help = "What fails"},
    {"fail-on", 0, OPT_LIST, "METRIC:LIMIT,...", AT(fail_on), NULL,
     "a change for the worse of at least LIMIT (output_tokens_per_s:-3%, ttft_p99_ms:+5%) fails; METRIC alone takes --threshold; "
     "can be given again and again (default: output_tokens_per_s, total_tokens_per_s, score)", NULL, 0, 0},
    {"config", 0, OPT_TEXT, "FILE", AT(config), NULL, "more of these, one METRIC:LIMIT a line; # begins a comment", NULL, 0, 0},
    {"threshold", 0, OPT_REAL, "PERCENT", AT(threshold), "2", "the limit of every metric that has none of its own", NULL, 0, 1e6},
    {.help = "Output"},
    {"format", 0, OPT_CHOICE, NULL, AT(format), "table",
     "for people, as Markdown, JSON or JUnit XML; for github-action-benchmark (what is better when bigger, when smaller), benchstat, "
     "Google Benchmark's compare.py and Bencher", FORMATS, 0, 0},
    {0},
};

static compare_print_fn *const printers[] = {
    compare_put_table, compare_put_markdown, compare_put_json, compare_put_junit, compare_put_github_bigger, compare_put_github_smaller,
    compare_put_gobench, compare_put_google, compare_put_bencher,
};
enum { FORMAT_GOBENCH = 6, FORMAT_GOOGLE = 7 };

/* ---- for the other parts ---- */

void compare_note(struct compare_pair *p, const char *fmt, ...)
{
    va_list ap;
    char text[512];
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if ((p->n_note & (p->n_note - 1)) == 0)        /* a power of two, or 0: full */
        p->notes = mem_resize(p->notes, p->n_note ? 2 * p->n_note : 1, sizeof *p->notes);
    p->notes[p->n_note++] = arena_dup(&p->arena, text, strlen(text));
}

struct compare_row *compare_add(struct compare_pair *p, const struct compare_plan *plan, const char *group, const struct metric *m)
{
    if ((p->n_row & (p->n_row - 1)) == 0)
        p->rows = mem_resize(p->rows, p->n_row ? 2 * p->n_row : 1, sizeof *p->rows);
    struct compare_row *row = &p->rows[p->n_row++];
    *row = (struct compare_row){ .group = group, .metric = m, .limit = plan->limit[m - metrics], .gate = plan->gate[m - metrics] };
    return row;
}

void compare_pair_free(struct compare_pair *p)
{
    arena_free(&p->arena);
    free(p->notes);
    free(p->rows);
    *p = (struct compare_pair){0};
}

bool compare_fails(const struct compare_row *row)
{
    return row->gate && row->c.verdict == VERDICT_REGRESSION;
}

bool compare_lacks(const struct compare_row *row)
{
    return row->gate && row->c.few;
}

/* ---- the plan ---- */

/* Calls take with every comma-separated word. */
static void each_word(const char *list, struct compare_plan *plan, void (*take)(struct compare_plan *plan, const char *word, size_t len))
{
    for (size_t len; *list; list += len + (list[len] == ',')) {
        len = strcspn(list, ",");
        if (len)
            take(plan, list, len);
    }
}

static void take_metric(struct compare_plan *plan, const char *word, size_t len)
{
    const struct metric *m = metric_find(word, len);
    if (!m)
        die("compare: --metric: %s", err_text());
    plan->shown[m - metrics] = true;
}

static void set_limit(struct compare_plan *plan, const struct metric *m, double limit)
{
    plan->named[m - metrics] = true;
    if (isfinite(limit))
        plan->limit[m - metrics] = limit;
}

static void take_limit(struct compare_plan *plan, const char *word, size_t len)
{
    double limit;
    const struct metric *m = metric_limit(word, len, &limit);
    if (!m)
        die("compare: --fail-on: %s", err_text());
    set_limit(plan, m, limit);
}

static size_t trimmed(const char *line, size_t len)
{
    const char *comment = memchr(line, '#', len);
    len = comment ? (size_t)(comment - line) : len;
    while (len && strchr(" \t", line[len - 1]))
        len--;
    return len;
}

static void read_config(struct compare_plan *plan, const char *path)
{
    struct zreader *r = zreader_open(path);
    char *line;
    size_t len, number = 0;
    int rc = r ? 0 : -1;
    while (r && (rc = zreader_line(r, &line, &len)) > 0) {
        number++;
        size_t from = line ? strspn(line, " \t") : 0, to = line ? trimmed(line, len) : 0;
        if (from >= to)
            continue;
        double limit;
        const struct metric *m = metric_limit(line + from, to - from, &limit);
        if (!m)
            die("compare: %s:%zu: %s", path, number, err_text());
        set_limit(plan, m, limit);
    }
    if (rc < 0)
        die("compare: --config: %s", err_text());
    zreader_close(r);
}

static void make_plan(struct compare_plan *plan, const struct compare_opts *o)
{
    bool named = false;
    plan->different_workloads = o->different_workloads;
    for (size_t m = 0; m < N_METRIC; m++)
        plan->limit[m] = o->threshold / 100;
    if (o->config)
        read_config(plan, o->config);
    for (size_t i = 0; i < o->fail_on.n; i++)          /* after the file: what is typed wins */
        each_word(o->fail_on.texts[i], plan, take_limit);
    for (size_t i = 0; i < o->metrics.n; i++)
        each_word(o->metrics.texts[i], plan, take_metric);
    for (size_t m = 0; m < N_METRIC; m++)
        named |= plan->named[m];
    for (size_t m = 0; m < N_METRIC; m++) {
        plan->gate[m] = named ? plan->named[m] : metrics[m].gate;
        plan->shown[m] |= !o->metrics.n || plan->named[m] || (o->format == FORMAT_GOOGLE && strcmp(metrics[m].name, "wall_s") == 0);
    }
}

/* ---- the sides ---- */

struct side { const char *name; struct arena arena; char **runs, **answers; size_t n_run, n_answer; };

static bool ends_with(const char *s, size_t len, const char *end)
{
    size_t n = strlen(end);
    return len >= n && memcmp(s + len - n, end, n) == 0;
}

static void add_file(struct side *s, const char *path, size_t len, bool answers)
{
    answers = answers || ends_with(path, len, ".jsonl") || ends_with(path, len, ".jsonl.zst") || ends_with(path, len, ".jsonl.gz");
    if (answers)
        s->answers[s->n_answer++] = arena_dup(&s->arena, path, len);
    else
        s->runs[s->n_run++] = arena_dup(&s->arena, path, len);
}

/* A folder, a file, or a list of them with commas. */
static void side_open(struct side *s, const char *operand, bool answers)
{
    size_t most = strlen(operand) / 2 + 1;
    *s = (struct side){ .name = operand, .runs = mem_array(most, sizeof *s->runs), .answers = mem_array(most, sizeof *s->answers) };
    bool whole = access(operand, F_OK) == 0;       /* a comma in its name */
    for (size_t len; *operand; operand += len + (operand[len] == ',')) {
        len = whole ? strlen(operand) : strcspn(operand, ",");
        if (len)
            add_file(s, operand, len, answers);
    }
    if (!s->n_run && !s->n_answer)
        die("compare: \"%s\" names no file", s->name);
}

static void side_close(struct side *s)
{
    arena_free(&s->arena);
    free(s->runs);
    free(s->answers);
}

static void read_runs(struct run_set *set, const struct side *s)
{
    for (size_t i = 0; i < s->n_run; i++)
        if (runs_read(set, s->runs[i]))
            die("compare: %s", err_text());
}

/* A limit for what no side tells would never fail. */
static void check_plan(const struct compare_plan *plan, const struct side *s)
{
    for (size_t m = 0; m < N_METRIC; m++) {
        int have = (s->n_run ? OF_RUNS : 0) | (s->n_answer ? OF_ANSWERS : 0);
        if (plan->named[m] && !(metrics[m].sources & have))
            die("compare: %s is told by %s alone; \"%s\" has none", metrics[m].name,
                metrics[m].sources == OF_RUNS ? "result folders" : "rows of answers (.jsonl)", s->name);
    }
}

/* What is held of BASE while each NEW is read. */
struct base { struct side side; struct run_set runs; struct answer_set *answers; };

static void base_open(struct base *b, const char *operand, const struct compare_opts *o, const struct compare_plan *plan)
{
    side_open(&b->side, operand, o->answers);
    check_plan(plan, &b->side);
    read_runs(&b->runs, &b->side);
    if (b->side.n_answer && !(b->answers = answer_set_open(b->side.answers, b->side.n_answer)))
        die("compare: %s", err_text());
}

static void base_close(struct base *b)
{
    runs_free(&b->runs);
    answer_set_close(b->answers);
    side_close(&b->side);
}

static void compare_side(struct compare_pair *p, const struct base *base, const char *operand, const struct compare_opts *o, const struct compare_plan *plan)
{
    struct side new;
    struct run_set runs = {0};
    side_open(&new, operand, o->answers);
    p->base = base->side.name;
    p->new = new.name;
    bool runs_differ = !base->side.n_run != !new.n_run;
    if (runs_differ || !base->side.n_answer != !new.n_answer)
        die("compare: one of \"%s\" and \"%s\" has %s, the other not", p->base, p->new, runs_differ ? "results" : "rows of answers");
    read_runs(&runs, &new);
    if (new.n_run && compare_runs(p, &base->runs, &runs, plan))
        die("compare: %s", err_text());
    if (new.n_answer && compare_answers(p, base->answers, new.answers, new.n_answer, plan))
        die("compare: %s", err_text());
    runs_free(&runs);
    side_close(&new);
}

/* ---- the report ---- */

static int status_of(const struct compare_report *r)
{
    bool lacks = false;
    for (size_t i = 0; i < r->n_pair; i++) {
        const struct compare_pair *p = &r->pairs[i];
        lacks |= p->n_lost > 0;
        for (size_t k = 0; k < p->n_row; k++) {
            if (compare_fails(&p->rows[k]))
                return EXIT_SOME_FAILED;
            lacks |= compare_lacks(&p->rows[k]);
        }
    }
    return lacks ? EXIT_INCONCLUSIVE : EXIT_GOOD;
}

/* GitHub's runner reads its commands from both streams; standard output may be a document in a file. */
static void annotate(const struct compare_report *r)
{
    const char *in_actions = env_text("GITHUB_ACTIONS");
    struct buf b = {0};
    if (in_actions && strcmp(in_actions, "true") == 0)
        compare_put_annotations(&b, r);
    if (b.len)
        fwrite(b.data, 1, b.len, stderr);
    buf_free(&b);
}

static void print(const struct compare_report *r, int format)
{
    struct buf b = {0};
    printers[format](&b, r);
    bool good = (!b.len || fwrite(b.data, 1, b.len, stdout) == b.len) && fflush(stdout) == 0;
    buf_free(&b);
    if (!good)
        die("compare: cannot write to standard output");
}

int cmd_compare(int argc, char **argv)
{
    static struct compare_plan plan;
    struct compare_opts o = {0};
    struct base base = {0};
    int first = cmd_options(&o, argc, argv), n_new = argc - first - 1;
    if (n_new < 1)
        die("compare: BASE and at least one NEW are expected");
    if (n_new > 1 && (o.format == FORMAT_GOBENCH || o.format == FORMAT_GOOGLE))
        die("compare: this --format holds two sides; name one NEW");
    make_plan(&plan, &o);
    base_open(&base, argv[first], &o, &plan);
    struct compare_report report = { .pairs = mem_array((size_t)n_new, sizeof *report.pairs), .n_pair = (size_t)n_new };
    for (int i = 0; i < n_new; i++)
        compare_side(&report.pairs[i], &base, argv[first + 1 + i], &o, &plan);
    report.status = status_of(&report);
    print(&report, o.format);
    annotate(&report);
    for (int i = 0; i < n_new; i++)
        compare_pair_free(&report.pairs[i]);
    free(report.pairs);
    base_close(&base);
    return report.status;
}
