#include "cmd/page.h"

#include <string.h>

#include "data/json.h"

#define LONG_WORD 20       /* characters after which a word may be broken (at a / or _ a little earlier): a phone's cell holds about so many */

/* One character that is plain in XML 1.0, or its reference. */
static void put_xml_char(struct buf *b, const char *s, size_t len)
{
    unsigned char c = (unsigned char)*s;
    bool noncharacter = len == 3 && (memcmp(s, "\xef\xbf\xbe", 3) == 0 || memcmp(s, "\xef\xbf\xbf", 3) == 0);
    if (noncharacter || (c < 32 && c != '\t' && c != '\n'))
        buf_puts(b, "\xef\xbf\xbd");
    else if (strchr("&<>\"'", c))
        buf_printf(b, "&#%d;", c);
    else
        buf_put(b, s, len);
}

/* Bytes of the character at s, 0 if it is not well-formed UTF-8. */
static size_t char_len(const char *s)
{
    unsigned char c = (unsigned char)*s;
    size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4, bad;
    return !memchr(s, 0, len) && utf8_valid(s, len, &bad) ? len : 0;
}

/* breaks: long words get places where a narrow cell may break them. */
static void put_xml(struct buf *b, const char *s, bool breaks)
{
    size_t word = 0;
    for (size_t len; *s; s += len) {
        len = char_len(s);
        put_xml_char(b, len ? s : "\x01", len ? len : 1);
        len = len ? len : 1;
        word = strchr(" \n\t", *s) ? 0 : word + 1;
        if (breaks && s[len] && (word == LONG_WORD || (word > LONG_WORD / 2 && strchr("/_", *s)))) {
            buf_puts(b, "<wbr/>");
            word = 0;
        }
    }
}

void page_escape(struct buf *b, const char *text)
{
    put_xml(b, text, false);
}

/* Every character that may be markup gets a backslash; line breaks become spaces. */
static void put_markdown(struct buf *b, const char *s)
{
    for (size_t len; *s; s += len) {
        len = char_len(s);
        if (!len || (unsigned char)*s < 32) {
            buf_puts(b, len ? " " : "\xef\xbf\xbd");
            len = 1;
            continue;
        }
        if (strchr("\\`*_[]<>|~&#!$", *s))
            buf_putc(b, '\\');
        buf_put(b, s, len);
    }
}

static void put_text(struct page *p, const char *text)
{
    if (p->html)
        put_xml(p->to, text, true);
    else
        put_markdown(p->to, text);
}

static void put_wrapped(struct page *p, const char *before, const char *text, const char *after)
{
    buf_puts(p->to, before);
    put_text(p, text);
    buf_puts(p->to, after);
}

void page_open(struct page *p, struct buf *to, bool html, const char *title)
{
    *p = (struct page){ to, html };
    if (!html) {
        put_wrapped(p, "# ", title, "\n\n");
        return;
    }
    buf_puts(to, "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\"/>\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>");
    page_escape(to, title);
    put_wrapped(p, "</title>\n</head>\n<body bgcolor=\"#ffffff\" text=\"#222222\">\n<font face=\"system-ui, sans-serif\">\n<h1><font size=\"5\">",
        title, "</font></h1>\n");
}

void page_close(struct page *p)
{
    if (p->html)
        buf_puts(p->to, "<br clear=\"all\"/>\n</font>\n</body>\n</html>\n");
}

void page_heading(struct page *p, const char *text)
{
    put_wrapped(p, p->html ? "<h2><font size=\"4\">" : "## ", text, p->html ? "</font></h2>\n" : "\n\n");
}

void page_text(struct page *p, const char *text)
{
    put_wrapped(p, p->html ? "<p><font size=\"2\">" : "", text, p->html ? "</font></p>\n" : "\n\n");
}

static void put_cells(struct page *p, const char *tag, const char *rest, const char *const *cells, size_t n)
{
    buf_puts(p->to, "<tr valign=\"top\">");
    for (size_t i = 0; i < n; i++) {
        buf_printf(p->to, "<%s align=\"%s\"%s><font size=\"2\">", tag, i ? rest : "left", i ? "" : " width=\"112\"");
        put_text(p, cells[i]);
        buf_printf(p->to, "</font></%s>", tag);
    }
    buf_puts(p->to, "</tr>\n");
}

static void put_markdown_cells(struct page *p, const char *const *cells, size_t n)
{
    buf_puts(p->to, "|");
    for (size_t i = 0; i < n; i++)
        put_wrapped(p, " ", cells ? cells[i] : "", " |");
    buf_puts(p->to, "\n");
}

/* What floats: a title and what is below it, as wide as a figure, with a gap to its right neighbour. */
static void open_block(struct page *p, const char *title)
{
    if (p->html)
        buf_printf(p->to, "<table align=\"left\" cellpadding=\"0\" cellspacing=\"0\" border=\"0\">\n<tr><td width=\"%d\" height=\"40\" valign=\"bottom\"><b>",
            PAGE_FIGURE_WIDTH);
    put_wrapped(p, p->html ? "" : "### ", title, p->html ? "</b></td><td width=\"14\"></td></tr>\n<tr valign=\"top\"><td>\n" : "\n\n");
}

static void close_block(struct page *p)
{
    if (p->html)
        buf_puts(p->to, "</td></tr>\n</table>\n");
}

void page_table(struct page *p, const char *title, const char *const *heads, size_t n)
{
    open_block(p, title);
    if (p->html) {
        buf_puts(p->to, "<table width=\"100%\" cellpadding=\"3\" cellspacing=\"0\" border=\"1\" frame=\"hsides\" rules=\"rows\" bordercolor=\"#dddddd\">\n");
        if (heads)
            put_cells(p, "th", "right", heads, n);
        return;
    }
    put_markdown_cells(p, heads, n);
    for (size_t i = 0; i < n; i++)
        buf_puts(p->to, i && heads ? "|---:" : "|---");
    buf_puts(p->to, "|\n");
}

void page_row(struct page *p, const char *const *cells, size_t n)
{
    if (p->html)
        put_cells(p, "td", n > 2 ? "right" : "left", cells, n);
    else
        put_markdown_cells(p, cells, n);
}

void page_table_end(struct page *p)
{
    buf_puts(p->to, p->html ? "</table>\n" : "\n");
    close_block(p);
}

void page_figure(struct page *p, const char *title)
{
    open_block(p, title);
}

void page_figure_end(struct page *p, const char *reads)
{
    put_wrapped(p, p->html ? "</td></tr>\n<tr><td height=\"72\" valign=\"top\"><font size=\"2\">" : "", reads, p->html ? "</font>" : "\n\n");
    close_block(p);
}

void page_clear(struct page *p)
{
    if (p->html)
        buf_puts(p->to, "<br clear=\"all\"/>\n");
}
