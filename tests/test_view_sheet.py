"""The sheet of views in a report: what it shows is what the encoder is given of these very images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nolabel import catalog
from nolabel.cli._pictures import view_sheet
from nolabel.data.batch import ImageBatch
from nolabel.data.store import ImageStore
from nolabel.methods.base import DataInfo, Method
from nolabel.report import pictures, sections
from nolabel.report.records import read_record
from nolabel.seeds import generator
from nolabel.views.lab import rgb_to_lab
from small import TinyNet, smooth_images

SIZE = 32
STILL = {"crop_min": 1.0, "flip_p": 0.0}


def made(name: str, **options: object) -> Method:
    kind = catalog.load("methods", name, Method)
    torch.manual_seed(0)
    return kind(TinyNet(8), kind.Options(**options), DataInfo(64, SIZE)).eval()  # type: ignore[attr-defined]


def sheet_of(method: Method, images: ImageBatch) -> pictures.ViewSheet:
    with torch.no_grad():
        found = view_sheet(method, images, 0)
    assert found is not None
    return found


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.astype(float).ravel(), other.astype(float).ravel())[0, 1])


@pytest.mark.parametrize("name", ["jigsaw", "context_prediction", "colorization"])
def test_standardised_views_are_stretched_one_by_one_and_the_sheet_says_so(name: str) -> None:
    """Cut at 0 and 1 instead, half of each would be black."""
    sheet = sheet_of(made(name), smooth_images(3))
    views = sheet.tiles[:, 1:].reshape(-1, SIZE * SIZE * 3)
    assert (views.min(1) == 0).all()
    assert (views.max(1) == 255).all()
    assert ((views == 0) | (views == 255)).mean() < 0.1
    assert "stretched" in sheet.text


def test_the_stretched_lightness_still_is_that_of_its_image() -> None:
    sheet = sheet_of(made("colorization", **STILL), smooth_images(3))
    for image, view in sheet.tiles:
        lightness = rgb_to_lab(torch.from_numpy(image / 255).float().movedim(-1, 0)[None])[0, 0]
        assert correlation(lightness.numpy(), view[..., 0]) > 0.999


def test_a_view_of_one_value_is_mid_grey() -> None:
    flat = ImageBatch.of(
        torch.stack([torch.full((3, SIZE, SIZE), 200), torch.randint(256, (3, SIZE, SIZE))]).byte()
    )
    tiles = sheet_of(made("jigsaw"), flat).tiles
    assert np.abs(tiles[0, 1:].astype(int) - 128).max() <= 1
    assert tiles[1, 1:].std() > 20


def test_views_in_the_range_of_a_screen_stay_as_they_are_and_small_ones_are_enlarged_pixel_by_pixel() -> None:
    images = smooth_images(3)
    sheet = sheet_of(made("jigsaw", gap=False, tile_norm="none", channel_jitter=0, grey_p=0.0), images)
    assert sheet.tiles.shape == (3, 5, SIZE, SIZE, 3)
    whole = sheet.tiles[:, 0]
    for place, (top, left) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
        part = whole[:, top : top + 16, left : left + 16]
        assert (sheet.tiles[:, 1 + place] == part.repeat(2, 1).repeat(2, 2)).all()
    assert "stretched" not in sheet.text
    assert "have 16 px a side" in sheet.text
    assert "first" not in sheet.text
    assert sheet_of(made("rotation"), images).text == ""


def test_where_views_are_left_out_the_sheet_says_so() -> None:
    sheet = sheet_of(made("jigsaw", grid=3), smooth_images(2))
    assert sheet.columns == ("image", "view 1", "view 2", "view 3", "view 4")
    assert "Of the 9 views of an image the first 4 are shown" in sheet.text


@pytest.mark.parametrize(
    "name",
    ["simclr", "rotation", "jigsaw", "colorization", "context_encoder", "counting", "context_prediction"],
)
def test_the_views_beside_an_image_are_made_of_that_image(name: str) -> None:
    """With one image changed, its row alone changes."""
    images = smooth_images(4)
    other = ImageBatch.of(torch.stack([*(images.image(b) for b in range(3)), 255 - images.image(3)]).byte())
    before, after = (sheet_of(made(name), batch).tiles for batch in (images, other))
    changed = (before != after).any((2, 3, 4))
    assert changed[3].all()
    assert not changed[:3].any()


def test_exemplars_copies_of_its_seeds_are_not_shown_as_views_of_images() -> None:
    method = made("exemplar", seeds=5)
    images = smooth_images(10)
    method.prepare(ImageStore.of([images.image(b) for b in range(10)]), generator(0))
    assert view_sheet(method, images.take(torch.arange(3)), 0) is None


def test_the_context_encoder_is_shown_with_its_hole() -> None:
    images = smooth_images(3)
    sheet = sheet_of(made("context_encoder", mask="central", overlap=0, **STILL), images)
    image, seen = sheet.tiles[:, 0], sheet.tiles[:, 1]
    middle, border = (slice(None), slice(10, 22), slice(10, 22)), (slice(None), slice(0, 4))
    assert (seen[border] == image[border]).all()
    assert seen[middle].std((0, 1, 2)).max() < 1
    assert image[middle].std() > 20


def test_the_caption_tells_what_the_views_are_and_what_was_done_to_show_them(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 1, "method": "jigsaw"}')
    pixels = np.zeros((2, 2, 8, 8, 3), np.uint8)
    sheet = pictures.ViewSheet(pixels, ("image", "view 1"), "They are stretched.")
    pictures.save_views(tmp_path, sheet)
    assert f"{sections.VIEWS} They are stretched.</figcaption>" in sections.views(read_record(tmp_path))
    pictures.save_views(tmp_path, replace(sheet, text=""))
    assert f"{sections.VIEWS}</figcaption>" in sections.views(read_record(tmp_path))
