"""Colorization's classes: which colours they are, and the way from a colour to them and back."""

import pytest
import torch
from scipy.spatial import ConvexHull

from nolabel.methods._colour_bins import annealed_mean, colour_classes, outermost, soft_targets
from nolabel.views.lab import rgb_to_lab


def test_there_are_313_classes_in_the_released_order() -> None:
    classes = colour_classes()
    assert classes.shape == (313, 2)
    assert classes[0].tolist() == [-90, 50]
    assert classes[-1].tolist() == [100, 0]
    assert len({tuple(c) for c in classes.tolist()}) == 313


def cells(spacing: int) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
    """Grid points that are nearest to some colour, and all corners of the cells that hold one (specification 4.2)."""
    ab = outermost() / spacing
    nearest = {tuple(row) for row in (ab.round().long() * spacing).unique(dim=0).tolist()}
    low = ab.floor().long().unique(dim=0).tolist()
    corners = {((a + x) * spacing, (b + y) * spacing) for a, b in low for x in (0, 1) for y in (0, 1)}
    return nearest, corners


def test_the_classes_hold_every_centre_that_a_colour_is_near() -> None:
    known = {tuple(row) for row in colour_classes().long().tolist()}
    nearest, corners = cells(10)
    assert (len(nearest), len(corners)) == (261, 309)
    assert nearest <= corners
    assert known - corners == {(40, 90), (100, -90), (100, -10), (100, 0)}
    assert corners <= known


@pytest.mark.parametrize(
    ("spacing", "classes", "corners"),
    [(5, 969, 1053), (8, 395, 449), (12, 190, 222), (15, 126, 156), (20, 77, 101), (30, 40, 54)],
)
def test_other_grids_have_the_computed_numbers_of_classes(spacing: int, classes: int, corners: int) -> None:
    found = colour_classes(spacing)
    assert (len(found), len(cells(spacing)[1])) == (classes, corners)
    assert {tuple(row) for row in found.long().tolist()} == cells(spacing)[0]
    assert found.tolist() == sorted(found.tolist())


def test_inner_colours_have_no_class_of_their_own() -> None:
    """The faces of RGB's cube reach all that a lattice through it does."""
    levels = torch.arange(0, 256, 5) / 255
    inner = rgb_to_lab(torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 1, -1))[0, 1:, 0].T
    assert torch.cdist(inner, colour_classes(20)).argmin(1).unique().numel() <= 77
    assert {tuple(row) for row in (inner / 10).round().long().mul(10).unique(dim=0).tolist()} <= cells(10)[0]


@pytest.mark.parametrize(
    ("neighbours", "temperature", "mean", "most"),
    [(5, 1.0, 0.22, 0.71), (5, 0.38, 1.81, 2.71), (1, 1.0, 3.83, 7.02)],
)
def test_targets_decode_to_their_colour(
    neighbours: int, temperature: float, mean: float, most: float
) -> None:
    rgb = torch.rand(1, 3, 1, 4000, generator=torch.Generator().manual_seed(0))
    ab, classes = rgb_to_lab(rgb)[0, 1:, 0].T, colour_classes()
    index, share = soft_targets(ab, classes, neighbours)
    logits = torch.full((len(ab), len(classes)), -1e9).scatter(1, index, share.log())
    error = (annealed_mean(logits, classes, temperature) - ab).norm(dim=1)
    assert error.mean().item() == pytest.approx(mean, abs=0.06)
    assert error.max().item() <= most + 0.05


def test_a_high_temperature_takes_the_mean_of_all_classes() -> None:
    classes = colour_classes()
    found = annealed_mean(torch.randn(3, 313), classes, 1e3)
    assert torch.allclose(found, classes.mean(0).expand(3, 2), atol=2e-2)
    assert not torch.allclose(annealed_mean(torch.randn(3, 313), classes, 10.0), classes.mean(0), atol=1e-1)


@pytest.mark.parametrize("temperature", [1.0, 0.38, 1e-3, 1e3])
def test_colours_lie_in_the_hull_of_the_classes(temperature: float) -> None:
    classes = colour_classes().double()
    found = annealed_mean(20 * torch.randn(500, 313, dtype=torch.float64), classes, temperature)
    edges = torch.from_numpy(ConvexHull(classes.numpy()).equations)
    assert (found @ edges[:, :2].T + edges[:, 2]).max() < 1e-9
