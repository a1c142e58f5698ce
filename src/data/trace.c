#define _DEFAULT_SOURCE     /* timegm */
#include "data/trace.h"

#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "data/json.h"
#include "data/table.h"
#include "data/zfile.h"

#define MAX_FIELD 64
#define MAX_SECONDS 9e9         /* of a time: in nanoseconds it fits 63 bits */
#define TOKENS "a number of tokens from 0 to 16777216"
#define SHOWN 60                /* bytes of a bad value in a message */

enum role { TIME, INPUT, OUTPUT, N_ROLE };

/* How a format is read.  next: 1 a row, 0 the end, -1 bad. */
struct format {
    const char *name;
    int (*next)(struct trace *t, struct trace_row *row);
    int (*read_time)(struct trace *t, const char *text);       /* CSV: text to t->time_ns; NULL: there is no time */
    const char *column[N_ROLE];                              /* CSV: as the header calls them */
};

struct trace {
    const struct format *format;
    struct zreader *in;
    char *path;                         /* for messages */
    char *line; size_t len, at;         /* the line read last; at: what ShareGPT has used of it */
    uint64_t line_number;
    bool held;                          /* that line was looked at, but is still to be used */
    size_t column[N_ROLE], n_field;   /* CSV: where the columns stand, of how many */
    int64_t time_ns, first_ns, last_ns; /* of this row, the first and the latest of those given */
    bool any;                           /* one was given */
    struct trace_counts counts;
    uint64_t *hash_ids; size_t hash_room;
    struct buf entry;                   /* ShareGPT: text of one */
    uint64_t n_entry;
    bool closed;                        /* ShareGPT: the array has ended */
    struct json *doc;                   /* what the row was read from */
};

/* ---- messages ---- */

static int bad_row(const struct trace *t, const char *what)
{
    return err_set("%s: line %llu: %s", t->path, (unsigned long long)t->line_number, what);
}

/* shown: the value as JSON, so that it cannot disturb a terminal. */
static int bad_value(const struct trace *t, const char *name, struct buf *shown, const char *want)
{
    err_set("%s: line %llu: %s is %.*s%s; it must be %s", t->path, (unsigned long long)t->line_number, name, SHOWN, shown->data,
            shown->len > SHOWN ? "..." : "", want);
    buf_free(shown);
    return -1;
}

static int bad_field(const struct trace *t, enum role c, const char *text, const char *want)
{
    struct buf shown = {0};
    json_put_string(&shown, text, strlen(text));
    return bad_value(t, t->format->column[c], &shown, want);
}

static int bad_key(const struct trace *t, const char *key, const struct json *v, const char *want)
{
    struct buf shown = {0};
    if (v)
        json_put_json(&shown, v);
    else
        buf_puts(&shown, "not there");
    return bad_value(t, key, &shown, want);
}

/* ---- lines ---- */

/* The next line that is not blank: 1; 0 at the end of the file; -1. */
static int next_line(struct trace *t)
{
    int rc = 1;
    if (t->held) {
        t->held = false;
        return 1;
    }
    do {
        rc = zreader_line(t->in, &t->line, &t->len);
        t->line_number += rc > 0;
        if (rc > 0 && !t->line)
            return bad_row(t, "the line is too long (more than 256 MiB); a JSON array may stand on many lines (jq . FILE)");
    } while (rc > 0 && strspn(t->line, " \t\r") == t->len);
    return rc;
}

/* ---- CSV ---- */

/* Numbers between other characters: "4-2-2 2:2:2" is a date, each digit a number of so many digits. */
static bool take_numbers(const char **at, const char *shape, int *out)
{
    for (; *shape; shape++) {
        if (!isdigit((unsigned char)*shape)) {
            if (*(*at)++ != *shape)
                return false;
            continue;
        }
        *out = 0;
        for (int n = *shape - '0'; n > 0; n--, (*at)++) {
            if (!isdigit((unsigned char)**at))
                return false;
            *out = *out * 10 + (**at - '0');
        }
        out++;
    }
    return true;
}

/* ".6805900": nanoseconds, -1 if it is not that. */
static int64_t take_fraction(const char **at)
{
    int64_t ns = 0, unit = 1000000000;
    if (**at != '.')
        return 0;
    for ((*at)++; isdigit((unsigned char)**at); (*at)++) {
        unit /= 10;
        ns += unit * (**at - '0');
    }
    return unit == 1000000000 || !unit ? -1 : ns;
}

/* "+02:00": seconds to take off, nothing if there is no zone. */
static bool take_zone(const char **at, int64_t *seconds)
{
    int zone[2], sign = **at == '-' ? -1 : 1;
    *seconds = 0;
    if (**at != '+' && **at != '-')
        return true;
    (*at)++;
    if (!take_numbers(at, "2:2", zone) || zone[0] > 23 || zone[1] > 59)
        return false;
    *seconds = sign * (zone[0] * 3600 + zone[1] * 60);
    return true;
}

/* "2023-11-16 18:15:46.6805900", "2024-05-10 00:00:00+00:00" */
static int read_date(struct trace *t, const char *text)
{
    const char *at = text, *want = "a date as 2023-11-16 18:15:46.6805900";
    int n[6];
    if (!take_numbers(&at, "4-2-2 2:2:2", n) || n[0] < 1970 || n[0] > 2200 || n[3] > 23 || n[4] > 59 || n[5] > 60)
        return bad_field(t, TIME, text, want);
    struct tm day = { .tm_year = n[0] - 1900, .tm_mon = n[1] - 1, .tm_mday = n[2] };
    int64_t seconds = timegm(&day), zone, ns = take_fraction(&at);
    if (day.tm_mon != n[1] - 1 || day.tm_mday != n[2] || ns < 0 || !take_zone(&at, &zone) || *at)     /* February 30 becomes March 2 */
        return bad_field(t, TIME, text, want);
    t->time_ns = (seconds + n[3] * 3600 + n[4] * 60 + n[5] - zone) * 1000000000 + ns;
    return 0;
}

static int read_seconds(struct trace *t, const char *text)
{
    char *end;
    double x = strtod(text, &end);
    if (end == text || text[strspn(text, "0123456789.eE+-")] || !(x >= 0 && x <= MAX_SECONDS))
        return bad_field(t, TIME, text, "a number of seconds");
    t->time_ns = llround(x * 1e9);
    return 0;
}

static int read_tokens(struct trace *t, enum role c, const char *text, uint32_t *n)
{
    size_t digits = strspn(text, "0123456789");
    unsigned long value = digits && digits < 10 && !text[digits] ? strtoul(text, NULL, 10) : ULONG_MAX;
    if (value > TRACE_MAX_TOKENS)
        return bad_field(t, c, text, TOKENS);
    *n = (uint32_t)value;
    return 0;
}

static int next_csv(struct trace *t, struct trace_row *row)
{
    char *field[MAX_FIELD];
    int more = next_line(t);
    if (more <= 0)
        return more;
    if (strlen(t->line) != t->len)
        return bad_row(t, "a NUL byte");
    size_t n = table_csv_split(t->line, ',', field, MAX_FIELD);
    if (n != t->n_field)
        return err_set("%s: line %llu: %zu fields where the header has %zu", t->path, (unsigned long long)t->line_number, n, t->n_field);
    const struct format *f = t->format;
    if (f->read_time && f->read_time(t, field[t->column[TIME]]))
        return -1;
    bool bad = read_tokens(t, INPUT, field[t->column[INPUT]], &row->n_input) || read_tokens(t, OUTPUT, field[t->column[OUTPUT]], &row->n_output);
    return bad ? -1 : 1;
}

/* ---- Mooncake ---- */

static int read_length(struct trace *t, const char *key, uint32_t *n)
{
    const struct json *v = json_get(t->doc, key);
    int64_t value;
    if (!json_int(v, &value) || value < 0 || value > TRACE_MAX_TOKENS)
        return bad_key(t, key, v, TOKENS);
    *n = (uint32_t)value;
    return 0;
}

static int read_hash_ids(struct trace *t, struct trace_row *row)
{
    const struct json *list = json_get(t->doc, "hash_ids");
    size_t n = json_len(list), n_block = ((size_t)row->n_input + TRACE_BLOCK - 1) / TRACE_BLOCK;
    if (!list)
        return 0;
    if (json_kind(list) != JSON_KIND_ARRAY || n > n_block)
        return bad_key(t, "hash_ids", list, "a list with at most one number for each 512 tokens of input_length");
    if (n > t->hash_room)
        t->hash_ids = mem_resize(t->hash_ids, t->hash_room = n, sizeof *t->hash_ids);
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        if (!json_int(json_at(list, i), &id) || id < 0)
            return bad_key(t, "a number in hash_ids", json_at(list, i), "a whole number from 0 on");
        t->hash_ids[i] = (uint64_t)id;
    }
    row->hash_ids = t->hash_ids;
    row->n_hash = (uint32_t)n;
    return 0;
}

static int next_mooncake(struct trace *t, struct trace_row *row)
{
    double ms;
    int more = next_line(t);
    if (more <= 0)
        return more;
    t->doc = json_parse_line(t->line, t->len);
    if (!t->doc)
        return err_wrap("%s: line %llu", t->path, (unsigned long long)t->line_number);
    const struct json *v = json_get(t->doc, "timestamp");
    if (!json_number(v, &ms) || !(ms >= 0 && ms <= MAX_SECONDS * 1e3))
        return bad_key(t, "timestamp", v, "a number of milliseconds");
    t->time_ns = llround(ms * 1e6);
    bool bad = read_length(t, "input_length", &row->n_input) || read_length(t, "output_length", &row->n_output) || read_hash_ids(t, row);
    return bad ? -1 : 1;
}

/* ---- ShareGPT: the array is cut into entries here, so that no more than one of them is in memory ---- */

enum { END = -1, BROKEN = -2 };

/* A byte of the file, "\n" behind every line; END; BROKEN: err_text(). */
static int next_byte(struct trace *t)
{
    if (t->at > t->len) {
        int more = next_line(t);
        if (more <= 0)
            return more ? BROKEN : END;
        t->at = 0;
    }
    size_t at = t->at++;
    return at < t->len ? (unsigned char)t->line[at] : '\n';
}

static int next_solid(struct trace *t)
{
    int c;
    do
        c = next_byte(t);
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n');
    return c;
}

static int bad_byte(const struct trace *t, int c, const char *want)
{
    struct buf shown = {0};
    if (c == BROKEN)
        return -1;
    if (c == END)
        return bad_row(t, "the file ends inside the array");
    json_put_string(&shown, &(char){ (char)c }, 1);
    return bad_value(t, "what follows", &shown, want);
}

/* To the "{" of the next entry: 1; 0: the array has ended, and the file with it. */
static int find_entry(struct trace *t)
{
    int c = t->closed ? ']' : next_solid(t);
    if (c == ']') {
        c = t->closed ? END : next_solid(t);
        t->closed = true;
        return c == END ? 0 : bad_byte(t, c, "the end of the file behind the array");
    }
    if (t->n_entry++) {
        if (c != ',')
            return bad_byte(t, c, "a comma or ] behind an entry");
        c = next_solid(t);
    }
    return c == '{' ? 1 : bad_byte(t, c, "the { of an entry");
}

/* The entry's text to t->entry, its "{" being read. */
static int read_entry(struct trace *t)
{
    bool quoted = false, escaped = false;
    buf_clear(&t->entry);
    buf_putc(&t->entry, '{');
    for (int depth = 1; depth;) {
        int c = next_byte(t);
        if (c < 0)
            return bad_byte(t, c, "");
        if (t->entry.len > ZFILE_MAX_LINE)
            return bad_row(t, "an entry is too long (more than 256 MiB)");
        buf_putc(&t->entry, (char)c);
        if (escaped)
            escaped = false;
        else if (c == '\\')
            escaped = quoted;
        else if (c == '"')
            quoted = !quoted;
        else if (!quoted)
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    }
    return 0;
}

static int read_turn(const struct trace *t, const struct json *turn, const char **text, size_t *len)
{
    const struct json *v = json_get(turn, "value");
    *text = json_text(v, len);
    return *text ? 0 : bad_key(t, "\"value\" of a turn", v, "a text");
}

static int next_sharegpt(struct trace *t, struct trace_row *row)
{
    int more = find_entry(t);
    if (more <= 0)
        return more;
    uint64_t from = t->line_number;
    if (read_entry(t))
        return -1;
    t->doc = json_parse(t->entry.data, t->entry.len);
    if (!t->doc)
        return err_wrap("%s: in the entry from line %llu on", t->path, (unsigned long long)from);
    const struct json *turns = json_get(t->doc, "conversations");
    if (!turns || json_kind(turns) != JSON_KIND_ARRAY)
        return bad_key(t, "\"conversations\" of an entry", turns, "a list of turns");
    if (json_len(turns) < 2)
        return 1;
    bool bad = read_turn(t, json_at(turns, 0), &row->prompt, &row->prompt_len) || read_turn(t, json_at(turns, 1), &row->answer, &row->answer_len);
    return bad ? -1 : 1;
}

/* ---- all ---- */

static const struct format azure    = { "azure", next_csv, read_date, { "TIMESTAMP", "ContextTokens", "GeneratedTokens" } };
static const struct format lengths  = { "lengths", next_csv, NULL, { "TIMESTAMP", "ContextTokens", "GeneratedTokens" } };
static const struct format burstgpt = { "burstgpt", next_csv, read_seconds, { "Timestamp", "Request tokens", "Response tokens" } };
static const struct format vidur    = { "vidur", next_csv, read_seconds, { "arrived_at", "num_prefill_tokens", "num_decode_tokens" } };
static const struct format mooncake = { "mooncake", next_mooncake, NULL, {0} };
static const struct format sharegpt = { "sharegpt", next_sharegpt, NULL, {0} };

static bool find_columns(struct trace *t, const struct format *f, char *const *names, size_t n)
{
    for (int c = 0; c < N_ROLE; c++) {
        t->column[c] = 0;
        while (t->column[c] < n && strcmp(names[t->column[c]], f->column[c]))
            t->column[c]++;
        if (t->column[c] == n)
            return false;
    }
    t->format = f;
    return true;
}

/* Azure's columns with X's for a time are lengths alone: the first row tells. */
static int tell_azure(struct trace *t)
{
    int more = next_line(t);
    t->held = more > 0;
    if (t->held && t->column[TIME] == 0 && t->line[0] == 'X')
        t->format = &lengths;
    return more < 0 ? -1 : 0;
}

static int read_header(struct trace *t)
{
    static const struct format *const all[] = { &azure, &burstgpt, &vidur };
    char *names[MAX_FIELD], *line = t->line;
    if (!strncmp(line, "\xef\xbb\xbf", 3))          /* a byte order mark */
        line += 3;
    t->n_field = table_csv_split(line, ',', names, MAX_FIELD);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (find_columns(t, all[i], names, t->n_field))
            return t->format == &azure ? tell_azure(t) : 0;
    return bad_row(t, "this is no header of a known trace: it must be CSV of Azure (TIMESTAMP,ContextTokens,GeneratedTokens), BurstGPT "
                      "(Timestamp,...,Request tokens,Response tokens,...) or Vidur (arrived_at,num_prefill_tokens,num_decode_tokens), "
                      "JSON lines of Mooncake, or a JSON array of ShareGPT");
}

static int tell_format(struct trace *t)
{
    int more = next_line(t);
    if (more < 0)
        return -1;
    if (!more)
        return err_set("%s is empty: no trace", t->path);
    t->at = strspn(t->line, " \t\r") + 1;
    char first = t->line[t->at - 1];
    if (first != '{' && first != '[')
        return read_header(t);
    t->format = first == '{' ? &mooncake : &sharegpt;
    t->held = first == '{';
    return 0;
}

struct trace *trace_open(const char *path)
{
    struct zreader *in = zreader_open(path);
    if (!in)
        return NULL;
    struct trace *t = mem_alloc(sizeof *t);
    t->in = in;
    t->path = strcmp(path, "-") ? mem_dup(path, strlen(path)) : mem_dup("standard input", 14);
    if (tell_format(t)) {
        trace_close(t);
        return NULL;
    }
    return t;
}

void trace_close(struct trace *t)
{
    if (!t)
        return;
    zreader_close(t->in);
    json_free(t->doc);
    buf_free(&t->entry);
    free(t->hash_ids);
    free(t->path);
    free(t);
}

const char *trace_format(const struct trace *t)
{
    return t->format->name;
}

bool trace_has_arrivals(const struct trace *t)
{
    return t->format->read_time || t->format == &mooncake;
}

bool trace_has_text(const struct trace *t)
{
    return t->format == &sharegpt;
}

struct trace_counts trace_counts(const struct trace *t)
{
    return t->counts;
}

static double arrival_of(struct trace *t)
{
    if (!trace_has_arrivals(t))
        return NAN;
    if (!t->any)
        t->first_ns = t->last_ns = t->time_ns;
    t->any = true;
    if (t->time_ns < t->last_ns)
        t->counts.n_late++;
    else
        t->last_ns = t->time_ns;
    return (double)(t->last_ns - t->first_ns) / 1e9;
}

int trace_next(struct trace *t, struct trace_row *row)
{
    for (;; t->counts.n_dropped++) {
        json_free(t->doc);
        t->doc = NULL;
        *row = (struct trace_row){0};
        int rc = t->format->next(t, row);
        if (rc <= 0)
            return rc;
        if (row->prompt_len && row->answer_len)
            row->arrival_s = NAN;
        else if (row->n_input && row->n_output)
            row->arrival_s = arrival_of(t);
        else
            continue;
        return 1;
    }
}
