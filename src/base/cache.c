#define _POSIX_C_SOURCE 200809L     /* mkstemp, fdopen */
#include "base/cache.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/env.h"
#include "base/err.h"
#include "base/mem.h"

/* Makes the folders above the file. */
static int make_folders(char *path)
{
    for (char *at = strchr(path + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        int rc = mkdir(path, 0700) && errno != EEXIST ? err_set("cache folder \"%s\": %s", path, strerror(errno)) : 0;
        *at = '/';
        if (rc)
            return -1;
    }
    return 0;
}

/* A path that is not from the root counts as not set; so says the specification. */
static const char *folder_of(const char *variable)
{
    const char *folder = env_text(variable);
    return folder && folder[0] == '/' ? folder : NULL;
}

int cache_path(char *path, size_t size, const char *name)
{
    const char *cache = folder_of("XDG_CACHE_HOME"), *home = folder_of("HOME");
    if (!cache && !home)
        return err_set("no cache folder: neither XDG_CACHE_HOME nor HOME is set");
    int n = snprintf(path, size, "%s%s/tokmill/%s", cache ? cache : home, cache ? "" : "/.cache", name);
    if (n < 0 || (size_t)n >= size)
        return err_set("cache folder \"%s\": the path is too long", cache ? cache : home);
    return make_folders(path);
}

int cache_write(const char *path, const void *data, size_t len)
{
    size_t size = strlen(path) + sizeof ".XXXXXX";
    char *beside = mem_alloc(size);
    snprintf(beside, size, "%s.XXXXXX", path);
    int fd = mkstemp(beside);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "wb");
    bool good = f && fwrite(data, 1, len, f) == len;
    good = f && !fclose(f) && good && !rename(beside, path);
    int rc = good ? 0 : err_set("cannot write \"%s\": %s", path, strerror(errno));
    if (fd >= 0 && !good)
        remove(beside);
    free(beside);
    return rc;
}
