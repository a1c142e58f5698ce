/* The summaries of the shards' runs as one.  A shard that was tried more than once has a folder for each try; a try that was killed
 * left no summary, and is only counted. */
#define _GNU_SOURCE             /* scandir, strptime, timegm */
#include <dirent.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cache.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/merge.h"
#include "cmd/shard.h"
#include "data/csv.h"
#include "data/table.h"

enum text { VERSION, MODEL, FAMILY, DEVICE, DEVICE_TEXT, COMPUTE, WEIGHT_DTYPE, KV_DTYPE, CORPUS, N_TEXT };    /* told where all runs agree */
enum sum { LINES, DONE, FAILED, INPUT, CACHED, RECOMPUTED, OUTPUT, TOTAL, SCORED, MATCHED, USD, ENERGY, N_SUM };

struct whole {
    struct arena arena;
    const char *text[N_TEXT];
    double sum[N_SUM];                                 /* NaN: a run does not have it */
    uint32_t n_shard, n_run, n_lost, n_invalid;        /* lost: tries without a summary */
    double first_s, last_s;                            /* of all runs, Unix time */
    double wall_s, machine_s, output_per_s, total_per_s, requests_per_s, total_per_machine_s, usd_per_mtok, score;
    const char *validity;
};

#define TEXT(name, i)  {name, COLUMN_TEXT, offsetof(struct whole, text) + i * sizeof(const char *)}
#define SUM(name, i)   {name, COLUMN_REAL, offsetof(struct whole, sum) + i * sizeof(double)}
#define AT(name, kind, field) {name, kind, offsetof(struct whole, field)}

enum { FIRST_TEXT = 0, FIRST_SUM = N_TEXT };           /* of those that are read from each run's summary, by the same name */

static const struct column whole_columns[] = {
    TEXT("tokmill_version", VERSION), TEXT("model", MODEL), TEXT("family", FAMILY), TEXT("device", DEVICE), TEXT("device_text", DEVICE_TEXT),
    TEXT("compute", COMPUTE), TEXT("weight_dtype", WEIGHT_DTYPE), TEXT("kv_dtype", KV_DTYPE), TEXT("corpus", CORPUS),
    SUM("lines", LINES), SUM("done", DONE), SUM("failed", FAILED), SUM("input_tokens", INPUT), SUM("cached_tokens", CACHED),
    SUM("recomputed_tokens", RECOMPUTED), SUM("output_tokens", OUTPUT), SUM("total_tokens", TOTAL), SUM("scored", SCORED), SUM("matched", MATCHED),
    SUM("usd", USD), SUM("energy_j", ENERGY),
    AT("shards", COLUMN_U32, n_shard), AT("runs", COLUMN_U32, n_run), AT("runs_lost", COLUMN_U32, n_lost), AT("runs_invalid", COLUMN_U32, n_invalid),
    AT("wall_s", COLUMN_REAL, wall_s), AT("machine_s", COLUMN_REAL, machine_s),
    AT("output_tokens_per_s", COLUMN_REAL, output_per_s), AT("total_tokens_per_s", COLUMN_REAL, total_per_s), AT("requests_per_s", COLUMN_REAL, requests_per_s),
    AT("total_tokens_per_machine_s", COLUMN_REAL, total_per_machine_s), AT("usd_per_mtok", COLUMN_REAL, usd_per_mtok), AT("score", COLUMN_REAL, score),
    AT("validity", COLUMN_TEXT, validity), {0},
};

/* ---- reading ---- */

static const char *cell(const struct csv *c, const char *name)
{
    return csv_text(c, csv_find(c, name));
}

static void add_texts(struct whole *w, const struct csv *c)
{
    for (size_t i = 0; i < N_TEXT; i++) {
        const char *text = cell(c, whole_columns[FIRST_TEXT + i].name);
        if (!w->n_run)
            w->text[i] = arena_dup(&w->arena, text, strlen(text));
        else if (w->text[i] && strcmp(w->text[i], text) != 0)
            w->text[i] = NULL;
    }
}

static double number(const struct csv *c, const char *name)
{
    double x;
    if (csv_number(c, csv_find(c, name), &x))
        die("merge: %s", err_text());
    return x;
}

/* The run's end is when its summary was made, on its machine's clock. */
static void add_times(struct whole *w, const struct csv *c, const char *path)
{
    struct tm utc = {0};
    double wall_s = number(c, "wall_s"), end_s;
    if (!strptime(cell(c, "date_utc"), "%Y-%m-%dT%H:%M:%S", &utc))
        die("merge: %s: date_utc: \"%s\" is not a time", path, cell(c, "date_utc"));
    wall_s = isfinite(wall_s) ? wall_s : 0;
    end_s = (double)timegm(&utc);
    w->machine_s += wall_s;
    w->wall_s = fmax(w->wall_s, wall_s);               /* the clock above knows whole seconds */
    w->first_s = w->n_run ? fmin(w->first_s, end_s - wall_s) : end_s - wall_s;
    w->last_s = w->n_run ? fmax(w->last_s, end_s) : end_s;
}

static void add_run(struct whole *w, const char *path)
{
    struct csv *c = csv_open(path);
    int rc = c ? csv_next(c) : -1;
    if (rc < 0)
        die("merge: %s", err_text());
    if (!rc)
        die("merge: %s has no row", path);
    add_texts(w, c);
    add_times(w, c, path);
    for (size_t i = 0; i < N_SUM; i++)
        w->sum[i] += number(c, whole_columns[FIRST_SUM + i].name);
    w->n_invalid += strcmp(cell(c, "validity"), "VALID") != 0;
    w->n_run++;
    if (csv_next(c))
        die("merge: %s has more than one row", path);
    csv_close(c);
}

/* "00003-of-00008", and "00003-of-00008-1" of a further try. */
static bool is_of(const char *name, uint32_t n_shard)
{
    uint32_t k, n;
    int len = 0;
    return sscanf(name, "%5u-of-%5u%n", &k, &n, &len) == 2 && n == n_shard && k < n && (!name[len] || name[len] == '-');
}

static void add_folder(struct whole *w, const char *folder)
{
    struct dirent **files;
    int n = scandir(folder, &files, NULL, alphasort);
    if (n < 0)
        die("merge: --results: cannot read the folder \"%s\"", folder);
    for (int i = 0; i < n; i++) {
        struct buf path = {0};
        buf_printf(&path, "%s/%s/summary.csv", folder, files[i]->d_name);
        if (is_of(files[i]->d_name, w->n_shard) && access(path.data, R_OK) == 0)
            add_run(w, path.data);
        else
            w->n_lost += is_of(files[i]->d_name, w->n_shard);
        buf_free(&path);
        free(files[i]);
    }
    free(files);
}

/* ---- the whole ---- */

static double ratio(double a, double b)
{
    return b > 0 ? a / b : (double)NAN;
}

static void make_rates(struct whole *w)
{
    w->wall_s = fmax(w->wall_s, w->last_s - w->first_s);
    w->output_per_s = ratio(w->sum[OUTPUT], w->wall_s);
    w->total_per_s = ratio(w->sum[TOTAL], w->wall_s);
    w->requests_per_s = ratio(w->sum[DONE], w->wall_s);
    w->total_per_machine_s = ratio(w->sum[TOTAL], w->machine_s);
    w->usd_per_mtok = ratio(w->sum[USD] * 1e6, w->sum[TOTAL]);
    w->score = ratio(w->sum[MATCHED], w->sum[SCORED]);
    w->validity = w->n_invalid || w->n_lost ? "INVALID" : "VALID";
}

static void write_file(const char *folder, const char *name, const struct buf *text)
{
    struct buf path = {0};
    buf_printf(&path, "%s/%s", folder, name);
    if (cache_write(path.data, text->data, text->len))
        die("merge: %s", err_text());
    buf_free(&path);
}

static void write_whole(const struct whole *w, const char *folder)
{
    struct buf csv = {0}, json = {0};
    table_csv_header(&csv, whole_columns);
    table_csv_row(&csv, whole_columns, w);
    table_json_object(&json, whole_columns, w);
    buf_putc(&json, '\n');
    write_file(folder, "summary.csv", &csv);
    write_file(folder, "summary.json", &json);
    buf_free(&csv);
    buf_free(&json);
}

void merge_results(const char *folder, uint32_t n_shard)
{
    struct whole w = { .n_shard = n_shard };
    add_folder(&w, folder);
    if (!w.n_run)
        die("merge: --results: \"%s\" has no summary of one of %u shards", folder, n_shard);
    make_rates(&w);
    write_whole(&w, folder);
    log_info("%u runs%s: %.0f total tokens in %.1f s, %.1f machine seconds; %s/summary.csv", w.n_run, w.n_lost ? " with a summary" : "", w.sum[TOTAL],
             w.wall_s, w.machine_s, folder);
    if (w.n_lost)
        log_warn("runs without a summary (killed): %u; their time and money are not in the sums", w.n_lost);
    arena_free(&w.arena);
}
