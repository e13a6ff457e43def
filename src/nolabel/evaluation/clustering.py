"""Clustering: k-means on the test images, compared with their classes.

Features of unit length, k-means++ with restarts (specs 9.11). k = the number of classes: NMI (normalised by
the mean of both entropies), ARI (Hubert and Arabie 1985), and accuracy under the best one-to-one matching of
clusters and classes. k = five times as many: purity, each cluster named after its commonest class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch.nn.functional as F

from nolabel.evaluation._as_results import as_results
from nolabel.evaluation._ranges import COUNT, hold
from nolabel.evaluation.base import Features, Protocol, Result
from nolabel.evaluation.statistics import BLOCK, Interval, wilson
from nolabel.seeds import derive

DRAWS = 1000
ITERATIONS = 300
FINE = 5
"""clusters a class where many may share one"""


@dataclass(frozen=True)
class ClusteringOptions:
    """How k-means is run."""

    restarts: int = 10
    """the run with the smallest distances counts; a fifth as many with five times the clusters"""
    stage: str | None = None
    """None: the pooled vector"""

    def __post_init__(self) -> None:
        hold(self, restarts=COUNT)


class Clustering(Protocol):
    """See the module."""

    Options = ClusteringOptions
    options: ClusteringOptions
    protocol: ClassVar[str] = "clustering"

    def run(self, subject: Features, seed: int) -> list[Result]:
        """NMI, ARI, matched accuracy and fine purity on the test images, the clusters taken as they are.

        NMI and ARI with a bootstrap over the images, the two shares with Wilson's interval.

        Raises:
            RunError: features that are not finite.
        """
        stage = subject.chosen(self.options.stage)
        x = F.normalize(subject.stage(stage, subject.test).float(), dim=1).cpu().numpy()
        labels = subject.labels[subject.test].numpy()
        n, classes = len(labels), len(np.unique(labels))
        restarts = {classes: self.options.restarts, FINE * classes: max(1, self.options.restarts // FINE)}
        coarse, fine = (
            table(k_means(x, min(k, n), derive(seed, "evaluate", self.protocol, k), runs), labels)
            for k, runs in restarts.items()
        )
        draw = derive(seed, "evaluate", self.protocol, "bootstrap")
        told = {
            "stage": stage,
            "similarity": "cosine",
            "clusters": len(coarse),
            "restarts": restarts[classes],
        }
        of_nmi = told | {"nmi_norm": "arithmetic mean of both entropies"}
        of_fine = told | {"clusters": len(fine), "restarts": restarts[FINE * classes]}
        found = (
            ({"nmi": bootstrap_table(nmi, coarse, draw)}, of_nmi),
            ({"ari": bootstrap_table(ari, coarse, draw), "matched": wilson(matched(coarse), n)}, told),
            ({"purity": wilson(int(fine.max(1).sum()), n)}, of_fine),
        )
        return [row for values, own in found for row in as_results(subject, self.protocol, values, n, own)]


def k_means(x: np.ndarray, k: int, seed: int, restarts: int) -> np.ndarray:
    """int (n,): the cluster of each row of x (n, D), the best of `restarts` runs from k-means++ centres."""
    from sklearn.cluster import KMeans

    found = KMeans(k, max_iter=ITERATIONS, random_state=seed % 2**32).set_params(n_init=restarts)
    return np.asarray(found.fit(np.ascontiguousarray(x)).labels_)


def table(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int (clusters, classes): how many images each cluster has of each class; empty rows and columns left out."""
    rows, columns = (np.unique(values, return_inverse=True)[1] for values in (clusters, labels))
    width = int(columns.max()) + 1
    return np.bincount(rows * width + columns, minlength=(int(rows.max()) + 1) * width).reshape(-1, width)


def nmi(counts: np.ndarray) -> np.ndarray:
    """2 I(U; V)/(H(U) + H(V)) of tables (..., clusters, classes); 0 where there is one cluster only.

    1 where both have one group.
    """
    shares = counts / counts.sum((-2, -1), keepdims=True)
    rows, columns = shares.sum(-1), shares.sum(-2)
    both = _entropy(rows) + _entropy(columns)
    information = np.maximum(both - _entropy(shares.reshape(*shares.shape[:-2], -1)), 0.0)
    return np.where(both > 0, 2 * information / np.where(both > 0, both, 1.0), 1.0)


def ari(counts: np.ndarray) -> np.ndarray:
    """Rand index adjusted for chance, of tables (..., clusters, classes): 1 for equal groups, 0 by chance."""
    cells, rows, columns = (_pairs(part) for part in (counts, counts.sum(-1), counts.sum(-2)))
    together, first, second = cells.sum((-2, -1)), rows.sum(-1), columns.sum(-1)
    expected = first * second / np.maximum(_pairs(counts.sum((-2, -1))), 1)  # one image has no pair
    most = (first + second) / 2
    return np.where(
        most == expected, 1.0, (together - expected) / np.where(most == expected, 1.0, most - expected)
    )


def matched(counts: np.ndarray) -> int:
    """Images that are right under the best one-to-one matching of clusters and classes (Kuhn 1955)."""
    from scipy.optimize import linear_sum_assignment

    return int(counts[linear_sum_assignment(counts, maximize=True)].sum())


def bootstrap_table(
    statistic: Callable[[np.ndarray], np.ndarray], counts: np.ndarray, seed: int, draws: int = DRAWS
) -> Interval:
    """`statistic` of a table, its interval over resamples of the images with the clusters as they are.

    A resample makes a sparse table look more ordered than it is, so the resamples' mean is moved onto the value.
    """
    n, chances = int(counts.sum()), counts.ravel() / counts.sum()
    generator, parts = np.random.default_rng(seed), []
    for start in range(0, draws, size := max(1, BLOCK // counts.size)):
        tables = generator.multinomial(n, chances, min(size, draws - start))
        parts.append(statistic(tables.reshape(-1, *counts.shape)))
    value, drawn = float(statistic(counts)), np.concatenate(parts)
    low, high = np.percentile(drawn - drawn.mean() + value, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def _entropy(shares: np.ndarray) -> np.ndarray:
    return -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(-1)


def _pairs(counts: np.ndarray) -> np.ndarray:
    return counts * (counts - 1) / 2
