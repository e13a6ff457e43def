"""Intervals and tests of difference: they cover the finite test set, not the noise of training.

Wilson (1927) for a share, Bonett and Price (2012) for a paired difference; percentile bootstrap (Efron and
Tibshirani 1993) for a mean over classes, widened where classes are small and never inside the two; a jackknife over
blocks (Shao and Wu 1989) for what repeated images distort, such as a spectrum; exact McNemar
and the paired permutation test of SimCLR (Chen et al. 2020, B.8.2) for two encoders on the same test images; Holm
(1979) for several tests. The 11-point average precision is that of VOC 2007 (Everingham et al. 2010, section 4.2).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

Z = 1.959964
"""two-sided 95 % point of the standard normal"""
DRAWS = 10_000
PERMUTATIONS = 100_000
PRECISION_DRAWS = 1000
"""of the bootstrap of average precision: each one is a pass over all images"""
SCORES = np.array([-1.0, 0.0, 1.0])
"""of an image: only the second model right, no difference or not right, only the first or right"""
UNEVEN = 1.5
"""the largest class has more than so many times the images of the smallest: top-1 is then mostly the large ones'"""
RECALLS = np.arange(11) / 10
BLOCKS = 20
"""of the jackknife"""
SLACK = 1e-12
BLOCK = 1_000_000


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: float, n: float) -> Interval:
    """The share `successes / n` with Wilson's score interval; n > 0.

    Conservative where the n images count by shares in [0, 1], whose mean varies less.
    """
    p, z2 = float(successes / n), Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Interval(p, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def bootstrap_mean(values: np.ndarray, seed: int, draws: int = DRAWS) -> Interval:
    """The mean of `values` (n,) with the percentile interval over resamples of the n values."""
    generator = np.random.default_rng(seed)
    n, means = len(values), []
    for start in range(0, draws, size := max(1, BLOCK // n)):
        picks = generator.integers(0, n, (min(size, draws - start), n))
        means.append(values[picks].mean(1))
    return _percentiles(float(values.mean()), np.concatenate(means))


def jackknife(
    measure: Callable[[np.ndarray], float], n: int, seed: int, least: float = -np.inf, most: float = np.inf
) -> Interval:
    """`measure` of the places 0 … n − 1, n at least `BLOCKS`, with an interval from leaving out a block at a time.

    Student's t with the variance (g − 1)/g · Σ(θ_b − mean θ)² of the g values without one random block each. No
    place is counted twice. What is covered is the mean of the measure over sets of n images.

    Args:
        measure: of the places (m,) given.
        least, most: the ends of its range.
    """
    from scipy.stats import t

    order, value = np.random.default_rng(seed).permutation(n), measure(np.arange(n))
    without = np.array([measure(np.sort(np.delete(order, np.s_[b::BLOCKS]))) for b in range(BLOCKS)])
    half = float(t.ppf(0.975, BLOCKS - 1) * np.sqrt((BLOCKS - 1) * without.var()))
    return Interval(value, max(least, value - half), min(most, value + half))


def bootstrap_balanced(correct: np.ndarray, labels: np.ndarray, seed: int, draws: int = DRAWS) -> Interval:
    """The mean over classes of the share correct, resampled within each class (`_stratified`).

    Args:
        correct: bool (n,)
        labels: int (n,), the class of each image; a class without images does not count.
    """
    table = _table(correct.astype(int) + 1, labels, len(SCORES))
    shares, n = _alike(table)
    return _stratified(table, SCORES, wilson(shares[2] * n, n), seed, draws, least=0.0)


def bootstrap_difference(
    first: np.ndarray, second: np.ndarray, seed: int, labels: np.ndarray | None = None, draws: int = DRAWS
) -> Interval:
    """Accuracy of `first` minus accuracy of `second` on the same images, one resample for both.

    With `labels` it is the difference of balanced accuracies, resampled within each class (`_stratified`).

    Args:
        first, second: (n,), hits, or means of several draws' hits.
        labels: int (n,)
    """
    groups = np.zeros(len(first), int) if labels is None else labels
    difference = np.asarray(first, float) - second
    scores = np.union1d(SCORES, difference)
    table = _table(np.searchsorted(scores, difference), groups, len(scores))
    shares, n = _alike(table)
    alike = bonett_price(float(shares @ scores), float(shares @ scores**2), n)
    return _stratified(table, scores, alike, seed, draws, least=-1.0)


def bonett_price(value: float, square: float, n: float) -> Interval:
    """The difference of two models' accuracies from the mean over n images of their difference, and of its square.

    Wald's interval with two images more, of which each model alone gets one right (Bonett and Price 2012).
    """
    mean, second = value * n / (n + 2), (square * n + 2) / (n + 2)
    half = Z * np.sqrt((second - mean**2) / (n + 2))
    return Interval(value, max(-1.0, float(mean - half)), min(1.0, float(mean + half)))


def uneven(labels: np.ndarray) -> tuple[int, int] | None:
    """(smallest, largest) number of images of a class among `labels` (n,), where these differ much (`UNEVEN`)."""
    counts = np.unique(labels, return_counts=True)[1]
    least, most = int(counts.min()), int(counts.max())
    return (least, most) if most > UNEVEN * least else None


def _table(places: np.ndarray, labels: np.ndarray, scores: int) -> np.ndarray:
    """int (classes, scores): how many images of each class that has any have the score at each place."""
    counts = np.bincount(scores * labels + places, minlength=scores * (int(labels.max()) + 1))
    counts = counts.reshape(-1, scores)
    return counts[counts.sum(1) > 0]


def _alike(table: np.ndarray) -> tuple[np.ndarray, float]:
    """(mean over classes of the shares of the scores, C²/Σ(1/n)).

    The second: images whose plain mean would have the same standard error if the classes were alike.
    """
    sizes = table.sum(1)
    return (table / sizes[:, None]).mean(0), len(table) ** 2 / float((1 / sizes).sum())


def _stratified(
    table: np.ndarray, scores: np.ndarray, alike: Interval, seed: int, draws: int, least: float
) -> Interval:
    """The mean over classes of their mean `scores`, its interval from resamples within classes, in [`least`, 1].

    A resample of n images varies by (n - 1)/n of what n new images do, so its deviation is widened by
    √(n/(n - 1)). Classes of one image are resampled together, as one stratum; a single one of them as an image
    of any class. Few images may all be right, or nearly, so the interval holds that of classes that are `alike`.
    """
    sizes, classes = table.sum(1), len(table)
    value = float((table @ scores / sizes).mean())
    alone = table[sizes == 1].sum(0)
    strata = [(row, 1) for row in table[sizes > 1]]
    if alone.sum() > 1:
        strata.append((alone, int(alone.sum())))
    generator, total = np.random.default_rng(seed), np.zeros(draws)
    for row, weight in strata:
        n = int(row.sum())
        drawn = generator.multinomial(n, row / n, draws) @ scores / n - row @ scores / n
        total += weight * np.sqrt(n / (n - 1)) * drawn
    if alone.sum() == 1:
        shares = table.sum(0) / table.sum()
        total += generator.multinomial(1, shares, draws) @ scores - shares @ scores
    _, low, high = _percentiles(value, value + total / classes)
    return Interval(value, max(least, min(low, alike.low)), min(1.0, max(high, alike.high)))


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p of McNemar's test: images that only one of two models gets right."""
    from scipy.stats import binom

    n = first_only + second_only
    return min(1.0, 2.0 * float(binom.cdf(min(first_only, second_only), n, 0.5)))


def mcnemar_of(first: np.ndarray, second: np.ndarray) -> float:
    """`mcnemar` of two models' hits, bool (n,) on the same images."""
    return mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))


def permutation(
    first: np.ndarray,
    second: np.ndarray,
    seed: int,
    labels: np.ndarray | None = None,
    draws: int = PERMUTATIONS,
) -> float:
    """Two-sided p of the paired permutation test: predictions of each image are swapped with probability ½.

    p = (1 + #{|d*| ≥ |d|}) / (draws + 1), d the difference of the means, or with `labels` of the means over
    classes. A swap turns the sign of an image's difference, so the sum over all images whose difference has
    the size v is v · (2·Binomial(their number, ½) − their number): one draw for each size, not each image.

    Args:
        first, second: (n,), the score of each image under two models: hits, or shares of right decisions.
        labels: int (n,)
    """
    difference = np.asarray(first, float) - np.asarray(second, float)
    weight = 1 / len(difference) if labels is None else 1 / np.bincount(labels)[labels]
    difference = difference * weight
    observed = abs(float(difference.sum()))
    sizes, counts = np.unique(np.abs(difference[difference != 0]), return_counts=True)
    generator, swapped = np.random.default_rng(seed), np.zeros(draws)
    for size, count in zip(sizes, counts, strict=True):
        swapped += size * (2 * generator.binomial(count, 0.5, draws) - count)
    return (1 + int((np.abs(swapped) >= observed - SLACK).sum())) / (draws + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values of several tests, adjusted so that each may be compared with the level of all together."""
    order = np.argsort(ps, kind="stable")
    factors = np.arange(len(order), 0, -1)
    raised = np.minimum(1.0, np.maximum.accumulate(np.asarray(ps, float)[order] * factors))
    adjusted = np.empty(len(order))
    adjusted[order] = raised
    return adjusted.tolist()


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    """11-point interpolated average precision of one class.

    The mean over recalls 0, 0.1 … 1 of the largest precision at that recall or above, 0 where none is. Of
    equal scores the lower index ranks first.

    Args:
        scores: (n,), higher is more certain.
        relevant: int (n,): 1 shows the class, 0 does not, -1 is ignored (VOC's "difficult").
    """
    return float(_eleven_points(_ranked(scores, relevant), np.ones((1, int((relevant >= 0).sum()))))[0])


def bootstrap_mean_precision(
    scores: np.ndarray, relevant: np.ndarray, seed: int, draws: int = PRECISION_DRAWS
) -> Interval:
    """Mean over classes of `average_precision`, its percentile interval over resamples of the images.

    The repeated images of a resample lift the maxima that the measure is made of, so the resamples' mean is moved
    onto the value; and few images lift those of the value about as much, so the end below is moved once more.

    Args:
        scores, relevant: (n, C); a class that no image shows does not count, in a resample either. One is shown.
    """
    n, classes = scores.shape
    shown = [c for c in range(classes) if (relevant[:, c] == 1).any()]
    generator, total, counted = np.random.default_rng(seed), np.zeros(draws), np.zeros(draws)
    orders = {c: np.argsort(-scores[:, c], kind="stable") for c in shown}
    for start in range(0, draws, size := max(1, BLOCK // n)):
        weights = generator.multinomial(n, np.full(n, 1 / n), min(size, draws - start)).astype(np.float32)
        for c, order in orders.items():
            kept = order[relevant[order, c] >= 0]
            total[start : start + size] += _eleven_points(relevant[kept, c], weights[:, kept])
            counted[start : start + size] += weights @ (relevant[:, c] == 1) > 0
    value = np.mean([average_precision(scores[:, c], relevant[:, c]) for c in shown])
    drawn = total[counted > 0] / counted[counted > 0]
    shift = float(value - drawn.mean())
    _, low, high = _percentiles(float(value), drawn + shift)
    return Interval(float(value), max(0.0, low + min(shift, 0.0)), min(1.0, high + max(shift, 0.0)))


def mean_of_seeds(intervals: Sequence[Interval], least: float = 0.0) -> Interval:
    """The mean over seeds, its half-width two parts in quadrature, cut to [`least`, 1].

    The parts: Student's t interval of the seeds' mean (noise of initialisation or training), and the mean
    half-width of the single intervals (the test set, which all seeds share, so that it does not shrink with
    their number).
    """
    from scipy.stats import t

    values = np.array([interval.value for interval in intervals])
    mean, m = float(values.mean()), len(values)
    noise = float(t.ppf(0.975, m - 1) * values.std(ddof=1) / np.sqrt(m)) if m > 1 else 0.0
    below = float(np.hypot(noise, np.mean([i.value - i.low for i in intervals])))
    above = float(np.hypot(noise, np.mean([i.high - i.value for i in intervals])))
    return Interval(mean, max(least, mean - below), min(1.0, mean + above))


def t_test(values: np.ndarray) -> float:
    """Two-sided p of Student's test that the mean of `values` (m,), m > 1, is 0."""
    from scipy.stats import t

    mean, error = abs(float(values.mean())), float(values.std(ddof=1)) / np.sqrt(len(values))
    return 2 * float(t.sf(mean / error, len(values) - 1)) if error else float(mean == 0)


def _ranked(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """`relevant` from the highest score to the lowest, without what is ignored."""
    order = np.argsort(-scores, kind="stable")
    return relevant[order[relevant[order] >= 0]]


def _eleven_points(relevant: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision (draws,) of a ranking (n,) of 0 and 1 whose images count `weights` (draws, n) times."""
    found = (weights * relevant).cumsum(1)
    precision = found / np.maximum(weights.cumsum(1), SLACK)
    best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    recall = found / np.maximum(found[:, -1:], SLACK)
    rows, total = np.arange(len(weights)), np.zeros(len(weights))
    for level in RECALLS:
        at = (recall < level - SLACK).sum(1)
        total += np.where(at < len(relevant), best[rows, np.minimum(at, len(relevant) - 1)], 0.0)
    return total / len(RECALLS)


def _percentiles(value: float, draws: np.ndarray) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high))
