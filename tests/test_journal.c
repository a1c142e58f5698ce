/* The journal: whatever is cut off or garbled, it promises no row too many and forgets none that is safe. */
#define _GNU_SOURCE         /* mkdtemp */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"
#include "data/journal.h"

static char folder[100], path[200];

static const struct journal_fact facts[] = { { "model", "a" }, { "--stop", "x\ny" }, { "--seed", "" } };
enum { N_FACT = sizeof facts / sizeof *facts };
static const uint64_t whole[JOURNAL_N_FILE] = { UINT64_MAX, UINT64_MAX };      /* files hold whatever is promised */

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "%s/tokmill-journal-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");    /* syncs cost nothing there */
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/rows.journal", folder);
    return 0;
}

static int drop_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static struct journal *open_with(const uint64_t sizes[JOURNAL_N_FILE])
{
    bool busy;
    return journal_open(path, facts, N_FACT, sizes, &busy);
}

static struct journal *open_good(const uint64_t sizes[JOURNAL_N_FILE])
{
    struct journal *j = open_with(sizes);
    if (!j)
        fail_msg("%s", err_text());
    return j;
}

static size_t file_size(void)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (size_t)st.st_size;
}

static struct buf get_file(void)
{
    struct buf b = {0};
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    buf_reserve(&b, file_size());
    b.len = fread(b.data, 1, file_size(), f);
    fclose(f);
    return b;
}

static void put_file(const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* What line i hashes to; one of them to nothing. */
static uint64_t hash_of(uint64_t i)
{
    return i * 7;
}

static void check_ends(const struct journal *j, uint64_t rows, uint64_t errors)
{
    assert_int_equal(journal_end(j, 0), rows);
    assert_int_equal(journal_end(j, 1), errors);
}

static void check_counts(const struct journal *j, uint64_t n_row, uint64_t n_failed, uint64_t n_again, uint64_t n_line)
{
    struct journal_count c;
    if (journal_counts(j, &c))
        fail_msg("%s", err_text());
    assert_int_equal(c.n_row, n_row);
    assert_int_equal(c.n_failed, n_failed);
    assert_int_equal(c.n_again, n_again);
    assert_int_equal(c.n_line, n_line);
}

/* Lines 0 .. n-1 are done, and no other. */
static void check_done(const struct journal *j, uint64_t n)
{
    for (uint64_t i = 0; i < n + 3; i++)
        assert_int_equal(journal_line(j, i, hash_of(i)), i < n ? JOURNAL_DONE : JOURNAL_TODO);
}

/* Record k, from 0: lines 2k and 2k+1, the latter failed; ends at 100 and 10 for each. */
enum { N_RECORD = 4 };

static void add_record(struct journal *j, uint64_t k)
{
    journal_add(j, 2 * k, hash_of(2 * k), false);
    journal_add(j, 2 * k + 1, hash_of(2 * k + 1), true);
    assert_int_equal(journal_commit(j, (uint64_t[]){ 100 * (k + 1), 10 * (k + 1) }), 0);
}

/* sizes: of the journal with its first k records. */
static void make_journal(size_t sizes[N_RECORD + 1])
{
    unlink(path);
    struct journal *j = open_good(whole);
    assert_true(journal_is_new(j));
    check_ends(j, 0, 0);
    check_done(j, 0);
    check_counts(j, 0, 0, 0, 0);
    sizes[0] = file_size();
    for (uint64_t k = 0; k < N_RECORD; k++) {
        add_record(j, k);
        sizes[k + 1] = file_size();
        check_counts(j, 2 * (k + 1), k + 1, 0, 2 * (k + 1));
    }
    journal_close(j);
}

/* It holds n records, can be gone on with, and holds all then. */
static void check_goes_on(uint64_t n, const uint64_t sizes[JOURNAL_N_FILE])
{
    struct journal *j = open_good(sizes);
    check_done(j, 2 * n);
    check_ends(j, 100 * n, 10 * n);
    check_counts(j, 2 * n, n, 0, 2 * n);
    for (uint64_t k = n; k < N_RECORD; k++)
        add_record(j, k);
    journal_close(j);
    j = open_good(whole);
    assert_false(journal_is_new(j));
    check_done(j, 2 * N_RECORD);
    check_counts(j, 2 * N_RECORD, N_RECORD, 0, 2 * N_RECORD);
    journal_close(j);
}

static void test_goes_on(void **state)
{
    (void)state;
    size_t sizes[N_RECORD + 1];
    make_journal(sizes);
    check_goes_on(N_RECORD, whole);
    struct journal *j = open_good(whole);
    assert_int_equal(journal_line(j, 3, hash_of(3) + 1), JOURNAL_CHANGED);
    assert_int_equal(journal_line(j, 0, hash_of(0) + 2), JOURNAL_CHANGED);     /* hash 0 is a line too */
    assert_int_equal(journal_line(j, UINT64_MAX / 2, 1), JOURNAL_TODO);
    assert_int_equal(journal_end_run(j), 0);
    assert_int_equal(access(path, F_OK), -1);
}

/* A line far behind the others; one that was put and not committed is not there. */
static void test_sparse(void **state)
{
    (void)state;
    unlink(path);
    struct journal *j = open_good(whole);
    size_t size = file_size();
    assert_int_equal(journal_commit(j, (uint64_t[]){ 5, 0 }), 0);
    assert_int_equal(file_size(), size);                                       /* nothing to say */
    journal_add(j, 100000, 1, false);
    assert_int_equal(journal_commit(j, (uint64_t[]){ 5, 0 }), 0);
    journal_add(j, 99999, 1, false);
    journal_close(j);
    j = open_good(whole);
    assert_int_equal(journal_line(j, 100000, 1), JOURNAL_DONE);
    assert_int_equal(journal_line(j, 99999, 1), JOURNAL_TODO);
    check_counts(j, 1, 0, 0, 1);
    journal_close(j);
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    size_t sizes[N_RECORD + 1];
    make_journal(sizes);
    struct buf all = get_file();
    for (size_t n = 0; n <= all.len; n++) {
        uint64_t left = 0;
        while (left < N_RECORD && sizes[left + 1] <= n)
            left++;
        put_file(all.data, n);
        struct journal *j = open_good(whole);
        assert_int_equal(journal_is_new(j), n < sizes[0]);
        journal_close(j);
        assert_int_equal(file_size(), sizes[left]);
        put_file(all.data, n);
        check_goes_on(left, whole);
    }
    buf_free(&all);
}

/* The disk had given the file its length, but not the bytes.  A header that is neither there nor all zeros may be refused. */
static void test_zeros_for_a_tail(void **state)
{
    (void)state;
    size_t sizes[N_RECORD + 1];
    make_journal(sizes);
    struct buf all = get_file();
    for (size_t n = 0; n < all.len; n++) {
        struct buf torn = {0};
        uint64_t left = 0;
        bool same = true;
        buf_put(&torn, all.data, all.len);
        for (size_t i = n; i < all.len; i++) {
            same = same && !all.data[i];
            torn.data[i] = 0;
        }
        while (left < N_RECORD && sizes[left + 1] <= n)
            left++;
        put_file(torn.data, torn.len);
        buf_free(&torn);
        struct journal *j = n && n < sizes[0] ? open_with(whole) : NULL;
        assert_true(!j || journal_is_new(j));
        journal_close(j);
        if (!same && (!n || n >= sizes[0]))
            check_goes_on(left, whole);
    }
    buf_free(&all);
}

static void test_flipped_bits(void **state)
{
    (void)state;
    size_t sizes[N_RECORD + 1];
    make_journal(sizes);
    struct buf all = get_file();
    for (uint64_t k = 0; k < N_RECORD; k++)
        for (size_t bit = sizes[k] * 8; bit < sizes[k + 1] * 8; bit++) {
            all.data[bit / 8] ^= (char)(1 << bit % 8);
            put_file(all.data, all.len);
            check_goes_on(k, whole);
            all.data[bit / 8] ^= (char)(1 << bit % 8);
        }
    for (size_t bit = 0; bit < sizes[0] * 8; bit++) {                          /* of the header: nothing is believed */
        all.data[bit / 8] ^= (char)(1 << bit % 8);
        put_file(all.data, all.len);
        struct journal *j = open_with(whole);
        assert_true(!j || journal_is_new(j));
        journal_close(j);
        all.data[bit / 8] ^= (char)(1 << bit % 8);
    }
    buf_free(&all);
}

/* A record is good only behind its own past. */
static void test_record_of_elsewhere(void **state)
{
    (void)state;
    size_t sizes[N_RECORD + 1];
    make_journal(sizes);
    struct buf all = get_file(), odd = {0};
    buf_put(&odd, all.data, sizes[1]);
    buf_put(&odd, all.data + sizes[2], all.len - sizes[2]);                    /* the second is missing */
    put_file(odd.data, odd.len);
    check_goes_on(1, whole);
    buf_free(&odd);
    buf_put(&odd, all.data, sizes[2]);
    buf_put(&odd, all.data + sizes[1], all.len - sizes[1]);                    /* the second is there twice */
    put_file(odd.data, odd.len);
    check_goes_on(2, whole);
    buf_free(&odd);
    buf_free(&all);
}

static void test_files_too_short(void **state)
{
    (void)state;
    static const struct { uint64_t sizes[JOURNAL_N_FILE], left; } cases[] = {
        { { 400, 40 }, 4 }, { { 500, 50 }, 4 }, { { 399, 40 }, 3 }, { { 400, 39 }, 3 }, { { 300, 30 }, 3 }, { { 299, 40 }, 2 }, { { 400, 19 }, 1 },
        { { 100, 10 }, 1 }, { { 99, 10 }, 0 }, { { 0, 0 }, 0 }, { { 400, 0 }, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t sizes[N_RECORD + 1];
        make_journal(sizes);
        check_goes_on(cases[i].left, cases[i].sizes);
    }
}

static void test_other_facts(void **state)
{
    (void)state;
    static const struct { struct journal_fact facts[4]; size_t n; const char *want; } cases[] = {
        { { { "model", "b" }, { "--stop", "x\ny" }, { "--seed", "" } }, 3, "begun with model \"a\", and now it is \"b\"" },
        { { { "model", "" }, { "--stop", "x\ny" }, { "--seed", "" } }, 3, "begun with model \"a\", and now it is \"\"" },
        { { { "model", "a" }, { "--stop", "x y" }, { "--seed", "" } }, 3, "begun with --stop \"x\\ny\", and now it is \"x y\"" },
        { { { "model", "a" }, { "--stop", "x\\ny" }, { "--seed", "" } }, 3, "begun with --stop \"x\\ny\", and now it is \"x\\\\ny\"" },
        { { { "model", "a" }, { "--stop", "x\ny" }, { "--seed", "1" } }, 3, "begun with --seed \"\", and now it is \"1\"" },
        { { { "model", "a" }, { "--stop", "x\ny" }, { "--seed", "" }, { "--n", "1" } }, 4, "begun with --n \"\", and now it is \"1\"" },
        { { { "model", "a" }, { "--stop", "x\ny" } }, 2, "the journal of another version" },
    };
    size_t sizes[N_RECORD + 1];
    make_journal(sizes);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool busy;
        assert_null(journal_open(path, cases[i].facts, cases[i].n, whole, &busy));
        if (!strstr(err_text(), cases[i].want))
            fail_msg("case %zu: %s", i, err_text());
        assert_non_null(strstr(err_text(), path));
        assert_int_equal(file_size(), sizes[N_RECORD]);                        /* as it was */
    }
    check_goes_on(N_RECORD, whole);
}

static void test_not_a_journal(void **state)
{
    (void)state;
    static const struct { const char *text; size_t len; } strange[] = {
        { "x", 1 }, { "{\"id\":0}\n", 9 }, { "tokmill journal 2\n\n12345678", 27 }, { "\x28\xb5\x2f\xfd\0\0\0\0", 8 }, { "\0\0\0x", 4 },
        { "SQLite format 3\0\0\0\0\0\0\0", 22 }, { "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n", 22 },
    };
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        put_file(strange[i].text, strange[i].len);
        assert_null(open_with(whole));
        assert_non_null(strstr(err_text(), "not a journal of tokmill"));
        assert_int_equal(file_size(), strange[i].len);
    }
    static const struct { const char *text; size_t len; } nothing[] = { { "", 0 }, { "\0\0\0\0\0", 5 }, { "tok", 3 }, { "tokmill journal 1\nmodel=a\n\n123456", 33 } };
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        put_file(nothing[i].text, nothing[i].len);
        struct journal *j = open_good(whole);
        assert_true(journal_is_new(j));
        journal_close(j);
        check_goes_on(0, whole);
    }
}

static void test_twice(void **state)
{
    (void)state;
    unlink(path);
    struct journal *j = open_good(whole);
    for (int i = 0; i < 3; i++) {
        journal_add(j, 5, hash_of(5), i == 1);
        journal_add(j, 6 + i, hash_of(6 + i), false);
        assert_int_equal(journal_commit(j, (uint64_t[]){ 100 * (i + 1), 0 }), 0);
    }
    check_counts(j, 6, 1, 0, 4);
    journal_close(j);
}

/* Rows that were cut off are counted even if the run that did so gets no further. */
static void test_again(void **state)
{
    (void)state;
    size_t sizes[N_RECORD + 1];
    make_journal(sizes);
    for (uint64_t again = 0; again < 9; again += 3) {
        struct journal *j = open_good(whole);
        check_counts(j, 2 * N_RECORD, N_RECORD, again, 2 * N_RECORD);
        journal_cut(j, 3);
        assert_int_equal(journal_commit(j, (uint64_t[]){ journal_end(j, 0), journal_end(j, 1) }), 0);
        journal_close(j);
    }
    struct journal *j = open_good(whole);
    check_ends(j, 100 * N_RECORD, 10 * N_RECORD);
    check_done(j, 2 * N_RECORD);
    journal_close(j);
}

/* The status of a process that opens the journal: 0 if it may. */
static int open_elsewhere(void)
{
    pid_t child = fork();
    int status;
    if (!child)
        _exit(open_with(whole) ? 0 : strstr(err_text(), "another run writes this output now") ? 1 : 2);
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static void test_two_at_once(void **state)
{
    (void)state;
    unlink(path);
    struct journal *j = open_good(whole);
    add_record(j, 0);
    assert_int_equal(open_elsewhere(), 1);
    assert_null(open_with(whole));
    add_record(j, 1);                  /* and nothing was done to it */
    journal_close(j);
    assert_int_equal(open_elsewhere(), 0);
    check_goes_on(2, whole);
}

/* No room: said so, and what was there before is good. */
static void test_full(void **state)
{
    (void)state;
    unlink(path);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, little;
    getrlimit(RLIMIT_FSIZE, &old);
    little = old;
    struct journal *j = open_good(whole);
    add_record(j, 0);
    little.rlim_cur = file_size() + 10;
    setrlimit(RLIMIT_FSIZE, &little);
    journal_add(j, 2, hash_of(2), false);
    assert_int_equal(journal_commit(j, (uint64_t[]){ 200, 20 }), -1);
    assert_non_null(strstr(err_text(), "cannot write"));
    journal_close(j);
    setrlimit(RLIMIT_FSIZE, &old);
    check_goes_on(1, whole);
    snprintf(path, sizeof path, "%s/none/rows.journal", folder);
    assert_null(open_with(whole));
    assert_non_null(strstr(err_text(), path));
    snprintf(path, sizeof path, "%s/rows.journal", folder);
}

/* A run that is broken off again and again, with what is cut off at random; the rows are kept beside it. */
enum { WALK_LINES = 60 };
struct walk { struct rng rng; uint64_t end, ends[400], n_record; size_t sizes[400]; uint64_t of_line[WALK_LINES]; };   /* of_line: record that has it, from 1 */

static void walk_on(struct walk *w, struct journal *j)
{
    for (uint32_t n = rng_below(&w->rng, 6); n; n--) {
        uint64_t line = rng_below(&w->rng, WALK_LINES);
        if (w->of_line[line])
            continue;
        journal_add(j, line, hash_of(line), false);
        w->of_line[line] = w->n_record + 1;
        w->end += 1 + rng_below(&w->rng, 50);
    }
    assert_int_equal(journal_commit(j, (uint64_t[]){ w->end, 0 }), 0);
    if (file_size() > w->sizes[w->n_record]) {
        w->sizes[++w->n_record] = file_size();
        w->ends[w->n_record] = w->end;
    }
}

/* Cuts the journal and the rows; what is left must be what is opened. */
static void walk_break(struct walk *w)
{
    uint64_t rows = w->end - rng_below(&w->rng, 60) % (w->end + 1), left = 0;
    size_t size = file_size() - rng_below(&w->rng, 100) % (file_size() - w->sizes[0] + 1);
    assert_int_equal(truncate(path, (off_t)size), 0);
    while (left < w->n_record && w->sizes[left + 1] <= size && w->ends[left + 1] <= rows)
        left++;
    struct journal *j = open_good((uint64_t[]){ rows, 0 });
    check_ends(j, w->ends[left], 0);
    for (uint64_t i = 0; i < WALK_LINES; i++) {
        w->of_line[i] = w->of_line[i] <= left ? w->of_line[i] : 0;
        assert_int_equal(journal_line(j, i, hash_of(i)), w->of_line[i] ? JOURNAL_DONE : JOURNAL_TODO);
    }
    w->n_record = left;
    w->end = w->ends[left];
    for (int i = 0; i < 5 && w->n_record < 390; i++)
        walk_on(w, j);
    journal_close(j);
}

static void test_random_walk(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct walk w = {0};
        rng_init(&w.rng, seed);
        unlink(path);
        journal_close(open_good(whole));
        w.sizes[0] = file_size();
        for (int step = 0; step < 100; step++)
            walk_break(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goes_on), cmocka_unit_test(test_sparse), cmocka_unit_test(test_cut_anywhere), cmocka_unit_test(test_zeros_for_a_tail),
        cmocka_unit_test(test_flipped_bits), cmocka_unit_test(test_record_of_elsewhere), cmocka_unit_test(test_files_too_short),
        cmocka_unit_test(test_other_facts), cmocka_unit_test(test_not_a_journal), cmocka_unit_test(test_twice), cmocka_unit_test(test_again),
        cmocka_unit_test(test_two_at_once), cmocka_unit_test(test_full), cmocka_unit_test(test_random_walk),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
