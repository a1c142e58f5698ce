#include "data/json.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static const json_t *inner(const struct json *j)
{
    return (const json_t *)j;
}

static const struct json *outer(const json_t *j)
{
    return (const struct json *)j;
}

/* jansson takes a NUL byte for the end of the text and does not see what follows. */
static json_t *refuse_nul(const char *text, const char *nul, json_error_t *e)
{
    *e = (json_error_t){ .line = 1, .text = "NUL byte" };
    for (; text < nul; text++) {
        e->column = *text == '\n' ? 0 : e->column + 1;
        e->line += *text == '\n';
    }
    e->column++;
    return NULL;
}

/* Out of memory, jansson says that the text is bad, at line -1 or at a place of no fault. */
static void *allocate(size_t size)
{
    return mem_resize(NULL, size, 1);
}

static void take_allocator(void)
{
    json_set_alloc_funcs(allocate, free);
}

static json_t *load(const char *text, size_t len, size_t more, json_error_t *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, take_allocator);
    const char *nul = len ? memchr(text, 0, len) : NULL;
    return nul ? refuse_nul(text, nul, e) : json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY | more, e);
}

struct json *json_parse(const char *text, size_t len)
{
    json_error_t e;
    json_t *root = load(text, len, 0, &e);
    if (!root)
        err_set("line %d, column %d: %s", e.line, e.column, e.text);
    return (struct json *)root;
}

struct json *json_parse_line(const char *text, size_t len)
{
    json_error_t e;
    json_t *root = load(text, len, 0, &e);
    if (!root)
        err_set("column %d: %s", e.column, e.text);
    return (struct json *)root;
}

/* All of a file into b: 0, or -1 with errno. */
static int read_whole(const char *path, struct buf *b)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return -1;
    do {
        buf_reserve(b, (size_t)1 << 20);
        b->len += fread(b->data + b->len, 1, (size_t)1 << 20, f);
    } while (!feof(f) && !ferror(f));
    int why = ferror(f) ? errno : 0;
    fclose(f);
    errno = why;
    return why ? -1 : 0;
}

struct json *json_parse_file(const char *path)
{
    struct buf text = {0};
    struct json *root = NULL;
    if (read_whole(path, &text)) {
        err_set("cannot read \"%s\": %s", path, strerror(errno));
    } else {
        json_error_t e;
        json_t *j = load(text.data, text.len, 0, &e);
        if (!j && json_error_code(&e) == json_error_numeric_overflow)  /* tokenizer_config.json writes "no limit" as 10^30 */
            j = load(text.data, text.len, JSON_DECODE_INT_AS_REAL, &e);
        if (!j)
            err_set("\"%s\" is not JSON: line %d, column %d: %s", path, e.line, e.column, e.text);
        root = (struct json *)j;
    }
    buf_free(&text);
    return root;
}

void json_free(struct json *root)
{
    json_decref((json_t *)root);
}

enum json_kind json_kind(const struct json *j)
{
    switch (json_typeof(inner(j))) {
    case JSON_TRUE:
    case JSON_FALSE:   return JSON_KIND_BOOL;
    case JSON_INTEGER: return JSON_KIND_INT;
    case JSON_REAL:    return JSON_KIND_REAL;
    case JSON_STRING:  return JSON_KIND_STRING;
    case JSON_ARRAY:   return JSON_KIND_ARRAY;
    case JSON_OBJECT:  return JSON_KIND_OBJECT;
    case JSON_NULL:    break;
    }
    return JSON_KIND_NULL;
}

const char *json_kind_name(const struct json *j)
{
    static const char *const name[] = {
        [JSON_KIND_NULL] = "null", [JSON_KIND_BOOL] = "a boolean", [JSON_KIND_INT] = "an integer", [JSON_KIND_REAL] = "a number",
        [JSON_KIND_STRING] = "a string", [JSON_KIND_ARRAY] = "an array", [JSON_KIND_OBJECT] = "an object",
    };
    return j ? name[json_kind(j)] : "nothing";
}

const struct json *json_get(const struct json *object, const char *key)
{
    return outer(json_object_get(inner(object), key));
}

const struct json *json_at(const struct json *array, size_t i)
{
    return outer(json_array_get(inner(array), i));
}

size_t json_len(const struct json *j)
{
    return json_is_object(inner(j)) ? json_object_size(inner(j)) : json_array_size(inner(j));
}

bool json_int(const struct json *j, int64_t *out)
{
    if (json_is_integer(inner(j))) {
        *out = json_integer_value(inner(j));
        return true;
    }
    double x;
    if (!json_number(j, &x) || x < -0x1p63 || x >= 0x1p63 || x != (double)(int64_t)x)
        return false;
    *out = (int64_t)x;
    return true;
}

bool json_number(const struct json *j, double *out)
{
    if (!json_is_number(inner(j)))
        return false;
    *out = json_number_value(inner(j));
    return true;
}

bool json_bool(const struct json *j, bool *out)
{
    if (!json_is_boolean(inner(j)))
        return false;
    *out = json_is_true(inner(j));
    return true;
}

const char *json_text(const struct json *j, size_t *len)
{
    if (len && json_is_string(inner(j)))
        *len = json_string_length(inner(j));
    return json_string_value(inner(j));
}

void *json_first(const struct json *object)
{
    return json_object_iter((json_t *)object);
}

void *json_next(const struct json *object, void *it)
{
    return json_object_iter_next((json_t *)object, it);
}

const char *json_key(void *it)
{
    return json_object_iter_key(it);
}

const struct json *json_value(void *it)
{
    return outer(json_object_iter_value(it));
}

/* What the second byte after each lead byte may be (RFC 3629, section 4): keeps out overlong forms, surrogates and
 * code points over U+10FFFF.  Returns the bytes that must follow the lead; 0: not a lead of several bytes. */
static int utf8_lead(unsigned char c, unsigned char *lo, unsigned char *hi)
{
    *lo = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    *hi = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    return c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
}

/* The length of the sequence at s (len > 0).  If it is bad, *ok = false and the length is that of its maximal subpart:
 * the bytes that one U+FFFD stands for (Unicode, section 3.9, as Python's errors="replace"). */
static size_t utf8_step(const unsigned char *s, size_t len, bool *ok)
{
    unsigned char lo, hi;
    *ok = s[0] < 0x80;
    if (*ok)
        return 1;
    size_t more = (size_t)utf8_lead(s[0], &lo, &hi), n = 1;
    for (; n <= more && n < len && s[n] >= lo && s[n] <= hi; n++) {
        lo = 0x80;
        hi = 0xbf;
    }
    *ok = more && n == more + 1;
    return n;
}

bool utf8_valid(const char *s, size_t len, size_t *at)
{
    const unsigned char *u = (const unsigned char *)s;
    bool ok = true;
    size_t i = 0;
    while (ok && i < len) {
        uint64_t eight;
        while (len - i >= 8 && (memcpy(&eight, u + i, 8), !(eight & 0x8080808080808080)))
            i += 8;
        if (i == len)
            break;
        size_t n = utf8_step(u + i, len - i, &ok);
        if (ok)
            i += n;
    }
    if (!ok)
        *at = i;
    return ok;
}

static void put_escape(struct buf *b, unsigned char c)
{
    static const char letter[] = { ['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['"'] = '"', ['\\'] = '\\' };
    if (letter[c])
        buf_put(b, (char[]){ '\\', letter[c] }, 2);
    else
        buf_printf(b, "\\u%04x", c);
}

/* The first byte at or after i that cannot be copied as it stands: a quote, a backslash, a control, or not UTF-8. */
static size_t plain_run(const unsigned char *u, size_t i, size_t len)
{
    bool ok = true;
    while (i < len && u[i] >= 0x20 && u[i] != '"' && u[i] != '\\') {
        size_t n = u[i] < 0x80 ? 1 : utf8_step(u + i, len - i, &ok);
        if (!ok)
            break;
        i += n;
    }
    return i;
}

void json_put_string(struct buf *b, const char *s, size_t len)
{
    const unsigned char *u = (const unsigned char *)s;
    buf_reserve(b, len + 2);
    buf_putc(b, '"');
    for (size_t i = 0; i < len;) {
        size_t end = plain_run(u, i, len);
        buf_put(b, s + i, end - i);
        i = end;
        if (i == len)
            break;
        if (u[i] < 0x80) {
            put_escape(b, u[i++]);
        } else {
            bool ok;
            buf_puts(b, "\xef\xbf\xbd");
            i += utf8_step(u + i, len - i, &ok);
        }
    }
    buf_putc(b, '"');
}

/* The fewest digits from `digits` on that read back as x; 17 always do, 9 for a float. */
static void put_digits(struct buf *b, double x, int digits, bool is_float)
{
    char text[32];
    bool same = false;
    for (; !same; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        same = is_float ? strtof(text, NULL) == (float)x : strtod(text, NULL) == x;
    }
    buf_puts(b, text);
}

void json_put_real(struct buf *b, double x)
{
    if (isfinite(x))
        put_digits(b, x, 15, false);
    else
        buf_puts(b, "null");
}

void json_put_float(struct buf *b, float x)
{
    if (isfinite(x))
        put_digits(b, x, 6, true);
    else
        buf_puts(b, "null");
}

/* A real stays one: 2.0 must not come back as the integer 2. */
static void put_real_value(struct buf *b, double x)
{
    size_t at = b->len;
    json_put_real(b, x);
    if (!strpbrk(b->data + at, ".e"))
        buf_puts(b, ".0");
}

static void put_object(struct buf *b, const struct json *j)
{
    buf_putc(b, '{');
    for (void *first = json_first(j), *it = first; it; it = json_next(j, it)) {
        if (it != first)
            buf_putc(b, ',');
        const char *key = json_key(it);
        json_put_string(b, key, strlen(key));
        buf_putc(b, ':');
        json_put_json(b, json_value(it));
    }
    buf_putc(b, '}');
}

static void put_array(struct buf *b, const struct json *j)
{
    buf_putc(b, '[');
    for (size_t i = 0; i < json_len(j); i++) {
        if (i)
            buf_putc(b, ',');
        json_put_json(b, json_at(j, i));
    }
    buf_putc(b, ']');
}

void json_put_json(struct buf *b, const struct json *j)
{
    switch (json_kind(j)) {
    case JSON_KIND_NULL:   buf_puts(b, "null"); break;
    case JSON_KIND_BOOL:   buf_puts(b, json_is_true(inner(j)) ? "true" : "false"); break;
    case JSON_KIND_INT:    buf_printf(b, "%lld", (long long)json_integer_value(inner(j))); break;
    case JSON_KIND_REAL:   put_real_value(b, json_real_value(inner(j))); break;
    case JSON_KIND_STRING: json_put_string(b, json_string_value(inner(j)), json_string_length(inner(j))); break;
    case JSON_KIND_ARRAY:  put_array(b, j); break;
    case JSON_KIND_OBJECT: put_object(b, j); break;
    }
}
