"""Masks: exact areas, shapes and places, one an image, a function of the draw alone."""

import itertools

import pytest
import torch

from nolabel import seeds
from nolabel.errors import UsageError
from nolabel.views import masks

SIZES = [32, 64, 96, 128]
RANDOM = ["random_region", "random_block"]


def hidden(kind: masks.Kind, n: int, size: int, seed: int = 0, same: bool = False, **changes) -> torch.Tensor:
    drawn = masks.draw(kind, n, size, seeds.generator(seed, "masks"), same)
    return masks.hidden(kind, drawn, n, size, **{"fraction": 0.25, "side": size // 2} | changes)


@pytest.mark.parametrize(("size", "overlap"), [(32, 2), (64, 4), (96, 5), (128, 7)])
def test_the_centre_hides_a_quarter_and_less_with_an_overlap(size: int, overlap: int) -> None:
    hole = masks.hole_side(size, 0.5)
    assert hole == size // 2
    assert (masks.centre(3, size, hole).float().mean((1, 2)) == 0.25).all()
    blank = masks.centre(2, size, hole - 2 * overlap)
    assert (blank.sum((1, 2)) == (hole - 2 * overlap) ** 2).all()
    assert torch.equal(blank, blank.flip(1))
    assert torch.equal(blank, blank.mT)


@pytest.mark.parametrize("size", [28, 31, 227])
def test_a_hole_is_centred_at_any_size(size: int) -> None:
    side = masks.hole_side(size, 0.5)
    mask = masks.centre(1, size, side)
    assert (size - side) % 2 == 0
    assert abs(side - size / 2) <= 1
    assert torch.equal(mask, mask.flip(1, 2))


@pytest.mark.parametrize("size", [*SIZES, 28, 227])
@pytest.mark.parametrize("fraction", [0.25, 0.1])
def test_a_region_has_exactly_its_area_in_every_image(size: int, fraction: float) -> None:
    areas = hidden("random_region", 20, size, fraction=fraction).sum((1, 2))
    assert (areas == round(fraction * size * size)).all()


@pytest.mark.parametrize("size", SIZES)
def test_a_region_is_a_blob_and_not_scattered_pixels(size: int) -> None:
    """Few of the neighbours in a row differ: about two borders for each cell of an eighth of the side."""
    mask = hidden("random_region", 50, size).float()
    borders = (mask[:, :, 1:] != mask[:, :, :-1]).float().mean()
    assert borders < 2 / max(8, size / 8)


def test_regions_and_blocks_lie_anywhere() -> None:
    """No pixel is hidden much more often than another, though corners are out of the way of blocks."""
    region = hidden("random_region", 4000, 32).float().mean(0)
    assert region.min() > 0.18
    assert region.max() < 0.32
    block = hidden("random_block", 4000, 32).float().mean(0)
    assert block[8:24, 8:24].std() < 0.02
    assert block[0, 0] > 0


@pytest.mark.parametrize("size", [*SIZES, 30])
def test_four_blocks_hide_at_most_a_quarter(size: int) -> None:
    areas = hidden("random_block", 500, size).float().mean((1, 2))
    assert areas.max() <= 0.25
    assert areas.min() >= (size // 4) ** 2 / size**2
    assert 0.19 < areas.mean() < 0.24


def test_blocks_are_the_squares_that_were_drawn() -> None:
    drawn = masks.draw_blocks(6, seeds.generator(0))
    mask = masks.blocks(drawn, 32, 0.25)
    for b in range(6):
        expected = torch.zeros(32, 32, dtype=torch.bool)
        for row, column in (drawn["block_place"][b] * 25).long().tolist():
            expected[row : row + 8, column : column + 8] = True
        assert torch.equal(mask[b], expected)


@pytest.mark.parametrize("kind", RANDOM)
def test_masks_differ_within_a_batch_and_follow_the_seed(kind: masks.Kind) -> None:
    mask = hidden(kind, 6, 32)
    assert mask.dtype == torch.bool
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(mask, 2))
    assert torch.equal(mask, hidden(kind, 6, 32))
    assert not torch.equal(mask, hidden(kind, 6, 32, seed=1))
    same = hidden(kind, 6, 32, same=True)
    assert all(torch.equal(same[0], other) for other in same)


@pytest.mark.parametrize("kind", RANDOM)
def test_the_mask_of_an_image_does_not_depend_on_its_batch(kind: masks.Kind) -> None:
    drawn = masks.draw(kind, 8, 96, seeds.generator(0))
    whole = masks.hidden(kind, drawn, 8, 96, 0.25, 0)
    part = masks.hidden(kind, {name: value[3:6] for name, value in drawn.items()}, 3, 96, 0.25, 0)
    assert torch.equal(whole[3:6], part)


@pytest.mark.parametrize(("side", "overlap"), [(16, 2), (64, 7), (48, 5)])
def test_the_rim_weighs_ten_and_the_inside_one(side: int, overlap: int) -> None:
    weights = masks.rim_weights(side, overlap, 10)
    assert (weights == 10).sum() == side**2 - (side - 2 * overlap) ** 2
    assert (weights == 1).sum() == (side - 2 * overlap) ** 2
    assert weights[0, 0] == weights[overlap - 1, side // 2] == 10
    assert weights[overlap, overlap] == 1


def test_no_rim_and_a_rim_that_leaves_nothing() -> None:
    assert torch.equal(masks.rim_weights(16, 0, 10), torch.ones(16, 16))
    with pytest.raises(UsageError, match="An overlap of 8 px leaves nothing of a hole of 16 px"):
        masks.rim_weights(16, 8, 10)


@pytest.mark.parametrize("size", [31, 32])
@pytest.mark.parametrize("kind", RANDOM)
@pytest.mark.parametrize("fraction", [1e-6, 0.0004, 0.003, 0.9999])
def test_something_is_hidden_and_something_seen(kind: masks.Kind, size: int, fraction: float) -> None:
    mask = hidden(kind, 20, size, fraction=fraction)
    assert mask.any((1, 2)).all()
    assert (~mask).any((1, 2)).all()


@pytest.mark.parametrize("size", [31, 32])
@pytest.mark.parametrize("fraction", [1e-6, 0.9999])
def test_a_hole_is_neither_nothing_nor_everything(size: int, fraction: float) -> None:
    side = masks.hole_side(size, fraction)
    assert 0 < side < size
    assert (size - side) % 2 == 0
