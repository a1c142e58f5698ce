/* The report for people, as text and as Markdown, and as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/compare.h"
#include "data/json.h"

/* ---- cells, the same for text and Markdown ---- */

enum { CONFIGURATION, METRIC, BASE, NEW, CHANGE, INTERVAL, P, COUNT, DETECTABLE, LIMIT, VERDICT, N_CELL };

static const char *const headings[N_CELL] = {
    "configuration", "metric", "base", "new", "change", "95 % interval", "p", "n", "detectable", "limit", "verdict",
};

static bool is_text(int cell)
{
    return cell == CONFIGURATION || cell == METRIC || cell == VERDICT;
}

static void put_percent(struct buf *b, double share, const char *format)
{
    if (isinf(share))
        buf_puts(b, share > 0 ? "+inf %" : "-inf %");
    else if (isfinite(share))
        buf_printf(b, format, 100 * share);
}

static void put_value(struct buf *b, double x)
{
    if (isfinite(x))
        buf_printf(b, fabs(x) >= 1000 ? "%.0f" : "%.4g", x);
}

static void put_p(struct buf *b, double p)
{
    if (isfinite(p))
        buf_printf(b, p < 0.0001 ? "%.1e" : "%.4f", p);
}

static void put_cell(struct buf *b, const struct compare_row *row, int cell)
{
    const struct comparison *c = &row->c;
    switch (cell) {
    case CONFIGURATION: buf_puts(b, row->group); break;
    case METRIC:        buf_puts(b, row->metric->name); break;
    case BASE:          put_value(b, c->base); break;
    case NEW:           put_value(b, c->new); break;
    case CHANGE:        put_percent(b, c->change, "%+.2f %%"); break;
    case INTERVAL:
        if (isfinite(c->interval.low) && isfinite(c->interval.high))
            buf_printf(b, "%+.2f .. %+.2f %%", 100 * c->interval.low, 100 * c->interval.high);
        break;
    case P:             put_p(b, c->p); break;
    case COUNT:         buf_printf(b, "%zu+%zu", c->n_base, c->n_new); break;
    case DETECTABLE:    put_percent(b, c->detectable, "%.2f %%"); break;
    case LIMIT:         put_percent(b, row->gate ? row->limit : (double)NAN, "%g %%"); break;
    case VERDICT:
        buf_puts(b, verdict_name(c->verdict));
        buf_puts(b, c->few ? " (too few)" : "");
        break;
    }
}

static bool has_groups(const struct compare_pair *p)
{
    for (size_t i = 0; i < p->n_row; i++)
        if (p->rows[i].group[0])
            return true;
    return false;
}

void compare_put_change(struct buf *b, const struct comparison *c)
{
    put_percent(b, c->change, "%+.2f %%");
    if (isfinite(c->p)) {
        buf_puts(b, " (p ");
        put_p(b, c->p);
        buf_putc(b, ')');
    }
}

/* ---- what it comes to ---- */

static void put_name(struct buf *b, const struct compare_row *row)
{
    buf_printf(b, "%s%s%s", row->group, row->group[0] ? " " : "", row->metric->name);
}

/* ", " between rows that are told. */
static void put_told(struct buf *b, const struct compare_row *row, size_t *n)
{
    buf_puts(b, (*n)++ ? ", " : " ");
    put_name(b, row);
}

static void put_regressions(struct buf *b, const struct compare_pair *p)
{
    size_t n = 0;
    buf_puts(b, "regression:");
    for (size_t i = 0; i < p->n_row; i++)
        if (compare_fails(&p->rows[i])) {
            put_told(b, &p->rows[i], &n);
            buf_putc(b, ' ');
            compare_put_change(b, &p->rows[i].c);
        }
}

static void put_lacking(struct buf *b, const struct compare_pair *p)
{
    size_t n = 0;
    buf_puts(b, "inconclusive:");
    for (size_t i = 0; i < p->n_row; i++)
        if (compare_lacks(&p->rows[i])) {
            put_told(b, &p->rows[i], &n);
            buf_puts(b, " (");
            verdict_put_reason(b, &p->rows[i].c);
            buf_putc(b, ')');
        }
    if (p->n_lost)
        buf_printf(b, "%s%zu of base's configurations missing in new", n ? ", " : " ", p->n_lost);
}

static void put_passed(struct buf *b, const struct compare_pair *p)
{
    size_t n = 0;
    buf_puts(b, "pass:");
    for (size_t i = 0; i < p->n_row; i++)
        if (p->rows[i].gate) {
            put_told(b, &p->rows[i], &n);
            buf_puts(b, p->rows[i].c.verdict == VERDICT_INCONCLUSIVE ? " (" : "");
            verdict_put_reason(b, &p->rows[i].c);
            buf_puts(b, p->rows[i].c.verdict == VERDICT_INCONCLUSIVE ? ")" : "");
        }
    if (!n)
        buf_puts(b, " no metric decides");
}

static void put_outcome(struct buf *b, const struct compare_pair *p)
{
    bool fails = false, lacks = p->n_lost > 0;
    for (size_t i = 0; i < p->n_row; i++) {
        fails |= compare_fails(&p->rows[i]);
        lacks |= compare_lacks(&p->rows[i]);
    }
    (fails ? put_regressions : lacks ? put_lacking : put_passed)(b, p);
}

/* "0: 1, 2-3: 4" */
static void put_bins(struct buf *b, const uint64_t *bins)
{
    bool any = false;
    for (int i = 0; i < N_DIVERGED; i++) {
        uint64_t from = i ? (uint64_t)1 << (i - 1) : 0, to = i ? 2 * from - 1 : 0;
        if (!bins[i])
            continue;
        buf_printf(b, "%s%llu", any ? ", " : "", (unsigned long long)from);
        if (to > from)
            buf_printf(b, "-%llu", (unsigned long long)to);
        buf_printf(b, ": %llu", (unsigned long long)bins[i]);
        any = true;
    }
}

static uint64_t total(const uint64_t *bins)
{
    uint64_t sum = 0;
    for (int i = 0; i < N_DIVERGED; i++)
        sum += bins[i];
    return sum;
}

static void put_answers(struct buf *b, const struct compare_pair *p, const char *before)
{
    const struct sameness *s = &p->same;
    buf_printf(b, "%s%llu and %llu answers: %llu the same, %llu differ, %llu only in base, %llu only in new, %llu and %llu failed\n", before,
               (unsigned long long)s->n_base, (unsigned long long)s->n_new, (unsigned long long)s->same, (unsigned long long)s->differ,
               (unsigned long long)s->only_base, (unsigned long long)s->only_new, (unsigned long long)s->failed_base, (unsigned long long)s->failed_new);
    for (int i = 0; i < 2; i++) {
        const uint64_t *bins = i ? s->by_character : s->by_token;
        if (!total(bins))
            continue;
        buf_printf(b, "%sfirst %s that differs, and how many answers: ", before, i ? "character" : "token");
        put_bins(b, bins);
        buf_putc(b, '\n');
    }
    if (s->n_logprob)
        buf_printf(b, "%slog-probability of the %llu tokens before that: mean difference %.2g, largest %.2g\n", before,
                   (unsigned long long)s->n_logprob, s->logprob_sum / (double)s->n_logprob, s->logprob_max);
}

/* ---- text ---- */

static void put_padded(struct buf *b, const struct buf *cell, size_t width, bool left)
{
    size_t pad = width > cell->len ? width - cell->len : 0;
    if (!left)
        buf_printf(b, "%*s", (int)pad, "");
    buf_put(b, cell->data, cell->len);
    if (left)
        buf_printf(b, "%*s", (int)pad, "");
}

static void put_heading_or_cell(struct buf *b, const struct compare_pair *p, size_t line, int cell)
{
    buf_clear(b);
    if (line == 0)
        buf_puts(b, headings[cell]);
    else
        put_cell(b, &p->rows[line - 1], cell);
}

static void put_grid(struct buf *b, const struct compare_pair *p)
{
    size_t width[N_CELL] = {0};
    int first = has_groups(p) ? CONFIGURATION : METRIC;
    struct buf cell = {0};
    for (size_t line = 0; line <= p->n_row; line++)
        for (int i = first; i < N_CELL; i++) {
            put_heading_or_cell(&cell, p, line, i);
            width[i] = cell.len > width[i] ? cell.len : width[i];
        }
    for (size_t line = 0; line <= p->n_row; line++)
        for (int i = first; i < N_CELL; i++) {
            put_heading_or_cell(&cell, p, line, i);
            buf_puts(b, i > first ? "  " : "");
            put_padded(b, &cell, i == VERDICT ? 0 : width[i], is_text(i));
            buf_puts(b, i == VERDICT ? "\n" : "");
        }
    buf_free(&cell);
}

void compare_put_table(struct buf *b, const struct compare_report *r)
{
    for (size_t i = 0; i < r->n_pair; i++) {
        const struct compare_pair *p = &r->pairs[i];
        buf_printf(b, "%sbase       %s\nnew        %s\n", i ? "\n" : "", p->base, p->new);
        for (size_t k = 0; k < p->n_note; k++)
            buf_printf(b, "note       %s\n", p->notes[k]);
        buf_putc(b, '\n');
        put_grid(b, p);
        buf_putc(b, '\n');
        if (p->has_answers)
            put_answers(b, p, "answers    ");
        buf_puts(b, "verdict    ");
        put_outcome(b, p);
        buf_putc(b, '\n');
    }
}

/* ---- Markdown ---- */

/* Text of a user in a line of Markdown: no table, link, HTML or emphasis comes of it, and no name of somebody is called. */
static void put_markdown(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (strchr("\\`*[]<>|#~@&", *s))
            buf_printf(b, "&#%d;", *s);
        else
            buf_putc(b, *s == '\n' || *s == '\r' ? ' ' : *s);
    }
}

static void put_markdown_row(struct buf *b, const struct compare_pair *p, size_t line, int first)
{
    struct buf cell = {0};
    for (int i = first; i < N_CELL; i++) {
        put_heading_or_cell(&cell, p, line, i);
        bool bold = line && i == VERDICT && compare_fails(&p->rows[line - 1]);
        buf_puts(b, bold ? "| **" : "| ");
        put_markdown(b, cell.len ? cell.data : "");
        buf_puts(b, bold ? "** " : " ");
    }
    buf_puts(b, "|\n");
    buf_free(&cell);
}

static void put_markdown_grid(struct buf *b, const struct compare_pair *p)
{
    int first = has_groups(p) ? CONFIGURATION : METRIC;
    put_markdown_row(b, p, 0, first);
    for (int i = first; i < N_CELL; i++)
        buf_puts(b, is_text(i) ? "|---" : "|--:");
    buf_puts(b, "|\n");
    for (size_t i = 0; i < p->n_row; i++)
        put_markdown_row(b, p, i + 1, first);
}

static void put_markdown_notes(struct buf *b, const struct compare_pair *p)
{
    buf_puts(b, p->n_note || p->has_answers ? "\n" : "");
    for (size_t i = 0; i < p->n_note; i++) {
        buf_puts(b, "- ");
        put_markdown(b, p->notes[i]);
        buf_putc(b, '\n');
    }
    if (p->has_answers)
        put_answers(b, p, "- ");
}

void compare_put_markdown(struct buf *b, const struct compare_report *r)
{
    struct buf outcome = {0};
    for (size_t i = 0; i < r->n_pair; i++) {
        const struct compare_pair *p = &r->pairs[i];
        buf_puts(b, i ? "\n### " : "### ");
        put_markdown(b, p->new);
        buf_puts(b, " against ");
        put_markdown(b, p->base);
        buf_puts(b, "\n\n");
        buf_clear(&outcome);
        put_outcome(&outcome, p);
        put_markdown(b, outcome.data);
        buf_puts(b, "\n\n");
        put_markdown_grid(b, p);
        put_markdown_notes(b, p);
    }
    buf_free(&outcome);
}

/* ---- JSON ---- */

static void put_string(struct buf *b, const char *key, const char *s)
{
    buf_printf(b, "\"%s\":", key);
    json_put_string(b, s, strlen(s));
}

static void put_real(struct buf *b, const char *key, double x)
{
    buf_printf(b, ",\"%s\":", key);
    json_put_real(b, x);
}

static void put_values(struct buf *b, const char *key, const double *x, size_t n)
{
    buf_printf(b, ",\"%s\":[", key);
    for (size_t i = 0; x && i < n; i++) {
        buf_puts(b, i ? "," : "");
        json_put_real(b, x[i]);
    }
    buf_putc(b, ']');
}

static void put_row(struct buf *b, const struct compare_row *row)
{
    const struct comparison *c = &row->c;
    struct buf reason = {0};
    buf_putc(b, '{');
    put_string(b, "configuration", row->group);
    buf_putc(b, ',');
    put_string(b, "metric", row->metric->name);
    buf_putc(b, ',');
    put_string(b, "unit", row->metric->unit);
    buf_printf(b, ",\"better\":\"%s\",\"n_base\":%zu,\"n_new\":%zu", row->metric->higher_is_better ? "higher" : "lower", c->n_base, c->n_new);
    put_real(b, "base", c->base);
    put_real(b, "new", c->new);
    put_real(b, "change", c->change);
    put_real(b, "change_low", c->interval.low);
    put_real(b, "change_high", c->interval.high);
    put_real(b, "p", c->p);
    put_real(b, "detectable", c->detectable);
    put_real(b, "limit", row->limit);
    buf_printf(b, ",\"gate\":%s,\"verdict\":\"%s\",", row->gate ? "true" : "false", verdict_name(c->verdict));
    verdict_put_reason(&reason, c);
    put_string(b, "reason", reason.len ? reason.data : "");
    put_values(b, "base_values", row->base, row->n_base);
    put_values(b, "new_values", row->new, row->n_new);
    buf_putc(b, '}');
    buf_free(&reason);
}

static void put_histogram(struct buf *b, const char *key, const uint64_t *bins)
{
    bool any = false;
    buf_printf(b, ",\"%s\":[", key);
    for (int i = 0; i < N_DIVERGED; i++)
        if (bins[i]) {
            buf_printf(b, "%s{\"from\":%llu,\"answers\":%llu}", any ? "," : "", i ? 1ull << (i - 1) : 0ull, (unsigned long long)bins[i]);
            any = true;
        }
    buf_putc(b, ']');
}

static void put_count(struct buf *b, const char *key, uint64_t n)
{
    buf_printf(b, "%s\"%s\":%llu", b->data[b->len - 1] == '{' ? "" : ",", key, (unsigned long long)n);
}

static void put_sameness(struct buf *b, const struct sameness *s)
{
    buf_puts(b, ",\"answers\":{");
    put_count(b, "base", s->n_base);
    put_count(b, "new", s->n_new);
    put_count(b, "same", s->same);
    put_count(b, "differ", s->differ);
    put_count(b, "only_base", s->only_base);
    put_count(b, "only_new", s->only_new);
    put_count(b, "failed_base", s->failed_base);
    put_count(b, "failed_new", s->failed_new);
    put_count(b, "scored_base", s->scored_base);
    put_count(b, "matched_base", s->matched_base);
    put_count(b, "scored_new", s->scored_new);
    put_count(b, "matched_new", s->matched_new);
    put_histogram(b, "first_token_that_differs", s->by_token);
    put_histogram(b, "first_character_that_differs", s->by_character);
    put_count(b, "logprobs", s->n_logprob);
    put_real(b, "logprob_difference_mean", s->n_logprob ? s->logprob_sum / (double)s->n_logprob : (double)NAN);
    put_real(b, "logprob_difference_max", s->n_logprob ? s->logprob_max : (double)NAN);
    buf_putc(b, '}');
}

static void put_pair(struct buf *b, const struct compare_pair *p)
{
    buf_putc(b, '{');
    put_string(b, "base", p->base);
    buf_putc(b, ',');
    put_string(b, "new", p->new);
    buf_puts(b, ",\"notes\":[");
    for (size_t i = 0; i < p->n_note; i++) {
        buf_puts(b, i ? "," : "");
        json_put_string(b, p->notes[i], strlen(p->notes[i]));
    }
    buf_puts(b, "],\n \"metrics\":[");
    for (size_t i = 0; i < p->n_row; i++) {
        buf_puts(b, i ? ",\n  " : "\n  ");
        put_row(b, &p->rows[i]);
    }
    buf_putc(b, ']');
    if (p->has_answers)
        put_sameness(b, &p->same);
    buf_putc(b, '}');
}

void compare_put_json(struct buf *b, const struct compare_report *r)
{
    buf_printf(b, "{\"status\":%d,\"comparisons\":[", r->status);
    for (size_t i = 0; i < r->n_pair; i++) {
        buf_puts(b, i ? ",\n" : "\n");
        put_pair(b, &r->pairs[i]);
    }
    buf_puts(b, "]}\n");
}
