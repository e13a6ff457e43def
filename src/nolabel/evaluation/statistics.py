"""Intervals and tests of difference: they cover the finite test set, not the noise of training.

Wilson (1927) for a share; percentile bootstrap (Efron and Tibshirani 1993) for a mean over classes; exact
McNemar and the paired permutation test of SimCLR (Chen et al. 2020, B.8.2) for two encoders on the same test
images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Z = 1.959964
"""two-sided 95 % point of the standard normal"""
DRAWS = 10_000
PERMUTATIONS = 100_000
SLACK = 1e-12
BLOCK = 1_000_000


class Interval(NamedTuple):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, n: int) -> Interval:
    """The share `successes / n` with Wilson's score interval; n > 0."""
    p, z2 = successes / n, Z * Z
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


def bootstrap_balanced(correct: np.ndarray, labels: np.ndarray, seed: int, draws: int = DRAWS) -> Interval:
    """The mean over classes of the share correct, resampled within each class.

    Args:
        correct: bool (n,)
        labels: int (n,), the class of each image; a class without images does not count.

    The number correct among n_c resampled images is binomial, so whole resamples are drawn at once.
    """
    counts, right = _per_class(labels, correct)
    generator, total = np.random.default_rng(seed), np.zeros(draws)
    for n, k in zip(counts, right, strict=True):
        total += generator.binomial(n, k / n, draws) / n
    return _percentiles(float((right / counts).mean()), total / len(counts))


def bootstrap_difference(
    first: np.ndarray, second: np.ndarray, seed: int, labels: np.ndarray | None = None, draws: int = DRAWS
) -> Interval:
    """Accuracy of `first` minus accuracy of `second` (bool (n,), the same images), one resample for both.

    With `labels` it is the difference of balanced accuracies, resampled within each class.
    """
    groups = np.zeros(len(first), int) if labels is None else labels
    counts, wins = _per_class(groups, first & ~second)
    _, losses = _per_class(groups, second & ~first)
    generator = np.random.default_rng(seed)
    total = np.zeros(draws)
    for n, win, loss in zip(counts, wins, losses, strict=True):
        drawn = generator.multinomial(n, [win / n, loss / n, (n - win - loss) / n], draws)
        total += (drawn[:, 0] - drawn[:, 1]) / n
    return _percentiles(float(((wins - losses) / counts).mean()), total / len(counts))


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

    `first`, `second`: bool (n,), hits on the same images. The statistic is the difference of top-1, or with
    `labels` of balanced accuracy. p = (1 + #{|d*| ≥ |d|}) / (draws + 1). A swap matters only where one of the
    two is right, so the sum of a class's swapped differences is 2·Binomial(discordant, ½) − discordant.
    """
    groups = np.zeros(len(first), int) if labels is None else labels
    counts, wins = _per_class(groups, first & ~second)
    _, losses = _per_class(groups, second & ~first)
    discordant = wins + losses
    observed = abs(float(((wins - losses) / counts).sum()))
    generator, swapped = np.random.default_rng(seed), np.zeros(draws)
    for n, m in zip(counts, discordant, strict=True):
        swapped += (2 * generator.binomial(m, 0.5, draws) - m) / n
    return (1 + int((np.abs(swapped) >= observed - SLACK).sum())) / (draws + 1)


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


def _per_class(labels: np.ndarray, flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of images, and of raised flags, in each class that has images."""
    counts = np.bincount(labels)
    raised = np.bincount(labels, flags.astype(float), minlength=len(counts)).astype(np.int64)
    return counts[counts > 0], raised[counts > 0]


def _percentiles(value: float, draws: np.ndarray) -> Interval:
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high))
