/* Traces: every format by its content, real samples and made ones, and each way a row can be bad. */
#define _GNU_SOURCE         /* mkdtemp */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"
#include "data/trace.h"
#include "data/zfile.h"
#include "tests/folder.h"

#define TRACES "../shared/material/4-traces-prompts/traces/"

/* Writes a file of the folder, in the format its name says; its path. */
static const char *put(const char *name, const char *text, size_t len)
{
    struct zwriter *w = zwriter_open(in_folder(name));
    assert_non_null(w);
    assert_int_equal(zwriter_put(w, text, len), 0);
    assert_int_equal(zwriter_close(w), 0);
    return path_text;
}

/* The same without compression and without waiting for the disk. */
static const char *put_plain(const char *name, const char *text, size_t len)
{
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    return path_text;
}

/* A row as text: "0.5 374/44", "- 374/44" without a time, "0 600/2 [7 8]", "- hello|world". */
static void show(struct buf *b, const struct trace_row *row)
{
    if (isnan(row->arrival_s))
        buf_puts(b, "-");
    else
        buf_printf(b, "%.9g", row->arrival_s);
    if (row->prompt)
        buf_printf(b, " %s|%s", row->prompt, row->answer);
    else
        buf_printf(b, " %u/%u", row->n_input, row->n_output);
    for (uint32_t i = 0; i < row->n_hash; i++)
        buf_printf(b, "%s%llu%s", i ? " " : " [", (unsigned long long)row->hash_ids[i], i + 1 == row->n_hash ? "]" : "");
    buf_puts(b, "; ");
}

/* All rows of a file, the format before them, counts behind; the last result. */
static int read_all(const char *path, struct buf *b)
{
    struct trace *t = trace_open(path);
    struct trace_row row;
    int rc;
    if (!t)
        return -1;
    buf_printf(b, "%s: ", trace_format(t));
    while ((rc = trace_next(t, &row)) > 0) {
        assert_int_equal(trace_has_arrivals(t), !isnan(row.arrival_s));
        assert_int_equal(trace_has_text(t), row.prompt != NULL);
        show(b, &row);
    }
    if (!rc)
        assert_int_equal(trace_next(t, &row), 0);       /* and it stays so */
    struct trace_counts c = trace_counts(t);
    buf_printf(b, "dropped %d late %d", (int)c.n_dropped, (int)c.n_late);
    trace_close(t);
    return rc;
}

#define AZURE "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
#define BURST6 "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
#define BURST8 "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
#define VIDUR "arrived_at,num_prefill_tokens,num_decode_tokens\n"

static const struct { const char *text, *want; } good[] = {
    { AZURE "2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109\r\n", "azure: 0 374/44; 4.314579 396/109; dropped 0 late 0" },
    { AZURE "2023-11-16 23:59:59.9999999,1,2\r\n2023-11-17 00:00:00.0000001,3,4", "azure: 0 1/2; 2e-07 3/4; dropped 0 late 0" },
    { AZURE "2024-02-28 12:00:00,1,1\n2024-02-29 12:00:00,1,1\n2024-03-01 12:00:00.5,1,1\n", "azure: 0 1/1; 86400 1/1; 172800.5 1/1; dropped 0 late 0" },
    { AZURE "2024-05-10 00:00:00+00:00,5,6\n2024-05-10 02:00:00.009930+01:30,7,8\n2024-05-09 23:30:01-01:00,7,8\n",
      "azure: 0 5/6; 1800.00993 7/8; 1801 7/8; dropped 0 late 0" },
    { "GeneratedTokens,Extra,TIMESTAMP,ContextTokens\n1,\"a,\"\"b\",2023-11-16 18:15:46,2\n", "azure: 0 2/1; dropped 0 late 0" },
    { "\xef\xbb\xbf" AZURE "2023-11-16 18:15:46.1,16777216,1\r\n", "azure: 0 16777216/1; dropped 0 late 0" },
    { "\n\r\n" AZURE "\r\n2023-11-16 18:15:46,0,1\r\n2023-11-16 18:15:47,1,0\r\n2023-11-16 18:15:48,1,1\r\n\r\n", "azure: 0 1/1; dropped 2 late 0" },
    { AZURE "2023-11-16 18:15:46,1,1\n2023-11-16 18:15:48,2,2\n2023-11-16 18:15:47,3,3\n2023-11-16 18:15:45,4,4\n2023-11-16 18:15:48,5,5\n",
      "azure: 0 1/1; 2 2/2; 2 3/3; 2 4/4; 2 5/5; dropped 0 late 2" },
    { AZURE, "azure: dropped 0 late 0" },
    { "TIMESTAMP,ContextTokens,GeneratedTokens\nXXX,42,285\nXX,19,82\n,1,2\n", "lengths: - 42/285; - 19/82; - 1/2; dropped 0 late 0" },
    { BURST6 "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,0,1087,API log\n118.25,GPT-4,417,276,693,Conversation log\n",
      "burstgpt: 0 472/18; 113.25 417/276; dropped 1 late 0" },
    { BURST8 "19440110.0,1722ac82,43,GPT-4,906,446,1352,Conversation log\n19440161.0,d5983bf9,,ChatGPT,36,29,65,API log\n",
      "burstgpt: 0 906/446; 51 36/29; dropped 0 late 0" },
    { VIDUR "0.25,10,20\n1.375e0,30,40\n", "vidur: 0 10/20; 1.125 30/40; dropped 0 late 0" },
    { "{\"timestamp\": 40, \"input_length\": 600, \"output_length\": 2, \"hash_ids\": [7, 9223372036854775807]}\r\n\r\n"
      "{\"timestamp\": 1540.5, \"input_length\": 1025, \"output_length\": 3, \"hash_ids\": [7]}\n"
      "{\"timestamp\": 1541, \"input_length\": 1, \"output_length\": 1}\n{\"timestamp\": 1541, \"input_length\": 1, \"output_length\": 0}",
      "mooncake: 0 600/2 [7 9223372036854775807]; 1.5005 1025/3 [7]; 1.501 1/1; dropped 1 late 0" },
    { "[]", "sharegpt: dropped 0 late 0" },
    { "\n [{\"id\": 1, \"conversations\": [{\"from\": \"human\", \"value\": \"a \\\"}]\\\\\"}, {\"from\": \"gpt\", \"value\": \"b\"}, {\"value\": 3}]}\n,\n"
      "{\"conversations\": [{\"value\": \"only\"}]}, {\"conversations\": []}, {\"conversations\": [{\"value\": \"\"}, {\"value\": \"x\"}]},"
      "{\"conversations\":[{\"value\":\"[{\\u00e9\"},{\"value\":\"d\"}]}]\n\n", "sharegpt: - a \"}]\\|b; - [{\u00e9|d; dropped 3 late 0" },
};

static void test_good(void **state)
{
    (void)state;
    static const char *const names[] = { "t", "t.zst", "t.gz" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        for (size_t k = 0; k < 3; k++) {
            struct buf b = {0};
            assert_int_equal(read_all(put(names[k], good[i].text, strlen(good[i].text)), &b), 0);
            assert_string_equal(b.data, good[i].want);
            buf_free(&b);
        }
}

#define MOON(fields) "{\"timestamp\": 1, " fields "}\n"

static const struct { const char *text, *want; } bad[] = {
    { "", " is empty: no trace" },
    { " \n\r\n", " is empty: no trace" },
    { "a,b,c\n1,2,3\n", ": line 1: this is no header of a known trace: it must be CSV of Azure (TIMESTAMP," },
    { "TIMESTAMP,ContextTokens\n", ": line 1: this is no header of a known trace" },
    { AZURE "2023-11-16 18:15:46,1\r\n", ": line 2: 2 fields where the header has 3" },
    { AZURE "2023-11-16 18:15:46,1,2,3\r\n", ": line 2: 4 fields where the header has 3" },
    { AZURE "2023-11-16 18:15:46,1,2\r\n\r\nyesterday,1,2\r\n", ": line 4: TIMESTAMP is \"yesterday\"; it must be a date as 2023-11-16 18:15:46.6805900" },
    { AZURE "2023-11-16 18:15:46,1,2\r\nXXX,1,2\r\n", ": line 3: TIMESTAMP is \"XXX\"; it must be a date" },
    { AZURE "2023-02-30 18:15:46,1,2\r\n", ": line 2: TIMESTAMP is \"2023-02-30 18:15:46\"; it must be a date" },
    { AZURE "2023-13-01 18:15:46,1,2\r\n", ": line 2: TIMESTAMP is \"2023-13-01 18:15:46\"" },
    { AZURE "2023-00-01 18:15:46,1,2\r\n", ": line 2: TIMESTAMP is \"2023-00-01 18:15:46\"" },
    { AZURE "2023-11-16 24:15:46,1,2\r\n", ": line 2: TIMESTAMP is \"2023-11-16 24:15:46\"" },
    { AZURE "2023-11-16 18:15:46.,1,2\r\n", ": line 2: TIMESTAMP is \"2023-11-16 18:15:46.\"" },
    { AZURE "2023-11-16 18:15:46.1234567890,1,2\r\n", ": line 2: TIMESTAMP is \"2023-11-16 18:15:46.1234567890\"" },
    { AZURE "2023-11-16 18:15:46+1:00,1,2\r\n", ": line 2: TIMESTAMP is \"2023-11-16 18:15:46+1:00\"" },
    { AZURE "2023-11-16 18:15:46Z,1,2\r\n", ": line 2: TIMESTAMP is \"2023-11-16 18:15:46Z\"" },
    { AZURE "2023-11-16 18:15,1,2\r\n", ": line 2: TIMESTAMP is \"2023-11-16 18:15\"" },
    { AZURE "2023-11-16 18:15:46,-1,2\r\n", ": line 2: ContextTokens is \"-1\"; it must be a number of tokens from 0 to 16777216" },
    { AZURE "2023-11-16 18:15:46,1,16777217\r\n", ": line 2: GeneratedTokens is \"16777217\"; it must be a number of tokens from 0 to 16777216" },
    { AZURE "2023-11-16 18:15:46,1,\r\n", ": line 2: GeneratedTokens is \"\"" },
    { AZURE "2023-11-16 18:15:46,1e2,1\r\n", ": line 2: ContextTokens is \"1e2\"" },
    { AZURE "2023-11-16 18:15:46, 1,1\r\n", ": line 2: ContextTokens is \" 1\"" },
    { AZURE "2023-11-16 18:15:46,\x1b[2J,1\r\n", ": line 2: ContextTokens is \"\\u001b[2J\"" },
    { AZURE "2023-11-16 18:15:46,99999999999999999999999999999999999999999999999999999999999999999999,1\r\n",
      ": line 2: ContextTokens is \"99999999999999999999999999999999999999999999999999999999999...; it must be" },
    { VIDUR "nan,1,1\n", ": line 2: arrived_at is \"nan\"; it must be a number of seconds" },
    { VIDUR "-1,1,1\n", ": line 2: arrived_at is \"-1\"" },
    { VIDUR "0x10,1,1\n", ": line 2: arrived_at is \"0x10\"" },
    { VIDUR "1e10,1,1\n", ": line 2: arrived_at is \"1e10\"" },
    { VIDUR ",1,1\n", ": line 2: arrived_at is \"\"" },
    { BURST6 "1,m,2,,2,l\n", ": line 2: Response tokens is \"\"; it must be a number of tokens" },
    { "{\"timestamp\": 1,}\n", ": line 1: column 17: " },
    { "{\"input_length\": 1}\n", ": line 1: timestamp is not there; it must be a number of milliseconds" },
    { "{\"timestamp\": -1}\n", ": line 1: timestamp is -1; it must be" },
    { MOON("\"input_length\": 1.5, \"output_length\": 1"), ": line 1: input_length is 1.5; it must be a number of tokens" },
    { MOON("\"input_length\": 1, \"output_length\": null"), ": line 1: output_length is null; it must be a number of tokens" },
    { MOON("\"input_length\": 512, \"output_length\": 1, \"hash_ids\": [1, 2]"), ": line 1: hash_ids is [1,2]; it must be a list with at most one" },
    { MOON("\"input_length\": 512, \"output_length\": 1, \"hash_ids\": 3"), ": line 1: hash_ids is 3; it must be a list" },
    { MOON("\"input_length\": 1, \"output_length\": 1") MOON("\"input_length\": 512, \"output_length\": 1, \"hash_ids\": [-1]"),
      ": line 2: a number in hash_ids is -1; it must be a whole number from 0 on" },
    { "[\n{\"conversations\": [{\"value\": \"a\"}, {\"value\": 5}]}]", ": line 2: \"value\" of a turn is 5; it must be a text" },
    { "[\n{\"conversations\": [\"a\", \"b\"]}]", ": line 2: \"value\" of a turn is not there; it must be a text" },
    { "[{\"items\": []}]", ": line 1: \"conversations\" of an entry is not there; it must be a list of turns" },
    { "[\n{\"conversations\": [],\n\"id\": }]", ": in the entry from line 2 on: line 2, column 7: " },
    { "[{\"conversations\": []},]", ": line 1: what follows is \"]\"; it must be the { of an entry" },
    { "[{\"conversations\": []} {}]", ": line 1: what follows is \"{\"; it must be a comma or ] behind an entry" },
    { "[,]", ": line 1: what follows is \",\"; it must be the { of an entry" },
    { "[1]", ": line 1: what follows is \"1\"; it must be the { of an entry" },
    { "[\n{\"conversations\": [", ": line 2: the file ends inside the array" },
    { "[]\n[]", ": line 2: what follows is \"[\"; it must be the end of the file behind the array" },
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct buf b = {0};
        char want[500];
        const char *path = put_plain("bad", bad[i].text, strlen(bad[i].text));
        snprintf(want, sizeof want, "%s%s", path, bad[i].want);
        assert_int_equal(read_all(path, &b), -1);
        if (strncmp(err_text(), want, strlen(want)))
            fail_msg("\"%s\" where \"%s\" was to come", err_text(), want);
        buf_free(&b);
    }
    assert_null(trace_open(in_folder("none")));
    assert_non_null(strstr(err_text(), "No such file"));
    const char nul[] = AZURE "2023-11-16 18:15:46,1,1\0,2\r\n";
    struct buf b = {0};
    assert_int_equal(read_all(put_plain("bad", nul, sizeof nul - 1), &b), -1);
    assert_non_null(strstr(err_text(), ": line 2: a NUL byte"));
    buf_free(&b);
}

/* The rows before a cut come, then the message of the file; of an array cut anywhere it is never taken for whole. */
static void test_cut(void **state)
{
    (void)state;
    struct buf b = {0}, file = {0};
    buf_puts(&b, AZURE);
    struct rng r;
    rng_init(&r, 1);
    for (int i = 0; i < 20000; i++)
        buf_printf(&b, "2023-11-16 18:15:46,%u,1\r\n", 1 + rng_below(&r, 100000));
    put("cut.gz", b.data, b.len);
    FILE *f = fopen(in_folder("cut.gz"), "rb");
    buf_reserve(&file, 1 << 20);
    file.len = fread(file.data, 1, 1 << 20, f);
    fclose(f);
    put_plain("cut", file.data, file.len / 2);
    buf_clear(&b);
    assert_int_equal(read_all(path_text, &b), -1);
    assert_non_null(strstr(err_text(), "inside a gzip member"));
    assert_true(b.len > 20000);
    buf_free(&b);
    buf_free(&file);

    const char *array = "[{\"conversations\":[{\"value\":\"a\"},{\"value\":\"b\"}]},{\"conversations\":[]}]";
    for (size_t n = 1; n <= strlen(array); n++) {
        assert_int_equal(read_all(put_plain("cut", array, n), &b), n < strlen(array) ? -1 : 0);
        buf_free(&b);
    }
}

/* Bytes changed, doubled and dropped at random: no crash, and what comes out keeps its promises. */
static void test_mutated(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 2);
    for (int round = 0; round < 3000; round++) {
        char text[1000];
        size_t n = (size_t)snprintf(text, sizeof text, "%s", good[rng_below(&r, sizeof good / sizeof *good)].text);
        for (uint32_t k = 1 + rng_below(&r, 3); k; k--)
            text[rng_below(&r, (uint32_t)n)] = rng_below(&r, 2) ? "0123456789,.:-+\"[]{}\\\n\r\0X"[rng_below(&r, 26)] : (char)rng_u32(&r);
        struct trace *t = trace_open(put_plain("mutated", text, n));
        struct trace_row row;
        double last = 0;
        while (t && trace_next(t, &row) > 0) {
            assert_true(row.prompt ? row.prompt_len && row.answer_len : row.n_input && row.n_output);
            assert_true(row.n_input <= TRACE_MAX_TOKENS && row.n_output <= TRACE_MAX_TOKENS && row.n_hash <= (row.n_input + 511) / 512);
            assert_true(isnan(row.arrival_s) ? !trace_has_arrivals(t) : row.arrival_s >= last);
            last = row.arrival_s;
        }
        trace_close(t);
    }
}

struct sum { uint64_t n_row, n_input, n_output, n_hash, n_hit; double last_s; };

/* n_hit: hash ids that an earlier row had too. */
static struct sum sum_of(struct trace *t)
{
    struct sum s = {0};
    struct trace_row row;
    struct map seen = {0};
    struct arena keys = {0};
    while (trace_next(t, &row) > 0) {
        s.n_row++;
        s.n_input += row.n_input;
        s.n_output += row.n_output;
        s.n_hash += row.n_hash;
        s.last_s = row.arrival_s;
        for (uint32_t i = 0; i < row.n_hash; i++)
            s.n_hit += !map_put(&seen, arena_dup(&keys, (const char *)&row.hash_ids[i], 8), 8, 0);
    }
    map_free(&seen);
    arena_free(&keys);
    return s;
}

/* Rows, sums and times as Python's csv and json modules see them; the means are those of the samples' description. */
static void test_real(void **state)
{
    (void)state;
    static const struct { const char *file, *format; struct sum want; double mean_in, mean_out; } cases[] = {
        { "AzureLLMInferenceTrace_code.csv", "azure", { 8819, 18059974, 245896, 0, 0, 3435.948056 }, 2047.8, 27.9 },
        { "nanoflow_sharegpt_lengths.csv", "lengths", { 58787, 17565463, 19030929, 0, 0, NAN }, 298.8, 323.7 },
        { "mooncake_synthetic_trace.jsonl", "mooncake", { 3993, 61194628, 595432, 121877, 77953, 1022.025 }, 15325.5, 149.1 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[300];
        snprintf(path, sizeof path, TRACES "%s", cases[i].file);
        if (access(path, R_OK)) {
            print_message("skipped: no %s\n", path);
            continue;
        }
        struct trace *t = trace_open(path);
        const struct sum *want = &cases[i].want;
        struct sum s = sum_of(t);
        assert_string_equal(trace_format(t), cases[i].format);
        assert_true(s.n_row == want->n_row && s.n_input == want->n_input && s.n_output == want->n_output);
        assert_true(s.n_hash == want->n_hash && s.n_hit == want->n_hit);
        assert_true(isnan(want->last_s) ? isnan(s.last_s) : fabs(s.last_s - want->last_s) < 1e-9);
        assert_true(fabs((double)s.n_input / (double)s.n_row - cases[i].mean_in) < 0.0501);
        assert_true(fabs((double)s.n_output / (double)s.n_row - cases[i].mean_out) < 0.0501);
        assert_int_equal(trace_counts(t).n_dropped + trace_counts(t).n_late, 0);
        trace_close(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good), cmocka_unit_test(test_bad), cmocka_unit_test(test_cut), cmocka_unit_test(test_mutated),
        cmocka_unit_test(test_real),
    };
    return cmocka_run_group_tests_name("trace", tests, make_folder, drop_folder);
}
