#define _GNU_SOURCE         /* gmtime_r */
#include "cmd/folder.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"

void folder_make(const char *path)
{
    char part[512];
    snprintf(part, sizeof part, "%s", path);
    for (char *at = part + 1;; at++) {
        char c = *at;
        if (c && c != '/')
            continue;
        *at = 0;
        if (mkdir(part, 0777) && errno != EEXIST)
            die("results folder \"%s\": %s", part, strerror(errno));
        if (!c)
            return;
        *at = c;
    }
}

void folder_choose(char *folder, size_t size, const char *given, const char *part)
{
    folder[0] = 0;
    if (given && strcmp(given, "none") == 0)
        return;
    time_t now = (time_t)clock_unix_s();
    struct tm utc;
    char base[448];
    int n = 0;
    if (given)
        snprintf(base, sizeof base, "%s%s%s", given, part ? "/" : "", part ? part : "");
    else {
        strftime(base, sizeof base, "results/%Y%m%d-%H%M%S", gmtime_r(&now, &utc));
        snprintf(base + strlen(base), sizeof base - strlen(base), "%s%s", part ? "-" : "", part ? part : "");
    }
    for (snprintf(folder, size, "%s", base); (part || !given) && access(folder, F_OK) == 0;)
        snprintf(folder, size, "%s-%d", base, ++n);            /* two runs in one second, or a further try */
    folder_make(folder);
}
