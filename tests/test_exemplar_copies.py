"""Exemplar's copies: their colour, the room they are cut from, and that those asked about were not trained on."""

import colorsys
import math

import numpy as np
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
from nolabel.training.step import ViewSource
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


def grid_of_colours() -> Tensor:
    """All of a cube of 13 levels, float64 (1, 3, 1, 2197)."""
    levels = torch.linspace(0, 1, 13, dtype=torch.float64)
    return torch.cartesian_prod(levels, levels, levels).T.view(1, 3, 1, -1)


def test_hsv_equals_matplotlib_and_goes_back() -> None:
    from matplotlib.colors import rgb_to_hsv

    images = grid_of_colours()
    ours = hsv.rgb_to_hsv(images)
    assert np.allclose(ours.movedim(1, -1).numpy(), rgb_to_hsv(images.movedim(1, -1).numpy()), atol=1e-6)
    assert torch.allclose(hsv.hsv_to_rgb(ours), images, atol=1e-6, rtol=0)


def test_neutral_changes_change_nothing() -> None:
    colours = grid_of_colours()
    one, none = torch.ones(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    for hue in (0.0, 1.0, -1.0):
        turned = hsv.change_hsv(colours, one, one, none, torch.tensor([hue], dtype=torch.float64))
        assert torch.allclose(turned, colours, atol=1e-6, rtol=0)
    images = torch.rand(4, 3, 6, 6)
    rotation = torch.linalg.qr(torch.randn(3, 3)).Q
    assert torch.allclose(hsv.scale_components(images, rotation, torch.ones(4, 3)), images, atol=1e-5)


def test_hsv_is_the_standard_librarys_and_grey_has_no_hue() -> None:
    sample = hsv.rgb_to_hsv(torch.tensor([0.2, 0.5, 0.4], dtype=torch.float64).view(1, 3, 1, 1)).flatten()
    assert sample.tolist() == pytest.approx([4 / 9, 0.6, 0.5], abs=1e-6)
    colours = torch.rand(50, 3, dtype=torch.float64)
    found = hsv.rgb_to_hsv(colours.view(50, 3, 1, 1)).flatten(1)
    wanted = torch.tensor([colorsys.rgb_to_hsv(*colour) for colour in colours.tolist()], dtype=torch.float64)
    assert torch.allclose(found, wanted, atol=1e-6, rtol=0)
    one, none = torch.ones(2, 2), torch.zeros(2, 2)
    grey = torch.rand(2, 1, 4, 4).expand(2, 3, 4, 4)
    turned = hsv.change_hsv(grey, one, one, none, torch.full((2,), 0.3))
    assert torch.allclose(turned, grey, atol=1e-6, rtol=0)


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


def test_held_out_copies_are_none_of_the_fixed_ones_which_follow_the_runs_seed() -> None:
    method = made(transforms_per_seed=3)

    def zooms(seed: int) -> set[float]:
        steps = [method.draw_step(60, generator(step), 0.5, seed, step)["zoom"] for step in range(10)]
        return set(torch.cat(steps).flatten().tolist())

    kept = zooms(0)
    assert len(kept) == 60
    assert not kept & zooms(1)
    assert not kept & set(method.draw(60, generator(1), 0.5)["zoom"].flatten().tolist())
    assert zooms(0) == kept


def source_of(method: Exemplar, batch: int, seed: int, rank: int = 0, world: int = 1) -> ViewSource:
    store = ImageStore.of(torch.zeros(method.data.images, 3, 32, 32, dtype=torch.uint8))
    return ViewSource(method, store, batch, seed, False, rank, world)


@pytest.mark.parametrize(
    ("seeds", "batch", "options"),
    [
        (20, 10, {}),
        (50, 10, {"copies": 3}),
        (7, 16, {}),
        (300, 10, {}),
        (20, 10, {"transforms_per_seed": 2}),
        (20, 10, {"form": "triplet"}),
        (20, 10, {"warm_start_seeds": 6}),
    ],
)
def test_an_epoch_of_a_run_has_all_seeds_equally_often(
    seeds: int, batch: int, options: dict[str, object]
) -> None:
    """But for one copy, however many steps it has; an epoch of 64 images leaves the last few out."""
    method = made(seeds=seeds, **options)
    source, steps = source_of(method, batch, seed=3), 64 // batch
    known, progress = (6, 0.05) if "warm_start_seeds" in options else (seeds, 0.5)
    epochs = []
    for epoch in range(2):
        labels = [
            source.views(step, progress)["labels"] for step in range(epoch * steps, (epoch + 1) * steps)
        ]
        epochs.append(torch.cat(labels))
        share = steps * batch * method.options.copies / known
        counts = torch.bincount(epochs[-1], minlength=known)
        repeats = method.options.copies if method.options.form == "triplet" else 1
        assert set((counts / repeats).tolist()) <= {math.floor(share / repeats), math.ceil(share / repeats)}
        assert len(counts) == known
    assert not torch.equal(*epochs)


def test_the_seeds_of_a_step_follow_from_its_number_and_the_runs_seed() -> None:
    source = source_of(made(seeds=30), 16, seed=3)
    last = source.views(9, 0.5)
    for step in (2, 5):
        source.views(step, 0.5)
    assert torch.equal(source.views(9, 0.5)["labels"], last["labels"])
    halves = [source_of(made(seeds=30), 16, 3, rank, 2).views(9, 0.5)["labels"] for rank in (0, 1)]
    assert torch.equal(torch.cat(halves), last["labels"])
    assert not torch.equal(source_of(made(seeds=30), 16, seed=4).views(9, 0.5)["labels"], last["labels"])


@pytest.mark.parametrize(
    "wide", [{}, {"shift": 0.6}, {"zoom": 2.5}, {"turn": 45.0}, {"shift": 0.5, "zoom": 2.0, "turn": 180.0}]
)
def test_no_copy_shows_what_lies_beyond_its_window(wide: dict[str, float]) -> None:
    method = made(96, patch=16, border="zero", **Exemplar.undefended | wide)
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
