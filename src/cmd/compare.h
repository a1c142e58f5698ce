/* compare.h - what the parts of tokmill compare share: what is asked for, and what was judged and is to be printed. */
#ifndef CMD_COMPARE_H
#define CMD_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"
#include "plan/metric.h"
#include "plan/verdict.h"

/* Columns of summary.csv that say what was run, not how it went. */
struct key_column { const char *name; bool workload; };        /* workload: what was asked; else how and on what it was run */
enum { N_KEY = 24 };
extern const struct key_column key_columns[N_KEY];

struct run_row { const char *key[N_KEY]; double value[N_METRIC]; bool valid; };        /* "" and NaN: no such column, or empty */

enum { COMPARE_MAX_REPETITION = 1000 };        /* of one configuration on a side: all their ratios are sorted */

/* The repetitions of a side, from any number of files. */
struct run_set { struct arena arena; struct run_row *rows; size_t n_row; };

/* What the command line asks for, by metric. */
struct compare_plan {
    double limit[N_METRIC];            /* share */
    bool shown[N_METRIC], gate[N_METRIC];
    bool named[N_METRIC];              /* the user gave it a limit: where it has no value, that is no pass */
    bool different_workloads;
};

struct compare_row {
    const char *group;                 /* "max_seqs=64/order=fcfs"; "": all rows are of one configuration; "answers" */
    const struct metric *metric;
    struct comparison c;
    double limit;
    bool gate;
    const double *base, *new;          /* repetitions, [n_base], [n_new]; NaN: an empty cell.  NULL: counted, not sampled */
    size_t n_base, n_new;
};

enum { N_DIVERGED = 34 };              /* bin 0: at 0; bin k: at 2^(k-1) .. 2^k - 1 */

/* Answers of two files, joined. */
struct sameness {
    uint64_t n_base, n_new;            /* answers on each side, failed ones among them */
    uint64_t failed_base, failed_new, only_base, only_new;
    uint64_t same, differ;             /* of those that both sides have */
    uint64_t scored_base, matched_base, scored_new, matched_new;
    uint64_t by_token[N_DIVERGED], by_character[N_DIVERGED];   /* where those that differ begin to */
    double logprob_sum, logprob_max;   /* of |difference|, over the tokens before the first that differs */
    uint64_t n_logprob;
};

/* One NEW against BASE.  Zeroed: empty. */
struct compare_pair {
    struct arena arena;
    const char *base, *new;            /* operands */
    const char **notes; size_t n_note;
    struct compare_row *rows; size_t n_row;
    const char *key_base[N_KEY], *key_new[N_KEY];      /* NULL: not the same in all rows of that side */
    size_t n_lost;                     /* configurations of BASE that NEW does not have */
    bool has_answers;
    struct sameness same;
};

struct compare_report { struct compare_pair *pairs; size_t n_pair; int status; };

void compare_note(struct compare_pair *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
struct compare_row *compare_add(struct compare_pair *p, const struct compare_plan *plan, const char *group, const struct metric *m);
void compare_pair_free(struct compare_pair *p);

/* ---- compare_runs.c ---- */

/* Adds the rows of a result folder or summary.csv.  0, or -1: err_text(). */
int  runs_read(struct run_set *s, const char *path);
void runs_free(struct run_set *s);

/* Like with like: rows that agree in every key column that varies within a side.  0, or -1: other workloads, or nothing in common. */
int  compare_runs(struct compare_pair *p, const struct run_set *base, const struct run_set *new, const struct compare_plan *plan);

/* ---- compare_answers.c ---- */

struct answer_set;
struct answer_set *answer_set_open(char **paths, size_t n);    /* BASE's rows, kept; NULL: err_text() */
void               answer_set_close(struct answer_set *s);

/* Reads NEW's rows and joins them by id (where there is none, by index).  0, or -1: err_text(). */
int  compare_answers(struct compare_pair *p, struct answer_set *base, char **paths, size_t n, const struct compare_plan *plan);

/* ---- compare_print.c, compare_export.c: for people, and in the forms of other tools (results/README.md) ---- */

typedef void compare_print_fn(struct buf *b, const struct compare_report *r);
compare_print_fn compare_put_table, compare_put_markdown, compare_put_json;
compare_print_fn compare_put_junit, compare_put_github_bigger, compare_put_github_smaller, compare_put_gobench, compare_put_google, compare_put_bencher;
void compare_put_annotations(struct buf *b, const struct compare_report *r);   /* a workflow command of GitHub for each regression */

bool compare_fails(const struct compare_row *row);     /* a regression that counts */
bool compare_lacks(const struct compare_row *row);     /* counts, but has too few repetitions */
void compare_put_change(struct buf *b, const struct comparison *c);    /* "-5.2 % (p 0.0002)" */

#endif
