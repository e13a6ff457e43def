"""Frozen features: pooling, reading, splits, and what bad labels and damaged weights give."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.encoders._io import encoder_digest
from nolabel.encoders.base import Encoder, build
from nolabel.errors import DataError, RunError, UsageError
from nolabel.evaluation import _features
from nolabel.evaluation._features import extract, pool_side
from nolabel.evaluation._split import divide, held_out, stratified
from nolabel.evaluation.monitor import knn_monitor
from nolabel.views import plain


def store_of(n: int = 60, classes: int = 3, size: int = 16, *, splits: bool = True) -> ImageStore:
    """Images whose colour tells the class, with noise."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    base = torch.linspace(60, 190, classes)[labels].view(n, 1, 1, 1)
    images = (base + 20 * torch.randn(n, 3, size, size, generator=random)).clamp(0, 255).to(torch.uint8)
    held = (torch.arange(n) >= 2 * n // 3).long() if splits else None
    return ImageStore.of(images, labels, held)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build("resnet10", 16).eval()


@pytest.mark.parametrize(
    ("shape", "values", "side"),
    [
        ((32, 32, 32), 9000, 16),
        ((32, 32, 32), 4096, 8),
        ((128, 8, 8), 4096, 4),
        ((256, 4, 4), 4096, 4),
        ((2048, 7, 7), 4096, 1),
        ((5000, 4, 4), 4096, 1),
        ((64, 12, 8), 4096, 4),
    ],
)
def test_the_grid_is_the_finest_of_equal_cells(shape: tuple[int, int, int], values: int, side: int) -> None:
    assert pool_side(*shape, values) == side


def test_images_that_are_too_small_for_the_encoder_are_refused() -> None:
    store = store_of()
    with pytest.raises(UsageError, match="Images of 8 px are too small for alexnet: give a larger --size"):
        extract(build("alexnet", 64), store, divide(store, 0), name="toy", size=8)


def test_features_are_the_pooled_maps_of_each_image(encoder: Encoder) -> None:
    store = store_of()
    found = extract(encoder, store, divide(store, 0), name="toy", values=600, batch_size=16)
    indices = torch.tensor([50, 3, 17, 3])
    maps = encoder.maps(plain.whole(store.batch(indices), 16))
    for stage, matrix in found.compute(tuple(found.values), indices).items():
        whole = stage == "pooled"
        side = found.grid[stage]
        last = maps["stage4" if whole else stage].detach()
        cells = last.unflatten(2, (side, -1)).unflatten(4, (side, -1)).mean((3, 5))
        torch.testing.assert_close(matrix, cells.flatten(1), atol=1e-5, rtol=1e-5)
        assert matrix.shape[1] == found.values[stage] <= 600
    torch.testing.assert_close(found.stage("pooled", indices), encoder(plain.whole(store.batch(indices), 16)))
    assert found.whole == "pooled"


def test_pooled_vectors_are_computed_once(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of()
    found = extract(encoder, store, divide(store, 0), name="toy")
    first = found.stage("pooled", found.train)
    monkeypatch.setattr(encoder, "maps", lambda *_: pytest.fail("computed again"))
    torch.testing.assert_close(found.stage("pooled", found.train), first)


def test_extraction_leaves_the_encoder_as_it_was(encoder: Encoder) -> None:
    store = store_of()
    before = encoder_digest(encoder)
    found = extract(encoder, store, divide(store, 0), name="toy")
    found.compute(tuple(found.values), found.train)
    assert encoder_digest(encoder) == before


def test_large_matrices_are_kept_in_half_precision(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_features, "HALF_FROM", 1000)
    store = store_of()
    found = extract(encoder, store, divide(store, 0), name="toy")
    assert found.stage("stage1", found.train).dtype == torch.float16


def test_features_that_are_not_finite_are_refused(encoder: Encoder) -> None:
    store = store_of()
    broken = build("resnet10", 16)
    with torch.no_grad():
        broken.stem.weight[0, 0, 0, 0] = torch.nan
    found = extract(broken, store, divide(store, 0), name="broken")
    with pytest.raises(RunError, match="features of broken at stage1 are not finite"):
        found.stage("stage1", found.train)


def test_the_splits_of_the_data_are_used() -> None:
    division = divide(store_of(), 0)
    assert division.train.tolist() == list(range(40))
    assert division.test.tolist() == list(range(40, 60))


def test_without_a_test_split_a_stratified_fifth_is_held_out() -> None:
    store = store_of(150, splits=False)
    division = divide(store, 0)
    assert "20%" in division.text
    assert not set(division.train.tolist()) & set(division.test.tolist())
    assert torch.bincount(store.labels[division.test]).tolist() == [10, 10, 10]
    assert division.test.tolist() == divide(store, 0).test.tolist() != divide(store, 1).test.tolist()


def test_images_without_a_label_are_left_out_and_counted() -> None:
    store = store_of()
    labels = store.labels.clone()
    labels[:5] = -1
    division = divide(replace(store, labels=labels), 0)
    assert division.train.tolist() == list(range(5, 40))
    assert "5 images without a label left out" in division.text


def labels_of(change: str) -> tuple[Tensor, bool]:
    """Labels of `store_of(60)` spoilt in one way, and whether the store has splits."""
    labels = torch.arange(60) % 3
    if change == "none":
        labels[:] = -1
    elif change == "one class":
        labels[:] = 1
    elif change == "single image":
        labels[labels == 2] = 1
        labels[7] = 2
        return labels, False
    elif change == "unseen":
        labels[:40] = labels[:40] % 2
    else:
        labels[40:] = -1
    return labels, True


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("none", "memory has no labels"),
        ("one class", r"of one class \(1\)"),
        ("single image", "Class 2 of memory has one image"),
        ("unseen", "Class 2 of memory has test images but no labelled training image"),
        ("no test label", "No test image of memory has a label"),
    ],
)
def test_labels_that_allow_no_evaluation_get_one_sentence(change: str, message: str) -> None:
    labels, splits = labels_of(change)
    store = replace(store_of(splits=splits), labels=labels)
    with pytest.raises(DataError, match=message) as error:
        divide(store, 0)
    assert "\n" not in str(error.value)


def test_several_labels_an_image_are_no_class() -> None:
    store = replace(store_of(), class_names=("cat", "cat;dog", "dog"))
    with pytest.raises(DataError, match=r"several labels each \(cat;dog\).*nolabel transfer") as error:
        divide(store, 0)
    assert "\n" not in str(error.value)


def test_held_out_takes_a_share_of_each_class_and_never_all() -> None:
    labels = torch.tensor([0] * 100 + [1] * 10 + [2] * 2 + [3])
    random = torch.Generator().manual_seed(0)
    held = held_out(labels, 0.2, random)
    assert torch.bincount(labels[held], minlength=4).tolist() == [20, 2, 1, 0]
    part = stratified(labels, 50, random)
    assert torch.bincount(labels[part], minlength=4).tolist() == [44, 4, 1, 0]
    assert len(stratified(labels, 500, random)) == 113


def test_the_monitor_gives_knn_accuracy_on_training_images(encoder: Encoder) -> None:
    monitor = knn_monitor(store_of(90).split("train"))
    assert monitor is not None
    assert 0.5 < monitor(encoder, 1)["knn"] <= 1
    unlabelled = replace(store_of(), labels=torch.full((60,), -1))
    assert knn_monitor(unlabelled) is None
