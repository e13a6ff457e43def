"""Jigsaw: cutting, shuffling and loss against closed forms."""

import math

import pytest
import torch

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import build
from nolabel.errors import UsageError
from nolabel.methods.base import DataInfo
from nolabel.methods.jigsaw import Jigsaw, JigsawOptions, geometry_of, shuffled
from nolabel.views import tiles


def made(size: int = 32, **options: object) -> Jigsaw:
    chosen, data = JigsawOptions(**options), DataInfo(64, size)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return Jigsaw(build("resnet10", Jigsaw.encoder_size(chosen, data)), chosen, data)


def some(n: int, size: int) -> ImageBatch:
    return ImageBatch.of(torch.randint(256, (n, 3, size, size), dtype=torch.uint8))


@pytest.mark.parametrize(
    ("size", "grid", "expected"),
    [(32, 2, (16, 12, 1)), (96, 2, (48, 36, 1)), (128, 2, (64, 48, 2)), (32, 3, (10, 8, 0)), (64, 3, (21, 16, 1)),
     (96, 3, (32, 24, 1)), (128, 3, (42, 32, 1))],
)  # fmt: skip
def test_the_geometry_is_that_of_the_specification(
    size: int, grid: int, expected: tuple[int, int, int]
) -> None:
    assert geometry_of(JigsawOptions(grid=grid), size)[1:] == expected


def test_tiles_are_cut_where_they_were_drawn() -> None:
    images = torch.arange(2 * 3 * 10 * 10, dtype=torch.float32).view(2, 3, 10, 10)
    top, left = torch.tensor([[0, 3], [6, 2]]), torch.tensor([[1, 4], [0, 5]])
    parts = tiles.cut(images, top, left, 4)
    for b in range(2):
        for m in range(2):
            y, x = int(top[b, m]), int(left[b, m])
            assert torch.equal(parts[b, m], images[b, :, y : y + 4, x : x + 4])


def test_standardised_tiles_have_mean_0_and_deviation_1_and_constants_stay_0() -> None:
    parts = torch.rand(2, 4, 3, 8, 8)
    parts[0, 0] = 0.5
    found = tiles.standardise(parts)
    assert found.mean((-2, -1)).abs().max() < 1e-5
    assert found[1].std((-2, -1), correction=0) == pytest.approx(torch.ones(4, 3), abs=1e-4)
    assert (found[0, 0] == 0).all()


def test_shuffling_features_equals_shuffling_tiles() -> None:
    method = made().eval()
    views = method.views(some(3, 32), method.draw(3, torch.Generator().manual_seed(1), 0.0))
    orders = method.orders[views["labels"]]
    pixels = shuffled(views["tiles"].unflatten(0, (3, 4)), orders)
    with torch.no_grad():
        moved = method.shrink(method.encoder(pixels.flatten(0, 2), standardised=True)).unflatten(0, (12, 4))
        direct = method.head(moved.flatten(1))
        assert torch.allclose(direct, method.answer(views["tiles"], views["labels"]), atol=1e-5)


def test_the_loss_of_a_zero_head_is_the_logarithm_of_the_number_of_orders() -> None:
    method = made()
    torch.nn.init.zeros_(method.head[-1].weight)
    torch.nn.init.zeros_(method.head[-1].bias)
    views = method.views(some(4, 32), method.draw(4, torch.Generator().manual_seed(0), 0.0))
    assert method(views)["loss"].item() == pytest.approx(math.log(24), abs=1e-5)
    assert method.chance == pytest.approx(1 / 24)


def test_without_defences_tiles_are_the_image() -> None:
    method = made(gap=False, tile_norm="none", channel_jitter=0, grey_p=0.0)
    images = some(2, 32)
    parts = method.views(images, method.draw(2, torch.Generator(), 0.0))["tiles"].view(2, 2, 2, 3, 16, 16)
    whole = parts.permute(0, 3, 1, 4, 2, 5).reshape(2, 3, 32, 32)
    assert torch.allclose(whole[0], images.image(0) / 255, atol=1e-6)


def test_offsets_reach_every_place_in_the_cell_and_no_further() -> None:
    method = made()
    drawn = method.draw(4000, torch.Generator().manual_seed(0), 0.0)
    at = drawn["offset"][:, :, None] + drawn["channels"]
    assert int(at.min()) == 0
    assert int(at.max()) == method.cell - method.tile


def test_tiles_too_small_for_an_encoder_are_refused() -> None:
    with pytest.raises(UsageError, match="too small"):
        geometry_of(JigsawOptions(grid=3), 16)
