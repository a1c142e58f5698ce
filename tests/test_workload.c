/* The requests of a benchmark: exact lengths, their distributions, which ids, what is shared, and traces made into prompts. */
#define _GNU_SOURCE         /* mkdtemp */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/map.h"
#include "base/mem.h"
#include "data/trace.h"
#include "model/config.h"       /* a tokenizer whose tokens are bytes */
#include "plan/workload.h"
#include "tests/fit.h"

#define TRACES "../shared/material/4-traces-prompts/traces/"

static struct lengths parse(const char *text)
{
    struct lengths l;
    if (lengths_parse(&l, text))
        fail_msg("%s", err_text());
    return l;
}

static struct workload_config config(const char *input, const char *output)
{
    return (struct workload_config){ .n_vocab = 1000, .input = parse(input), .output = parse(output) };
}

static struct workload *open_workload(const struct workload_config *c)
{
    struct workload *w = workload_open(c);
    if (!w)
        fail_msg("%s", err_text());
    return w;
}

/* ---- lengths ---- */

static void test_parse(void **state)
{
    (void)state;
    struct lengths l = parse("128");
    assert_true(!l.normal && l.low == 128 && l.high == 128);
    l = parse("64..256");
    assert_true(!l.normal && l.low == 64 && l.high == 256);
    l = parse("1..16777216");
    assert_true(l.low == 1 && l.high == TRACE_MAX_TOKENS);
    l = parse("normal(128,32.5)");
    assert_true(l.normal && l.mean == 128 && l.deviation == 32.5);
    static const char *const bad[] = {
        "", "0", "-1", "1.5", "16777217", "99999999999999999999", "x", "12x", "1..", "..5", "5..4", "0..4", "1...4", "1..2..3", "normal", "normal(",
        "normal()", "normal(5)", "normal(5,)", "normal(,5)", "normal(5,1", "normal(5,1)x", "normal(0,1)", "normal(5,-1)", "normal(nan,1)", "normal(5,inf)",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char want[200];
        snprintf(want, sizeof want, "\"%s\" is no length: write tokens (128), a range (64..256) or normal(MEAN,DEVIATION) (normal(128,32)), "
                                    "from 1 to 16777216", bad[i]);
        assert_int_equal(lengths_parse(&l, bad[i]), -1);
        assert_string_equal(err_text(), want);
    }
}

enum { N = 20000, MAX_LENGTH = 400 };

/* How often each length comes among N requests, of the prompt and of the answer. */
static void count_lengths(const struct workload_config *c, uint32_t *input, uint32_t *output)
{
    struct workload *w = open_workload(c);
    struct workload_request r = {0};
    memset(input, 0, MAX_LENGTH * sizeof *input);
    memset(output, 0, MAX_LENGTH * sizeof *output);
    for (int i = 0; i < N; i++) {
        assert_int_equal(workload_next(w, &r), 1);
        assert_true(r.n_prompt && r.n_prompt < MAX_LENGTH && r.n_output && r.n_output < MAX_LENGTH);
        assert_true(isnan(r.arrival_s));
        input[r.n_prompt]++;
        output[r.n_output]++;
    }
    free(r.prompt_ids);
    workload_close(w);
}

static void test_exact(void **state)
{
    (void)state;
    static uint32_t input[MAX_LENGTH], output[MAX_LENGTH];
    struct workload_config c = config("17", "normal(3,0)");
    count_lengths(&c, input, output);
    assert_true(input[17] == N && output[3] == N);
    c.prefix_len = 100;
    c.prefix_count = 3;
    count_lengths(&c, input, output);
    assert_true(input[117] == N && output[3] == N);
}

static void uniform_shares(double *share, uint32_t low, uint32_t high)
{
    memset(share, 0, MAX_LENGTH * sizeof *share);
    for (uint32_t i = low; i <= high; i++)
        share[i] = 1.0 / (high - low + 1);
}

/* A normal variable rounded to the nearest; what is below 1 is 1. */
static void normal_shares(double *share, double mean, double deviation)
{
    double below = 0;
    memset(share, 0, MAX_LENGTH * sizeof *share);
    for (uint32_t i = 1; i < MAX_LENGTH; i++) {
        double up_to = erfc((mean - i - 0.5) / deviation / sqrt(2)) / 2;
        share[i] = up_to - below;
        below = up_to;
    }
}

static void test_uniform(void **state)
{
    (void)state;
    static uint32_t input[MAX_LENGTH], output[MAX_LENGTH];
    static double share[MAX_LENGTH];
    struct workload_config c = config("10..12", "1..399");
    for (c.seed = 0; c.seed < 5; c.seed++) {
        count_lengths(&c, input, output);
        assert_int_equal(input[10] + input[11] + input[12], N);
        uniform_shares(share, 10, 12);
        assert_true(chi_distance(input, share, MAX_LENGTH) < CHI_FAR);
        uniform_shares(share, 1, 399);
        assert_true(chi_distance(output, share, MAX_LENGTH) < CHI_FAR);
        assert_true(output[1] && output[399]);
        uniform_shares(share, 1, 380);
        assert_true(chi_distance(output, share, MAX_LENGTH) > CHI_FAR);
    }
}

static void test_normal(void **state)
{
    (void)state;
    static uint32_t input[MAX_LENGTH], output[MAX_LENGTH];
    static double share[MAX_LENGTH];
    struct workload_config c = config("normal(128.3,32)", "normal(3,2)");
    for (c.seed = 0; c.seed < 5; c.seed++) {
        count_lengths(&c, input, output);
        normal_shares(share, 128.3, 32);
        assert_true(chi_distance(input, share, MAX_LENGTH) < CHI_FAR);
        normal_shares(share, 128.3, 30);
        assert_true(chi_distance(input, share, MAX_LENGTH) > CHI_FAR);
        normal_shares(share, 3, 2);
        assert_true(chi_distance(output, share, MAX_LENGTH) < CHI_FAR);
        normal_shares(share, 3.5, 2);               /* were it cut off and not rounded */
        assert_true(chi_distance(output, share, MAX_LENGTH) > CHI_FAR);
    }
}

/* The length of the answer has nothing to do with that of the prompt: all pairs are equally likely. */
static void test_pairs(void **state)
{
    (void)state;
    uint32_t count[16] = {0};
    double share[16];
    struct workload_config c = config("1..4", "1..4");
    struct workload *w = open_workload(&c);
    struct workload_request r = {0};
    for (int i = 0; i < 4000; i++) {
        workload_next(w, &r);
        count[(r.n_prompt - 1) * 4 + r.n_output - 1]++;
    }
    for (int i = 0; i < 16; i++)
        share[i] = 1 / 16.0;
    assert_true(chi_distance(count, share, 16) < CHI_FAR);
    free(r.prompt_ids);
    workload_close(w);
}

/* ---- ids ---- */

static void test_ids(void **state)
{
    (void)state;
    static const int32_t special[] = { 39, 0, 7, -1, 7, 40, 1000000, 8 };
    uint32_t count[40] = {0};
    double share[40];
    struct workload_config c = config("1..64", "1");
    c.n_vocab = 40;
    c.special_ids = special;
    c.n_special = sizeof special / sizeof *special;
    struct workload *w = open_workload(&c);
    struct workload_request r = {0};
    for (int i = 0; i < 2000 && workload_next(w, &r); i++)
        for (uint32_t k = 0; k < r.n_prompt; k++) {
            assert_in_range(r.prompt_ids[k], 1, 38);
            count[r.prompt_ids[k]]++;
        }
    assert_int_equal(count[7] + count[8], 0);
    for (int id = 0; id < 40; id++)
        share[id] = id == 0 || id == 7 || id == 8 || id == 39 ? 0 : 1 / 36.0;
    assert_true(chi_distance(count, share, 40) < CHI_FAR);
    free(r.prompt_ids);
    workload_close(w);
}

/* The i-th request depends on the seed and i alone: not on the lengths of others, nor on what else is drawn between. */
static void test_order(void **state)
{
    (void)state;
    struct workload_config c = config("1..50", "1..50"), longer = config("60", "1..50"), other = c;
    other.seed = 1;
    struct workload *a = open_workload(&c), *b = open_workload(&longer), *d = open_workload(&other);
    struct workload_request ra = {0}, rb = {0}, rd = {0}, again = {0};
    int32_t before[60] = {0};
    for (int i = 0; i < 500; i++) {
        workload_next(a, &ra);
        workload_next(b, &rb);
        workload_next(d, &rd);
        assert_int_equal(ra.n_output, rb.n_output);
        assert_memory_equal(ra.prompt_ids, rb.prompt_ids, ra.n_prompt * sizeof *ra.prompt_ids);
        assert_memory_not_equal(rb.prompt_ids, before, sizeof before);
        memcpy(before, rb.prompt_ids, sizeof before);
        if (ra.n_prompt > 10 && rd.n_prompt > 10)
            assert_memory_not_equal(ra.prompt_ids, rd.prompt_ids, 10 * sizeof *ra.prompt_ids);
    }
    workload_close(b);
    b = open_workload(&c);
    for (int i = 0; i < 500; i++)
        workload_next(b, &again);
    assert_int_equal(again.n_prompt, ra.n_prompt);
    assert_memory_equal(again.prompt_ids, ra.prompt_ids, ra.n_prompt * sizeof *ra.prompt_ids);
    workload_close(a);
    workload_close(b);
    workload_close(d);
    free(ra.prompt_ids);
    free(rb.prompt_ids);
    free(rd.prompt_ids);
    free(again.prompt_ids);
}

/* So many prefixes and no more, about equally often, and nothing else in common. */
static void test_prefixes(void **state)
{
    (void)state;
    enum { LEN = 33, COUNT = 5 };
    static int32_t prefix[COUNT][LEN];
    uint32_t used[COUNT] = {0}, n = 0, which;
    double share[COUNT];
    struct workload_config c = config("8..16", "1");
    c.prefix_len = LEN;
    c.prefix_count = COUNT;
    struct workload *w = open_workload(&c);
    struct workload_request r = {0};
    struct map tails = {0};
    struct arena keys = {0};
    for (int i = 0; i < 2000; i++) {
        workload_next(w, &r);
        assert_in_range(r.n_prompt, LEN + 8, LEN + 16);
        for (which = 0; which < n && memcmp(prefix[which], r.prompt_ids, sizeof *prefix); which++)
            ;
        assert_true(which < COUNT);
        if (which == n)
            memcpy(prefix[n++], r.prompt_ids, sizeof *prefix);
        used[which]++;
        assert_true(map_put(&tails, arena_dup(&keys, (const char *)(r.prompt_ids + LEN), 8 * sizeof *r.prompt_ids), 8 * sizeof *r.prompt_ids, 0));
    }
    for (int i = 0; i < COUNT; i++)
        share[i] = 1.0 / COUNT;
    assert_int_equal(n, COUNT);
    assert_true(chi_distance(used, share, COUNT) < CHI_FAR);
    for (int i = 0; i < COUNT; i++)     /* nor are two prefixes the same, or a prefix what another request goes on with */
        assert_true(map_put(&tails, (const char *)prefix[i], 8 * sizeof **prefix, 0));
    map_free(&tails);
    arena_free(&keys);
    free(r.prompt_ids);
    workload_close(w);
}

/* ---- traces ---- */

static char trace_path[] = "/tmp/tokmill-workload-XXXXXX";

static void put_trace(const char *text)
{
    FILE *f = fopen(trace_path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(trace_path);
    return fd < 0 ? -1 : close(fd);
}

static int drop_file(void **state)
{
    (void)state;
    return unlink(trace_path);
}

static void test_csv(void **state)
{
    (void)state;
    struct workload_config c = { .n_vocab = 1000, .trace = trace_path };
    struct workload_request r = {0};
    put_trace("arrived_at,num_prefill_tokens,num_decode_tokens\n5,30,4\n4,0,1\n4.5,7,8\n6.5,1,1\nx,1,1\n");
    struct workload *w = open_workload(&c);
    static const struct { uint32_t n_prompt, n_output; double arrival_s; } want[] = { { 30, 4, 0 }, { 7, 8, 0 }, { 1, 1, 1.5 } };
    assert_true(workload_has_arrivals(w));
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(workload_next(w, &r), 1);
        assert_true(r.n_prompt == want[i].n_prompt && r.n_output == want[i].n_output && r.arrival_s == want[i].arrival_s);
    }
    assert_int_equal(workload_next(w, &r), -1);
    assert_non_null(strstr(err_text(), ": line 6: arrived_at is \"x\""));
    assert_true(workload_counts(w).n_dropped == 1 && workload_counts(w).n_late == 1);
    workload_close(w);

    put_trace("TIMESTAMP,ContextTokens,GeneratedTokens\nXXX,3,2\n");
    w = open_workload(&c);
    assert_false(workload_has_arrivals(w));
    assert_int_equal(workload_next(w, &r), 1);
    assert_true(r.n_prompt == 3 && r.n_output == 2 && isnan(r.arrival_s));
    assert_int_equal(workload_next(w, &r), 0);
    workload_close(w);
    free(r.prompt_ids);
}

/* Which of the ids' blocks are the same; what no hash id covers is the request's own. */
static void test_hash_ids(void **state)
{
    (void)state;
    put_trace("{\"timestamp\": 0, \"input_length\": 1400, \"output_length\": 1, \"hash_ids\": [5, 3, 7]}\n"
              "{\"timestamp\": 0, \"input_length\": 1400, \"output_length\": 1, \"hash_ids\": [5, 3, 8]}\n"
              "{\"timestamp\": 0, \"input_length\": 700, \"output_length\": 1, \"hash_ids\": [7, 3]}\n"
              "{\"timestamp\": 0, \"input_length\": 1400, \"output_length\": 1, \"hash_ids\": [5]}\n"
              "{\"timestamp\": 0, \"input_length\": 1400, \"output_length\": 1, \"hash_ids\": [5]}\n");
    struct workload_config c = { .n_vocab = 1000, .trace = trace_path };
    struct workload *w = open_workload(&c);
    struct workload_request r[5] = {0};
    enum { BLOCK = TRACE_BLOCK * sizeof(int32_t) };
    for (int i = 0; i < 5; i++)
        assert_int_equal(workload_next(w, &r[i]), 1);
    int32_t *a = r[0].prompt_ids, *b = r[1].prompt_ids, *d = r[2].prompt_ids;
    assert_memory_equal(a, b, 2 * BLOCK);
    assert_memory_not_equal(a, a + 512, BLOCK);
    assert_memory_not_equal(a + 1024, b + 1024, 16);
    assert_memory_equal(d, a + 1024, (1400 - 1024) * sizeof *a);        /* block 7, short there */
    assert_memory_equal(d + 512, a + 512, (700 - 512) * sizeof *a);
    assert_memory_equal(r[3].prompt_ids, r[4].prompt_ids, BLOCK);
    assert_memory_not_equal(r[3].prompt_ids + 512, a + 512, 16);        /* request 3 is not block 3 */
    for (int at = 512; at < 1400; at += 100)
        assert_memory_not_equal(r[3].prompt_ids + at, r[4].prompt_ids + at, 16);
    for (int i = 0; i < 5; i++)
        free(r[i].prompt_ids);
    workload_close(w);
}

struct blocks_seen { struct map chains; struct arena keys; uint64_t n_block, n_hit; };

/* Blocks of 512 ids that an earlier prompt had with the same ids before them. */
static void count_blocks(struct blocks_seen *seen, const struct workload_request *r)
{
    uint64_t chain = 0;
    bool leading = true;
    for (uint32_t at = 0; at < r->n_prompt; at += TRACE_BLOCK) {
        uint32_t left = r->n_prompt - at, n = left < TRACE_BLOCK ? left : TRACE_BLOCK;
        chain = hash_bytes(r->prompt_ids + at, n * sizeof *r->prompt_ids, chain);
        leading = !map_put(&seen->chains, arena_dup(&seen->keys, (char *)&chain, sizeof chain), sizeof chain, 0) && leading;
        seen->n_hit += leading;
        seen->n_block++;
    }
}

/* The real sample: 77,953 of 121,877 blocks (0.6396) can be had from an unlimited cache, by the ids as by the trace's own account. */
static void test_mooncake(void **state)
{
    (void)state;
    struct workload_config c = { .n_vocab = 151936, .trace = TRACES "mooncake_synthetic_trace.jsonl" };
    if (access(c.trace, R_OK)) {
        print_message("skipped: no %s\n", c.trace);
        return;
    }
    for (c.seed = 0; c.seed < 2; c.seed++) {
        struct workload *w = open_workload(&c);
        struct workload_request r = {0};
        struct blocks_seen seen = {0};
        uint64_t n_input = 0;
        while (workload_next(w, &r) > 0) {
            count_blocks(&seen, &r);
            n_input += r.n_prompt;
        }
        assert_int_equal(n_input, 61194628);
        assert_int_equal(seen.n_block, 121877);
        assert_int_equal(seen.n_hit, 77953);
        map_free(&seen.chains);
        arena_free(&seen.keys);
        free(r.prompt_ids);
        workload_close(w);
    }
}

/* Texts are tokenized: with bytes for tokens, the ids are the text.  One that comes to no token is passed over. */
static void test_texts(void **state)
{
    (void)state;
    struct buf json = {0};
    byte_tokenizer_put_json(&json);
    char *null = strstr(json.data, "\"normalizer\": null"), strip[] = "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}";
    struct buf with = {0};
    buf_put(&with, json.data, (size_t)(null - json.data));
    buf_printf(&with, "\"normalizer\": %s%s", strip, null + strlen("\"normalizer\": null"));
    struct tokenizer *t = tokenizer_parse(with.data, with.len);
    struct workload_config c = { .n_vocab = 257, .trace = trace_path };
    struct workload_request r = {0};
    put_trace("[{\"conversations\":[{\"value\":\"hi \\u00e9\"},{\"value\":\"four\"}]},{\"conversations\":[]},{\"conversations\":[{\"value\":\" \"},{\"value\":\"a\"}]},"
              "{\"conversations\":[{\"value\":\"a\"},{\"value\":\" \"}]},{\"conversations\":[{\"value\":\"b\"},{\"value\":\"c\"}]}]");
    assert_null(workload_open(&c));
    assert_non_null(strstr(err_text(), " has texts, and there is no tokenizer to count them with"));
    c.tok = tok_state_open(t);
    struct workload *w = open_workload(&c);
    assert_int_equal(workload_next(w, &r), 1);
    assert_true(r.n_prompt == 5 && r.n_output == 4 && isnan(r.arrival_s));
    for (int i = 0; i < 5; i++)
        assert_int_equal(r.prompt_ids[i], (unsigned char)"hi \u00e9"[i]);
    assert_int_equal(workload_next(w, &r), 1);
    assert_true(r.n_prompt == 1 && r.n_output == 1 && r.prompt_ids[0] == 'b');
    assert_int_equal(workload_next(w, &r), 0);
    assert_int_equal(workload_counts(w).n_dropped, 3);
    workload_close(w);
    tok_state_close(c.tok);
    tokenizer_close(t);
    buf_free(&json);
    buf_free(&with);
    free(r.prompt_ids);
}

static void test_refused(void **state)
{
    (void)state;
    static const int32_t all[] = { 0, 1, 2 };
    struct lengths one = { .low = 1, .high = 1 };
    const struct { struct workload_config c; const char *want; } cases[] = {
        { { .n_vocab = 9, .input = one }, "synthetic requests need a length of the input and one of the output" },
        { { .n_vocab = 9, .output = one }, "synthetic requests need a length of the input and one of the output" },
        { { .n_vocab = 9, .input = one, .output = one, .prefix_len = 5 }, "a shared prefix of 5 tokens needs a count of such prefixes, from 1 on" },
        { { .n_vocab = 9, .input = one, .output = one, .prefix_len = 20000000, .prefix_count = 1 }, "a shared prefix of 20000000 tokens is too long (16777216)" },
        { { .n_vocab = 3, .input = one, .output = one, .special_ids = all, .n_special = 3 }, "no id is left to make prompts of: all 3 of the vocabulary are special" },
        { { .n_vocab = 9, .trace = "t.csv", .prefix_len = 5, .prefix_count = 1 }, "t.csv: shared prefixes are for synthetic requests; a trace has its own" },
        { { .n_vocab = 9, .trace = "/none.csv" }, "cannot open \"/none.csv\": No such file or directory" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_null(workload_open(&cases[i].c));
        assert_string_equal(err_text(), cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse), cmocka_unit_test(test_exact), cmocka_unit_test(test_uniform), cmocka_unit_test(test_normal),
        cmocka_unit_test(test_pairs), cmocka_unit_test(test_ids), cmocka_unit_test(test_order), cmocka_unit_test(test_prefixes), cmocka_unit_test(test_csv),
        cmocka_unit_test(test_hash_ids), cmocka_unit_test(test_mooncake), cmocka_unit_test(test_texts), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests_name("workload", tests, make_file, drop_file);
}
