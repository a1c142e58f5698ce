/* report.h - the parts of `tokmill report`: results folders read (report_data.c), figures drawn (report_figure.c), put together
 * in report.c.  A file that is not there leaves its figure out; one that is bad ends the program with file and line. */
#ifndef CMD_REPORT_H
#define CMD_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "cmd/page.h"
#include "engine/meter.h"      /* struct series */

/* summary.csv of a folder, whole: one row a run, or a row for each point and repetition of a sweep. */
struct summary_row { size_t line; char **cells; };

struct summary_file {
    const char *folder;
    struct arena memory;
    char **names; size_t n_name;
    struct summary_row *rows; size_t n_row;
};

void        summary_open(struct summary_file *s, const char *folder);
void        summary_close(struct summary_file *s);
const char *summary_text(const struct summary_file *s, size_t row, const char *column);        /* "": empty, or no such column */
double      summary_number(const struct summary_file *s, size_t row, const char *column);      /* NaN: the same */
size_t      summary_best(const struct summary_file *s);        /* the row of most output tokens a second */

/* Rows of one point, its repetitions: means. */
struct point { const char *name; size_t n_row; double output_per_s, ttft_p50, ttft_p99, tpot_p50, tpot_p99, goodput; };
size_t summary_points(const struct summary_file *s, struct point *points);     /* [n_row] at most; in the order of the file */

/* The path of a file of the row: of its own folder 0001, 0002, ... in a sweep.  False: it is not there. */
bool summary_part(const struct summary_file *s, size_t row, const char *name, struct buf *path);

#define MAX_STAGE 24

struct stage_line { char name[24]; double busy_s, share, usd; };
struct stages { struct stage_line line[MAX_STAGE]; size_t n; };

void stages_read(struct stages *s, const char *path);          /* those that were busy and have a share */

/* Sorted; what has no value is left out. */
struct latencies { struct series ttft, tpot, e2el; };

void latencies_read(struct latencies *l, const char *path);
void latencies_free(struct latencies *l);
double latency_at(const struct series *s, double p);           /* nearest rank; NaN: too few to say (results/README.md) */

struct steps { struct series start_s, time_ms, sequences, prefill, decode, kv; };      /* kv: share of the blocks in % */

void steps_read(struct steps *s, const char *path);
void steps_free(struct steps *s);

/* Figures with the sentence below; each stands for itself, and as a table in Markdown. */
void figure_curve(struct page *p, const struct summary_file *s);
void figure_stages(struct page *p, const struct stages *s);
void figure_latencies(struct page *p, const struct latencies *l);
void figure_steps(struct page *p, const struct steps *s);
void figure_roofline(struct page *p, const struct summary_file *s, struct buf *missing);    /* missing: gets a sentence where there is no figure */

/* The change of a metric against the baseline; higher: more of it is better. */
struct change { const char *name; bool higher; double old, now; };
void figure_changes(struct page *p, const struct change *changes, size_t n, const char *reads);

/* Numbers for people; "-" for what is not known.  The text lives until the 16th next call. */
const char *show_number(double v);
const char *show_ms(double ms);                /* "12.3 ms", "4.2 s" */
const char *show_percent(double share);        /* 0.123: "12.3 %" */
const char *show_si(double v, const char *unit);        /* 3e12, "B/s": "3 TB/s" */
const char *show_usd(double usd);              /* "0.0021" */
const char *show(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
