"""Blur, cutout, Sobel and noise against torchvision, scikit-image and their definitions."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from skimage.filters import sobel as skimage_sobel
from torchvision.transforms.v2 import functional as tv

from nolabel import seeds
from nolabel.views import filters


@pytest.fixture(params=["0", "1"], ids=["eager", "compiled"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOLABEL_KERNELS", request.param)


@pytest.mark.parametrize(("side", "taps"), [(224, 23), (128, 13), (96, 9), (64, 7), (32, 3), (16, 1)])
def test_the_kernel_is_a_tenth_of_the_side(side: int, taps: int) -> None:
    assert 2 * filters.blur_radius(side) + 1 == taps


@pytest.mark.parametrize("shape", [(64, 64), (33, 47), (97, 101)])
def test_blur_is_torchvisions_where_the_coin_says_so(shape: tuple[int, int], form: None) -> None:
    images = torch.rand(12, 3, *shape, generator=seeds.generator(0, "images"))
    drawn = filters.draw_blur(12, seeds.generator(0, "blur"))
    before, got = images.clone(), filters.blur(images, drawn)
    assert images.equal(before)
    side = 2 * filters.blur_radius(min(shape)) + 1
    for image, coin, sigma, result in zip(images, drawn["blur"], drawn["sigma"].tolist(), got, strict=True):
        want = tv.gaussian_blur(image, [side, side], [sigma, sigma]) if coin else image
        torch.testing.assert_close(result, want, atol=1e-5, rtol=0)


def test_taps_sum_to_one_are_symmetric_and_sigma_zero_is_the_identity() -> None:
    taps = filters.gaussian(torch.tensor([0.0, 0.1, 1.0, 2.0, 50.0]), 6)
    torch.testing.assert_close(taps.sum(1), torch.ones(5))
    torch.testing.assert_close(taps, taps.flip(1))
    assert taps[0].tolist() == [0.0] * 6 + [1.0] + [0.0] * 6


def test_a_constant_image_keeps_its_value_but_for_zero_padded_borders(form: None) -> None:
    images = torch.full((3, 3, 64, 64), 0.7)
    drawn = {"blur": torch.ones(3, dtype=torch.bool), "sigma": torch.tensor([0.5, 1.0, 2.0])}
    torch.testing.assert_close(filters.blur(images, drawn), images)
    dark = filters.blur(images, drawn, padding="zero")
    torch.testing.assert_close(dark[..., 3:-3, 3:-3], images[..., 3:-3, 3:-3])
    assert (dark[..., 0, 0] < 0.7 * 0.9).all()


def test_blur_coins_and_sigmas_are_distributed_as_simclr_says() -> None:
    n = 100_000
    drawn = filters.draw_blur(n, seeds.generator(1, "blur"))
    assert abs(drawn["blur"].double().mean() - 0.5) < 4 * math.sqrt(0.25 / n)
    assert kstest(drawn["sigma"].numpy(), "uniform", (0.1, 1.9)).pvalue > 1e-4


def test_cutout_sets_one_square_to_zero() -> None:
    images = torch.ones(500, 3, 32, 40)
    got = filters.cutout(images, filters.draw_cutout(500, seeds.generator(2, "cutout")))
    hole = got[:, 0] == 0
    assert ((got == 0) == hole[:, None]).all()
    heights, widths = hole.any(2).sum(1), hole.any(1).sum(1)
    assert heights.equal(widths)
    assert hole.sum((1, 2)).equal(heights * widths)
    assert heights.unique().tolist() == list(range(8, 17))
    assert hole.any(2).any(0).all()
    assert hole.any(1).any(0).all()


def test_sobel_is_scikit_images() -> None:
    images = torch.rand(2, 3, 20, 31, generator=seeds.generator(3, "images"))
    got = filters.sobel(images)
    for image, result in zip(images.flatten(0, 1).numpy(), got.flatten(0, 1).numpy(), strict=True):
        np.testing.assert_allclose(result, skimage_sobel(image, mode="reflect"), atol=1e-6)
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1
    assert filters.sobel(edge).max() == pytest.approx(4 / math.sqrt(32))


def test_noise_is_gaussian_independent_and_follows_from_the_seed() -> None:
    drawn = {"noise_sigma": torch.full((64,), 0.05), "noise_seed": torch.arange(64)}
    grey = torch.full((64, 3, 32, 32), 0.5)
    noisy = filters.noise(grey, drawn)
    assert noisy.equal(filters.noise(grey, drawn))
    assert noisy[:1].equal(filters.noise(grey[:1], {key: value[:1] for key, value in drawn.items()}))
    z = ((noisy - 0.5) / 0.05).double()
    assert kstest(z.flatten().numpy(), "norm").pvalue > 1e-4
    n = z.numel()
    for a, b in (z[1:], z[:-1]), (z[..., 1:], z[..., :-1]), (z[:, 1:], z[:, :-1]):
        assert abs((a * b).mean()) < 5 / math.sqrt(n)
    drawn = filters.draw_noise(1000, seeds.generator(4, "noise"))
    assert drawn["noise_seed"].unique().numel() == 1000
    assert drawn["noise_sigma"].max() < 0.1
