/* Traces of every format: arrivals never go back, lengths are within limits, texts are there where there are no lengths. */
#include "tests/fuzz/fuzz.h"

#include <math.h>

#include "data/trace.h"

static void check_row(const struct trace *t, const struct trace_row *row, double before)
{
    if (trace_has_text(t))
        CHECK(row->prompt && row->prompt_len && row->answer && row->answer_len && !row->n_input && !row->n_output);
    else
        CHECK(row->n_input - 1 < TRACE_MAX_TOKENS && row->n_output - 1 < TRACE_MAX_TOKENS && !row->prompt);
    CHECK(trace_has_arrivals(t) ? isfinite(row->arrival_s) && row->arrival_s >= before : isnan(row->arrival_s));
    CHECK(row->n_hash <= (row->n_input + TRACE_BLOCK - 1) / TRACE_BLOCK);
    fuzz_touch(row->hash_ids, row->n_hash * sizeof *row->hash_ids);
    fuzz_touch(row->prompt, row->prompt_len);
    fuzz_touch(row->answer, row->answer_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct trace *t = trace_open(fuzz_file(data, size));
    struct trace_row row;
    double before = 0;
    int rc = 0;
    if (!t) {
        fuzz_said_why();
        return 0;
    }
    CHECK(trace_format(t)[0]);
    while ((rc = trace_next(t, &row)) > 0) {
        check_row(t, &row, before);
        before = row.arrival_s;
    }
    if (rc < 0)
        fuzz_said_why();
    CHECK(rc < 0 || trace_next(t, &row) == 0);
    trace_close(t);
    return 0;
}
