"""Context prediction's grids: what chance is on them, how long their steps are, and how patches are shifted."""

import pytest
import torch

from nolabel.methods import _places
from nolabel.methods._places import pairs_of_grid
from nolabel.methods.base import DataInfo
from nolabel.methods.context_prediction import ContextPrediction, ContextPredictionOptions
from nolabel.seeds import generator
from nolabel.training import budget
from small import TinyNet


@pytest.mark.parametrize("cells", [2, 3, 4])
def test_naming_one_place_for_all_pairs_of_a_grid_is_chance(cells: int) -> None:
    labels = pairs_of_grid(cells, cells)[2].repeat(5)
    for place in range(8):
        constant = torch.full_like(labels, place)
        found = _places.share_named(constant, labels, "grid").item()
        assert found == pytest.approx(ContextPrediction.chance)
    assert _places.share_named(labels, labels, "grid").item() == pytest.approx(1)
    assert _places.share_named(torch.zeros(4), torch.tensor([0, 0, 0, 1]), "free").item() == 0.75


def test_the_length_of_a_run_is_measured_on_small_and_large_grids() -> None:
    method = ContextPrediction(TinyNet(), ContextPredictionOptions(), DataInfo(600, 32))
    kinds = budget.kinds_of_step(method, 3)
    assert sum(share for _, share in kinds) == pytest.approx(1)
    tried: dict[int, float] = {}
    for step, share in kinds:
        drawn = method.draw(64, generator(3, "views", step), budget.progress_of(step))
        patches = drawn["at"].shape[1]
        tried[patches] = tried.get(patches, 0.0) + share
    every = [method.draw(2, generator(3, "views", step), 0.5)["at"].shape[1] for step in range(100)]
    assert tried == pytest.approx({n: every.count(n) / 100 for n in (4, 9)})
    assert tried[9] > 0.2


@pytest.mark.parametrize(
    ("size", "geometry"),
    [(32, (8, 3, 1)), (64, (12, 5, 1)), (96, (16, 8, 1)), (128, (24, 12, 2)), (548, (96, 48, 7))],
)
def test_every_patch_is_shifted_evenly_and_on_its_own(size: int, geometry: tuple[int, int, int]) -> None:
    """Around the middle, where the place without a shift is known; over 100,000 shifts each."""
    side, gap, shift = geometry
    at = _places.draw("centre", 6000, 1, size, geometry, torch.Generator().manual_seed(0))["at"]
    cells = torch.cartesian_prod(torch.arange(3), torch.arange(3)) * (side + gap)
    first = (size - 3 * side - 2 * gap - 2 * shift) // 2 + shift
    moved = (at - first - cells).flatten(1) + shift
    kinds = 2 * shift + 1
    seen = torch.bincount(moved.flatten(), minlength=kinds).double()
    assert len(seen) == kinds
    assert ((seen - seen.mean()).square() / seen.mean()).sum() < 2 * kinds + 20
    pairs = torch.bincount(kinds * moved[:, 8] + moved[:, 10], minlength=kinds**2).double()
    assert ((pairs - pairs.mean()).square() / pairs.mean()).sum() < kinds**2 + 5 * (2 * kinds**2) ** 0.5
