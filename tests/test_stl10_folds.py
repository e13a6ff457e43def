"""The SVM on predefined folds: a tiny STL-10 with a file of folds, from the store to the mean over them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nolabel import recipes
from nolabel.data import named
from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.evaluation._split import divide
from nolabel.evaluation.svm import SVM, SVMOptions
from test_features import store_of
from test_heads_protocols import one_sentence, tiny

FOLDS = ((0, 3, 4, 7, 8, 11), (1, 2, 5, 6, 9, 10))
"""of twelve training images of two classes"""


def part(n: int, labelled: int, first: int) -> SimpleNamespace:
    """n images as torchvision's STL10 holds them, classes in turn told by brightness, the last without label."""
    labels = np.array([i % 2 if i < labelled else -1 for i in range(n)])
    random = np.random.default_rng(first)
    data = np.where(labels == 1, 180, 60)[:, None, None, None] + random.integers(-20, 20, (n, 3, 8, 8))
    return SimpleNamespace(data=data.astype(np.uint8), labels=labels, classes=["airplane", "bird"])


@pytest.fixture
def stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageStore:
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path))
    monkeypatch.setattr(named, "_fetch", lambda *_: [part(17, 12, 0), part(6, 6, 1)])
    file = tmp_path / "downloads" / named.FOLDS["stl10"]
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(" ".join(map(str, fold)) for fold in FOLDS) + "\n")
    return ImageStore.open("stl10", size=8)


def test_each_fold_is_trained_on_in_turn_and_all_test_images_are_read(stl10: ImageStore) -> None:
    subject = tiny(stl10)
    protocol = SVM(SVMOptions(folds=True))
    folds = [one.train for one in protocol._draws(subject, 0)]
    assert [[int(stl10.paths[i].rpartition("/")[2]) for i in fold] for fold in folds] == [*map(list, FOLDS)]
    assert all(int(stl10.labels[i]) == int(stl10.paths[i].split("/")[1] == "bird") for i in torch.cat(folds))
    top1, _ = protocol.run(subject, 0)
    assert (top1.n, top1.setting["train_images"], top1.setting["draws"]) == (6, 6, 2)
    assert top1.setting["folds"] is True
    assert len(top1.setting["of_seeds"]) == 2
    assert top1.predictions is not None
    assert top1.predictions.shape == (2, 6)


@pytest.mark.parametrize("text", [None, "", "0 1 two\n", "0 16\n", "0 99\n"])
def test_folds_that_cannot_be_read_are_one_sentence(
    stl10: ImageStore, tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "downloads" / named.FOLDS["stl10"]
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with pytest.raises(DataError, match="The folds of stl10 in .*fold_indices.txt cannot be read") as caught:
        SVM(SVMOptions(folds=True)).check(stl10, divide(stl10, 0))
    one_sentence(str(caught.value))


def test_a_set_without_folds_says_so() -> None:
    with pytest.raises(DataError, match="memory brings no folds of training images, as stl10 does"):
        SVM(SVMOptions(folds=True)).check(store := store_of(60, size=8), divide(store, 0))


def test_the_paper_s_recipe_asks_for_the_folds() -> None:
    (protocol,) = recipes.find("exemplar-paper").protocols
    assert isinstance(protocol, SVM)
    assert protocol.options == SVMOptions(folds=True)
