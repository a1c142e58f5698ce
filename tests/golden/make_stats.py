#!/usr/bin/env python3
"""Makes tests/golden/stats.json: what scipy says of samples with and without ties.

    python3 tests/golden/make_stats.py        (needs numpy and scipy 1.10 or later; takes a minute)

Exact p without ties: mannwhitneyu(method="exact"); with ties: PermutationMethod over all deals; else its normal approximation.
The interval of the ratio is found from its definition: the ratios y / x that mannwhitneyu does not refuse.
"""
import itertools
import json
import pathlib

import numpy as np
from scipy import stats

OUT = pathlib.Path(__file__).parent / "stats.json"
ALL_DEALS = stats.PermutationMethod(n_resamples=float("inf"))
rng = np.random.default_rng(0)


def mann_whitney(x, y):
    ties = len(set(x) | set(y)) < len(x) + len(y)
    if len(x) * len(y) > 400:
        method = "asymptotic"
    else:
        method = ALL_DEALS if ties else "exact"
    got = stats.mannwhitneyu(x, y, alternative="two-sided", method=method)
    return got.statistic, got.pvalue


def ratio_interval(x, y, alpha=0.05):
    """The lowest and highest ratio y / x beside which a ratio is not refused; None where nothing is refused."""
    ratios = sorted(b / a for a, b in itertools.product(x, y))
    beside = min((b / a for a, b in itertools.pairwise(ratios)), default=1.1) ** (1 / 3)

    def kept(ratio):
        return stats.mannwhitneyu(x, [b / ratio for b in y], alternative="two-sided", method="exact").pvalue > alpha

    if kept(ratios[0] / beside):
        return None
    return [next(r for r in ratios if kept(r * beside)), next(r for r in reversed(ratios) if kept(r / beside))]


def ratio(b, a):
    return b / a if a > 0 else float("inf") if b > 0 else 1.0


def case(x, y, interval):
    x, y = [float(v) for v in x], [float(v) for v in y]
    u, p = mann_whitney(x, y)
    mean = stats.t.interval(0.95, len(x) - 1, np.mean(x), stats.sem(x)) if len(x) > 1 else (None, None)
    one = {"x": x, "y": y, "u": float(u), "p": float(p), "mean_low": mean[0], "mean_high": mean[1],
           "median": float(np.median(x)), "deviation": float(np.std(x, ddof=1)) if len(x) > 1 else None,
           "ratio": float(np.median([ratio(b, a) for a, b in itertools.product(x, y)]))}
    if interval:
        one["interval"] = ratio_interval(x, y)
    return one


def cases():
    for n_x, n_y in [(1, 1), (1, 5), (2, 3), (3, 3), (4, 4), (3, 8), (5, 4), (8, 8), (7, 12), (20, 20), (16, 25)]:
        for moved in (0, 2):
            yield case(rng.normal(100, 1, n_x).round(6), rng.normal(100 + moved, 1, n_y).round(6), n_x * n_y < 100)
    for n_x, n_y, values in [(4, 4, 3), (5, 3, 2), (6, 6, 4), (3, 9, 2), (8, 8, 5), (8, 6, 1), (2, 10, 3)]:
        for _ in range(2):
            yield case(rng.integers(0, values, n_x), rng.integers(0, values, n_y) + rng.integers(0, 2), False)
    for n_x, n_y, values in [(30, 30, 0), (21, 20, 0), (60, 15, 0), (25, 40, 6), (50, 50, 2), (30, 30, 1)]:
        draw = (lambda n: rng.normal(100, 3, n).round(6)) if not values else (lambda n: rng.integers(0, values, n))
        yield case(draw(n_x), draw(n_y), False)


def finite(v):
    return None if isinstance(v, float) and not np.isfinite(v) else v


quantiles = [{"p": p, "df": df, "t": float(stats.t.ppf(p, df) if df else stats.norm.ppf(p))}
             for df in (0, 1, 2, 3, 4, 5, 7, 10, 14, 31, 100, 1999) for p in (0.025, 0.2, 0.6, 0.8, 0.9, 0.975, 0.995)]
rows = [{k: finite(float(v) if isinstance(v, np.floating) else v) for k, v in c.items()} for c in cases()]
lines = ",\n".join(json.dumps(r) for r in rows)
OUT.write_text('{"quantiles": [\n' + ",\n".join(json.dumps(q) for q in quantiles) + '],\n"samples": [\n' + lines + "]}\n")
