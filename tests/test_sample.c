/* Sampling against a sort and a softmax in float64: which tokens the filters leave, which of them is picked, how often,
 * and logprobs; on every instruction set that the machine has, with 1, 2 and 3 threads, to the same bits.
 *
 * With --perf: the speed of a row at the vocabulary of Qwen3. */
#include "tests/cases_sample.h"
#include "tests/devices.h"

static void statistics_here(struct device *d)
{
    statistics_of(d, 30000);
}

/* Few rows and many columns, so that the columns are shared out: the same tokens and the same bits as alone. */
static void sameness_test(void **state)
{
    (void)state;
    enum { N = 30011, ROWS = 4 };
    struct logits l = logits_new(ROWS, N);
    struct sample_row rows[ROWS];
    struct sampled first = sampled_new(ROWS), s = sampled_new(ROWS);
    struct rng r;
    rng_init(&r, 24);
    for (int round = 0; round < 5; round++) {
        logits_random(&l, &r);
        for (int i = 0; i < ROWS; i++) {
            rows[i] = row_random(&r, N);
            rows[i].n_top = 8 * i - 1;
        }
        for (int k = 0; k < MOST_THREADS * ((int)best_tier + 1); k++) {
            struct device *d = devices[k % MOST_THREADS];
            struct logits part = l;
            cpu_of(d)->tier = (enum cpu_tier)(k / MOST_THREADS);
            part.t.rows = part.n_row = k == 2 ? 2 : ROWS;       /* fewer than threads */
            sample_run(d, &part, rows, NULL, 0.5f, 3, k ? &s : &first);
            struct sampled *now = k ? &s : &first;
            assert_memory_equal(now->ids, first.ids, part.n_row * 4);
            assert_memory_equal(now->logprobs + 1, first.logprobs + 1, (part.n_row - 1) * 4);
            assert_memory_equal(now->top_ids, first.top_ids, part.n_row * MOST_TOP * 4);
            assert_memory_equal(now->top_logprobs, first.top_logprobs, part.n_row * MOST_TOP * 4);
        }
    }
    sampled_free(&first);
    sampled_free(&s);
    logits_free(&l);
}

/* ---- speed ---- */

enum { VOCAB = 151936 };

static void perf_sample(struct device *d, struct rng *r, const char *name, float spread, struct sample_row row)
{
    struct tensor l = tensor_random(r, 16, VOCAB, DTYPE_F32);
    struct sampled s = sampled_new(16);
    struct sample_row rows[16];
    for (size_t i = 0; i < 16; i++)
        rows[i] = row;
    for (size_t i = 0; i < (size_t)16 * VOCAB; i++)
        ((float *)l.data)[i] *= spread;
    TIME(name, tensor_size(&l), 0,
         d->ops->sample(d, &(struct sample){ .logits = l, .logit_scale = 1, .rows = rows, .max_top = MOST_TOP, .ids = s.ids,
                                             .logprobs = s.logprobs, .top_ids = s.top_ids, .top_logprobs = s.top_logprobs }));
    free(l.data);
    sampled_free(&s);
}

static void speed(struct device *d)
{
    struct rng r;
    rng_init(&r, 40);
    perf_sample(d, &r, "sample 16 x 151936: greedy", 3, (struct sample_row){ .top_p = 1, .n_top = -1 });
    perf_sample(d, &r, "  temperature 1", 3, (struct sample_row){ .temperature = 1, .top_p = 1, .n_top = -1 });
    perf_sample(d, &r, "  top_k 20, top_p 0.95", 3, (struct sample_row){ .temperature = 1, .top_p = 0.95f, .top_k = 20, .n_top = -1 });
    perf_sample(d, &r, "  top_p 0.95", 3, (struct sample_row){ .temperature = 1, .top_p = 0.95f, .n_top = -1 });
    perf_sample(d, &r, "  top_p 0.95, flat", 0.1f, (struct sample_row){ .temperature = 1, .top_p = 0.95f, .n_top = -1 });
    perf_sample(d, &r, "  min_p 0.05", 3, (struct sample_row){ .temperature = 1, .top_p = 1, .min_p = 0.05f, .n_top = -1 });
    perf_sample(d, &r, "  greedy with 20 logprobs", 3, (struct sample_row){ .top_p = 1, .n_top = 20 });
}

EVERYWHERE(greedy)
EVERYWHERE(filter)
EVERYWHERE(logprob)
EVERYWHERE(statistics)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_test), cmocka_unit_test(filter_test), cmocka_unit_test(logprob_test),
        cmocka_unit_test(statistics_test), cmocka_unit_test(sameness_test),
    };
    devices_open();
    int failed = asked_for_speed(argc, argv, speed) ? 0 : cmocka_run_group_tests(tests, NULL, NULL);
    devices_close();
    return failed;
}
