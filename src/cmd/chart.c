#include "cmd/chart.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cmd/page.h"

#define FONT      12.0
#define SMALL     11.0         /* of ticks */
#define CHAR_WIDE 0.64         /* of the height; wider than most fonts, so that labels keep apart */
#define GRID      "#e2e2e2"
#define HALO      " stroke=\"#ffffff\" stroke-width=\"3\" paint-order=\"stroke\""        /* of text that may cross a line */
#define DOT       3.0
#define LIMIT     1e30         /* values of an axis: their powers stay finite */

static void put_text_with(struct chart *c, double x, double y, const char *anchor, double size, const char *more, const char *text)
{
    buf_printf(c->to, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%g\" text-anchor=\"%s\" fill=\"" CHART_INK "\"%s>", x, y, size, anchor, more);
    page_escape(c->to, text);
    buf_puts(c->to, "</text>\n");
}

static void put_text(struct chart *c, double x, double y, const char *anchor, double size, const char *text)
{
    put_text_with(c, x, y, anchor, size, "", text);
}

static void put_line(struct chart *c, double x0, double y0, double x1, double y1, const char *colour, const char *more)
{
    buf_printf(c->to, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"%s/>\n", x0, y0, x1, y1, colour, more);
}

double chart_text_width(const char *text)
{
    size_t n = 0;
    for (; *text; text++)
        n += (*text & 0xc0) != 0x80;           /* characters of UTF-8 */
    return (double)n * FONT * CHAR_WIDE;
}

void chart_number(char text[32], double v)
{
    static const char *const suffix[] = { "", "k", "M", "G", "T", "P" };
    double size = fabs(v);
    size_t s = 0;
    for (; size >= 999.5 && s < 5; s++)
        size /= 1000, v /= 1000;
    if (size != 0 && size < 1e-4)
        snprintf(text, 32, "%.1e", v);
    else
        snprintf(text, 32, "%.3g%s", v, suffix[s]);
}

/* The smallest of 1, 2, 5 x 10^n that is not under x. */
static double nice_step(double x)
{
    double power = pow(10, floor(log10(x))), lead = x / power;
    return power * (lead <= 1.0001 ? 1 : lead <= 2.0001 ? 2 : lead <= 5.0001 ? 5 : 10);
}

struct chart_axis chart_scale(double min, double max, bool log, const char *title)
{
    struct chart_axis a = { .log = log, .title = title };
    min = min > LIMIT ? LIMIT : min, max = max > LIMIT ? LIMIT : max;
    if (log) {
        a.max = nice_step(fmax(max, 1 / LIMIT));
        a.min = 1 / nice_step(1 / fmin(fmax(min, 1 / LIMIT), a.max / 2));      /* 1-2-5 downwards, too */
        return a;
    }
    double step = nice_step((max > 0 ? max : 1) / 4);
    a.max = step * ceil((max > 0 ? max : 1) / step - 1e-9);
    return a;
}

/* 0 to 1; what is beyond the axis stands at its end. */
static double at(const struct chart_axis *a, double v)
{
    double share = a->log ? log10(fmax(v, a->min) / a->min) / log10(a->max / a->min) : (v - a->min) / (a->max - a->min);
    return fmax(0, fmin(1, share));
}

static double at_x(const struct chart *c, double v)
{
    return c->plot.left + at(&c->x, v) * (c->plot.right - c->plot.left);
}

static double at_y(const struct chart *c, double v)
{
    return c->plot.bottom - at(&c->y, v) * (c->plot.bottom - c->plot.top);
}

void chart_open(struct chart *c, struct buf *to, double width, double height, const char *title)
{
    *c = (struct chart){ .to = to, .width = width, .height = height };
    buf_printf(to, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" width=\"100%%\" font-family=\"system-ui, sans-serif\" role=\"img\">\n<title>",
        width, height);
    page_escape(to, title);
    buf_puts(to, "</title>\n");
}

void chart_close(struct chart *c)
{
    buf_puts(c->to, "</svg>\n");
}

static void tick_x(struct chart *c, double v)
{
    char text[32];
    double x = at_x(c, v);
    chart_number(text, v);
    put_line(c, x, c->plot.top, x, c->plot.bottom, GRID, "");
    bool edge = x + chart_text_width(text) / 2 > c->width;
    put_text(c, edge ? c->width : x, c->plot.bottom + 15, edge ? "end" : "middle", SMALL, text);
}

static void tick_y(struct chart *c, double v)
{
    char text[32];
    double y = at_y(c, v);
    chart_number(text, v);
    put_line(c, c->plot.left, y, c->plot.right, y, GRID, "");
    put_text(c, c->plot.left - 5, y + 4, "end", SMALL, text);
}

/* Decades, or 1-2-5 where there are few of them, never closer than `room` pixels. */
static void ticks_log(struct chart *c, const struct chart_axis *a, double pixels, double room, void (*tick)(struct chart *, double))
{
    double decade = pixels / (log10(a->max) - log10(a->min));
    int stride = decade >= room ? 1 : (int)ceil(room / decade);
    bool fine = decade * log10(2) >= room;
    int first = (int)floor(log10(a->min) + 1e-6), last = (int)floor(log10(a->max) + 1e-6);
    for (int e = first; e <= last; e += stride)
        for (int lead = 1; lead <= (fine ? 5 : 1); lead += lead == 2 ? 3 : 1) {
            double v = lead * pow(10, e);
            if (v > a->min * 0.999 && v < a->max * 1.001)
                tick(c, v);
        }
}

static void ticks_linear(struct chart *c, const struct chart_axis *a, double pixels, double room, void (*tick)(struct chart *, double))
{
    double step = nice_step((a->max - a->min) * fmax(room / pixels, 0.125));
    double first = ceil(a->min / step - 1e-6);
    int n = (int)floor(a->max / step - first + 1e-6);
    for (int i = 0; i <= n; i++)
        tick(c, (first + i) * step);
}

static void put_ticks(struct chart *c, const struct chart_axis *a, double pixels, double room, void (*tick)(struct chart *, double))
{
    for (size_t i = 0; i < a->n_tick; i++)
        tick(c, a->ticks[i]);
    if (!a->ticks && a->title)
        (a->log ? ticks_log : ticks_linear)(c, a, pixels, room, tick);
}

void chart_panel(struct chart *c, struct chart_box plot, struct chart_axis x, struct chart_axis y)
{
    c->plot = plot, c->x = x, c->y = y, c->n_taken = 0;
    put_ticks(c, &c->x, plot.right - plot.left, 40, tick_x);
    put_ticks(c, &c->y, plot.bottom - plot.top, 20, tick_y);
    put_line(c, plot.left, plot.bottom, plot.right, plot.bottom, CHART_GREY, "");
    if (x.title)
        put_text(c, plot.right, plot.bottom + 31, "end", FONT, x.title);
    if (y.title)
        put_text(c, plot.left, plot.top - 7, "start", FONT, y.title);
}

void chart_line(struct chart *c, const double *x, const double *y, size_t n, const char *colour)
{
    buf_puts(c->to, "<polyline fill=\"none\" stroke-width=\"2\" stroke-linejoin=\"round\" points=\"");
    for (size_t i = 0; i < n; i++)
        if (isfinite(x[i]) && isfinite(y[i]))
            buf_printf(c->to, "%.1f,%.1f ", at_x(c, x[i]), at_y(c, y[i]));
    buf_printf(c->to, "\" stroke=\"%s\"/>\n", colour);
}

void chart_band(struct chart *c, const double *x, const double *low, const double *high, size_t n, const char *colour)
{
    buf_puts(c->to, "<polygon fill-opacity=\"0.3\" points=\"");
    for (size_t i = 0; i < n; i++)
        buf_printf(c->to, "%.1f,%.1f ", at_x(c, x[i]), at_y(c, high[i]));
    for (size_t i = n; i-- > 0;)
        buf_printf(c->to, "%.1f,%.1f ", at_x(c, x[i]), at_y(c, low[i]));
    buf_printf(c->to, "\" fill=\"%s\"/>\n", colour);
}

static void take(struct chart *c, struct chart_box box)
{
    if (c->n_taken < sizeof c->taken / sizeof *c->taken)
        c->taken[c->n_taken++] = box;
}

void chart_dot(struct chart *c, double x, double y, const char *colour)
{
    double px = at_x(c, x), py = at_y(c, y);
    buf_printf(c->to, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"%s\"/>\n", px, py, DOT, colour);
    take(c, (struct chart_box){ px - DOT, py - DOT, px + DOT, py + DOT });
}

void chart_rule(struct chart *c, double x0, double y0, double x1, double y1, const char *colour)
{
    put_line(c, at_x(c, x0), at_y(c, y0), at_x(c, x1), at_y(c, y1), colour, " stroke-width=\"1.5\" stroke-dasharray=\"5 3\"");
}

/* Within the chart, and on nothing that is there. */
static bool is_free(const struct chart *c, struct chart_box b)
{
    bool inside = b.left >= c->plot.left && b.right <= c->width && b.top >= c->plot.top - 2 && b.bottom <= c->plot.bottom;
    for (size_t i = 0; i < c->n_taken && inside; i++) {
        const struct chart_box *t = &c->taken[i];
        inside = b.right <= t->left || b.left >= t->right || b.bottom <= t->top || b.top >= t->bottom;
    }
    return inside;
}

void chart_label(struct chart *c, double x, double y, const char *text)
{
    if (!isfinite(x) || !isfinite(y))
        return;
    double wide = chart_text_width(text), px = at_x(c, x), py = at_y(c, y), gap = DOT + 3;
    const struct { double left, base; } place[] = {
        { px - wide + 8, py - gap - 1 }, { px - wide / 2, py - gap - 1 }, { px + gap, py + 4 }, { px - gap - wide, py + 4 }, { px - wide / 2, py + gap + 10 },
        { px + 2, py - gap - 1 }, { px - wide - 2, py - gap - 1 }, { px + 2, py + gap + 10 }, { px - wide - 2, py + gap + 10 },
    };
    for (size_t i = 0; i < sizeof place / sizeof *place; i++) {
        struct chart_box box = { place[i].left, place[i].base - 10, place[i].left + wide, place[i].base + 3 };
        if (!is_free(c, box))
            continue;
        take(c, box);
        put_text_with(c, place[i].left + wide / 2, place[i].base, "middle", FONT, HALO, text);
        return;
    }
}

void chart_text(struct chart *c, double x, double y, enum chart_anchor anchor, const char *text)
{
    static const char *const name[] = { [CHART_START] = "start", [CHART_MIDDLE] = "middle", [CHART_END] = "end" };
    put_text(c, x, y, name[anchor], FONT, text);
}

void chart_bar(struct chart *c, struct chart_box bar, const char *colour)
{
    buf_printf(c->to, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", bar.left, bar.top,
        fmax(bar.right - bar.left, 0.5), bar.bottom - bar.top, colour);
}

double chart_key(struct chart *c, double x, double y, const char *colour, const char *text)
{
    chart_bar(c, (struct chart_box){ x, y - 5, x + 14, y - 2 }, colour);
    chart_text(c, x + 18, y, CHART_START, text);
    return x + 18 + chart_text_width(text) + 12;
}
