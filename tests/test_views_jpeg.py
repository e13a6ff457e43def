"""Simulated JPEG compression against Pillow's files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from nolabel import seeds
from nolabel.views.jpeg import draw_jpeg, jpeg
from small import smooth_images


def photos(sides: tuple[int, int]) -> Tensor:
    images = smooth_images(3, sides)
    pixels = torch.stack([images.image(b) for b in range(3)]).float()
    noise = torch.randn(pixels.shape, generator=seeds.generator(0))
    return (pixels + 12 * noise).round().clamp(0, 255) / 255


@pytest.mark.parametrize("quality", [10, 30, 75, 95])
@pytest.mark.parametrize("sides", [(32, 32), (40, 29)])
def test_equal_to_a_file_of_the_same_quality(quality: int, sides: tuple[int, int]) -> None:
    images = photos(sides)
    found = jpeg(
        images, {"jpeg": torch.ones(3, dtype=torch.bool), "quality": torch.full((3,), float(quality))}
    )
    for given, mine in zip(images, found, strict=True):
        file = io.BytesIO()
        array = (given * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(array).save(file, "jpeg", quality=quality, subsampling=0)
        theirs = np.asarray(Image.open(file)).astype(float)
        difference = np.abs(theirs - mine.permute(1, 2, 0).numpy() * 255)
        assert difference.mean() < 1.2
        assert np.abs(theirs - array.astype(float)).mean() > 3 * difference.mean()


def test_only_the_drawn_images_change_and_constant_ones_hardly() -> None:
    images = photos((16, 16))
    drawn = {"jpeg": torch.tensor([True, False, True]), "quality": torch.full((3,), 20.0)}
    found = jpeg(images, drawn)
    assert torch.equal(found[1], images[1])
    assert (found[0] - images[0]).abs().mean() > 0.01
    assert found.min() >= 0
    assert found.max() <= 1
    flat = torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    at_best = jpeg(flat, {"jpeg": torch.tensor([True]), "quality": torch.tensor([100.0])})
    assert (at_best - flat).abs().max() < 3 / 255


def test_draw() -> None:
    drawn = draw_jpeg(4000, seeds.generator(0), 0.25)
    assert drawn["jpeg"].float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (drawn["quality"].min(), drawn["quality"].max()) == (30, 95)
