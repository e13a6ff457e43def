"""The gallery: the command to its end, exhibits in the order of their papers, wide pictures that scroll on a phone."""

import dataclasses
from pathlib import Path

import pytest
import torch

from cli_helpers import Say
from nolabel import catalog
from nolabel.cli.gallery import _note
from nolabel.data.store import ImageStore
from nolabel.methods.base import Method
from nolabel.report.gallery import WIDE, Exhibit, write_gallery


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
    ("name", "splits", "told"),
    [
        ("rotation", True, "images it was not trained on"),
        ("rotation", False, "images that it may have been trained on"),
        ("exemplar", True, "new copies of its seeds"),
    ],
)
def test_the_note_says_what_a_run_is_asked_about(name: str, splits: bool, told: str) -> None:
    images = torch.zeros(12, 3, 8, 8, dtype=torch.uint8)
    store = ImageStore.of(images)
    if splits:
        store = dataclasses.replace(store, split_names=("train", "test"), splits=torch.arange(12) % 2)
    kind = catalog.load("methods", name, Method)
    assert told in _note(kind, store, Path("run"))
    assert _note(kind, store, None) == "The task, drawn from your images."
