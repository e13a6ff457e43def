"""The filters that halve an image: against torch and closed forms, and told apart from each other."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel import seeds
from nolabel.views.downsample import KINDS, TAPS, draw_filter, draw_inner, halve, inner


def halved(images: Tensor, kind: str) -> Tensor:
    return halve(images, {"filter": torch.full((len(images),), KINDS.index(kind))})


@pytest.mark.parametrize("sides", [(16, 16), (32, 20), (6, 4)])
@pytest.mark.parametrize(
    ("kind", "mode", "antialias"),
    [("area", "area", False), ("bilinear", "bilinear", True), ("bicubic", "bicubic", False)],
)
def test_filters_are_those_of_torch(sides: tuple[int, int], kind: str, mode: str, antialias: bool) -> None:
    images = 0.3 + 0.4 * torch.rand(2, 3, *sides)
    size = (sides[0] // 2, sides[1] // 2)
    expected = F.interpolate(images, size, mode=mode, antialias=antialias)
    at = (
        slice(1, -1) if antialias else slice(None)
    )  # torch cuts the triangle at the border, where this one repeats
    torch.testing.assert_close(halved(images, kind)[:, :, at, at], expected[:, :, at, at])


def test_area_is_opencvs_bilinear() -> None:
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(
        halved(images, "area"), F.interpolate(images, scale_factor=0.5, mode="bilinear")
    )


def test_lanczos_is_the_windowed_sinc() -> None:
    line = torch.rand(32)
    weights = []
    for i in range(8):
        x = math.pi * (i - 3.5)
        weights.append(math.sin(x) / x * math.sin(x / 4) / (x / 4))
    weights = torch.tensor(weights) / sum(weights)
    images = 0.3 + 0.4 * line.expand(1, 3, 32, 32)
    expected = 0.3 + 0.4 * (line[11:19] * weights).sum()
    assert halved(images, "lanczos")[0, 0, 5, 7].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_constant_images_stay_and_mirrored_ones_mirror(kind: str) -> None:
    assert sum(TAPS[kind]) == pytest.approx(1, abs=1e-12)
    constant = torch.full((1, 3, 16, 16), 0.7)
    torch.testing.assert_close(halved(constant, kind), torch.full((1, 3, 8, 8), 0.7), rtol=0, atol=1e-6)
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(halved(images.flip(3), kind), halved(images, kind).flip(3))
    torch.testing.assert_close(halved(images.mT, kind), halved(images, kind).mT)


def test_all_filters_differ_and_stay_in_range() -> None:
    images = torch.rand(4, 3, 32, 32)
    found = {kind: halved(images, kind) for kind in KINDS}
    for one, two in itertools.combinations(KINDS, 2):
        assert (found[one] - found[two]).abs().max() > 1e-3
    assert all(value.min() >= 0 and value.max() <= 1 for value in found.values())


def test_every_image_has_its_own_filter() -> None:
    images = torch.rand(4, 3, 16, 16)
    mixed = halve(images, {"filter": torch.arange(4)})
    for b, kind in enumerate(KINDS):
        torch.testing.assert_close(mixed[b : b + 1], halved(images[b : b + 1], kind))


def test_filters_are_drawn_evenly() -> None:
    each = draw_filter(8000, seeds.generator(0), each=True)["filter"].bincount(minlength=4) / 8000
    assert (each - 0.25).abs().max() < 4 * math.sqrt(0.25 * 0.75 / 8000)
    steps = torch.stack([draw_filter(5, seeds.generator(0, step))["filter"] for step in range(200)])
    assert (steps == steps[:, :1]).all()
    assert (steps[:, 0].bincount(minlength=4) > 25).all()


def test_inner_squares() -> None:
    drawn = draw_inner(500, seeds.generator(0))
    share = drawn["inner"][..., 0]
    assert 0.9 <= share.min() < 0.91
    assert 0.99 < share.max() <= 1
    whole = {"inner": torch.tensor([1.0, 0.3, 0.8]).expand(2, 4, 3), "filter": torch.tensor([0, 3])}
    tiles = torch.rand(8, 3, 10, 10)
    torch.testing.assert_close(inner(tiles, whole), tiles, rtol=0, atol=1e-5)
    ramp = torch.arange(10.0).add(0.5).div(10).expand(8, 3, 10, 10)
    left = {"inner": torch.tensor([0.9, 0.5, 0.0]).expand(2, 4, 3), "filter": torch.tensor([0, 0])}
    torch.testing.assert_close(inner(ramp, left)[..., 1:], 0.9 * ramp[..., 1:], rtol=0, atol=1e-5)
