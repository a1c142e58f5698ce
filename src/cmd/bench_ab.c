/* tokmill bench --ab: two sets of options in turn, A B B A A B B A ..., each run a process of its own, so that what drifts in the
 * machine falls on both; then tokmill compare. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/bench.h"
#include "cmd/child.h"
#include "cmd/cmd.h"
#include "cmd/folder.h"

/* The option itself, or "--option=VALUE". */
static bool is_option(const char *word, const char *option)
{
    size_t n = strlen(option);
    return strncmp(word, option, n) == 0 && (!word[n] || word[n] == '=');
}

/* What both sides have in common: the command line without --results and --repeat. */
static struct child common_words(int argc, char **argv)
{
    struct child w = {0};
    for (int i = 1; i < argc; i++) {
        bool skip = is_option(argv[i], "--results") || is_option(argv[i], "--repeat");
        if (!skip)
            child_add(&w, argv[i]);
        i += skip && !strchr(argv[i], '=');
    }
    return w;
}

/* One run of a side, or what its folder has of it. */
static int run_side(const struct child *common, const char *text, const char *folder, struct bench_rows *rows)
{
    struct child w = {0};
    char *copy = mem_dup(text, strlen(text));
    int rc = bench_rows_read(rows, folder);
    child_add(&w, "tokmill");
    child_add(&w, "bench");
    for (size_t i = 0; i < common->n; i++)
        child_add(&w, common->word[i]);
    child_split(&w, copy);
    child_add(&w, "--results");
    child_add(&w, folder);
    child_add(&w, "--quiet");
    child_add(&w, "--log-level");
    child_add(&w, "error");
    child_add(&w, "--allow-invalid");
    int status = rc ? EXIT_GOOD : child_run(&w);
    if (!rc && status == EXIT_GOOD)
        rc = bench_rows_read(rows, folder);
    if (rc < 0)
        die("%s", err_text());
    child_free(&w);
    free(copy);
    return status;
}

static int compare_sides(const char *a, const char *b)
{
    char command[] = "compare", *argv[] = { command, (char *)a, (char *)b, NULL };
    return cmd_compare(3, argv);
}

int bench_ab(const struct bench_opts *o, char *const texts[2], const char *folder, int argc, char **argv)
{
    static const char *const names[] = { "a", "b" };
    struct child common = common_words(argc, argv);
    struct bench_rows rows[2];
    char side[2][600], run[640];
    int status = EXIT_GOOD;
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    for (int k = 0; k < 2; k++) {
        bench_rows_init(&rows[k]);
        snprintf(side[k], sizeof side[k], "%s/%s", folder, names[k]);
        folder_make(side[k]);
    }
    for (int64_t i = 0; i < 2 * o->repeat && status == EXIT_GOOD; i++) {
        int k = i % 4 == 1 || i % 4 == 2;          /* A B B A */
        snprintf(run, sizeof run, "%s/%04zu", side[k], rows[k].n + 1);
        log_info("run %lld of %lld: %s", (long long)i + 1, (long long)(2 * o->repeat), texts[k][0] ? texts[k] : names[k]);
        status = run_side(&common, texts[k], run, &rows[k]);
    }
    for (int k = 0; k < 2; k++) {
        if (status == EXIT_GOOD && bench_rows_write(&rows[k], side[k]))
            die("%s", err_text());
        bench_rows_free(&rows[k]);
    }
    child_free(&common);
    return status == EXIT_GOOD ? compare_sides(side[0], side[1]) : status;
}
