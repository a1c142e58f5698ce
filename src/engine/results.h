/* results.h - the result files of a run, made from a meter: stages.csv, summary.csv, summary.json, and the table for
 * people.  The definition of every column: results/README.md. */
#ifndef ENGINE_RESULTS_H
#define ENGINE_RESULTS_H

#include <stdio.h>

#include "base/buf.h"
#include "engine/meter.h"

/* What the run was: given by the command. */
struct run_facts {
    const char *model, *family, *device, *device_text, *compute, *weight_dtype, *kv_dtype, *corpus, *order;
    double   price_usd_per_h;          /* NaN: none known */
    const char *price_source;
    double   load_s, warmup_s;
    double   load_bytes_per_s;         /* of the weights as they lie in the file; NaN: they are random */
    int64_t  end_ns;                   /* clock when the last row was durable */
    bool     interrupted, deterministic;
    uint64_t n_param, weight_bytes, kv_bytes, kv_blocks, block_size, max_seqs, max_step_tokens, threads;
    uint64_t max_rss_bytes;            /* before the peaks were measured */
    double   peak_flops, peak_bandwidth;       /* measured; NaN: not */
    struct gauge_sums gauge;                   /* of the device while the run lasted */
    bool     async;                            /* the device runs beside the host */
    /* of bench; NULL, NaN and 0 where they have no meaning */
    const char *scenario, *arrivals, *input_len, *output_len, *point, *slo;
    double   rate_rps;
    uint64_t concurrency, repetition, n_late;
    double   late_max_ms;
    bool     unshared;                         /* no two prompts of the workload begin alike */
};

struct stage_row {
    const char *stage; uint64_t items, tokens;
    double busy_s, share, tokens_per_s, tokens_per_s_per_usd, usd, p50_ms, p90_ms, p99_ms;
};

enum { MOST_SUMMARY_TEXT = 1024 };        /* room for every rule of validity at once */

struct summary {
    const char *tokmill_version, *date_utc, *validity, *validity_rules;
    struct run_facts facts;
    uint64_t lines, done, failed;
    double wall_s, drain_s;
    uint64_t input_tokens, cached_tokens, recomputed_tokens, output_tokens, total_tokens;
    double output_tokens_per_s, total_tokens_per_s, requests_per_s, tokens_per_s_per_usd, usd, usd_per_mtok;
    double usd_per_mtok_input, usd_per_mtok_output, usd_per_mtok_cached_input;
    double ttft_mean_ms, ttft_p50_ms, ttft_p90_ms, ttft_p99_ms, tpot_mean_ms, tpot_p50_ms, tpot_p90_ms, tpot_p99_ms;
    double itl_p50_ms, itl_p90_ms, itl_p99_ms, e2el_mean_ms, e2el_p50_ms, e2el_p90_ms, e2el_p99_ms, queue_p50_ms, queue_p99_ms;
    uint64_t steps, preemptions, kv_blocks_used_max, scored, matched;
    double score, mfu, mbu, device_busy, goodput_rps;
    uint64_t drifted;
    const char *slo_kept;              /* "yes", "no"; NULL: no SLO, or too few requests to tell; bench fills it in */
    struct stage_row stages[N_STAGE];
    const char *throttle_reasons;
    char text[3][MOST_SUMMARY_TEXT];   /* what date_utc, validity_rules and throttle_reasons point to */
};

/* Works the numbers out; sorts the meter's series. */
void results_make(struct summary *s, struct meter *m, const struct run_facts *facts);

/* Writes stages.csv, summary.csv and summary.json into the folder.  0, or -1: err_text(). */
int  results_write(const struct summary *s, const char *folder);
int  results_write_file(const char *folder, const char *name, const struct buf *text);     /* one more file of it; the same */
void results_put_csv_header(struct buf *b);
void results_put_csv(struct buf *b, const struct summary *s);          /* a row of summary.csv, its end of line included */
void results_put_json(struct buf *b, const struct summary *s);         /* as in summary.json, with the end of line */

/* The table of stages and the lines below it, for people. */
void results_print(const struct summary *s, FILE *to);

#endif
