/* Rows of summary.csv: read, grouped by configuration, paired. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include "cmd/compare.h"
#include "data/csv.h"

enum { MAX_ROW = 100000 };

const struct key_column key_columns[N_KEY] = {
    {"tokmill_version", false}, {"model", true}, {"family", true}, {"params", true}, {"device", false}, {"device_text", false},
    {"threads", false}, {"compute", false}, {"weight_dtype", false}, {"kv_dtype", false}, {"corpus", true}, {"lines", true},
    {"input_tokens", true}, {"scenario", true}, {"point", true}, {"arrivals", true}, {"concurrency", true}, {"input_len", true}, {"output_len", true},
    {"order", false}, {"max_seqs", false}, {"max_step_tokens", false},
    {"block_size", false}, {"deterministic", false},
};

/* A corpus is told by its file's name: the folder is the machine's business.  What would steer a terminal becomes "?". */
static const char *key_text(struct arena *a, const char *name, const char *text)
{
    const char *slash = strcmp(name, "corpus") == 0 ? strrchr(text, '/') : NULL;
    text = slash ? slash + 1 : text;
    char *copy = arena_dup(a, text, strlen(text));
    for (char *c = copy; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return copy;
}

/* Where a row has what is compared. */
struct places { int key[N_KEY], value[N_METRIC], validity; };

static int take_row(struct run_set *s, struct csv *c, const char *path, const struct places *p)
{
    if (s->n_row == MAX_ROW)
        return err_set("%s:%zu: more than %d rows", path, csv_line(c), MAX_ROW);
    if ((s->n_row & (s->n_row - 1)) == 0)          /* a power of two, or 0: full */
        s->rows = mem_resize(s->rows, s->n_row ? 2 * s->n_row : 1, sizeof *s->rows);
    struct run_row *r = &s->rows[s->n_row++];
    *r = (struct run_row){ .valid = strcmp(csv_text(c, p->validity), "INVALID") != 0 };
    for (size_t k = 0; k < N_KEY; k++)
        r->key[k] = key_text(&s->arena, key_columns[k].name, csv_text(c, p->key[k]));
    for (size_t m = 0; m < N_METRIC; m++) {
        if (csv_number(c, p->value[m], &r->value[m]))
            return -1;
        if (r->value[m] < 0)
            return err_set("%s:%zu: %s is %g: no result is below 0", path, csv_line(c), metrics[m].name, r->value[m]);
    }
    return 0;
}

/* -1: no column of them is known. */
static int find_places(struct places *p, const struct csv *c)
{
    size_t n_known = 0;
    for (size_t k = 0; k < N_KEY; k++)
        p->key[k] = csv_find(c, key_columns[k].name);
    for (size_t m = 0; m < N_METRIC; m++) {
        p->value[m] = csv_find(c, metrics[m].name);
        n_known += p->value[m] >= 0;
    }
    p->validity = csv_find(c, "validity");
    return n_known ? 0 : -1;
}

static int take_rows(struct run_set *s, struct csv *c, const char *path)
{
    struct places p;
    size_t before = s->n_row;
    int rc = 0;
    if (find_places(&p, c))
        return err_set("%s: no column that can be compared: is it a summary.csv of a run?", path);
    while (!rc && (rc = csv_next(c)) > 0)
        rc = take_row(s, c, path, &p);
    if (!rc && s->n_row == before)
        rc = err_set("%s: no rows", path);
    return rc;
}

int runs_read(struct run_set *s, const char *path)
{
    struct buf file = {0};
    struct stat st;
    bool folder = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    buf_printf(&file, "%s%s", path, folder ? "/summary.csv" : "");
    struct csv *c = csv_open(file.data);
    int rc = c ? take_rows(s, c, file.data) : -1;
    csv_close(c);
    buf_free(&file);
    return rc;
}

void runs_free(struct run_set *s)
{
    arena_free(&s->arena);
    free(s->rows);
    *s = (struct run_set){0};
}

/* ---- groups ---- */

struct group { const char *label; size_t *rows, n; };          /* rows of one configuration */
struct grouping { struct group *groups; size_t n, *rows; struct map index; };

/* The value of a key where all rows agree, else NULL. */
static const char *common_key(struct arena *a, const struct run_set *s, size_t k)
{
    const char *first = s->rows[0].key[k];
    for (size_t i = 1; i < s->n_row; i++)
        if (strcmp(s->rows[i].key[k], first) != 0)
            return NULL;
    return arena_dup(a, first, strlen(first));
}

static void put_label(struct buf *b, const struct run_row *r, const bool *by)
{
    buf_clear(b);
    for (size_t k = 0; k < N_KEY; k++)
        if (by[k])
            buf_printf(b, "%s%s=%s", b->len ? "/" : "", key_columns[k].name, r->key[k]);
}

/* The number of the row's group, a new one if need be. */
static uint32_t group_of(struct grouping *g, struct arena *a, const struct buf *label)
{
    const char *text = label->len ? label->data : "";
    uint32_t at = (uint32_t)g->n;
    if (!map_get(&g->index, text, label->len, &at)) {
        g->groups[g->n++].label = arena_dup(a, text, label->len);
        map_put(&g->index, g->groups[at].label, label->len, at);
    }
    return at;
}

static void group_rows(struct grouping *g, struct arena *a, const struct run_set *s, const bool *by)
{
    struct buf label = {0};
    uint32_t *of = mem_array(s->n_row, sizeof *of);
    g->groups = mem_array(s->n_row, sizeof *g->groups);
    g->rows = mem_array(s->n_row, sizeof *g->rows);
    for (size_t i = 0; i < s->n_row; i++) {
        put_label(&label, &s->rows[i], by);
        of[i] = group_of(g, a, &label);
        g->groups[of[i]].n++;
    }
    for (size_t i = 0, at = 0; i < g->n; at += g->groups[i].n, g->groups[i++].n = 0)
        g->groups[i].rows = g->rows + at;
    for (size_t i = 0; i < s->n_row; i++)
        g->groups[of[i]].rows[g->groups[of[i]].n++] = i;
    free(of);
    buf_free(&label);
}

static void grouping_free(struct grouping *g)
{
    free(g->groups);
    free(g->rows);
    map_free(&g->index);
}

static const struct group *find_group(const struct grouping *g, const char *label)
{
    uint32_t at;
    return map_get(&g->index, label, strlen(label), &at) ? &g->groups[at] : NULL;
}

/* ---- pairs ---- */

static double *values_of(struct arena *a, const struct run_set *s, const struct group *g, size_t m, bool *some)
{
    double *x = arena_alloc(a, g->n * sizeof *x);
    for (size_t i = 0; i < g->n; i++) {
        x[i] = s->rows[g->rows[i]].value[m];
        *some |= isfinite(x[i]);
    }
    return x;
}

/* A metric is told where both sides have it; one that counts where BASE has it, so that it cannot go unseen. */
static void compare_metric(struct compare_pair *p, const struct run_set *base, const struct group *b, const struct run_set *new,
                           const struct group *n, const struct compare_plan *plan, size_t m)
{
    bool in_base = false, in_new = false;
    double *x = values_of(&p->arena, base, b, m, &in_base), *y = values_of(&p->arena, new, n, m, &in_new);
    if (!(metrics[m].sources & OF_RUNS) || !plan->shown[m])
        return;
    if (!(in_base && in_new) && !(in_base && plan->gate[m]) && !plan->named[m])
        return;
    struct compare_row *row = compare_add(p, plan, b->label, &metrics[m]);
    row->base = x, row->n_base = b->n;
    row->new = y, row->n_new = n->n;
    row->c = verdict_make(&(struct rule){ metrics[m].higher_is_better, row->limit }, x, b->n, y, n->n);
}

static int compare_group(struct compare_pair *p, const struct run_set *base, const struct group *b, const struct run_set *new,
                         const struct group *n, const struct compare_plan *plan)
{
    if (b->n > COMPARE_MAX_REPETITION || n->n > COMPARE_MAX_REPETITION)
        return err_set("%zu and %zu repetitions of one configuration; at most %d are compared", b->n, n->n, COMPARE_MAX_REPETITION);
    for (size_t m = 0; m < N_METRIC; m++)
        compare_metric(p, base, b, new, n, plan, m);
    return 0;
}

static int compare_groups(struct compare_pair *p, const struct run_set *base, const struct grouping *b, const struct run_set *new,
                          const struct grouping *n, const struct compare_plan *plan)
{
    size_t n_paired = 0;
    for (size_t i = 0; i < b->n; i++) {
        const struct group *partner = find_group(n, b->groups[i].label);
        if (partner && compare_group(p, base, &b->groups[i], new, partner, plan))
            return -1;
        n_paired += partner != NULL;
        if (!partner)
            compare_note(p, "only in base: %s (%zu rows)", b->groups[i].label, b->groups[i].n);
    }
    for (size_t i = 0; i < n->n; i++)
        if (!find_group(b, n->groups[i].label))
            compare_note(p, "only in new: %s (%zu rows)", n->groups[i].label, n->groups[i].n);
    p->n_lost = b->n - n_paired;
    if (!n_paired)
        return err_set("no configuration of \"%s\" is in \"%s\": the first are %s and %s", p->base, p->new, b->groups[0].label, n->groups[0].label);
    return 0;
}

/* Names what differs between the sides as a whole.  -1: the workload does. */
static int note_differences(struct compare_pair *p, const struct compare_plan *plan)
{
    struct buf refused = {0};
    for (size_t k = 0; k < N_KEY; k++) {
        const char *a = p->key_base[k], *b = p->key_new[k];
        if (!a || !b || !a[0] || !b[0] || strcmp(a, b) == 0)
            continue;
        compare_note(p, "%s: \"%s\" in base, \"%s\" in new", key_columns[k].name, a, b);
        if (key_columns[k].workload)
            buf_printf(&refused, "%s%s \"%s\" and \"%s\"", refused.len ? ", " : "", key_columns[k].name, a, b);
    }
    int rc = refused.len && !plan->different_workloads;
    if (rc)
        err_set("\"%s\" and \"%s\" are of different workloads: %s (--different-workloads compares them all the same)", p->base, p->new, refused.data);
    buf_free(&refused);
    return rc ? -1 : 0;
}

static void note_invalid(struct compare_pair *p, const char *side, const struct run_set *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_row; i++)
        n += !s->rows[i].valid;
    if (n)
        compare_note(p, "%zu of %zu rows of %s are INVALID (validity_rules there say why)", n, s->n_row, side);
}

int compare_runs(struct compare_pair *p, const struct run_set *base, const struct run_set *new, const struct compare_plan *plan)
{
    bool by[N_KEY];
    for (size_t k = 0; k < N_KEY; k++) {
        p->key_base[k] = common_key(&p->arena, base, k);
        p->key_new[k] = common_key(&p->arena, new, k);
        by[k] = !p->key_base[k] || !p->key_new[k];
    }
    if (note_differences(p, plan))
        return -1;
    note_invalid(p, "base", base);
    note_invalid(p, "new", new);
    struct grouping b = {0}, n = {0};
    group_rows(&b, &p->arena, base, by);
    group_rows(&n, &p->arena, new, by);
    int rc = compare_groups(p, base, &b, new, &n, plan);
    grouping_free(&b);
    grouping_free(&n);
    return rc;
}
