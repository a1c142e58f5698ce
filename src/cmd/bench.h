/* bench.h - what the files of tokmill bench share: bench.c has the options and decides what runs, bench_run.c runs one
 * benchmark, bench_rows.c keeps and shows what came of them, bench_emit.c and bench_mlperf.c write
 * it in the files of others. */
#ifndef CMD_BENCH_H
#define CMD_BENCH_H

#include "base/buf.h"
#include "cmd/pace.h"
#include "cmd/session.h"
#include "plan/slo.h"
#include "plan/workload.h"

struct bench_opts {
    struct session_opts session;
    const char *replay, *input_len, *output_len, *arrivals, *slo, *sweep, *ab, *results, *emit;
    int64_t num_requests, prefix_len, prefix_count, concurrency, repeat, warmup;
    int scenario, count_from, format, csv_dialect, log_level;
    double rate, precision, probe_s;
    bool find_max, allow_invalid, quiet, ceilings, trace;
};

/* bench_run.c: one benchmark after the other on one session. */
struct bench {
    struct session session;
    struct session_opts opened;        /* what the engine was opened with */
    char **corpora; int n_corpus;
    struct meter meter;
};

/* What runs, as the options say it. */
struct load {
    struct bench_opts *opts;
    enum scenario scenario;
    struct workload_config workload;
    struct arrivals_config arrivals;
    struct slo slo;
    bool corpus;                       /* the requests are the corpora's, not the workload's */
    char arrivals_text[64];
    unsigned emit;
};

void load_make(struct load *l, struct bench_opts *o, bool corpus);     /* what is wrong with the options ends the program */

/* Runs it; the files go to the folder, NULL: nowhere.  The summary points into itself and into the options. */
void bench_run(struct bench *b, struct load *l, const char *point, uint64_t repetition, const char *folder, struct summary *s);

/* bench_rows.c: the summaries so far, as text. */
struct bench_rows {
    struct buf header;                 /* of summary.csv */
    char separator;
    struct bench_row { char *csv, *json, **cells; } *row;
    size_t n, room, n_column;
    char **names;                      /* [n_column] */
};

void bench_rows_init(struct bench_rows *r);
void bench_rows_free(struct bench_rows *r);
void bench_rows_add(struct bench_rows *r, const struct summary *s);
int  bench_rows_read(struct bench_rows *r, const char *folder);        /* adds what the folder of a run has: 1; 0: it has none; -1: err_text() */
const char *bench_rows_cell(const struct bench_rows *r, size_t row, const char *column);
int  bench_rows_write(const struct bench_rows *r, const char *folder); /* summary.csv; 0, or -1: err_text() */

/* bench_ab.c: both sides in turn into the folder's a/ and b/, then what compare says.  The exit status.  argv: the command line
 * without --ab and its two texts. */
int bench_ab(const struct bench_opts *o, char *const texts[2], const char *folder, int argc, char **argv);

enum bench_format { BENCH_TABLE, BENCH_MD, BENCH_CSV, BENCH_JSON, BENCH_JSONL };
void bench_rows_print(const struct bench_rows *r, enum bench_format f);

/* bench_emit.c: --emit. */
enum { EMIT_VLLM = 1, EMIT_LLAMA_BENCH = 2, EMIT_MLPERF = 4 };
unsigned bench_emit_parse(const struct load *l);       /* of the options; what is wrong with them ends the program */
int      bench_emit(const struct summary *s, const struct meter *m, const struct load *l, const char *folder);     /* a run: 0, or -1: err_text() */
int      bench_emit_mlperf(const struct summary *s, const struct meter *m, const struct load *l, const char *folder);      /* bench_mlperf.c; nothing, where no request was done */
int      bench_emit_write(const char *folder, const char *name, struct buf *text);         /* frees the text: 0, or -1: err_text() */
int      bench_emit_rows(const struct bench_rows *r, unsigned emit, const char *folder);   /* all of them, a point at a time: 0, or -1: err_text() */

#endif
