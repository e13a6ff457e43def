"""Jigsaw: sides of cells and tiles, and where the window lies."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nolabel.errors import UsageError
from nolabel.methods.base import DataInfo
from nolabel.methods.jigsaw import CODE_IMAGENET, PAPER_IMAGENET, Jigsaw, JigsawOptions, geometry_of
from small import TinyNet


def drawn_of(size: int, n: int, options: JigsawOptions) -> tuple[Jigsaw, dict[str, Tensor]]:
    """The method on images of `size` px, and what it draws for n of them."""
    method = Jigsaw(TinyNet(), options, DataInfo(64, size))
    return method, method.draw(n, torch.Generator().manual_seed(0), 0.0)


@pytest.mark.parametrize(
    ("size", "grid", "expected"),
    [(32, 2, (16, 12, 1)), (96, 2, (48, 36, 1)), (128, 2, (64, 48, 2)), (32, 3, (10, 8, 0)), (64, 3, (21, 16, 1)),
     (96, 3, (31, 24, 1)), (128, 3, (42, 32, 1))],
)  # fmt: skip
def test_the_geometry_is_that_of_the_specification(
    size: int, grid: int, expected: tuple[int, int, int]
) -> None:
    assert geometry_of(JigsawOptions(grid=grid), size)[1:] == expected


def test_the_window_moves_where_it_is_smaller_than_the_image() -> None:
    """At 96 px it has 93."""
    for moves, most in ((True, 3), (False, 0)):
        places = drawn_of(96, 500, JigsawOptions(random_crop=moves))[1]["window"]
        assert (int(places.min()), int(places.max())) == (0, most)


def test_the_papers_tiles_fit_both_its_windows() -> None:
    assert geometry_of(CODE_IMAGENET[0], 255) == (3, 85, 64, 0)
    assert geometry_of(PAPER_IMAGENET[0], 256) == (3, 75, 64, 2)
    with pytest.raises(UsageError, match="cells of 75 px, 3 a side, do not fit images of 224 px"):
        geometry_of(PAPER_IMAGENET[0], 224)
    with pytest.raises(UsageError, match="do not fit cells"):
        geometry_of(JigsawOptions(tile=64), 96)


def test_the_papers_window_moves_in_its_image_and_the_codes_fills_it() -> None:
    """225 px lie anywhere in 256; a random crop of 255 px of 255 is none."""
    for (options, _), size, free in ((PAPER_IMAGENET, 256, 31), (CODE_IMAGENET, 255, 0)):
        small = replace(options, permutations=2, criterion="random", head="pooled", head_hidden=1)
        method, drawn = drawn_of(size, 2000, small)
        assert (int(drawn["window"].min()), int(drawn["window"].max())) == (0, free)
        at = method.corners(drawn)[:, :, None] + drawn["channels"]
        assert int(at.min()) >= 0
        assert int(at.max()) + method.tile <= size
