"""Results of several seeds or draws as one, and paired differences of two subjects on the same test images."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nolabel.evaluation.base import Result
from nolabel.evaluation.statistics import (
    Interval,
    bootstrap_difference,
    mcnemar_of,
    mean_of_seeds,
    permutation,
    t_test,
    uneven,
)
from nolabel.seeds import derive

DIFFERENCE = "_difference"


def over_seeds(of_seeds: Sequence[Sequence[Result]]) -> list[Result]:
    """Results of several seeds or draws, number by number, as their mean.

    `setting["of_seeds"]` holds the single values, `converged` is what holds for all; predictions are stacked to
    (seeds, n). A number that one seed alone has stays as it is.
    """
    if len(of_seeds) == 1:
        return list(of_seeds[0])
    found: dict[tuple[str, str, str], list[Result]] = {}
    for result in (result for results in of_seeds for result in results):
        found.setdefault((result.subject, result.protocol, result.metric), []).append(result)
    return [_mean(results) if len(results) > 1 else results[0] for results in found.values()]


def _mean(results: Sequence[Result]) -> Result:
    first = results[0]
    interval = mean_of_seeds([_interval(result) for result in results])
    names = {name for result in results for name in result.per_class}
    predicted = [result.predictions for result in results if result.predictions is not None]
    fits = [result.setting["converged"] for result in results if "converged" in result.setting]
    setting = {"of_seeds": [result.value for result in results]} | ({"converged": all(fits)} if fits else {})
    return replace(
        first,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        seeds=tuple(dict.fromkeys(seed for result in results for seed in result.seeds)),
        chosen={key: _merged([result.chosen[key] for result in results]) for key in first.chosen},
        setting=first.setting | setting,
        per_class={c: float(np.mean([result.per_class[c] for result in results])) for c in sorted(names)},
        predictions=np.vstack(predicted) if len(predicted) == len(results) else None,
    )


def _merged(values: Sequence[Any]) -> Any:
    """What seeds chose: the value that all share, the mean of what was measured, else the list of values."""
    if all(value == values[0] for value in values):
        return values[0]
    if all(isinstance(value, dict) for value in values):
        shared = [key for key in values[0] if all(key in value for value in values)]
        return {key: float(np.mean([value[key] for value in values])) for key in shared}
    return list(values)


def _interval(result: Result) -> Interval:
    assert result.low is not None
    assert result.high is not None
    return Interval(result.value, result.low, result.high)


def differences(
    own: Sequence[Result], of_seeds: Sequence[Sequence[Result]], truth: np.ndarray, seed: int
) -> list[Result]:
    """Top-1 of the encoder minus that of a baseline, on the same test images, for each protocol.

    Where the test classes are `uneven`, the difference of the means over classes too (`balanced_difference`).
    With a paired bootstrap interval and McNemar's exact p, of means over classes that of the paired permutation test.
    Where both are means of several draws of labels, the interval joins the images' noise (an image counts by its
    share of right predictions) with that of the draws, each of which both subjects were given, and p is the
    larger one of the permutation test over the images and of Student's over the draws. Of a baseline with several
    seeds: their mean, and the largest of their p. A protocol that the baseline was not measured under is left
    out.

    Args:
        own: the encoder's results.
        of_seeds: for each seed the baseline's results.
        truth: int (n,), the labels of the test images.
    """
    rows, of_metric = [], {"top1": None} | ({"balanced": truth} if uneven(truth) else {})
    for mine in (result for result in own if result.metric == "top1" and result.predictions is not None):
        others = [
            r for results in of_seeds for r in results if (r.protocol, r.metric) == (mine.protocol, "top1")
        ]
        if not others:
            continue
        draw = derive(seed, "evaluate", mine.protocol, "difference")
        for metric, labels in of_metric.items():
            pairs = [
                _compare(mine.predictions == truth, r.predictions == truth, draw, labels) for r in others
            ]
            interval = mean_of_seeds([difference for difference, _, _ in pairs], least=-1.0)
            test = pairs[0][2] + (f", the largest p of {len(pairs)} seeds" if len(pairs) > 1 else "")
            setting = {"against": others[0].subject, "p": max(p for _, p, _ in pairs), "test": test}
            rows.append(
                replace(
                    mine,
                    metric=metric + DIFFERENCE,
                    value=interval.value,
                    low=interval.low,
                    high=interval.high,
                    setting={name: mine.setting[name] for name in ("data",) if name in mine.setting}
                    | setting,
                    chosen={},
                    predictions=None,
                )
            )
    return rows


def _compare(
    mine: np.ndarray, other: np.ndarray, seed: int, labels: np.ndarray | None
) -> tuple[Interval, float, str]:
    """Difference with interval, p, and the name of the test, from hits (n,) or (draws, n).

    Of the shares of all images, or with `labels` (n,) of the means over classes.
    """
    if mine.ndim == other.ndim == 1:
        interval = bootstrap_difference(mine, other, seed, labels)
        if labels is None:
            return interval, mcnemar_of(mine, other), "exact McNemar"
        return interval, permutation(mine, other, seed, labels), "paired permutation"
    shared = min(len(np.atleast_2d(mine)), len(np.atleast_2d(other)))
    difference = np.atleast_2d(mine)[:shared].astype(float) - np.atleast_2d(other)[:shared]
    of_images, of_draws = difference.mean(0), difference @ _weights(difference.shape[1], labels)
    nothing = np.zeros_like(of_images)
    value, low, high = bootstrap_difference(of_images, nothing, seed, labels)
    joint = mean_of_seeds([Interval(d, d + low - value, d + high - value) for d in of_draws], least=-1.0)
    p = permutation(of_images, nothing, seed, labels)
    if shared == 1:
        return joint, p, "paired permutation"
    return (
        joint,
        max(p, t_test(of_draws)),
        f"paired permutation of images, t over {shared} draws: the larger p",
    )


def _weights(n: int, labels: np.ndarray | None) -> np.ndarray:
    """(n,), of each image in the mean, or in the mean over classes; they add up to 1."""
    if labels is None:
        return np.full(n, 1 / n)
    counts = np.bincount(labels)
    return 1 / (counts[labels] * np.count_nonzero(counts))
