"""Clustering: printed values, scikit-learn, scipy's matching by brute force, the protocol."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from nolabel.evaluation import clustering
from nolabel.evaluation.base import Features
from nolabel.evaluation.clustering import Clustering, ClusteringOptions, ari, matched, nmi, table

PRINTED = {
    ((0, 0, 1, 1), (0, 0, 1, 1)): (1, 1, 1),
    ((0, 0, 1, 1), (0, 1, 0, 1)): (0, -0.5, 0.5),
    ((0, 0, 0, 1, 1, 1), (0, 0, 1, 1, 2, 2)): (0.5158, 0.2424, 0.6667),
    ((3, 3, 3, 3), (0, 0, 1, 1)): (0, 0, 0.5),
}


@pytest.mark.parametrize(("clusters", "labels"), PRINTED)
def test_printed_values_and_symmetry(clusters: tuple[int, ...], labels: tuple[int, ...]) -> None:
    counts = table(np.array(clusters), np.array(labels))
    found = float(nmi(counts)), float(ari(counts)), matched(counts) / len(labels)
    assert found == pytest.approx(PRINTED[clusters, labels], abs=1e-4)
    assert (float(nmi(counts.T)), float(ari(counts.T))) == pytest.approx(found[:2])


def test_equals_scikit_learn_and_brute_force() -> None:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    random = np.random.default_rng(0)
    for _ in range(30):
        k, c = random.integers(1, 6, 2)
        clusters, labels = random.integers(0, k, 50), random.integers(0, c, 50)
        counts = table(clusters, labels)
        assert float(nmi(counts)) == pytest.approx(normalized_mutual_info_score(labels, clusters), abs=1e-12)
        assert float(ari(counts)) == pytest.approx(adjusted_rand_score(labels, clusters), abs=1e-12)
        wide = counts if counts.shape[0] <= counts.shape[1] else counts.T
        ways = itertools.permutations(range(wide.shape[1]), wide.shape[0])
        assert matched(counts) == max(wide[range(len(wide)), way].sum() for way in ways)


def test_relabelled_clusters_change_nothing() -> None:
    random = np.random.default_rng(1)
    clusters, labels = random.integers(0, 4, 80), random.integers(0, 3, 80)
    counts, other = table(clusters, labels), table(np.array([7, 2, 9, 0])[clusters], labels)
    assert float(nmi(counts)) == pytest.approx(float(nmi(other)))
    assert float(ari(counts)) == pytest.approx(float(ari(other)))
    assert matched(counts) == matched(other)


@pytest.mark.parametrize("statistic", [ari, nmi])
def test_the_interval_covers_and_lies_around_the_value(
    statistic: Callable[[np.ndarray], np.ndarray],
) -> None:
    chances = np.array([[0.3, 0.1, 0.02], [0.03, 0.25, 0.05], [0.02, 0.03, 0.2]])
    truth, random, covered = float(statistic(chances * 1e9)), np.random.default_rng(2), 0
    for trial in range(200):
        counts = random.multinomial(400, chances.ravel()).reshape(3, 3)
        value, low, high = clustering.bootstrap_table(statistic, counts, seed=trial, draws=300)
        assert low < value < high
        covered += low <= truth <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_separate_clouds_are_found() -> None:
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 4
    x = torch.eye(4)[labels] + 0.03 * torch.randn(300, 4, generator=random)
    subject = Features.of("toy", {"pooled": x}, labels, torch.arange(100), torch.arange(100, 300))
    rows = {r.metric: r for r in Clustering(ClusteringOptions(restarts=3)).run(subject, 0)}
    assert set(rows) == {"nmi", "ari", "matched", "purity"}
    assert all(row.value == pytest.approx(1) for row in rows.values())
    assert rows["nmi"].setting["clusters"] == 4
    assert rows["purity"].setting["clusters"] == 20
    assert rows["matched"].n == 200
    again = Clustering(ClusteringOptions(restarts=3)).run(subject, 0)
    assert [r.value for r in again] == [r.value for r in rows.values()]


def test_random_features_are_near_chance() -> None:
    random = torch.Generator().manual_seed(1)
    labels = torch.arange(400) % 4
    x = torch.randn(400, 8, generator=random)
    subject = Features.of("toy", {"pooled": x}, labels, torch.arange(100), torch.arange(100, 400))
    rows = {r.metric: r.value for r in Clustering(ClusteringOptions(restarts=2)).run(subject, 0)}
    assert abs(rows["ari"]) < 0.05
    assert rows["matched"] < 0.45


def test_one_test_image_is_one_group_in_both() -> None:
    subject = Features.of(
        "toy", {"pooled": torch.eye(3)}, torch.tensor([0, 1, 1]), torch.arange(2), torch.tensor([2])
    )
    with np.errstate(all="raise"):
        rows = {r.metric: r for r in Clustering(ClusteringOptions()).run(subject, 0)}
    assert {
        name: (row.value, row.low, row.high) for name, row in rows.items() if row.metric in ("nmi", "ari")
    } == {
        "nmi": (1, 1, 1),
        "ari": (1, 1, 1),
    }
    assert "entropies" in rows["nmi"].setting["nmi_norm"]
    assert (rows["ari"].setting["restarts"], rows["purity"].setting["restarts"]) == (10, 2)
