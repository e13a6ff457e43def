"""Colour operations against torchvision's, their parameters' distributions, and the order of the jitter."""

import itertools
import math

import pytest
import torch
from scipy.stats import chisquare, kstest
from torchvision.transforms.v2 import functional as tv

from nolabel import seeds
from nolabel.views import colour

N = 64


@pytest.fixture(params=["0", "1"], ids=["eager", "compiled"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOLABEL_KERNELS", request.param)


@pytest.fixture
def images() -> torch.Tensor:
    """Random colours, and what breaks formulas: greys, black, white, primaries, channels that tie."""
    x = torch.rand(N, 3, 33, 37, generator=seeds.generator(0, "images"))
    x[0:4] = x[0:4, :1]
    x[4], x[5], x[6] = 0.0, 1.0, x[6].round()
    x[7, 0], x[8, 1], x[9, 2] = x[7, 1], x[8, 2], x[9, 0]
    return x


def alone(operation: str, **drawn: torch.Tensor) -> dict[str, torch.Tensor]:
    """A jitter whose other three operations leave the image as it is, whatever the order."""
    one, zero = torch.ones(N), torch.zeros(N)
    rest = {"brightness": one, "shift": zero, "contrast": one, "saturation": one, "hue": zero}
    order = torch.rand(N, 4, generator=seeds.generator(0, operation)).argsort(1)
    return {"jitter": torch.ones(N, dtype=torch.bool), "order": order, **rest, **drawn}


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_each_operation_is_torchvisions(name: str, images: torch.Tensor, form: None) -> None:
    value = torch.rand(N, generator=seeds.generator(1, name))
    value = value - 0.5 if name == "hue" else 2 * value
    got = colour.jitter(images, alone(name, **{name: value}))
    for image, v, result in zip(images, value.tolist(), got, strict=True):
        torch.testing.assert_close(result, getattr(tv, f"adjust_{name}")(image, v), atol=1e-5, rtol=0)


def test_additive_brightness_shifts_and_clips(images: torch.Tensor, form: None) -> None:
    drawn = colour.draw_jitter(N, seeds.generator(0, "j"), 0.8, 0.0, 0.0, 0.0, p=1.0, additive=True)
    want = (images + drawn["shift"].view(-1, 1, 1, 1)).clamp(0, 1)
    torch.testing.assert_close(colour.jitter(images, drawn), want, atol=1e-5, rtol=0)
    assert drawn["brightness"].eq(1).all()
    assert drawn["shift"].min() < -0.7
    assert drawn["shift"].max() > 0.7


def test_jitter_is_torchvisions_operations_in_the_drawn_order(images: torch.Tensor, form: None) -> None:
    drawn = colour.draw_jitter(N, seeds.generator(2, "j"))
    drawn["order"][:24] = torch.tensor(list(itertools.permutations(range(4))))
    before = images.clone()
    got = colour.jitter(images, drawn)
    assert images.equal(before)
    for i in range(N):
        want = images[i]
        for operation in drawn["order"][i].tolist() if drawn["jitter"][i] else []:
            name = colour.OPERATIONS[operation]
            want = getattr(tv, f"adjust_{name}")(want, drawn[name][i].item())
        torch.testing.assert_close(got[i], want, atol=1e-5, rtol=0)


def test_the_order_is_one_of_24_with_equal_probability() -> None:
    order = colour.draw_jitter(48_000, seeds.generator(3, "j"))["order"]
    assert order.sort(1).values.equal(torch.arange(4).expand_as(order))
    code = (order * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = code.unique(return_counts=True)[1]
    assert len(counts) == 24
    assert chisquare(counts.numpy()).pvalue > 1e-4


def test_factors_are_uniform_in_their_ranges() -> None:
    drawn = colour.draw_jitter(20_000, seeds.generator(4, "j"), 0.8, 1.2, 0.4, 0.2)
    ranges = {"brightness": (0.2, 1.8), "contrast": (0.0, 2.2), "saturation": (0.6, 1.4), "hue": (-0.2, 0.2)}
    for name, (low, high) in ranges.items():
        assert kstest(drawn[name].numpy(), "uniform", (low, high - low)).pvalue > 1e-4, name


def test_coins_show_their_probabilities() -> None:
    n = 100_000
    jitter = colour.draw_jitter(n, seeds.generator(5, "j"))["jitter"]
    grey = colour.draw_grey(n, seeds.generator(5, "g"))["grey"]
    for coins, p in (jitter, 0.8), (grey, 0.2):
        assert abs(coins.double().mean() - p) < 4 * math.sqrt(p * (1 - p) / n)


def test_grey_is_torchvisions_and_only_where_drawn(images: torch.Tensor, form: None) -> None:
    which = torch.arange(N) % 2 == 0
    got = colour.grey(images, {"grey": which})
    assert got[~which].equal(images[~which])
    torch.testing.assert_close(got[which], tv.rgb_to_grayscale(images[which], 3), atol=1e-6, rtol=0)
    assert (got[which] == got[which][:, :1]).all()


def test_a_grey_image_is_unchanged_by_saturation_and_hue(images: torch.Tensor, form: None) -> None:
    grey = images[:, :1].expand_as(images).contiguous()
    value = torch.rand(N, generator=seeds.generator(6, "v"))
    # 0.2989 + 0.587 + 0.114 is 0.9999: torchvision's saturation moves a grey pixel by up to 1e-4.
    result = colour.jitter(grey, alone("saturation", saturation=2 * value))
    torch.testing.assert_close(result, grey, atol=1.1e-4, rtol=0)
    assert colour.jitter(grey, alone("hue", hue=value - 0.5)).equal(colour.jitter(grey, alone("hue")))
    torch.testing.assert_close(colour.hue(grey, value - 0.5), grey, atol=0, rtol=0)


def test_a_hue_of_a_third_exchanges_the_channels() -> None:
    red = torch.zeros(N, 3, 4, 4)
    red[:, 0] = 1
    got = colour.hue(red, torch.full((N,), 1 / 3))
    torch.testing.assert_close(got, red.roll(1, 1), atol=1e-6, rtol=0)
