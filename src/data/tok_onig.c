#include "data/tok_onig.h"

#include <stdbool.h>
#include <string.h>

#include "base/err.h"

#define SPACE "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NOT_SPACE "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}" \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD_ALONE WORD "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"     /* outside of brackets it counts Latin-1's fractions too */
#define HEX "0-9A-Fa-f"
#define NOT_HEX "\\x{0}-\\x{2f}:-@G-`g-\\x{10ffff}"

#define AT_WORD_END "(?<=[" WORD_ALONE "])(?![" WORD_ALONE "])"
#define AT_WORD_START "(?<![" WORD_ALONE "])(?=[" WORD_ALONE "])"
#define IN_WORD "(?<=[" WORD_ALONE "])(?=[" WORD_ALONE "])"
#define OUT_OF_WORD "(?<![" WORD_ALONE "])(?![" WORD_ALONE "])"

#define MAX_DEPTH 200      /* of groups and classes; PCRE2 itself stops at 250 groups */

struct rewrite {
    const char *p, *end;
    struct buf *out;
    size_t atom;           /* where in out the last thing begins that a quantifier would repeat */
    size_t group[MAX_DEPTH];
    size_t depth;
};

/* The members of an escape that names a set, for use between brackets; NULL: not one of these. */
static const char *members(char letter)
{
    switch (letter) {
    case 's': return SPACE;
    case 'S': return NOT_SPACE;
    case 'w': return WORD;
    case 'h': return HEX;
    case 'H': return NOT_HEX;
    default:  return NULL;
    }
}

/* The members of [:name:]. */
static const struct { const char *name, *members; } posix[] = {
    { "[:alnum:]", "\\p{Alphabetic}\\p{Nd}" }, { "[:alpha:]", "\\p{Alphabetic}" }, { "[:ascii:]", "\\x{0}-\\x{7f}" },
    { "[:blank:]", "\\x{9}\\p{Zs}" }, { "[:digit:]", "\\p{Nd}" }, { "[:lower:]", "\\p{Lowercase}" },
    { "[:punct:]", "\\p{P}\\p{S}" }, { "[:space:]", SPACE }, { "[:upper:]", "\\p{Uppercase}" }, { "[:word:]", WORD },
    { "[:xdigit:]", HEX },
};

static size_t char_len(const char *p, const char *end)
{
    size_t n = 1;
    while (p + n < end && (p[n] & 0xc0) == 0x80)
        n++;
    return n;
}

static bool looking_at(const struct rewrite *r, const char *s)
{
    size_t n = strlen(s);
    return (size_t)(r->end - r->p) >= n && memcmp(r->p, s, n) == 0;
}

/* \p{Name}.  PCRE2 knows the long names of categories not at all, and by a script's name alone means its extensions. */
static void put_property(struct buf *out, const char *name, size_t len)
{
    static const struct { const char *name, *as; } known[] = {
        { "Letter", "L" }, { "Mark", "M" }, { "Number", "N" }, { "Punctuation", "P" }, { "Symbol", "S" }, { "Separator", "Z" },
        { "Other", "C" }, { "Uppercase_Letter", "Lu" }, { "Lowercase_Letter", "Ll" }, { "Decimal_Number", "Nd" },
        { "Any", "Any" }, { "Alphabetic", "Alphabetic" }, { "Uppercase", "Uppercase" }, { "Lowercase", "Lowercase" },
        { "White_Space", "White_Space" }, { "Ideographic", "Ideographic" }, { "Emoji", "Emoji" },
        { "Extended_Pictographic", "Extended_Pictographic" }, { "Alpha", "Alphabetic" }, { "Digit", "Nd" },
        { "Upper", "Uppercase" }, { "Lower", "Lowercase" }, { "Space", "White_Space" },
    };
    if (len && *name == '^') {
        buf_putc(out, *name++);
        len--;
    }
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0) {
            buf_puts(out, known[i].as);
            return;
        }
    buf_puts(out, len > 2 ? "sc:" : "");
    buf_put(out, name, len);
}

/* An escape that reads the same inside and outside of brackets: \uHHHH, \p{...}, \x{...}, or a backslash and one character. */
static void copy_escape(struct rewrite *r)
{
    char letter = r->p[1];
    const char *close = r->end - r->p > 2 && r->p[2] == '{' ? memchr(r->p, '}', (size_t)(r->end - r->p)) : NULL;
    if (letter == 'u' && r->end - r->p >= 6) {
        buf_printf(r->out, "\\x{%.4s}", r->p + 2);
        r->p += 6;
        return;
    }
    bool braces = close && strchr("pPx", letter);
    size_t n = braces ? 3 : 1 + char_len(r->p + 1, r->end);
    buf_put(r->out, r->p, n);
    r->p += n;
    if (!braces)
        return;
    if (letter == 'x')
        buf_put(r->out, r->p, (size_t)(close - r->p));
    else
        put_property(r->out, r->p, (size_t)(close - r->p));
    buf_putc(r->out, '}');
    r->p = close + 1;
}

static int too_deep(void)
{
    return err_set("a regular expression nests more than %d deep", MAX_DEPTH);
}

/* Steps over "["; the way out is depth--. */
static int enter_class(struct rewrite *r)
{
    if (r->depth == MAX_DEPTH)
        return too_deep();
    r->depth++;
    r->p++;
    return 0;
}

static int rewrite_class(struct rewrite *r);

static int posix_members(struct rewrite *r, struct buf *items)
{
    for (size_t i = 0; i < sizeof posix / sizeof *posix; i++)
        if (looking_at(r, posix[i].name)) {
            buf_puts(items, posix[i].members);
            r->p += strlen(posix[i].name);
            return 0;
        }
    return err_set("a regular expression has \"%.12s\", which is not supported (supported: alnum, alpha, ascii, blank, digit, "
                   "lower, punct, space, upper, word, xdigit)", r->p);
}

static int class_body(struct rewrite *r, struct buf *items, bool *not_word, struct buf *right);

/* A class among the members of another: its members are members. */
static int nested_class(struct rewrite *r, struct buf *items, bool *not_word)
{
    struct buf right = {0};
    if (enter_class(r) < 0)
        return -1;
    int rc = looking_at(r, "^") ? -1 : class_body(r, items, not_word, &right);
    if (rc < 0 || right.len)
        rc = err_set("a regular expression has [^...] or && in a class within a class, which is not supported");
    r->depth--;
    buf_free(&right);
    return rc;
}

/* One member of a class; \W has no list of members, so it is only noted. */
static int class_member(struct rewrite *r, struct buf *items, bool *not_word)
{
    struct buf *out = r->out;
    const char *set = r->p[0] == '\\' && r->end - r->p > 1 ? members(r->p[1]) : NULL;
    if (set || looking_at(r, "\\W")) {
        *not_word |= !set;
        buf_puts(items, set ? set : "");
        r->p += 2;
    } else if (r->p[0] == '\\' && r->end - r->p > 1) {
        r->out = items;
        copy_escape(r);
        r->out = out;
    } else if (looking_at(r, "[:")) {
        return posix_members(r, items);
    } else if (looking_at(r, "[")) {
        return nested_class(r, items, not_word);
    } else {
        buf_put(items, r->p++, 1);
    }
    return 0;
}

static int put_class(struct buf *out, bool negated, const struct buf *items, bool not_word, const struct buf *right)
{
    const char *list = items->data ? items->data : "";
    if (right->len && (negated || not_word))
        return err_set("a regular expression has && within [^...] or beside \\W, which is not supported");
    if (right->len)
        buf_printf(out, "(?:(?=%s)[%s])", right->data, list);
    else if (!not_word)
        buf_printf(out, "[%s%s]", negated ? "^" : "", list);
    else if (!items->len)
        buf_printf(out, "[%s" WORD "]", negated ? "" : "^");
    else if (negated)
        buf_printf(out, "(?:(?![%s])[" WORD "])", list);
    else
        buf_printf(out, "(?:[%s]|[^" WORD "])", list);
    return 0;
}

/* Members up to the "]", which stays. */
static int bare_class(struct rewrite *r)
{
    struct buf items = {0}, none = {0};
    bool not_word = false;
    int rc = 0;
    while (rc == 0 && r->p < r->end && *r->p != ']' && !looking_at(r, "&&"))
        rc = class_member(r, &items, &not_word);
    if (rc == 0)
        rc = put_class(r->out, false, &items, not_word, &none);
    buf_free(&items);
    return rc;
}

/* What is behind && is a class of its own: [a-z&&[^aeiou]] is [a-z] where [^aeiou] matches too. */
static int right_operand(struct rewrite *r, struct buf *right)
{
    struct buf *out = r->out;
    r->out = right;
    int rc = looking_at(r, "[") ? rewrite_class(r) : bare_class(r);
    r->out = out;
    if (rc == 0 && !looking_at(r, "]"))
        rc = err_set("a regular expression has more than one class behind && within [...], which is not supported");
    r->p++;
    return rc;
}

static int class_body(struct rewrite *r, struct buf *items, bool *not_word, struct buf *right)
{
    for (bool first = true; r->p < r->end; first = false) {
        if (*r->p == ']' && !first) {        /* in front it is a member */
            r->p++;
            return 0;
        }
        if (looking_at(r, "&&")) {
            r->p += 2;
            return right_operand(r, right);
        }
        if (class_member(r, items, not_word) < 0)
            return -1;
    }
    return err_set("a regular expression has a \"[\" without \"]\"");
}

/* r->p stands on "[". */
static int rewrite_class(struct rewrite *r)
{
    struct buf items = {0}, right = {0};
    bool not_word = false;
    if (enter_class(r) < 0)
        return -1;
    bool negated = looking_at(r, "^");
    r->p += negated;
    int rc = class_body(r, &items, &not_word, &right);
    if (rc == 0)
        rc = put_class(r->out, negated, &items, not_word, &right);
    r->depth--;
    buf_free(&items);
    buf_free(&right);
    return rc;
}

static int open_group(struct rewrite *r)
{
    if (r->depth == MAX_DEPTH)
        return too_deep();
    r->group[r->depth++] = r->out->len;
    buf_put(r->out, r->p++, 1);
    if (!looking_at(r, "?"))
        return 0;
    buf_put(r->out, r->p++, 1);
    for (; r->p < r->end && strchr("imx-", *r->p); r->p++)
        buf_putc(r->out, *r->p == 'm' ? 's' : *r->p);
    return 0;
}

/* {n}, {n,}, {,m} or {n,m}; anything else is text.  Behind it, + and (after {n}) ? are quantifiers of their own. */
static void rewrite_interval(struct rewrite *r)
{
    const char *q = r->p + 1;
    size_t low = strspn(q, "0123456789");       /* the pattern is NUL-closed */
    bool comma = q[low] == ',';
    size_t high = comma ? strspn(q + low + 1, "0123456789") : 0;
    const char *close = q + low + comma + high;
    if (*close != '}' || low + high == 0) {
        r->atom = r->out->len;
        buf_puts(r->out, "\\{");
        r->p++;
        return;
    }
    buf_printf(r->out, "{%s%.*s", low ? "" : "0", (int)(close + 1 - q), q);
    r->p = close + 1;
    if (!looking_at(r, "+") && !(looking_at(r, "?") && !comma))
        return;
    buf_putc(r->out, ')');
    buf_puts(r->out, "(?:");
    memmove(r->out->data + r->atom + 3, r->out->data + r->atom, r->out->len - 3 - r->atom);
    memcpy(r->out->data + r->atom, "(?:", 3);
}

static int rewrite_escape(struct rewrite *r)
{
    r->atom = r->out->len;
    if (r->end - r->p < 2)
        return err_set("a regular expression ends with a backslash");
    const char *set = members(r->p[1]);
    if (set)
        buf_printf(r->out, "[%s]", r->p[1] == 'w' ? WORD_ALONE : set);
    else if (r->p[1] == 'W')
        buf_puts(r->out, "[^" WORD_ALONE "]");
    else if (r->p[1] == 'b')
        buf_puts(r->out, "(?:" AT_WORD_END "|" AT_WORD_START ")");
    else if (r->p[1] == 'B')
        buf_puts(r->out, "(?:" IN_WORD "|" OUT_OF_WORD ")");
    else {
        copy_escape(r);
        return 0;
    }
    r->p += 2;
    return 0;
}

static int rewrite_next(struct rewrite *r)
{
    switch (*r->p) {
    case '\\':
        return rewrite_escape(r);
    case '[':
        r->atom = r->out->len;
        return rewrite_class(r);
    case '(':
        return open_group(r);
    case ')':
        r->atom = r->depth ? r->group[--r->depth] : r->out->len;
        break;
    case '{':
        rewrite_interval(r);
        return 0;
    case '*': case '+': case '?':
        break;
    default:
        if ((*r->p & 0xc0) != 0x80)
            r->atom = r->out->len;
    }
    buf_put(r->out, r->p++, 1);
    return 0;
}

int tok_onig_to_pcre(const char *pattern, size_t len, struct buf *out)
{
    if (memchr(pattern, 0, len))
        return err_set("a regular expression holds a NUL character: write it \\x00");
    struct rewrite r = { .p = pattern, .end = pattern + len, .out = out };
    buf_reserve(out, len);
    while (r.p < r.end)
        if (rewrite_next(&r) < 0)
            return -1;
    return 0;
}
