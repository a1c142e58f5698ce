/* A breakdown is an end by a signal, or with status 2 while lines were in flight.  These are then run without the others, their
 * rows going nowhere: half of them at a time, as long as it breaks down again.  A line that does so alone is poison: from then
 * on the run gives it an error row. */
#define _GNU_SOURCE             /* strsignal */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "cmd/child.h"
#include "cmd/cmd.h"
#include "cmd/supervise.h"

enum { MOST_RESTARTS = 3 };    /* breakdowns one after the other for which no line is to blame */

/* ---- lines in flight ---- */

uint64_t *in_flight_open(const char *path, uint32_t n_slot)
{
    size_t size = n_slot * sizeof(uint64_t);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    void *p = fd < 0 || ftruncate(fd, (off_t)size) ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        die("cannot write \"%s\": %s", path, strerror(errno));
    close(fd);
    return p;
}

static int compare_lines(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static struct line_set read_in_flight(const char *path)
{
    struct line_set s = {0};
    uint64_t slot;
    FILE *f = fopen(path, "rb");
    while (f && fread(&slot, sizeof slot, 1, f) == 1)
        if (slot) {
            s.lines = mem_resize(s.lines, s.n + 1, sizeof *s.lines);
            s.lines[s.n++] = slot - 1;
        }
    if (f)
        fclose(f);
    if (s.n)
        qsort(s.lines, s.n, sizeof *s.lines, compare_lines);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s.n; i++)         /* a line's answers are several sequences */
        if (!n || s.lines[n - 1] != s.lines[i])
            s.lines[n++] = s.lines[i];
    s.n = n;
    return s;
}

int line_set_parse(struct line_set *s, const char *text)
{
    *s = (struct line_set){0};
    for (const char *at = text; *at;) {
        char *end;
        errno = 0;
        uint64_t line = strtoull(at, &end, 10);
        if (end == at || *at == '-' || errno || (*end && *end != ','))
            return err_set("\"%s\" is not a list of lines, counted from 0, such as 3,17", text);
        s->lines = mem_resize(s->lines, s->n + 1, sizeof *s->lines);
        s->lines[s->n++] = line;
        at = *end ? end + 1 : end;
    }
    if (s->n)
        qsort(s->lines, s->n, sizeof *s->lines, compare_lines);
    return 0;
}

bool line_set_has(const struct line_set *s, uint64_t line)
{
    return s->n && bsearch(&line, s->lines, s->n, sizeof line, compare_lines);
}

void line_set_free(struct line_set *s)
{
    free(s->lines);
    *s = (struct line_set){0};
}

static void put_lines(struct buf *b, const uint64_t *lines, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        buf_printf(b, "%s%llu", b->len ? "," : "", (unsigned long long)lines[i]);
}

/* ---- running ---- */

struct supervisor { int argc; char **argv; char *in_flight; struct buf poison; };

static pid_t running;

/* Whoever stops the supervisor stops the run, which finishes what it has begun. */
static void pass_on(int number)
{
    if (running > 0)
        kill(running, number);
}

/* The run; probe: lines that it takes alone, with rows for nobody, or NULL.  Returns waitpid's status. */
static int run_child(const struct supervisor *s, const char *probe)
{
    struct child c = {0};
    child_add(&c, "tokmill");
    for (int i = 0; i < s->argc; i++)
        child_add(&c, s->argv[i]);
    child_add(&c, "--in-flight");
    child_add(&c, s->in_flight);
    if (s->poison.len) {
        child_add(&c, "--poison");
        child_add(&c, s->poison.data);
    }
    const char *const alone[] = { "--lines", probe, "--output", "/dev/null", "--errors", "/dev/null", "--results", "none", "--quiet" };
    for (size_t i = 0; i < sizeof alone / sizeof *alone && probe; i++)
        child_add(&c, alone[i]);
    running = child_start(&c);
    int status = child_end(running);
    running = 0;
    child_free(&c);
    return status;
}

static bool broke_down(int status, const struct line_set *flying)
{
    return WIFSIGNALED(status) || (WEXITSTATUS(status) == EXIT_CANNOT && flying->n);
}

static void say_status(int status, char text[64])
{
    if (WIFSIGNALED(status))
        snprintf(text, 64, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(text, 64, "exit status %d", WEXITSTATUS(status));
}

/* Whether these lines break it down without the others. */
static bool breaks(const struct supervisor *s, const uint64_t *lines, uint32_t n)
{
    struct buf list = {0};
    put_lines(&list, lines, n);
    int status = run_child(s, list.data);
    struct line_set flying = read_in_flight(s->in_flight);
    bool broken = broke_down(status, &flying);
    line_set_free(&flying);
    buf_free(&list);
    return broken;
}

/* The line of these that breaks it down alone: true and first in the set. */
static bool find_poison(const struct supervisor *s, struct line_set *set)
{
    uint64_t *from = set->lines;
    uint32_t n = set->n;
    while (n > 1) {
        uint32_t half = n / 2;
        log_info("looking for the line to blame among %u", n);
        bool first = breaks(s, from, half);
        from += first ? 0 : half;
        n = first ? half : n - half;
    }
    set->lines[0] = from[0];
    return breaks(s, from, 1);
}

int supervise(int argc, char **argv, const char *output)
{
    struct supervisor s = { .argc = argc, .argv = argv };
    struct buf path = {0};
    int n_restart = 0, status;
    char why[64];
    if (strcmp(output, "-") == 0)
        die("run: --supervise goes on with an output that was broken off: name a file with -o");
    buf_printf(&path, "%s.in-flight", output);
    s.in_flight = path.data;
    signal(SIGINT, pass_on);
    signal(SIGTERM, pass_on);
    for (;;) {
        status = run_child(&s, NULL);
        struct line_set flying = read_in_flight(s.in_flight);
        if (!broke_down(status, &flying)) {
            line_set_free(&flying);
            break;
        }
        say_status(status, why);
        log_error("the run broke down: %s, with %u lines in flight", why, flying.n);
        if (flying.n && find_poison(&s, &flying)) {
            log_error("line %llu (counted from 0) breaks the run down: it gets an error row", (unsigned long long)flying.lines[0]);
            put_lines(&s.poison, flying.lines, 1);
            n_restart = 0;
        } else if (++n_restart > MOST_RESTARTS) {
            line_set_free(&flying);
            log_error("no line is to blame, and it broke down %d times: giving up", n_restart);
            break;
        }
        line_set_free(&flying);
    }
    unlink(s.in_flight);
    buf_free(&path);
    buf_free(&s.poison);
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_CANNOT;
}
