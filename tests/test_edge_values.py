"""Values at the edge of what can be trained: the least part hidden, one image, one puzzle."""

from pathlib import Path

import pytest
import torch

import nolabel
from cli_helpers import Say, one_line
from nolabel.data.store import ImageStore
from nolabel.errors import UsageError
from nolabel.runs import Run
from toys import toy_store


def tiny(**settings: object) -> dict:
    return {
        "steps": 1,
        "batch_size": 4,
        "progress": False,
        "precision": "32-true",
        "channels_last": False,
        **settings,
    }


@pytest.mark.parametrize(
    ("method", "options"),
    [("counting", {}), ("simclr", {"loss": "dcl"}), ("simclr", {}), ("exemplar", {"form": "triplet"})],
)
def test_a_method_that_compares_images_refuses_one_before_anything_is_written(
    method: str, options: dict, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="compares images, so a batch of 1 is too small: .* at least 2"):
        nolabel.pretrain(
            method, toy_store(side=32), out=tmp_path / "run", options=options, **tiny(batch_size=1)
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", ["nt_xent", "dcl"])
def test_one_held_out_image_does_not_stop_a_method_that_compares_images(loss: str, tmp_path: Path) -> None:
    images = torch.randint(256, (9, 3, 32, 32), dtype=torch.uint8)
    store = ImageStore.of(images, splits=[0] * 8 + [1])
    nolabel.pretrain("simclr", store, out=tmp_path / "run", options={"loss": loss}, **tiny())
    run = Run.open(tmp_path / "run")
    assert run.status == "finished"
    assert not any(name.startswith("held_out/") for name in run.info["final"])


@pytest.mark.parametrize(
    "words",
    [("jigsaw", "--puzzles", "1"), ("context-prediction", "--layout", "free")],
)
def test_one_puzzle_or_pair_is_refused_in_one_sentence(
    say: Say, small_images: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    place = ("--batch-size", "1", "--steps", "1", "--out", tmp_path / "run")
    code, _, err = say("pretrain", words[0], small_images, *words[1:], *place)
    assert code == 2
    one_line(err, "give a larger --batch-size")


@pytest.mark.parametrize(
    "words", [("--mask-fraction", "0.0004"), ("--mask", "random_block", "--mask-fraction", "0.003")]
)
def test_a_mask_of_less_than_a_pixel_trains(
    say: Say, small_images: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    place = ("--batch-size", "4", "--steps", "1", "--out", tmp_path / "run")
    code, _, err = say("pretrain", "context-encoder", small_images, *words, *place)
    assert code == 0, err
