/* The small modules below everything: conversions, containers, random numbers, histogram, queue, options, the cache folder. */
#define _POSIX_C_SOURCE 200809L     /* mkdtemp, setenv */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cache.h"
#include "base/err.h"
#include "base/hist.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/opt.h"
#include "base/queue.h"
#include "base/rng.h"

/* Every f16 goes to f32 and back unchanged; values between two neighbours go to the nearer one, ties to even. */
static void f16_round_trip(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = f16_to_f32((uint16_t)h);
        if (isnan(f))
            assert_true((f16_from_f32(f) & 0x7c00) == 0x7c00 && (f16_from_f32(f) & 0x3ff));
        else
            assert_int_equal(f16_from_f32(f), h);
    }
    for (uint32_t h = 0; h < 0x7bff; h++) {
        float low = f16_to_f32((uint16_t)h), high = f16_to_f32((uint16_t)(h + 1)), middle = (low + high) / 2;
        assert_int_equal(f16_from_f32(middle), h & 1 ? h + 1 : h);
        assert_int_equal(f16_from_f32(nextafterf(middle, 0)), h);
        assert_int_equal(f16_from_f32(nextafterf(middle, INFINITY)), h + 1);
    }
    assert_int_equal(f16_from_f32(65520), 0x7c00);
    assert_int_equal(f16_from_f32(1e-10f), 0);
}

static void bf16_rounding(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x7f80; h++) {
        assert_int_equal(bf16_from_f32(bf16_to_f32((uint16_t)h)), h);
        uint32_t tie = h << 16 | 0x8000;
        float f;
        memcpy(&f, &tie, 4);
        assert_int_equal(bf16_from_f32(f), h & 1 ? h + 1 : h);
    }
    assert_true(isnan(bf16_to_f32(bf16_from_f32(NAN))));
}

static void map_against_array(void **state)
{
    (void)state;
    enum { N = 3000 };
    struct map m = {0};
    struct arena names = {0};
    char name[16];
    for (uint32_t i = 0; i < N; i++) {
        int len = snprintf(name, sizeof name, "k%u", i * 7919);
        assert_true(map_put(&m, arena_dup(&names, name, (size_t)len), (size_t)len, i));
        assert_false(map_put(&m, name, (size_t)len, i + 1));
    }
    for (uint32_t i = 0; i < N; i++) {
        uint32_t value;
        int len = snprintf(name, sizeof name, "k%u", i * 7919);
        assert_true(map_get(&m, name, (size_t)len, &value));
        assert_int_equal(value, i);
        assert_false(map_get(&m, name, (size_t)len - 1, &value) && value == i);
    }
    map_free(&m);
    arena_free(&names);
}

/* Salmon et al. give known answers for Philox-4x32-10. */
static void philox_known_answers(void **state)
{
    (void)state;
    static const struct { uint64_t key, a, b; uint32_t want[4]; } cases[] = {
        {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT64_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t out[4];
        rng_block(cases[i].key, cases[i].a, cases[i].b, out);
        assert_memory_equal(out, cases[i].want, sizeof out);
    }
}

static void hist_percentiles(void **state)
{
    (void)state;
    static struct hist h, half;
    for (int64_t v = 1; v <= 100000; v++)
        hist_add(v % 2 ? &h : &half, v * 1000, 1);
    hist_merge(&h, &half);
    assert_int_equal(h.n, 100000);
    for (double p = 0.01; p <= 1; p += 0.01) {
        double exact = ceil(p * 100000) * 1000;
        assert_true(fabs(hist_percentile(&h, p) / exact - 1) < 0.008);
    }
    static struct hist empty;
    assert_true(hist_percentile(&empty, 0.5) == 0);
}

struct sums { struct queue *q; uint64_t sum; };

static void *take_all(void *arg)
{
    struct sums *s = arg;
    for (uint64_t *item; (item = queue_take(s->q));)
        s->sum += *item;
    return NULL;
}

/* Two readers, a queue of three places, 20,000 items: each arrives once. */
static void queue_hands_over(void **state)
{
    (void)state;
    enum { N = 20000 };
    static uint64_t items[N];
    struct queue *q = queue_open(3);
    struct sums s[2] = { {q, 0}, {q, 0} };
    pthread_t t[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&t[i], NULL, take_all, &s[i]);
    for (uint64_t i = 0; i < N; i++) {
        items[i] = i;
        assert_true(queue_put(q, &items[i]));
    }
    queue_close(q);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(s[0].sum + s[1].sum, (uint64_t)N * (N - 1) / 2);
    assert_false(queue_put(q, &items[0]));
    assert_true(queue_done(q));
    queue_free(q);
}

struct opts { bool flag; const char *text; int choice; int64_t whole, size; double real, time; struct opt_list list; };

static const struct opt table[] = {
    {.help = "Group"},
    {"flag", 'f', OPT_FLAG, NULL, offsetof(struct opts, flag), NULL, "a flag", NULL, 0, 0},
    {"text", 't', OPT_TEXT, "T", offsetof(struct opts, text), "none", "a text", NULL, 0, 0},
    {"choice", 0, OPT_CHOICE, NULL, offsetof(struct opts, choice), "b", "a choice", "a|b|c", 0, 0},
    {"whole", 'w', OPT_INT, "N", offsetof(struct opts, whole), "7", "a number", NULL, 1, 10},
    {"size", 0, OPT_SIZE, "S", offsetof(struct opts, size), NULL, "a size", NULL, 0, 0},
    {"real", 0, OPT_REAL, "X", offsetof(struct opts, real), NULL, "a real", NULL, 0, 0},
    {"time", 0, OPT_DURATION, "D", offsetof(struct opts, time), NULL, "a time", NULL, 0, 0},
    {"list", 'l', OPT_LIST, "L", offsetof(struct opts, list), NULL, "texts", NULL, 0, 0},
    {0},
};

static int parse(struct opts *o, int *rest, const char *line)
{
    static char copy[256];
    char *argv[16] = { (char *)"cmd" };
    int argc = 1, help;
    *o = (struct opts){0};
    snprintf(copy, sizeof copy, "%s", line);
    for (char *at = strtok(copy, " "); at; at = strtok(NULL, " "))
        argv[argc++] = at;
    return opt_parse(table, o, argc, argv, rest, &help);
}

static void options_parse(void **state)
{
    (void)state;
    struct opts o;
    int rest;
    assert_int_equal(parse(&o, &rest, "one --flag --whole=3 two --size 2GiB --time 200ms -t x --choice c --real -1e3"), 0);
    assert_true(o.flag && o.whole == 3 && o.size == (int64_t)2 << 30 && o.choice == 2 && strcmp(o.text, "x") == 0);
    assert_true(fabs(o.time - 0.2) < 1e-12 && o.real > -1000.5 && o.real < -999.5);
    assert_int_equal(rest, 13);
    assert_int_equal(parse(&o, &rest, ""), 0);
    assert_true(!o.flag && o.whole == 7 && o.choice == 1 && strcmp(o.text, "none") == 0 && o.list.n == 0);
    assert_int_equal(parse(&o, &rest, "--list a -l b,c --list=a"), 0);
    assert_true(o.list.n == 3 && strcmp(o.list.texts[1], "b,c") == 0 && strcmp(o.list.texts[2], "a") == 0);
    for (size_t i = 3; i <= OPT_LIST_MAX; i++)
        assert_int_equal(opt_set(&table[8], &o, "x"), i == OPT_LIST_MAX ? -1 : 0);
}

static void options_refuse(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "--whole", "--whole x", "--whole 11", "--whole 0", "--whole 1.5", "--choice d", "--size 3XB", "--size 0x10", "--time 3y", "--real nan", "--nope", "-z", "--flag=1",
    };
    struct opts o;
    int rest;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (parse(&o, &rest, bad[i]) == 0)
            fail_msg("taken: %s", bad[i]);
        assert_true(strlen(err_text()) > 10);
    }
}

/* What a file calls a thing cannot move a terminal's cursor, nor look like a line of ours. */
static void messages_are_tame(void **state)
{
    (void)state;
    err_set("%s", "a\x1b[2J\n\x7f \xc2\x9b" "2J \xc3\xa9\xc2\xa0");
    assert_string_equal(err_text(), "a?[2J?? ??2J \xc3\xa9\xc2\xa0");
}

static void buf_grows(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_int_equal(b.len, 10 * 2 + 90 * 3 + 900 * 4);
    assert_int_equal(strlen(b.data), b.len);
    buf_free(&b);
}

/* ---- dying: in a process of its own ---- */

static void say(void *text)
{
    fprintf(stderr, "%s\n", (const char *)text);
}

static void say_and_die(void *text)
{
    say(text);
    die("again");
}

static void *die_here(void *arg)
{
    (void)arg;
    die("first");
}

static void die_at_once(void)
{
    die("first");
}

static void die_with_words(void)
{
    err_before_exit(say, "words");
    die("first");
}

static void die_in_the_words(void)
{
    err_before_exit(say_and_die, "words");
    die("first");
}

static void die_without_words_again(void)
{
    err_before_exit(say, "words");
    err_before_exit(NULL, NULL);
    die("first");
}

static void die_in_another_thread(void)
{
    pthread_t t;
    err_before_exit(say, "words");
    pthread_create(&t, NULL, die_here, NULL);
    pthread_join(t, NULL);
}

static void last_words(void **state)
{
    (void)state;
    static const struct { void (*run)(void); const char *text; } cases[] = {
        { die_at_once, "tokmill: first\n" }, { die_with_words, "tokmill: first\nwords\n" }, { die_in_the_words, "tokmill: first\nwords\ntokmill: again\n" },
        { die_without_words_again, "tokmill: first\n" }, { die_in_another_thread, "tokmill: first\n" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int out[2], status;
        char got[200] = { 0 };
        assert_int_equal(pipe(out), 0);
        pid_t child = fork();
        if (!child) {
            dup2(out[1], 2);
            cases[i].run();
            _exit(0);
        }
        close(out[1]);
        for (ssize_t n, at = 0; (n = read(out[0], got + at, sizeof got - 1 - (size_t)at)) > 0;)
            at += n;
        close(out[0]);
        waitpid(child, &status, 0);
        assert_string_equal(got, cases[i].text);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 2);
    }
}

/* ---- the cache folder ---- */

static void env_set(const char *name, const char *value)
{
    assert_int_equal(value ? setenv(name, value, 1) : unsetenv(name), 0);
}

static void no_cache(const char *xdg, const char *home, const char *why)
{
    char path[64];
    env_set("XDG_CACHE_HOME", xdg);
    env_set("HOME", home);
    assert_int_equal(cache_path(path, sizeof path, "name"), -1);
    assert_string_equal(err_text(), why);
}

static void cache_folder(void **state)
{
    (void)state;
    char folder[] = "/tmp/tokmill-base-XXXXXX", path[64], want[64], long_name[64] = { 0 };
    assert_non_null(mkdtemp(folder));
    env_set("HOME", folder);
    env_set("XDG_CACHE_HOME", "not/from/the/root");
    assert_int_equal(cache_path(path, sizeof path, "name"), 0);
    snprintf(want, sizeof want, "%s/.cache/tokmill/name", folder);
    assert_string_equal(path, want);
    env_set("XDG_CACHE_HOME", folder);
    assert_int_equal(cache_path(path, sizeof path, "name"), 0);
    snprintf(want, sizeof want, "%s/tokmill/name", folder);
    assert_string_equal(path, want);
    assert_int_equal(cache_write(path, "old", 3), 0);
    assert_int_equal(cache_write(path, "newer", 5), 0);
    FILE *f = fopen(path, "rb");
    assert_int_equal(fread(want, 1, sizeof want, f), 5);
    assert_memory_equal(want, "newer", 5);
    fclose(f);
    remove(path);
    memset(long_name, 'x', sizeof long_name - 1);
    assert_int_equal(cache_path(path, sizeof path, long_name), -1);
    for (int i = 0; i < 4; i++) {              /* empty, so that nothing was left beside the file */
        static const char *const made[] = { "tokmill", ".cache/tokmill", ".cache", "" };
        snprintf(path, sizeof path, "%s/%s", folder, made[i]);
        assert_int_equal(rmdir(path), 0);
    }
    no_cache(NULL, NULL, "no cache folder: neither XDG_CACHE_HOME nor HOME is set");
    no_cache("", "home", "no cache folder: neither XDG_CACHE_HOME nor HOME is set");
    no_cache("/dev/null", NULL, "cache folder \"/dev/null/tokmill\": Not a directory");
    assert_int_equal(cache_write("/dev/null/name", "x", 1), -1);
}

/* Two threads write, a third one reads: each file is whole. */
static void *write_often(void *arg)
{
    enum { SIZE = 100000 };
    const char *path = arg;
    char *data = mem_alloc(SIZE);
    for (int i = 0; i < 200; i++) {
        memset(data, 'a' + i % 26, SIZE);
        CHECK(cache_write(path, data, SIZE) == 0);
    }
    free(data);
    return NULL;
}

static void cache_whole(void **state)
{
    enum { SIZE = 100000 };
    (void)state;
    char folder[] = "/tmp/tokmill-base-XXXXXX", path[64], *data = mem_alloc(SIZE + 1);
    pthread_t writers[2];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/name", folder);
    assert_int_equal(cache_write(path, data, SIZE), 0);
    for (int i = 0; i < 2; i++)
        pthread_create(&writers[i], NULL, write_often, path);
    for (int i = 0; i < 200; i++) {
        FILE *f = fopen(path, "rb");
        assert_int_equal(fread(data, 1, SIZE + 1, f), SIZE);
        fclose(f);
        for (int k = 1; k < SIZE; k++)
            assert_true(data[k] == data[0]);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(writers[i], NULL);
    remove(path);
    assert_int_equal(rmdir(folder), 0);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_round_trip), cmocka_unit_test(bf16_rounding), cmocka_unit_test(map_against_array),
        cmocka_unit_test(philox_known_answers), cmocka_unit_test(hist_percentiles), cmocka_unit_test(queue_hands_over),
        cmocka_unit_test(options_parse), cmocka_unit_test(options_refuse), cmocka_unit_test(messages_are_tame), cmocka_unit_test(buf_grows),
        cmocka_unit_test(last_words),
        cmocka_unit_test(cache_folder), cmocka_unit_test(cache_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
