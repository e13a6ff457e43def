"""What check-pretext says, from the evidence alone, what it reads of a run, and the command to its end."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cli_helpers import Say, write_images
from nolabel import catalog, pretext
from nolabel.api import pretrain
from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.evaluation._split import divided_as
from nolabel.methods.base import Method
from nolabel.pretext import Solved, colourful, judge, solved, turns_of_thumbnails
from nolabel.runs import Run, read_description

LEVEL = Solved(0.25, 0.25, 256, "accuracy")
"""of thumbnails that tell no turn"""


def accuracy(score: float, chance: float = 0.25, images: int = 1000) -> Solved:
    return Solved(score, chance, images, "accuracy")


def loss(score: float, empty: bool = False) -> Solved:
    return Solved(score, 0, 100, "loss", empty)


def said(method: str, default: Solved, other: Solved | None = None, colour: float = 1.0) -> list[str]:
    return judge(method, default, other, colour, LEVEL)


def run_with(task: dict[str, float], accuracy: float | None = None) -> Run:
    final = {f"held_out/{name}": value for name, value in task.items()} | {"held_out/images": 512.0}
    return Run(Path("run"), {"method": "colorization", "final": final, "chance": {"accuracy": accuracy}})


def test_a_task_at_chance_does_not_fit() -> None:
    told = said("rotation", accuracy(0.26))
    assert "does not fit" in told[0]
    assert "natural up" in told[0]


def test_a_task_above_chance_fits_and_one_at_the_top_is_too_easy() -> None:
    assert "Rotation fits" in said("rotation", accuracy(0.6))[0]
    assert "almost perfectly" in said("rotation", accuracy(0.99))[0]


@pytest.mark.parametrize(
    ("without", "found"), [(0.9, "there is a shortcut"), (0.62, "no shortcut was found")]
)
def test_a_shortcut_is_what_defences_cost(without: float, found: str) -> None:
    told = said("jigsaw", accuracy(0.6), accuracy(without))[1]
    assert found in told
    assert told.startswith(
        f"With its defences off {without:.1%} of the answers are right, with them on 60.0%"
    )


def test_defences_that_are_off_by_default_are_the_other_arm() -> None:
    told = said("rotation", accuracy(0.9), accuracy(0.6))[1]
    assert told.startswith("With its defences off 90.0% of the answers are right, with them on 60.0%")
    assert "pretrain with --border-crop 0.1 --mask-corners --jpeg-p 1.0 as well" in told
    assert "no shortcut" in said("rotation", accuracy(0.6), accuracy(0.9))[1]


def test_a_loss_is_judged_against_the_constant_answer() -> None:
    assert "48% below" in said("colorization", loss(0.48))[0]
    assert "no better than one constant answer" in said("colorization", loss(0.0))[0]
    assert "of the constant answer's loss is gone" in said("simclr", loss(0.3), loss(0.7))[1]


def test_a_constant_answer_that_is_right_everywhere_leaves_nothing_to_predict() -> None:
    found = solved(run_with({"loss": -0.0, "constant_loss": -0.0}))
    assert found == Solved(0.0, 0.0, 512, "loss", empty=True)
    told = said("colorization", found, found, colour=0.0)
    assert "there is nothing to predict" in told[0]
    assert "Only 0% of the images have colour" in told[1]
    assert not solved(run_with({"loss": 1.0, "constant_loss": 2.0})).empty
    assert solved(run_with({"loss": 1.0, "accuracy": 0.5}, accuracy=0.25)).score == 0.5


def test_exemplar_is_asked_about_copies_and_not_about_other_images() -> None:
    told = said("exemplar", accuracy(0.6, 0.002))[0]
    assert "new copies of its seeds" in told
    assert "held-out" not in told
    assert "1,000 held-out images" in said("jigsaw", accuracy(0.6))[0]


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_every_method_has_defences_that_change_options_but_no_loss(name: str) -> None:
    kind = catalog.load("methods", name, Method)
    changed: dict[str, Any] = kind.undefended | kind.defended
    assert changed
    assert not (kind.undefended and kind.defended)
    assert dataclasses.replace(kind.Options(), **changed) != kind.Options()
    assert not {"loss", "loss_region", "rebalance", "colour_mask", "contrastive"} & set(changed)


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_rotation_and_colour_are_told_of_or_the_command_that_tells(name: str) -> None:
    told = " ".join(said(name, accuracy(0.6)))
    assert "100% of the images have colour" in told
    assert ("check-pretext colorization DATA" in told) == (name != "colorization")
    assert "quarter turns" in told
    assert ("check-pretext rotation DATA" in told) == (name != "rotation")
    assert "natural up" in judge(name, accuracy(0.6), None, 1.0, accuracy(0.9))[-1] or name == "rotation"


def test_grey_images_have_nothing_for_colorization() -> None:
    grey = torch.randint(256, (20, 1, 16, 16), dtype=torch.uint8).expand(20, 3, 16, 16).contiguous()
    assert colourful(ImageStore.of(grey)) == 0
    assert colourful(ImageStore.of(torch.randint(256, (20, 3, 16, 16), dtype=torch.uint8))) == 1


def test_thumbnails_tell_a_turn_where_it_is_bright_above() -> None:
    noise = torch.randint(160, (80, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert not turns_of_thumbnails(ImageStore.of(noise)).above
    noise[:, :, :8] += 80
    assert turns_of_thumbnails(ImageStore.of(noise)).score > 0.9
    assert turns_of_thumbnails(ImageStore.of(torch.full((20, 3, 16, 16), 9, dtype=torch.uint8))).score == 0.25


def one_step(*words: Any, minutes: float, **named: Any) -> Run:
    return pretrain(*words, steps=1, precision="32-true", channels_last=False, compile=False, **named)


@pytest.mark.slow
def test_images_without_a_test_split_or_labels_are_checked_on_a_fifth_that_is_held_back(
    tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretext, "pretrain", one_step)
    written = write_images(tmp_path / "images")
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(sorted(written.rglob("*.png"))):
        file.rename(flat / f"{number}.png")
    words = ("check-pretext", "rotation", flat, "--out", tmp_path / "check")
    code, told, err = say(*words)
    assert code == 0, err
    assert "held-out images" in told
    run = read_description(tmp_path / "check" / "default")
    assert run["data"]["trained_on"] == 22
    assert run["data"]["divided"] == "a random 20% held out for the test with seed 0"
    whole = ImageStore.open(flat, size=run["data"]["opened_at"])
    store = divided_as(whole, run["data"]["divided"], 0)
    assert store.fingerprint == run["data"]["fingerprint"]


def test_too_few_images_to_hold_any_back_are_refused_before_training(tmp_path: Path) -> None:
    few = ImageStore.of(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(DataError, match="4 images, too few to hold any back"):
        pretext.check("rotation", few, out=tmp_path / "check", minutes=1)
    assert not (tmp_path / "check").exists()


@pytest.mark.slow
def test_the_command_on_grey_images(tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretext, "pretrain", one_step)
    folder = write_images(tmp_path / "images")
    for file in folder.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    out = tmp_path / "check"
    code, told, err = say("check-pretext", "colorization", folder, "--out", out)
    assert code == 0, err
    assert "Training colorization as it is" in told
    assert "Colorization does not fit: there is nothing to predict on 8 held-out images" in told
    assert "Only 0% of the images have colour" in told
    assert {place.name for place in out.iterdir()} == {"default", "defended"}
