/* chart.h - charts as inline SVG of presentation attributes only.  Knows nothing of runs.
 * A chart is one <svg> of some panels; a panel is a rectangle with an x and a y axis, and what is drawn after chart_panel goes into it,
 * in the axes' units.  Text is 11 or 12 units high: draw at one unit a pixel.  Colours are of the palette that
 * colour-blind people tell apart (Okabe and Ito, "Color Universal Design", 2008). */
#ifndef CMD_CHART_H
#define CMD_CHART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define CHART_BLUE   "#0072b2"
#define CHART_RED    "#d55e00"
#define CHART_GREEN  "#009e73"
#define CHART_GREY   "#767676"
#define CHART_INK    "#222222"

enum chart_anchor { CHART_START, CHART_MIDDLE, CHART_END };

struct chart_axis {
    double min, max;
    bool log;                  /* min > 0 then */
    const char *title;         /* with the unit; NULL: no ticks and no title */
    const double *ticks;       /* NULL: chosen, 1-2-5 */
    size_t n_tick;
};

struct chart_box { double left, top, right, bottom; };

struct chart {
    struct buf *to;
    double width, height;
    struct chart_box plot;     /* the panel's rectangle, in pixels */
    struct chart_axis x, y;
    struct chart_box taken[64];        /* where labels and dots of the panel are */
    size_t n_taken;
};

/* An axis that holds min..max: whole ticks, from zero where it is linear. */
struct chart_axis chart_scale(double min, double max, bool log, const char *title);

void chart_open(struct chart *c, struct buf *to, double width, double height, const char *title);   /* title: for who cannot see it */
void chart_close(struct chart *c);

void chart_panel(struct chart *c, struct chart_box plot, struct chart_axis x, struct chart_axis y);    /* frame, grid, ticks, titles */
void chart_line(struct chart *c, const double *x, const double *y, size_t n, const char *colour);      /* points that are not finite are left out */
void chart_band(struct chart *c, const double *x, const double *low, const double *high, size_t n, const char *colour);     /* pale, for a line within */
void chart_dot(struct chart *c, double x, double y, const char *colour);
void chart_rule(struct chart *c, double x0, double y0, double x1, double y1, const char *colour);      /* a dashed line */
void chart_label(struct chart *c, double x, double y, const char *text);       /* beside a point, where there is room; else not */

/* In pixels, without a panel. */
void chart_text(struct chart *c, double x, double y, enum chart_anchor anchor, const char *text);
void chart_bar(struct chart *c, struct chart_box bar, const char *colour);
double chart_key(struct chart *c, double x, double y, const char *colour, const char *text);           /* a line's colour and name; returns where the next may begin */

/* "950", "1.2k", "3M", "0.05": short, for ticks and labels. */
void chart_number(char text[32], double v);

double chart_text_width(const char *text);     /* about, in pixels */

#endif
