#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char text[1024];
static _Thread_local struct { void (*say)(void *arg); void *arg; } last;

/* Names out of files stand in messages: they must not disturb a terminal, nor make two lines of one.  C1 controls are c2 80 .. c2 9f. */
static void tame(unsigned char *s)
{
    for (; *s; s++) {
        if (*s == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0)
            *s++ = '?', *s = '?';
        else if (*s < 0x20 || *s == 0x7f)
            *s = '?';
    }
}

int err_set(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    tame((unsigned char *)text);
    return -1;
}

int err_wrap(const char *fmt, ...)
{
    char old[sizeof text];
    memcpy(old, text, sizeof text);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, ": %s", old);
    return -1;
}

const char *err_text(void)
{
    return text;
}

void err_before_exit(void (*last_words)(void *arg), void *arg)
{
    last.say = last_words;
    last.arg = arg;
}

_Noreturn void die(const char *fmt, ...)
{
    va_list ap;
    fflush(stdout);
    fputs("tokmill: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    void (*say)(void *arg) = last.say;
    last.say = NULL;
    if (say)
        say(last.arg);
    exit(2);
}

_Noreturn void check_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "tokmill: %s:%d: this cannot be: %s\n", file, line, what);
    abort();
}
