#define _POSIX_C_SOURCE 200809L     /* isatty */
#include "base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static enum log_level shown = LOG_INFO;
static bool on_line;                /* the cursor stands behind a progress line */

void log_set_level(enum log_level level)
{
    shown = level;
}

void log_at(enum log_level level, const char *fmt, ...)
{
    static const char *const name[] = { "error: ", "warning: ", "", "debug: " };
    if (level > shown)
        return;
    va_list ap;
    va_start(ap, fmt);
    pthread_mutex_lock(&lock);
    if (on_line)
        fputs("\r\033[K", stderr);
    on_line = false;
    fprintf(stderr, "tokmill: %s", name[level]);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    pthread_mutex_unlock(&lock);
    va_end(ap);
}

void log_progress(const char *fmt, ...)
{
    if (shown < LOG_INFO)
        return;
    va_list ap;
    va_start(ap, fmt);
    pthread_mutex_lock(&lock);
    bool terminal = isatty(2), ends = !fmt[0];
    if (terminal && (on_line || !ends))
        fputs("\r\033[K", stderr);
    vfprintf(stderr, fmt, ap);
    if (!terminal && !ends)
        fputc('\n', stderr);
    on_line = terminal && !ends;
    fflush(stderr);
    pthread_mutex_unlock(&lock);
    va_end(ap);
}
