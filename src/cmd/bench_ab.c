/* tokmill bench --ab: two sets of options in turn, A B B A A B B A ..., each run a process of its own, so that what drifts in the
 * machine falls on both; then tokmill compare. */
#define _GNU_SOURCE             /* strdup, posix_spawn */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/bench.h"
#include "cmd/cmd.h"
#include "cmd/folder.h"

extern char **environ;

struct words { char **word; size_t n; };

static void add_word(struct words *w, const char *word)
{
    w->word = mem_resize(w->word, w->n + 2, sizeof *w->word);
    w->word[w->n++] = (char *)word;
    w->word[w->n] = NULL;
}

/* The option itself, or "--option=VALUE". */
static bool is_option(const char *word, const char *option)
{
    size_t n = strlen(option);
    return strncmp(word, option, n) == 0 && (!word[n] || word[n] == '=');
}

/* What both sides have in common: the command line without --results and --repeat. */
static struct words common_words(int argc, char **argv)
{
    struct words w = {0};
    for (int i = 1; i < argc; i++) {
        bool skip = is_option(argv[i], "--results") || is_option(argv[i], "--repeat");
        if (!skip)
            add_word(&w, argv[i]);
        i += skip && !strchr(argv[i], '=');
    }
    return w;
}

/* The child's own signals, which the parent ignores while it waits. */
static int run_child(char **argv)
{
    posix_spawnattr_t attr;
    posix_spawn_file_actions_t files;
    sigset_t set;
    pid_t child;
    int status;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigdefault(&attr, &set);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", 1 /* O_WRONLY */, 0);
    int e = posix_spawn(&child, "/proc/self/exe", &files, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    if (e)
        die("bench: cannot run %s again: %s", argv[0], strerror(e));
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_CANNOT;
}

/* One run of a side, or what its folder has of it. */
static int run_side(const struct words *common, const char *text, const char *folder, struct bench_rows *rows)
{
    struct words w = {0};
    char *copy = strdup(text), *save = NULL;
    int rc = bench_rows_read(rows, folder);
    add_word(&w, "tokmill");
    add_word(&w, "bench");
    for (size_t i = 0; i < common->n; i++)
        add_word(&w, common->word[i]);
    for (char *word = strtok_r(copy, " \t", &save); word; word = strtok_r(NULL, " \t", &save))
        add_word(&w, word);
    add_word(&w, "--results");
    add_word(&w, folder);
    add_word(&w, "--quiet");
    add_word(&w, "--log-level");
    add_word(&w, "error");
    add_word(&w, "--allow-invalid");
    int status = rc ? EXIT_GOOD : run_child(w.word);
    if (!rc && status == EXIT_GOOD)
        rc = bench_rows_read(rows, folder);
    if (rc < 0)
        die("%s", err_text());
    free(w.word);
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
    struct words common = common_words(argc, argv);
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
    free(common.word);
    return status == EXIT_GOOD ? compare_sides(side[0], side[1]) : status;
}
