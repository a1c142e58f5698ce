#include "base/env.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"

const char *env_text(const char *name)
{
    const char *text = getenv(name);
    return text && *text ? text : NULL;
}

int env_count(const char *name, uint64_t *n)
{
    const char *text = env_text(name);
    char *end;
    if (!text)
        return 0;
    errno = 0;
    *n = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno)
        return err_set("%s: \"%s\" is not a whole number", name, text);
    return 1;
}
