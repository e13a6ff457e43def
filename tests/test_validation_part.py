"""Choices are made on the validation images that the data have; which these are, of folders and of official sets."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nolabel.data import named
from nolabel.data.store import ImageStore
from nolabel.evaluation import baselines
from nolabel.evaluation._features import extract
from nolabel.evaluation._head_training import halves
from nolabel.evaluation._split import divide
from nolabel.evaluation.base import Features
from nolabel.evaluation.knn import KNN, KNNOptions
from nolabel.evaluation.linear import Linear, LinearOptions
from nolabel.evaluation.transfer import _choose_tagged
from small import TinyNet, smooth_images
from test_named import lay

LISTS = {
    "aircraft": ("data/images_variant_val.txt", "0002 707-320\n", {"data/images/0002.jpg"}),
    "voc2007": ("ImageSets/Main/val.txt", "000007\n", {"JPEGImages/000007.jpg"}),
    "dtd": ("labels/val1.txt", "knit/b.jpg\n", {"images/knit/b.jpg"}),
    "flowers102": (None, "", {"jpg/image_00005.jpg", "jpg/image_00006.jpg"}),
}
"""set -> its list of validation images, what is in it, and the paths"""


@pytest.mark.parametrize("name", LISTS)
def test_official_sets_tell_their_validation_images(name: str, tmp_path: Path) -> None:
    paths, (file, text, wanted) = list(lay(name, tmp_path)), LISTS[name]
    root = tmp_path / named.SETS[name].folder  # type: ignore[union-attr]
    if file is not None:
        (root / file).write_text(text)
    assert {paths[place] for place in named.validation(name, paths, tmp_path)} == wanted
    if file is not None:
        (root / file).unlink()
        assert named.validation(name, paths, tmp_path) == []


def test_sets_without_official_validation_images_have_none() -> None:
    assert named.validation("pets", ["images/a.jpg"]) == named.validation("my folder", ["a.jpg"]) == []


def store(labels: list[int], splits: list[int]) -> ImageStore:
    batch = smooth_images(len(labels), (16, 16))
    made = ImageStore.of([batch.image(b) for b in range(len(labels))], labels)
    return replace(made, splits=torch.tensor(splits), split_names=("train", "val", "test"))


def test_a_validation_split_is_trained_on_and_chosen_by() -> None:
    images = store([0, 1] * 6, [0] * 4 + [1] * 4 + [2] * 4)
    division = divide(images, 0)
    assert division.train.tolist() == list(range(8))
    assert division.validation is not None
    assert division.validation.tolist() == [4, 5, 6, 7]
    assert "choices on the validation images of the data" in division.text
    own = extract(TinyNet(), images, division, name="tiny")
    (pixels,) = baselines.features("pixels", TinyNet(), images, division, size=16)
    assert own.validation is pixels.validation is division.validation
    assert divide(store([0] * 4 + [0, 1] * 4, [0] * 4 + [1] * 4 + [2] * 4), 0).validation is None


def subject(shifted: bool) -> tuple[Features, Tensor]:
    """Four clusters; of the 120 training images 40 are for choosing, whose classes are off by one where `shifted`."""
    y = torch.arange(160) % 4
    x = torch.eye(4)[y] + 0.02 * torch.randn(160, 4, generator=torch.Generator().manual_seed(0))
    validation = torch.arange(50, 90)
    y[validation] = (y[validation] + shifted) % 4
    found = Features.of(
        "toy", {"pooled": x}, y, torch.arange(120), torch.arange(120, 160), validation=validation
    )
    return found, torch.eye(4)[y].long()


@pytest.mark.parametrize("shifted", [False, True])
def test_choices_are_made_on_the_validation_images_alone(shifted: bool) -> None:
    found, tags = subject(shifted)
    choices, fitted_on = Linear(LinearOptions()).choose(found, 0)
    assert (choices[0].accuracy, fitted_on) == (1 - shifted, 80)
    assert KNN(KNNOptions()).run(found, 0)[0].chosen["validation"] == 1 - shifted
    fit, held = halves(found, 0)
    assert held.tolist() == list(range(50, 90))
    assert fit.tolist() == [*range(50), *range(90, 120)]
    best, _ = _choose_tagged(found, tags, torch.Generator().manual_seed(0))
    assert best.accuracy < 0.6 if shifted else best.accuracy == 1


def test_many_validation_images_are_drawn_from() -> None:
    found, _ = subject(shifted=False)
    choices, fitted_on = Linear(LinearOptions(images=50)).choose(found, 0)
    assert (choices[0].accuracy, fitted_on) == (1, 40)
