/* fit.h - does a sample fit a distribution?  Kolmogorov and Smirnov for a continuous one, chi-square for counts. */
#ifndef TESTS_FIT_H
#define TESTS_FIT_H

#include <math.h>
#include <stdlib.h>

/* One of 10,000 samples that fit is above these by chance. */
#define KS_FAR 2.23
#define CHI_FAR 3.72

static inline int real_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The largest distance between the sample's steps and the distribution function cdf(x, of), times sqrt(n).  Sorts x. */
static inline double ks_distance(double *x, size_t n, double (*cdf)(double x, const void *of), const void *of)
{
    double most = 0;
    qsort(x, n, sizeof *x, real_order);
    for (size_t i = 0; i < n; i++) {
        double p = cdf(x[i], of);
        most = fmax(most, fmax((double)(i + 1) / (double)n - p, p - (double)i / (double)n));
    }
    return most * sqrt((double)n);
}

/* How far, in deviations of a normal variable (Wilson and Hilferty 1931), n counts are from share[i] of their sum.
 * share sums to 1.  Neighbours are taken together until 10 are expected of them. */
static inline double chi_distance(const uint32_t *count, const double *share, size_t n)
{
    double total = 0, chi = 0, seen = 0, want = 0;
    int cells = 0;
    for (size_t i = 0; i < n; i++)
        total += count[i];
    double left = total;        /* what is expected of those behind i */
    for (size_t i = 0; i < n; i++) {
        seen += count[i];
        want += share[i] * total;
        left -= share[i] * total;
        if (i + 1 < n && (want < 10 || left < 10))
            continue;
        chi += (seen - want) * (seen - want) / want;
        seen = want = 0;
        cells++;
    }
    double v = 2 / (9.0 * (cells - 1));
    return (cbrt(chi / (cells - 1)) - (1 - v)) / sqrt(v);
}

#endif
