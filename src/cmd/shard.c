#define _GNU_SOURCE             /* renameat2 */
#include "cmd/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/env.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "data/zfile.h"

/* ---- which ---- */

/* Who numbers the processes, and from what. */
static const struct { const char *variable; uint64_t first; } numberings[] = {
    {"SLURM_ARRAY_TASK_ID", 0}, {"JOB_COMPLETION_INDEX", 0}, {"PARALLEL_SEQ", 1},
};

/* The number of this process, from 0.  0, or -1: err_text(). */
static int own_number(uint64_t *k)
{
    for (size_t i = 0; i < sizeof numberings / sizeof *numberings; i++) {
        int rc = env_count(numberings[i].variable, k);
        if (rc < 0 || (rc > 0 && *k < numberings[i].first))
            return rc < 0 ? -1 : err_set("%s is below %llu", numberings[i].variable, (unsigned long long)numberings[i].first);
        *k -= rc > 0 ? numberings[i].first : 0;
        if (rc > 0)
            return 0;
    }
    return err_set("\"auto\" finds no number in the environment: neither SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX nor PARALLEL_SEQ is set; say K/N");
}

/* An array without gaps says of how many; of one with gaps it cannot be told which part this was meant to be. */
static int own_array(uint64_t *k, uint64_t *n)
{
    uint64_t first, last;
    int rc = env_count("SLURM_ARRAY_TASK_COUNT", n);
    if (rc > 0)
        rc = env_count("SLURM_ARRAY_TASK_MIN", &first);
    if (rc > 0)
        rc = env_count("SLURM_ARRAY_TASK_MAX", &last);
    if (rc <= 0)
        return rc < 0 ? -1 : err_set("\"auto\" does not find of how many in the environment; say auto/N");
    if (last - first + 1 != *n || *k < first)
        return err_set("the array has gaps, so \"auto\" cannot tell the number of shards; say auto/N");
    *k -= first;
    return 0;
}

/* What stands behind "K/" or "auto/". */
static int parse_number(const char *text, const char *end, uint64_t *n)
{
    char *stop;
    if (*text < '0' || *text > '9')
        return -1;
    *n = strtoull(text, &stop, 10);
    return stop == end ? 0 : -1;
}

int shard_parse(struct shard *s, const char *text)
{
    const char *slash = strchr(text, '/'), *end = text + strlen(text);
    bool automatic = strncmp(text, "auto", 4) == 0 && (!text[4] || slash == text + 4);
    uint64_t k = 0, n = 0;
    if ((!slash && !automatic) || (slash && parse_number(slash + 1, end, &n)) || (!automatic && parse_number(text, slash, &k)))
        return err_set("\"%s\" is not K/N with K from 0, auto or auto/N", text);
    if (automatic && (own_number(&k) || (!slash && own_array(&k, &n))))
        return -1;
    if (n < 1 || n > MOST_SHARDS)
        return err_set("\"%s\": there can be 1 to %d shards", text, MOST_SHARDS);
    if (k >= n)
        return err_set("\"%s\": shard %llu is none of 0 to %llu", text, (unsigned long long)k, (unsigned long long)n - 1);
    *s = (struct shard){ (uint32_t)k, (uint32_t)n };
    return 0;
}

/* ---- names ---- */

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Where the endings of a name begin: ".jsonl.zst". */
static const char *endings_of(const char *path)
{
    const char *base = base_of(path), *end = base + strlen(base), *dot = strrchr(base, '.');
    if (dot > base && (strcmp(dot, ".zst") == 0 || strcmp(dot, ".gz") == 0))
        end = dot;
    for (const char *at = end - 1; at > base; at--)
        if (*at == '.')
            return at;
    return end;
}

char *shard_path(const struct shard *s, const char *path)
{
    struct buf b = {0};
    const char *endings = endings_of(path);
    buf_printf(&b, "%.*s.%05u-of-%05u%s", (int)(endings - path), path, s->k, s->n, endings);
    return b.data;
}

bool shard_of_path(struct shard *s, const char *path)
{
    enum { N_DIGIT = 5, LEN = 2 * N_DIGIT + 4 };
    for (const char *at = base_of(path); (at = strchr(at, '.')); at++) {
        const char *k = at + 1, *n = k + N_DIGIT + 4;
        if (strspn(k, "0123456789") == N_DIGIT && strncmp(k + N_DIGIT, "-of-", 4) == 0 && strspn(n, "0123456789") == N_DIGIT && strchr(".", k[LEN])) {
            *s = (struct shard){ (uint32_t)strtoul(k, NULL, 10), (uint32_t)strtoul(n, NULL, 10) };
            return s->k < s->n;
        }
    }
    return false;
}

char *shard_hidden_path(const char *path)
{
    struct buf b = {0};
    const char *base = base_of(path);
    buf_printf(&b, "%.*s.%s", (int)(base - path), path, base);
    return b.data;
}

/* ---- publishing ---- */

/* A file system without hard links may still rename without replacing. */
static int name_file(const char *hidden, const char *path)
{
    if (link(hidden, path) == 0)
        return 0;
    bool no_links = errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS;
    return no_links ? renameat2(AT_FDCWD, hidden, AT_FDCWD, path, RENAME_NOREPLACE) : -1;
}

int shard_publish(const char *hidden, const char *path)
{
    int rc = name_file(hidden, path), why = errno;
    if (rc && why != EEXIST)
        return err_set("\"%s\" cannot get its name, \"%s\": %s", hidden, path, strerror(why));
    if (rc && !zfile_same(hidden, path))        /* the same: an answer of NFS was lost, and the second try found the first */
        log_info("\"%s\" is there from another run of this shard: the rows of this one are dropped", path);
    return zfile_sync_folder(path) || (unlink(hidden) && errno != ENOENT) ? err_set("cannot remove \"%s\": %s", hidden, strerror(errno)) : 0;
}
