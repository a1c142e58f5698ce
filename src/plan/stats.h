/* stats.h - statistics of repeated runs: few samples, and no belief that they are normal where it can be done without.
 * Samples stand in any order and are not changed.  Knows no metric and no threshold. */
#ifndef PLAN_STATS_H
#define PLAN_STATS_H

#include <stddef.h>

struct interval { double low, high; };     /* NaN, NaN: too few samples to say */

double stats_mean(const double *x, size_t n);          /* of none: NaN, here and below */
double stats_median(const double *x, size_t n);
double stats_deviation(const double *x, size_t n);     /* over n - 1; NaN for n < 2 */

/* The value that Student's t with df degrees of freedom is below with probability p; df 0: the normal distribution.
 * Inverts Abramowitz & Stegun 26.7.3 and 26.7.4 (whole df) by bisection. */
double stats_t_quantile(double p, unsigned df);

struct interval stats_mean_interval(const double *x, size_t n, double confidence);     /* of the mean, by Student's t */

/* Mann-Whitney's U of x (ties count half) and the two-sided p: twice the smaller tail, at most 1.  n_x n_y <= 400: exact, over all
 * ways to deal the values' midranks, ties and all; else normal with tie and continuity correction. */
double stats_mann_whitney(const double *x, size_t n_x, const double *y, size_t n_y, double *u);

/* How many times x's values y's are, for values >= 0: the median of all ratios y / x (0 / 0 is 1), which is Hodges and Lehmann's
 * shift of the logarithms; and its interval, which holds the ratios that Mann-Whitney's test does not refuse at 1 - confidence
 * (Hollander & Wolfe, "Nonparametric Statistical Methods", 4.3).  Takes room for n_x n_y ratios. */
double stats_ratio(const double *x, size_t n_x, const double *y, size_t n_y, double confidence, struct interval *interval);

/* The smallest shift that the test finds at level alpha with the given power, if the spread within both samples, pooled, is
 * what they have: the usual (t(1 - a/2) + t(power)) s sqrt(1/n_x + 1/n_y), times sqrt(pi/3) because Mann-Whitney's test needs
 * pi/3 as many normal samples as the t test (Hodges and Lehmann 1956); a is the level that so few samples can reach (5 and 5:
 * 0.032).  NaN where the test can find nothing. */
double stats_detectable(const double *x, size_t n_x, const double *y, size_t n_y, double alpha, double power);

#endif
