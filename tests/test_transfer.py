"""Transfer: each set's own metric, multi-label precision, the tests of difference."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.evaluation import transfer
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features, Result
from nolabel.evaluation.statistics import mcnemar_of
from nolabel.evaluation.transfer import Target, Transferred, of_features
from small import smooth_images


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("caltech101.zip", "balanced"),
        ("/data/Flowers-102", "balanced"),
        ("cifar100.zip", "top1"),
        ("cifar10", "top1"),
        ("VOC2007", "map11"),
        ("FGVC-Aircraft", "balanced"),
        ("Oxford-IIIT-Pets", "balanced"),
        ("rsscn7_satellite.zip", "top1"),
        ("/data/flowers102/", "balanced"),
        ("flowers102/labels.csv", "balanced"),
        ("fgvc-aircraft-2013b.tar.gz", "balanced"),
        ("OxfordIIITPet", "balanced"),
        ("carpets.zip", "top1"),
    ],
)
def test_a_set_s_metric_by_its_name(name: str, metric: str) -> None:
    assert transfer.metric_of(name) == metric


def store_of(n: int) -> ImageStore:
    return ImageStore.of([smooth_images(n, (12, 12)).image(b) for b in range(n)])


def target(metric: transfer.Metric, tags: Tensor | None = None) -> Target:
    return Target("set", store_of(12), metric, tags)


def features(x: Tensor, labels: Tensor, cut: int) -> Features:
    return Features.of("toy", {"pooled": x}, labels, torch.arange(cut), torch.arange(cut, len(x)))


@pytest.mark.parametrize("metric", ["top1", "balanced"])
def test_classes_with_the_set_s_own_metric(metric: transfer.Metric) -> None:
    labels = (torch.arange(360) % 6).clamp(max=3)
    x = torch.eye(4)[labels] + 0.5 * normal(360, 4)
    found = of_features(features(x, labels, 240), target(metric), 0)
    assert found.result.metric == metric
    assert found.result.protocol == "transfer"
    assert found.result.setting["chosen_by"] == metric
    assert len(found.result.chosen["l2_curve"]) == 45
    hits, truth = found.correct > 0, labels[240:].numpy()
    expected = hits.mean() if metric == "top1" else np.mean([hits[truth == c].mean() for c in range(4)])
    assert found.result.value == pytest.approx(expected)
    assert (found.labels is None) == (metric == "top1")


def test_of_many_classes_the_five_best_guesses_are_counted_too() -> None:
    labels = torch.arange(480) % 24
    found = of_features(features(normal(480, 4) + labels[:, None], labels, 360), target("top1"), 0)
    (top5,) = found.others
    assert top5.metric == "top5"
    assert top5.protocol == "transfer"
    assert top5.setting["data"] == "set"
    assert top5.value > found.result.value
    labels = labels % 4
    assert of_features(features(normal(480, 4), labels, 360), target("top1"), 0).others == ()


def test_tags_are_found_and_poisoned_test_images_choose_nothing() -> None:
    x = normal(300, 6)
    tags = (x[:, :3] > 0.3).to(torch.int8)
    tags[::17, 1] = -1
    labels = torch.full((300,), -1)

    def subject(rows: Tensor) -> Features:
        names = ("a", "b", "c")
        return Features.of("toy", {"pooled": rows}, labels, torch.arange(200), torch.arange(200, 300), names)

    found = of_features(subject(x), target("map11", tags), 0)
    assert found.result.metric == "map11"
    assert found.result.value > 0.97
    assert found.result.low <= found.result.value <= found.result.high
    assert found.correct.mean() > 0.9
    curve = found.result.chosen["l2_curve"]
    assert len(curve) == 45
    assert max(curve.values()) == found.result.chosen["validation"]
    poisoned = x.clone()
    poisoned[200:] = 1e6
    assert of_features(subject(poisoned), target("map11", tags), 0).result.chosen == found.result.chosen
    with pytest.raises(DataError, match="needs tags"):
        of_features(subject(x), target("map11"), 0)


@pytest.mark.parametrize("rows", [slice(200), slice(200, 300)])
@pytest.mark.parametrize("mark", [0, 1])
def test_a_tag_that_all_or_none_of_a_part_show_is_left_out_and_named(rows: slice, mark: int) -> None:
    x, labels = normal(300, 6), torch.full((300,), -1)
    tags = (x[:, :3] > 0.3).to(torch.int8)
    names = ("a", "b", "c")

    def subject(c: list[int]) -> Features:
        chosen = [names[i] for i in c]
        return Features.of("toy", {"pooled": x}, labels, torch.arange(200), torch.arange(200, 300), chosen)

    without = of_features(subject([0, 2]), target("map11", tags[:, [0, 2]]), 0).result
    tags[rows, 1] = mark
    row = of_features(subject([0, 1, 2]), target("map11", tags), 0).result
    assert (row.setting["tags"], row.setting["tags_left_out"]) == (2, ["b"])
    assert (row.low, row.value, row.high) == (without.low, without.value, without.high)


def test_labels_of_several_that_allow_no_measure_are_refused() -> None:
    images = [smooth_images(12, (12, 12)).image(b) for b in range(12)]
    splits = (torch.arange(12) >= 8).long()

    def divided(tags: Tensor, labels: list[int] | None = None, cut: Tensor | None = splits) -> Division:
        return transfer.divided(
            Target("set", ImageStore.of(images, labels or [0] * 12, cut), "map11", tags), 0
        )

    some = torch.tensor([[1, 0], [0, 1]] * 6, dtype=torch.int8)
    with pytest.raises(DataError, match="No label of memory can be measured"):
        divided(torch.ones(12, 2, dtype=torch.int8))
    with pytest.raises(DataError, match="No test image of memory has a label"):
        divided(some, [0] * 8 + [-1] * 4)
    found = divided(some, [0] * 6 + [-1] + [0] * 5)
    assert (len(found.train), len(found.test)) == (7, 4)
    assert found.text.endswith("; 1 image without a label left out")


def test_a_mean_over_classes_needs_test_images_of_each() -> None:
    images = [smooth_images(12, (12, 12)).image(b) for b in range(12)]
    labels = [0, 1, 2] * 3 + [0, 1, 1]
    store = ImageStore.of(images, labels, (torch.arange(12) >= 9).long())
    transfer.divided(Target("set", store, "top1"), 0)
    with pytest.raises(DataError, match="Class 2 of memory has training images but no test image"):
        transfer.divided(Target("set", store, "balanced"), 0)


def scored(
    data: str, metric: str, correct: np.ndarray, value: float, labels: np.ndarray | None = None
) -> Transferred:
    return Transferred(
        data, Result("x", "transfer", metric, value, None, None, len(correct)), correct, labels
    )


def test_the_permutation_test_decides_ties() -> None:
    random = np.random.default_rng(0)
    first, second = (random.random(400) < 0.8).astype(float), (random.random(400) < 0.6).astype(float)
    labels = np.arange(400) % 4
    pairs = [
        (scored("a", "top1", first, 0.8), scored("a", "top1", second, 0.6)),
        (scored("b", "top1", first, 0.8), scored("b", "top1", first, 0.8)),
        (scored("c", "balanced", first, 0.8, labels), scored("c", "balanced", second, 0.6, labels)),
        (scored("d", "map11", first * 0.9, 0.8), scored("d", "map11", second * 0.9, 0.6)),
    ]
    rows = transfer.compare([a for a, _ in pairs], [b for _, b in pairs], seed=0)
    assert [row.p > 0.05 for row in rows] == [False, True, False, False]
    assert rows[0].p == pytest.approx(mcnemar_of(first > 0, second > 0), abs=0.005)
    assert rows[1].p == 1
    assert all(row.low <= row.value <= row.high for row in rows)
    assert rows[2].value == pytest.approx(first.mean() - second.mean())
    assert rows[3].value == pytest.approx(0.9 * (first.mean() - second.mean()))
    assert all(row.adjusted >= row.p for row in rows)
