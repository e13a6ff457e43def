"""The demo data: real photographs, the same every time, and not to be solved by colour or raw pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nolabel
from nolabel.data import demo
from nolabel.data.demo import demo_store
from nolabel.data.store import ImageStore
from nolabel.errors import UsageError


@pytest.fixture(scope="module")
def store() -> ImageStore:
    return demo_store()


def test_it_has_several_photographs_and_both_splits(store: ImageStore) -> None:
    assert len(store.class_names) >= 8
    assert store.split_names == ("train", "test")
    for split, count in (("train", demo.TRAIN_PER_PHOTO), ("test", demo.TEST_PER_PHOTO)):
        per_class = torch.bincount(store.split(split).labels)
        assert per_class.tolist() == [count] * len(store.class_names)
    assert set(store.heights.tolist()) == set(store.widths.tolist()) == {demo.SIDE}


def test_it_is_the_same_for_the_same_seed(store: ImageStore) -> None:
    assert demo_store().fingerprint == store.fingerprint != demo_store(1).fingerprint


def test_training_and_test_cells_share_no_pixel() -> None:
    train, test = (set(demo._cells(260, 400, split)) for split in (0, 1))
    assert train
    assert test
    assert not train & test
    corners = np.array(sorted(train | test))
    assert (corners % demo._CELL == 0).all()
    assert demo.SIDE <= demo._CELL


def test_missing_photographs_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_PHOTOS", {"cat": ("no_such_package", "cat.png")})
    with pytest.raises(UsageError, match=r"nolabel\[demo\]"):
        demo_store()


def test_neither_raw_pixels_nor_a_colour_histogram_reach_70_percent(store: ImageStore) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    images = store.pixels.view(len(store), demo.SIDE, demo.SIDE, 3)
    bins = (images.long() // 64 * torch.tensor([16, 4, 1])).sum(-1)
    histogram = torch.stack([torch.bincount(one.flatten(), minlength=64) for one in bins]).sqrt()
    small = F.avg_pool2d(images.permute(0, 3, 1, 2).float(), 4).flatten(1)
    train = (store.splits == 0).numpy()
    labels = store.labels.numpy()
    for features in (small, histogram):
        values = StandardScaler().fit(features[train].numpy()).transform(features.numpy())
        for model in (LogisticRegression(C=0.01, max_iter=500, tol=0.1), KNeighborsClassifier(5)):
            assert model.fit(values[train], labels[train]).score(values[~train], labels[~train]) < 0.7


@pytest.mark.slow
def test_self_supervision_beats_random_features_which_stay_below_70_percent(
    store: ImageStore, tmp_path: Path
) -> None:
    run = nolabel.pretrain("simclr", store, steps=100, out=tmp_path / "run", progress=False)
    found = nolabel.evaluate(run.folder, store, protocols=("knn",), baselines=("random",))
    top1 = {row.subject: row.value for row in found if row.metric == "top1"}
    (gain,) = (row for row in found if row.metric == "top1_difference")
    assert top1["random:resnet10+whitened"] < 0.7
    assert gain.value > 0.02
    assert gain.setting["p"] < 0.05
