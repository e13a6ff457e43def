"""Exemplar's copies: their colour, the room they are cut from, and that those asked about were not trained on."""

import math

import pytest
import torch
from torch import Tensor

from nolabel.data.batch import ImageBatch
from nolabel.data.store import ImageStore
from nolabel.errors import UsageError
from nolabel.methods import _exemplar_copies
from nolabel.methods.base import DataInfo
from nolabel.methods.exemplar import Exemplar, ExemplarOptions
from nolabel.seeds import generator
from nolabel.views import hsv
from small import TinyNet


def made(size: int = 32, **options: object) -> Exemplar:
    chosen = ExemplarOptions(**({"seeds": 20} | options))  # type: ignore[arg-type]
    torch.manual_seed(0)
    method = Exemplar(TinyNet(), chosen, DataInfo(64, size))
    images = torch.randint(256, (30, 3, size, size), dtype=torch.uint8)
    method.prepare(ImageStore.of(images), generator(0))
    return method


def made_of(method: Exemplar, drawn: dict[str, Tensor]) -> Tensor:
    images = ImageBatch.of(torch.zeros(len(drawn["labels"]), 3, 32, 32, dtype=torch.uint8))
    return method.views(images, drawn)["copies"]


@pytest.mark.parametrize("power", [0.25, 1.0, 4.0])
def test_grey_stays_grey_and_black_black_whatever_the_power(power: float) -> None:
    grey = torch.tensor([0.0, 1e-3, 0.2, 0.7, 1.0]).view(5, 1, 1, 1).expand(5, 3, 2, 2)
    one, none = torch.ones(5, 2), torch.zeros(5, 2)
    found = hsv.change_hsv(grey, power * one, one, none, torch.full((5,), 0.3))
    assert torch.allclose(found, grey**power, atol=1e-6)
    rounded = hsv.scale_components(grey, torch.linalg.qr(torch.randn(3, 3)).Q, torch.ones(5, 3))
    found = hsv.change_hsv(rounded, power * one, one, none, torch.full((5,), 0.3))
    assert (found.amax(1) - found.amin(1)).max() < 1e-5


def test_saturation_and_value_are_raised_multiplied_and_moved() -> None:
    pixel = torch.tensor([0.2, 0.5, 0.4]).view(1, 3, 1, 1)  # saturation 0.6, value 0.5
    power, factor, offset = (
        torch.tensor([[0.5, 2.0]]),
        torch.tensor([[0.8, 1.2]]),
        torch.tensor([[0.05, -0.1]]),
    )
    found = hsv.rgb_to_hsv(hsv.change_hsv(pixel, power, factor, offset, torch.zeros(1))).flatten()
    wanted = [0.44444, 0.8 * math.sqrt(0.6) + 0.05, 1.2 * 0.25 - 0.1]
    assert found.tolist() == pytest.approx(wanted, abs=1e-4)


def test_factor_and_offset_have_ranges_of_their_own() -> None:
    wide = _exemplar_copies.draw(
        ExemplarOptions(power=1.0, hsv_factor=3.0, hsv_offset=0.5), 4000, generator(0)
    )
    assert (wide["power"] == 1).all()
    assert wide["factor"].min() == pytest.approx(1.5, abs=0.01)
    assert wide["factor"].max() == pytest.approx(3.0, abs=0.01)
    assert wide["offset"].abs().max() == pytest.approx(0.5, abs=0.01)
    none = _exemplar_copies.draw(ExemplarOptions(**Exemplar.undefended), 10, generator(0))  # type: ignore[arg-type]
    assert (none["factor"] == 1).all()
    assert (none["offset"] == 0).all()
    with pytest.raises(UsageError, match="hsv-factor"):
        ExemplarOptions(hsv_factor=0.5)


def test_held_out_copies_are_none_of_the_fixed_ones() -> None:
    method = made(transforms_per_seed=3)
    assert method.fixed is not None
    kept = set(method.fixed["zoom"].tolist())
    trained, asked = (f(60, generator(1), 0.5) for f in (method.draw, method.draw_held_out))
    assert set(trained["zoom"].flatten().tolist()) <= kept
    assert not kept & set(asked["zoom"].flatten().tolist())
    assert torch.equal(trained["labels"], asked["labels"])
    again = method.draw_held_out(60, generator(1), 0.5)
    assert all(torch.equal(value, again[name]) for name, value in asked.items())
    fresh = made()
    plain, asked = (f(60, generator(1), 0.5) for f in (fresh.draw, fresh.draw_held_out))
    assert all(torch.equal(value, asked[name]) for name, value in plain.items())


@pytest.mark.parametrize(
    "wide", [{}, {"shift": 0.6}, {"zoom": 2.5}, {"turn": 45.0}, {"shift": 0.5, "zoom": 2.0, "turn": 180.0}]
)
def test_no_copy_shows_what_lies_beyond_its_window(wide: dict[str, float]) -> None:
    method = made(96, patch=16, border="zero", **Exemplar.undefended, **wide)
    method.windows.fill_(255)
    assert made_of(method, method.draw(400, generator(0), 0.5)).min() > 0.999


@pytest.mark.parametrize(("side", "room"), [(8, 18), (16, 36), (24, 54), (32, 72), (48, 106)])
def test_defaults_keep_the_room_that_they_had(side: int, room: int) -> None:
    for options in ({}, {"shift": 0.0, "zoom": 1.0, "turn": 0.0}):
        assert made(96, patch=side, **options).windows.shape[-1] == room


def test_a_run_that_kept_less_room_is_loaded_with_it() -> None:
    narrow, wide = made(patch=16), made(patch=16, shift=0.5, zoom=2.0)
    assert wide.windows.shape[-1] > narrow.windows.shape[-1]
    wide.load_state_dict(narrow.state_dict())
    assert torch.equal(wide.windows, narrow.windows)
    assert torch.equal(wide.originals(), narrow.originals())
    assert made_of(wide, wide.draw(4, generator(0), 0.5)).shape[-1] == 16


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, -2.0)])
def test_seeds_need_a_scale(scales: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="seed-scales"):
        ExemplarOptions(seed_scales=scales)
