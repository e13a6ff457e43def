"""Accuracies of one protocol's predictions, with their intervals, as results."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nolabel.evaluation.base import Features, Result
from nolabel.evaluation.statistics import bootstrap_balanced, uneven, wilson
from nolabel.seeds import derive

MANY_CLASSES = 20
"""from more classes than this, top-5 is reported too"""
Metric = Literal["top1", "balanced"]
"""what choices are made by; "balanced": the mean over classes"""


def share(correct: Tensor, labels: Tensor, metric: Metric = "top1") -> float:
    """The share that is right, or its mean over the classes that have images, from hits (n,) and labels (n,)."""
    if metric == "top1":
        return float(correct.float().mean())
    counts = torch.bincount(labels)
    right = torch.bincount(labels, correct.float(), minlength=len(counts))
    return float((right / counts)[counts > 0].mean())


def results(
    subject: Features,
    protocol: str,
    scores: Tensor,
    seed: int,
    chosen: dict[str, Any],
    setting: dict[str, Any],
) -> list[Result]:
    """Top-1 and balanced accuracy, and top-5 where classes are many, from scores (n, C) of the test images.

    Top-1 and top-5 with Wilson's interval, balanced accuracy with a bootstrap within classes. Of equal scores
    the class of lower index wins; a class of score −∞ is in no top-5. The setting names classes that have no test
    image, which `balanced` leaves out, and the sizes of uneven ones.
    """
    labels = subject.labels[subject.test].numpy()
    predicted = scores.argmax(1).cpu().numpy()
    correct = predicted == labels
    n = len(labels)
    found = {"top1": wilson(int(correct.sum()), n)}
    if scores.shape[1] > MANY_CLASSES:
        best, ranked = (part[:, :5] for part in scores.cpu().sort(dim=1, descending=True, stable=True))
        hits = (ranked == torch.from_numpy(labels)[:, None]) & (best > -torch.inf)
        found["top5"] = wilson(int(hits.any(1).sum()), n)
    balanced_seed = derive(seed, "evaluate", protocol, "bootstrap")
    found["balanced"] = bootstrap_balanced(correct, labels, balanced_seed)
    names = subject.class_names
    per_class = {names[c]: float(correct[labels == c].mean()) for c in np.unique(labels).tolist()}
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
            chosen=chosen,
            setting=subject.setting | setting | _classes(subject),
            per_class=per_class if metric == "balanced" else {},
            predictions=predicted if metric == "top1" else None,
        )
        for metric, interval in found.items()
    ]


def _classes(subject: Features) -> dict[str, Any]:
    """What must be known of the test classes to read an accuracy: nothing where they are even, and all there."""
    trained, tested = (subject.labels[rows] for rows in (subject.train, subject.test))
    absent = trained[~torch.isin(trained, tested)].unique().tolist()
    sizes = uneven(tested.numpy())
    told: dict[str, Any] = {"test_images_a_class": list(sizes)} if sizes else {}
    names = [subject.class_names[c] for c in absent]
    return told | ({"classes_without_test_images": names} if names else {})
