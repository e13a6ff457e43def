"""The gallery: the command to its end, exhibits in the order of their papers, wide pictures that scroll on a phone."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from cli_helpers import Say, one_line, write_images
from nolabel import catalog
from nolabel.cli.gallery import _note, draw, parts
from nolabel.data.store import ImageStore
from nolabel.evaluation._split import hold_back
from nolabel.methods._picture_grid import picture_grid
from nolabel.methods.base import Method
from nolabel.report.gallery import WIDE, Exhibit, write_gallery
from nolabel.runs import DESCRIPTION, FORMAT
from nolabel.training.work import training_images

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def exhibit(title: str, paper: str, width: float) -> Exhibit:
    picture = f'<svg xmlns:xlink="x" width="{width}pt" height="10pt" viewBox="0 0 9 9"></svg>'.encode()
    return Exhibit(title.lower(), title, paper, "What it does.", picture, "Drawn from images.")


def test_exhibits_stand_in_the_order_of_their_papers(tmp_path: Path) -> None:
    shown = [
        exhibit("Own", "nobody yet", WIDE),
        exhibit("Zebra", "A, B, ICCV 2015", WIDE),
        exhibit("Later", "C, NeurIPS 2020", WIDE),
        exhibit("Apple", "D (arXiv 2012), ICCV 2015", WIDE),
    ]
    page = write_gallery(shown, "Title", "Subtitle", tmp_path / "g.html").read_text()
    places = [page.index(f'id="{name}"') for name in ("apple", "zebra", "later", "own")]
    assert places == sorted(places)


def test_only_wide_pictures_scroll(tmp_path: Path) -> None:
    shown = [exhibit("Wide", "A 2001", WIDE + 0.5), exhibit("Narrow", "B 2002", WIDE - 0.5)]
    page = write_gallery(shown, "Title", "Subtitle", tmp_path / "g.html").read_text()
    body = page[page.index('id="wide"') :]
    assert body.index('class="paper wide"') < body.index('id="narrow"')
    assert body.count('class="paper wide"') == 1
    assert body.count('class="paper"') == 1


@pytest.mark.slow
def test_the_command_draws_every_method_and_the_answers_of_runs(
    small_images: Path, tmp_path: Path, say: Say
) -> None:
    run, page = tmp_path / "run", tmp_path / "gallery.html"
    words = (
        "--steps",
        1,
        "--batch-size",
        4,
        "--precision",
        "32-true",
        "--no-compile",
        "--no-channels-last",
        "--out",
        run,
    )
    assert say("pretrain", "exemplar", small_images, "--seeds", 8, *words)[0] == 0
    code, out, err = say("gallery", small_images, "--runs", run, "--out", page)
    assert code == 0, err
    assert "Look at" in out
    shown = page.read_text()
    for name in catalog.names("methods"):
        assert f'id="{name}"' in shown
    assert shown.count("data:image/svg+xml") == len(catalog.names("methods"))
    assert shown.count("The task, drawn from your images.") == len(catalog.names("methods")) - 1
    assert f"What the run in {run} answers on new copies of its seeds" in shown
    assert "No picture" not in shown


@pytest.mark.parametrize(
    ("name", "apart", "told"),
    [
        ("rotation", True, "images it was not trained on"),
        ("rotation", False, "images that it may have been trained on"),
        ("exemplar", True, "new copies of its seeds"),
    ],
)
def test_the_note_says_what_a_run_is_asked_about(name: str, apart: bool, told: str) -> None:
    kind = catalog.load("methods", name, Method)
    assert told in _note(kind, apart, Path("run"))
    assert _note(kind, apart, None) == "The task, drawn from your images."


def test_a_run_is_asked_about_the_images_that_it_held_out(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images") / "train"
    store = ImageStore.open(data, size=32)
    divided = hold_back(store, 3)
    held = {"source": str(data), "opened_at": 32, "labels": None, "divided": divided.divided}
    held["fingerprint"] = divided.fingerprint
    run = tmp_path / "run"
    run.mkdir()
    (run / DESCRIPTION).write_text(json.dumps({"format": FORMAT, "seed": 3, "data": held}))
    assert parts(str(data), store, None, 0)[1] is None
    train, held_out = parts(str(data), store, run, 0)
    assert held_out is not None
    assert set(held_out.paths) == {store.paths[i] for i in divided.splits.nonzero().flatten().tolist()}
    assert not {*held_out.paths} & {*train.paths}


def test_a_run_of_other_images_holds_none_of_these_out(tmp_path: Path) -> None:
    data = write_images(tmp_path / "images", test=6)
    store, seen = ImageStore.open(data, size=32), ImageStore.open(data / "test", size=32)
    held = {"source": str(data / "test"), "opened_at": 32, "labels": None, "divided": ""}
    run = tmp_path / "run"
    run.mkdir()
    (run / DESCRIPTION).write_text(
        json.dumps({"format": FORMAT, "seed": 3, "data": held | {"fingerprint": seen.fingerprint}})
    )
    assert parts(str(data), store, None, 0)[1] is not None
    assert parts(str(data), store, run, 0)[1] is None


@pytest.mark.parametrize("name", catalog.names("methods"))
def test_titles_fit_their_pictures(name: str, small_images: Path) -> None:
    fits(draw(name, *training_images(ImageStore.open(small_images, size=32), 0), None, None, 0))


def test_a_long_title_fits_a_narrow_picture() -> None:
    fits(picture_grid({"one": torch.zeros(1, 3, 8, 8)}, "Which W of all the Ws did the Wombat mean? " * 3, 1))


def fits(figure: "Figure") -> None:
    figure.canvas.draw()
    for words in figure.texts:
        box = words.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width


@pytest.mark.parametrize(("grey", "heading"), [(True, "as it came (black and white)"), (False, "the truth")])
def test_a_black_and_white_photograph_has_no_true_colours(grey: bool, heading: str, tmp_path: Path) -> None:
    data = write_images(tmp_path)
    for file in data.rglob("*.png") if grey else ():
        Image.open(file).convert("L").convert("RGB").save(file)
    figure = draw("colorization", *training_images(ImageStore.open(data, size=32), 0), None, None, 0)
    assert [axis.get_title() for axis in figure.axes if axis.get_title()][-1] == heading


def test_two_runs_of_one_method_are_refused(small_images: Path, tmp_path: Path, say: Say) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / DESCRIPTION).write_text(json.dumps({"format": FORMAT, "method": "rotation"}))
    words = ("--runs", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "gallery.html")
    code, _, err = say("gallery", small_images, *words)
    assert code == 2
    one_line(err, "are both runs of rotation")
