#define _GNU_SOURCE             /* environ, posix_spawn */
#include "cmd/child.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"
#include "cmd/cmd.h"

void child_add(struct child *c, const char *word)
{
    c->word = mem_resize(c->word, c->n + 2, sizeof *c->word);
    c->word[c->n++] = (char *)word;
    c->word[c->n] = NULL;
}

void child_split(struct child *c, char *text)
{
    char *save = NULL;
    for (char *word = strtok_r(text, " \t", &save); word; word = strtok_r(NULL, " \t", &save))
        child_add(c, word);
}

/* With the child's own signals, which the parent may ignore or pass on while it waits. */
static pid_t start(const struct child *c, bool seen)
{
    posix_spawnattr_t attr;
    posix_spawn_file_actions_t files;
    sigset_t set;
    pid_t child;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | (seen ? POSIX_SPAWN_SETPGROUP : 0));
    posix_spawnattr_setsigdefault(&attr, &set);
    posix_spawnattr_setpgroup(&attr, 0);
    posix_spawn_file_actions_init(&files);
    if (!seen)
        posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", 1 /* O_WRONLY */, 0);
    int e = posix_spawn(&child, "/proc/self/exe", &files, &attr, c->word, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&files);
    if (e)
        die("cannot run %s %s: %s", c->word[0], c->word[1], strerror(e));
    return child;
}

pid_t child_start(const struct child *c)
{
    return start(c, true);
}

int child_end(pid_t child)
{
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

int child_run(const struct child *c)
{
    int status = child_end(start(c, false));
    return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_CANNOT;
}

void child_free(struct child *c)
{
    free(c->word);
    *c = (struct child){0};
}
