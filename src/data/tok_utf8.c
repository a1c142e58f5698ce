#include "data/tok_parts.h"

#include <string.h>

/* Table 3-7 of the Unicode Standard: what may stand second depends on the first byte, the rest is 80..BF. */
size_t tok_utf8_next(const char *p, size_t n, uint32_t *cp, enum utf8_kind *kind)
{
    const uint8_t *u = (const uint8_t *)p;
    *kind = UTF8_GOOD;
    *cp = u[0];
    if (u[0] < 0x80)
        return 1;
    *kind = UTF8_BAD;
    if (u[0] < 0xc2 || u[0] > 0xf4)
        return 1;
    size_t want = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
    uint8_t low = u[0] == 0xe0 ? 0xa0 : u[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = u[0] == 0xed ? 0x9f : u[0] == 0xf4 ? 0x8f : 0xbf;
    *cp = u[0] & (0x7fu >> want);
    for (size_t i = 1; i < want; i++) {
        if (i == n) {
            *kind = UTF8_CUT;
            return i;
        }
        if (u[i] < low || u[i] > high)
            return i;
        *cp = *cp << 6 | (u[i] & 0x3f);
        low = 0x80;
        high = 0xbf;
    }
    *kind = UTF8_GOOD;
    return want;
}

size_t tok_utf8_get(const char *p, size_t n, uint32_t *cp)
{
    enum utf8_kind kind;
    return tok_utf8_next(p, n, cp, &kind);
}

void tok_utf8_put(struct buf *b, uint32_t cp)
{
    if (cp < 0x80) {
        buf_putc(b, (char)cp);
        return;
    }
    char out[4];
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)((0xf00 >> n & 0xff) | cp);      /* n ones, a zero, what is left */
    buf_put(b, out, n);
}

bool tok_is_space(uint32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= '\t' && cp <= '\r');
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029
        || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

size_t tok_spaces_before(const char *text, size_t end)
{
    while (end) {
        size_t start = end - 1;
        while (start && (text[start] & 0xc0) == 0x80)
            start--;
        uint32_t cp;
        tok_utf8_get(text + start, end - start, &cp);
        if (!tok_is_space(cp))
            break;
        end = start;
    }
    return end;
}

size_t tok_spaces_after(const char *text, size_t len, size_t from)
{
    while (from < len) {
        uint32_t cp;
        size_t n = tok_utf8_get(text + from, len - from, &cp);
        if (!tok_is_space(cp))
            break;
        from += n;
    }
    return from;
}

/* Bytes that are printable Latin-1 stand for themselves; the other 68 follow, in order, from U+0100. */
uint32_t tok_byte_to_char(uint8_t byte)
{
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte >= 0x7f && byte <= 0xa0)
        return 0x121u + (byte - 0x7fu);
    return byte == 0xad ? 0x143 : byte;
}

int tok_char_to_byte(uint32_t cp)
{
    if (cp >= 0x100 && cp <= 0x120)
        return (int)cp - 0x100;
    if (cp >= 0x121 && cp <= 0x142)
        return (int)cp - 0x121 + 0x7f;
    if (cp == 0x143)
        return 0xad;
    return cp < 0x100 && tok_byte_to_char((uint8_t)cp) == cp ? (int)cp : -1;
}

void tok_bytes_to_chars(struct buf *out, const char *p, size_t n)
{
    buf_reserve(out, n * 2);
    for (size_t i = 0; i < n; i++)
        tok_utf8_put(out, tok_byte_to_char((uint8_t)p[i]));
}
