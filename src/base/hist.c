#include "base/hist.h"

#include <math.h>

/* Values below 64 have a bucket each; above, the octave and the six bits behind the leading one choose it. */
static unsigned bucket(int64_t ns)
{
    uint64_t v = ns > 0 ? (uint64_t)ns : 0;
    if (v < 64)
        return (unsigned)v;
    unsigned octave = 63 - (unsigned)__builtin_clzll(v);       /* >= 6 */
    return (octave - 5) * 64 + (unsigned)(v >> (octave - 6) & 63);
}

static double middle(unsigned b)
{
    if (b < 64)
        return b;
    unsigned shift = b / 64 - 1;
    return ((double)(64 + b % 64) + 0.5) * (double)((uint64_t)1 << shift);
}

void hist_add(struct hist *h, int64_t ns, uint64_t times)
{
    h->count[bucket(ns)] += times;
    h->n += times;
}

double hist_percentile(const struct hist *h, double p)
{
    double want = p * (double)h->n;
    uint64_t seen = 0;
    for (unsigned b = 0; b < 64 * 64; b++) {
        seen += h->count[b];
        if (seen && (double)seen >= want)
            return middle(b);
    }
    return 0;
}

void hist_moments(const struct hist *h, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    for (unsigned b = 0; b < 64 * 64; b++)
        sum += (double)h->count[b] * middle(b);
    *mean = sum / (double)h->n;
    for (unsigned b = 0; b < 64 * 64; b++)
        squares += (double)h->count[b] * (middle(b) - *mean) * (middle(b) - *mean);
    *deviation = sqrt(squares / (double)h->n);
}

void hist_merge(struct hist *h, const struct hist *other)
{
    for (unsigned b = 0; b < 64 * 64; b++)
        h->count[b] += other->count[b];
    h->n += other->n;
}
