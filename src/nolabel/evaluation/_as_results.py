"""Several measures of one subject as results."""

from collections.abc import Mapping
from typing import Any

from nolabel.evaluation.base import Features, Result
from nolabel.evaluation.statistics import Interval


def as_results(
    subject: Features, protocol: str, values: Mapping[str, Interval], n: int, setting: dict[str, Any]
) -> list[Result]:
    """One result for each metric of `values`, over `n` test images; `setting` joins that of the subject."""
    return [
        Result(
            subject=subject.name,
            protocol=protocol,
            metric=metric,
            value=interval.value,
            low=interval.low,
            high=interval.high,
            n=n,
            seeds=subject.seeds,
            setting=subject.setting | setting,
        )
        for metric, interval in values.items()
    ]
