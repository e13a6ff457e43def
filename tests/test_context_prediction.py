"""Context prediction: places, pairs and loss against closed forms."""

import math

import pytest
import torch

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import build
from nolabel.methods._places import PLACES, geometry_of, pairs_of_grid
from nolabel.methods.base import DataInfo
from nolabel.methods.context_prediction import (
    ContextPrediction,
    ContextPredictionOptions,
    project,
)


def made(size: int = 32, **options: object) -> ContextPrediction:
    chosen, data = ContextPredictionOptions(**options), DataInfo(64, size)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return ContextPrediction(build("resnet10", ContextPrediction.encoder_size(chosen, data)), chosen, data)


PLAIN = {"jitter": 0, "colour_mode": "none", "patch_norm": False, "pixelation_p": 0.0}


@pytest.mark.parametrize(("rows", "columns", "count"), [(2, 2, 12), (3, 3, 40), (4, 4, 84), (2, 3, 22)])
def test_a_grid_has_the_known_number_of_ordered_pairs(rows: int, columns: int, count: int) -> None:
    assert len(pairs_of_grid(rows, columns)[0]) == count


def test_swapping_a_pair_turns_its_label_into_seven_minus_it() -> None:
    first, second, labels = (one.tolist() for one in pairs_of_grid(3, 3))
    known = {(a, b): label for a, b, label in zip(first, second, labels, strict=True)}
    assert all(known[b, a] == 7 - label for (a, b), label in known.items())


def test_labels_of_a_grid_are_as_unbalanced_as_computed() -> None:
    _, _, labels = pairs_of_grid(3, 3)
    assert torch.bincount(labels).tolist() == [4, 6, 4, 6, 6, 4, 6, 4]


def test_patches_of_a_coordinate_image_lie_where_the_label_says() -> None:
    method = made(size=96, **PLAIN)
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    images = ImageBatch.of(torch.stack([x, y, torch.zeros_like(x)]).to(torch.uint8)[None])
    drawn = method.draw(1, torch.Generator().manual_seed(0), 0.0)
    parts, cells = method.views(images, drawn)["patches"], int(drawn["cells"])
    first, second, labels = pairs_of_grid(cells, cells)
    corner = (parts[:, :2, 0, 0] * 255).round()
    moved = (corner[second] - corner[first]) / (method.side + method.gap)
    expected = torch.tensor([[dx, dy] for dy, dx in PLACES])[labels]
    assert torch.equal(moved, expected.float())


@pytest.mark.parametrize("size", [32, 64, 96, 128])
@pytest.mark.parametrize("layout", ["grid", "centre"])
def test_patches_stay_inside_the_image(size: int, layout: str) -> None:
    method = made(size=size, layout=layout)
    for seed in range(20):
        drawn = method.draw(50, torch.Generator().manual_seed(seed), 0.0)
        assert int(drawn["at"].min()) >= 0
        assert int(drawn["at"].max()) + method.side <= int(drawn["size"])


def test_the_geometry_is_that_of_the_specification() -> None:
    found = [geometry_of(size) for size in (32, 64, 96, 128)]
    assert found == [(12, 5, 1), (12, 5, 1), (16, 8, 1), (24, 12, 2)]


def test_the_loss_of_a_zero_head_is_the_logarithm_of_eight() -> None:
    method = made()
    torch.nn.init.zeros_(method.head[-1].weight)
    torch.nn.init.zeros_(method.head[-1].bias)
    images = ImageBatch.of(torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8))
    views = method.views(images, method.draw(4, torch.Generator().manual_seed(0), 0.0))
    assert method(views)["loss"].item() == pytest.approx(math.log(8), abs=1e-5)


def test_the_projection_removes_green_against_magenta_and_nothing_else() -> None:
    axis = torch.tensor([-1.0, 2.0, -1.0]).view(3, 1, 1)
    assert project(axis).abs().max() < 1e-6
    other = torch.tensor([1.0, 1.0, 1.0]).view(3, 1, 1)
    assert torch.allclose(project(other), other, atol=1e-6)
    some = torch.rand(2, 3, 4, 4)
    assert torch.allclose(project(project(some)), project(some), atol=1e-6)


def test_dropping_leaves_one_channel_and_noise_of_a_hundredth() -> None:
    method = made(colour_mode="drop", patch_norm=False, pixelation_p=0.0)
    images = ImageBatch.of(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8))
    parts = method.views(images, method.draw(8, torch.Generator().manual_seed(0), 0.0))["patches"]
    spread = parts.std((2, 3)).sort(1).values
    assert (spread[:, :2] < 0.02 * spread[:, 2:]).all()


def test_normalised_patches_have_mean_0_and_root_mean_square_1() -> None:
    method = made()
    images = ImageBatch.of(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8))
    parts = method.views(images, method.draw(8, torch.Generator().manual_seed(0), 0.0))["patches"]
    assert parts.mean((2, 3)).abs().max() < 1e-4
    assert parts.square().mean((1, 2, 3)) == pytest.approx(torch.ones(len(parts)), abs=1e-3)
