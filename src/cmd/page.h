/* page.h - a document of headings, sentences, tables and figures, written as HTML or as Markdown.  Escapes every text:
 * what comes from files cannot become markup.  Knows nothing of runs and of charts.
 * The HTML is well-formed XML too and carries `Content-Security-Policy: default-src 'none'`: no script, no style (neither element nor
 * attribute), no reference to anything outside.  Figures and cards are as wide as a phone and float beside each other
 * where there is room. */
#ifndef CMD_PAGE_H
#define CMD_PAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define PAGE_FIGURE_WIDTH 344          /* pixels: fits a window of 360 */

struct page { struct buf *to; bool html; };

/* Appends text for an element or a quoted attribute of HTML or SVG; bytes that XML does not allow become U+FFFD. */
void page_escape(struct buf *b, const char *text);

void page_open(struct page *p, struct buf *to, bool html, const char *title);
void page_close(struct page *p);
void page_heading(struct page *p, const char *text);
void page_text(struct page *p, const char *text);              /* a paragraph */

/* A table: the first column flush left, the others right.  heads NULL: names and values, all flush left, the width of a figure. */
void page_table(struct page *p, const char *title, const char *const *heads, size_t n);
void page_row(struct page *p, const char *const *cells, size_t n);
void page_table_end(struct page *p);

/* A figure: between the two the caller writes an SVG of PAGE_FIGURE_WIDTH to p->to, or for Markdown a table.
 * reads is the sentence below it: what to see. */
void page_figure(struct page *p, const char *title);
void page_figure_end(struct page *p, const char *reads);

void page_clear(struct page *p);       /* what follows begins below all that floats */

#endif
