"""What check-pretext says, from the evidence alone, what it reads of a run, and the command to its end."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cli_helpers import Say, write_images
from context_encoders import context_encoder
from nolabel import catalog, pretext
from nolabel.api import pretrain
from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.evaluation._split import divided_as
from nolabel.methods import _exemplar_copies
from nolabel.methods.base import Method
from nolabel.methods.context_encoder import ContextEncoder
from nolabel.methods.exemplar import Exemplar, ExemplarOptions
from nolabel.pretext import Colours, Solved, colours_of, judge, solved, turns_of_thumbnails
from nolabel.runs import Run, read_description
from nolabel.seeds import generator
from small import smooth_images

LEVEL, UPRIGHT = Solved(0.25, 0.25, 256, "accuracy"), Solved(0.9, 0.25, 256, "accuracy")
"""of thumbnails that tell no turn, and of those that do"""
GREY, TINTED, VIVID = Colours(0.0, 0.0), Colours(1.0, 0.5), Colours(1.0, 12.0)


def accuracy(score: float, chance: float = 0.25, images: int = 1000, steps: int = 500) -> Solved:
    return Solved(score, chance, images, "accuracy", steps=steps)


def loss(score: float, empty: bool = False) -> Solved:
    return Solved(score, 0, 100, "loss", empty, steps=500)


def said(
    method: str,
    default: Solved,
    other: Solved | None = None,
    colours: Colours = VIVID,
    upright: Solved = LEVEL,
) -> list[str]:
    return judge(method, default, other, colours, upright)


def run_with(task: dict[str, float], accuracy: float | None = None) -> Run:
    final = {f"held_out/{name}": value for name, value in task.items()} | {"held_out/images": 512.0}
    info = {
        "method": "colorization",
        "final": final,
        "chance": {"accuracy": accuracy},
        "budget": {"steps": 7},
    }
    return Run(Path("run"), info)


def test_a_task_at_chance_does_not_fit() -> None:
    told = said("rotation", accuracy(0.26))
    assert "does not fit" in told[0]
    assert "after 500 steps" in told[0]


def test_a_task_above_chance_fits_and_one_at_the_top_is_too_easy() -> None:
    assert "Rotation fits" in said("rotation", accuracy(0.6))[0]
    assert "47% of the way from guessing to all" in said("rotation", accuracy(0.6))[0]
    assert "Rotation hardly fits" in said("rotation", accuracy(0.31))[0]
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
    assert found == Solved(0.0, 0.0, 512, "loss", empty=True, steps=7)
    told = said("colorization", found, found, GREY)
    assert "there is nothing to predict" in told[0]
    assert "No image has colour" in told[1]
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


def test_without_defences_only_the_zoom_tells_exemplar_s_copies_apart_and_holes_are_alike() -> None:
    images, random = smooth_images(4), generator(0)
    exemplar = dataclasses.replace(ExemplarOptions(), **Exemplar.undefended)
    drawn = _exemplar_copies.draw(exemplar, 100, random)
    assert {name for name, values in drawn.items() if values.float().std(0).max() > 1e-6} == {"zoom"}
    assert torch.stack([drawn[name].sum() for name in ("shift", "turn", "offset", "hue")]).eq(0).all()
    holes = context_encoder(32, **ContextEncoder.undefended)
    masks = holes.views(images, holes.draw(4, random, 0.0))["mask"]
    assert masks.eq(masks[:1]).all()


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_whether_colour_and_turns_carry_information_is_said_of_every_method(name: str) -> None:
    colour, turns = said(name, accuracy(0.6), upright=UPRIGHT)[-2:]
    assert colour.startswith("Colour carries information here: 100% of the images have colour")
    assert turns.startswith("Turns carry information here, since the images have a natural up")
    colour, turns = said(name, accuracy(0.25), colours=GREY)[-2:]
    assert "No image has colour: colour carries no information here" in colour
    assert turns.startswith("No natural up was found")
    assert "Only 20% of the images have colour" in said(name, accuracy(0.25), colours=Colours(0.2, 6.0))[-2]
    assert "colour carries next to nothing here" in said(name, accuracy(0.25), colours=TINTED)[-2]


def test_rotation_judges_turns_by_its_network_too() -> None:
    assert "brightness alone does not tell them" in said("rotation", accuracy(0.6))[-1]
    assert "needs no understanding" in said("rotation", accuracy(0.6), upright=UPRIGHT)[-1]
    assert "trained too short" in said("rotation", accuracy(0.25), upright=UPRIGHT)[-1]
    assert "neither by the network" in said("rotation", accuracy(0.25))[-1]


@pytest.mark.parametrize(
    ("needs", "colour", "turns"),
    [
        ("turns", "0 is one colour).", "neither by the network"),
        ("colour", "something to predict.", "`nolabel check-"),
    ],
)
def test_what_is_said_follows_what_the_method_says_it_needs(
    needs: str, colour: str, turns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog.load("methods", "jigsaw", Method), "needs", needs)
    told = said("jigsaw", accuracy(0.25))
    assert told[-2].endswith(colour)
    assert turns in told[-1]


def test_a_few_steps_judge_nothing() -> None:
    first, *_, turns = said("rotation", accuracy(0.25, steps=1))
    assert "does not fit" not in first
    assert "may fit all the same" in first
    assert "after 1 step," in first
    assert "too few steps to tell" in turns
    few = said("rotation", accuracy(0.9, steps=1), accuracy(0.3, steps=1))[1]
    assert few.endswith("too few steps to tell a shortcut.")
    assert "may fit all the same" in said("colorization", Solved(0, 0, 9, "loss", steps=3))[0]


def test_grey_images_have_no_colour_and_tinted_ones_but_one() -> None:
    noise = torch.randint(256, (20, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    grey = noise[:, :1].expand(20, 3, 16, 16).contiguous()
    assert colours_of(ImageStore.of(grey)).share == 0
    assert colours_of(ImageStore.of(grey)).spread < 0.1
    found = colours_of(ImageStore.of(noise))
    assert found.share == 1
    assert found.spread > pretext.ONE_COLOUR
    tinted = torch.full((20, 3, 16, 16), 90, dtype=torch.uint8)
    tinted[:, 0] = 150
    found = colours_of(ImageStore.of(tinted))
    assert found.share == 1
    assert found.spread < pretext.ONE_COLOUR


def test_thumbnails_tell_a_turn_where_it_is_bright_above() -> None:
    noise = torch.randint(160, (80, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert not turns_of_thumbnails(ImageStore.of(noise)).above
    noise[:, :, :8] += 80
    assert turns_of_thumbnails(ImageStore.of(noise)).score > 0.9
    assert turns_of_thumbnails(ImageStore.of(torch.full((20, 3, 16, 16), 9, dtype=torch.uint8))).score == 0.25


def one_step(*words: Any, minutes: float | None = None, **named: Any) -> Run:
    return pretrain(*words, **named | {"steps": 1, "precision": "32-true", "channels_last": False})


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


def test_both_runs_take_the_steps_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def trained(*words: Any, **named: Any) -> Run:
        asked.append(named)
        return run_with({"loss": 1.0, "accuracy": 0.5}, accuracy=0.25)

    monkeypatch.setattr(pretext, "pretrain", trained)
    images = ImageStore.of(torch.randint(256, (20, 3, 8, 8), dtype=torch.uint8))
    found = pretext.check("rotation", images, out=tmp_path, minutes=4)
    assert [one.get("minutes") for one in asked] == [2.0, None]
    assert [one.get("steps") for one in asked] == [None, 7]
    assert not any(one["compile"] for one in asked)
    assert "after 7 steps" in found.sentences[0]


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
    assert "No image has colour" in told
    assert {place.name for place in out.iterdir()} == {"default", "defended"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "data", "colour", "turns"),
    [
        ("rotation", "rsscn7_satellite.zip", "Colour carries information here", "No natural up was found"),
        (
            "colorization",
            "mnist_png.zip",
            "No image has colour",
            "Turns carry information here",
        ),
        ("jigsaw", "rsscn7_satellite.zip", "Colour carries information here", "No natural up was found"),
    ],
)
def test_the_hard_cases_aerial_photographs_and_digits_without_colour(
    method: str,
    data: str,
    colour: str,
    turns: str,
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pretext, "pretrain", one_step)
    found = pretext.check(method, shared_data / data, out=tmp_path, minutes=1, size=28)
    first, told_of_colour, told_of_turns = found.sentences[0], *found.sentences[-2:]
    assert "may fit all the same" in first or "does not fit" in first
    assert ("there is nothing to predict" in first) == (method == "colorization")
    assert colour in told_of_colour
    assert told_of_turns.startswith(turns)
