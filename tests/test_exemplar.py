"""Exemplar: seeds, copies and loss against closed forms and matplotlib's HSV."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nolabel.data.batch import ImageBatch
from nolabel.data.store import ImageStore
from nolabel.errors import UsageError
from nolabel.methods import _exemplar_copies, _exemplar_seeds
from nolabel.methods._exemplar_seeds import gradient_energy, side_of
from nolabel.methods.base import DataInfo
from nolabel.methods.exemplar import PAPER_STL10, Exemplar, ExemplarOptions, exemplar_loss
from nolabel.training.schedule import rate
from nolabel.views import hsv
from nolabel.views.colour import LUMA
from small import TinyNet, smooth_images, update

NO_COLOUR = Exemplar.undefended
STILL = {"shift": 0.0, "zoom": 1.0, "turn": 0.0, **NO_COLOUR}


def made(size: int = 32, **options: object) -> Exemplar:
    chosen, data = ExemplarOptions(**({"seeds": 20} | options)), DataInfo(64, size)  # type: ignore[arg-type]
    torch.manual_seed(0)
    method = Exemplar(TinyNet(), chosen, data)
    method.prepare(store(size), torch.Generator().manual_seed(0))
    return method


def store(size: int) -> ImageStore:
    return ImageStore.of(torch.randint(256, (30, 3, size, size), dtype=torch.uint8))


def some(n: int) -> ImageBatch:
    return ImageBatch.of(torch.zeros(n, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(("size", "side"), [(32, 16), (64, 24), (96, 32), (128, 48)])
def test_a_copy_that_nothing_changes_is_the_seed(size: int, side: int) -> None:
    method = made(size, patch=side, **STILL)
    found = method.views(some(5), drawn_of(method, 5))
    assert found["copies"].shape[-1] == side
    assert torch.allclose(found["copies"], method.originals()[found["labels"]], atol=1e-4)


def test_energy_is_that_of_a_ramp() -> None:
    ramp = torch.arange(10.0).view(1, 1, 1, 10).expand(1, 3, 10, 10) / 10
    inner = gradient_energy(ramp, 4)[0, :, 1:-1]
    assert inner == pytest.approx(torch.full_like(inner, 0.01), abs=1e-5)


def test_seeds_lie_where_the_gradients_are() -> None:
    images = torch.full((40, 3, 32, 32), 128, dtype=torch.uint8)
    images[:, :, 20:28, 20:28] = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8)
    method = made()
    method.prepare(ImageStore.of(images), torch.Generator().manual_seed(0))
    low = (method.windows.shape[-1] - method.side) // 2
    inside = method.windows[:, :, low : low + method.side, low : low + method.side].float()
    assert (inside.std((1, 2, 3)) > 5).all()


def test_the_loss_of_a_zero_head_is_the_logarithm_of_the_number_of_seeds() -> None:
    method = made()
    torch.nn.init.zeros_(method.head.weight)
    torch.nn.init.zeros_(method.head.bias)
    views = method.views(some(4), method.draw(4, torch.Generator().manual_seed(0), 0.0))
    assert method(views)["loss"].item() == pytest.approx(math.log(20), abs=1e-5)
    assert method.chance == pytest.approx(1 / 20)


def test_parameters_stay_in_their_ranges_with_median_one() -> None:
    drawn = made().draw(4000, torch.Generator().manual_seed(0), 0.0)
    assert drawn["zoom"].min() >= 0.7 - 1e-6
    assert drawn["zoom"].max() <= 1.4 + 1e-6
    assert drawn["power"].median() == pytest.approx(1.0, abs=0.05)
    assert drawn["components"].max() <= 2 + 1e-6
    assert drawn["shift"].abs().max() <= 0.2


def test_seeds_are_kept_with_the_checkpoint_and_sides_are_the_specifications() -> None:
    assert {"windows", "components"} <= set(made().state_dict())
    assert [side_of(ExemplarOptions(), size) for size in (32, 64, 96, 128)] == [16, 24, 32, 48]
    with pytest.raises(UsageError, match="do not fit"):
        side_of(ExemplarOptions(patch=64), 32)


@pytest.mark.parametrize("size", [32, 96])
def test_seeds_keep_from_the_border_where_the_image_is_large_enough(size: int) -> None:
    column = torch.arange(size) * 2
    images = torch.stack(
        [column.expand(size, size), column.view(-1, 1).expand(size, size), torch.zeros(size, size)]
    )
    method = made(size, seeds=60)
    method.prepare(ImageStore.of([images.byte()] * 60), torch.Generator().manual_seed(0))
    across, down = method.windows[:, 0].int().diff(dim=2), method.windows[:, 1].int().diff(dim=1)
    inside = bool(((across == 2).all()) & ((down == 2).all()))
    assert inside == (size == 96)


def test_an_image_gives_one_seed_while_there_are_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_exemplar_seeds, "SOURCES", 10)
    grey = [torch.full((3, 16, 16), value, dtype=torch.uint8) for value in range(40)]
    options = ExemplarOptions(seeds=30)
    windows = _exemplar_seeds.cut(ImageStore.of(grey), options, 8, 16, torch.Generator().manual_seed(0))
    assert len(windows[:, 0, 0, 0].unique()) == 30


@pytest.mark.parametrize(
    ("images", "most", "options"),
    [
        (1, 25, {"seeds_per_image": 25}),
        (2, 50, {}),
        (2, 50, {"gradient_sampling": False}),
        (1, 25, {"seeds_per_image": 25, "seed_scales": (1.0, 1.0)}),
        (1, 50, {"seed_scales": (1.0, 0.5)}),
    ],
)
def test_no_place_of_an_image_is_two_classes(images: int, most: int, options: dict[str, object]) -> None:
    """A seed of 8 px has 25 places in an image of 12 px; more seeds than places share some."""
    noise = ImageStore.of(torch.randint(256, (images, 3, 12, 12), dtype=torch.uint8))

    def windows(seeds: int) -> torch.Tensor:
        chosen = ExemplarOptions(seeds, **options)  # type: ignore[arg-type]
        return _exemplar_seeds.cut(noise, chosen, 8, 12, torch.Generator().manual_seed(0))

    assert len(windows(most).flatten(1).unique(dim=0)) == most
    assert len(windows(most + images)) == most + images


def drawn_of(method: Exemplar, n: int, seed: int = 0, progress: float = 0.5) -> dict[str, torch.Tensor]:
    return method.draw(n, torch.Generator().manual_seed(seed), progress)


def changes(n: int, **options: object) -> dict[str, torch.Tensor]:
    return _exemplar_copies.draw(ExemplarOptions(**options), n, torch.Generator().manual_seed(0))  # type: ignore[arg-type]


def still(n: int, **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    return changes(n, **STILL) | changed


def test_energy_is_that_of_a_loop() -> None:
    images = torch.rand(2, 3, 9, 8, dtype=torch.float64)
    grey = (images * images.new_tensor(LUMA).view(3, 1, 1)).sum(1)
    y, x = np.gradient(grey.numpy(), axis=(1, 2))
    inner = torch.from_numpy(y**2 + x**2)[:, 1:-1, 1:-1]
    found = gradient_energy(images, 3)[:, 1:-1, 1:-1]
    for top in range(found.shape[1]):
        for left in range(found.shape[2]):
            wanted = inner[:, top : top + 3, left : left + 3].mean((1, 2))
            assert torch.allclose(found[:, top, left], wanted, atol=1e-10, rtol=0)


def test_seeds_are_never_cut_where_an_image_is_flat() -> None:
    """In 10,000 images that are noise, however faint, on the right alone; where all is flat, anywhere."""
    images = torch.full((10_000, 3, 16, 24), 128, dtype=torch.uint8)
    images[..., 14:] += torch.randint(2, (10_000, 1, 16, 10), dtype=torch.uint8)
    options = ExemplarOptions(seeds=10_000)
    windows = _exemplar_seeds.cut(ImageStore.of(images), options, 4, 16, torch.Generator().manual_seed(0))
    low = (windows.shape[-1] - 4) // 2 - 1
    seen = windows[:, :, low : low + 6, low : low + 6].flatten(1)
    assert (seen.amax(1) > seen.amin(1)).all()
    energy = torch.tensor([[0.0, 0.0, 1e-9], [0.0, 0.0, 0.0]])
    assert _exemplar_seeds.weights(energy).tolist() == [[0.0, 0.0, pytest.approx(1e-9)], [1.0, 1.0, 1.0]]


def test_flat_windows_have_no_energy_and_twice_the_contrast_four_times_as_much() -> None:
    noise = torch.rand(1, 1, 32, 16, generator=torch.Generator().manual_seed(0)).expand(1, 3, 32, 16) - 0.5
    half = torch.cat([torch.zeros(1, 3, 32, 16), noise], 3)
    energy = gradient_energy(half, 8)[0]
    assert (energy[:, : 16 - 8] == 0).all()
    assert (energy[:, 16 - 8 + 1 :] > 0).all()
    ratio = gradient_energy(2 * half, 8)[0, :, 9:] / energy[:, 9:]
    assert ratio == pytest.approx(torch.full_like(ratio, 4.0), rel=1e-4)


def test_components_scale_the_covariance() -> None:
    pixels = (
        0.3 + 0.05 * torch.randn(500, 3, dtype=torch.float64) @ torch.randn(3, 3, dtype=torch.float64) / 3
    )
    values, vectors = torch.linalg.eigh(torch.cov(pixels.T))
    factors = torch.tensor([[0.5, 1.5, 1.2]], dtype=torch.float64)
    images = pixels.T.reshape(1, 3, 20, 25)
    changed = hsv.scale_components(images, vectors.T, factors)
    assert ((changed > 0) & (changed < 1)).all(), "nothing was cut"
    wanted = vectors @ torch.diag(factors[0].square() * values) @ vectors.T
    assert torch.allclose(torch.cov(changed.reshape(3, -1)), wanted, atol=1e-14)


def test_the_loss_splits_into_that_of_the_mean_feature_and_the_spread_of_the_copies() -> None:
    """Section 2.2: the second term is at least 0, and 0 where all copies of a seed have one feature."""
    g, w = torch.randn(6, 5, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    labels = torch.arange(6).repeat_interleave(5)
    for features in (g, g.mean(1, keepdim=True).expand_as(g)):
        mean = features.mean(1) @ w.T
        first = (mean.logsumexp(1) - mean.diagonal()).mean()
        second = ((features @ w.T).logsumexp(2).mean(1) - mean.logsumexp(1)).mean()
        direct = exemplar_loss((features @ w.T).flatten(0, 1), labels)
        assert direct.item() == pytest.approx((first + second).item(), abs=1e-10)
        assert second > 1e-3 if features is g else second.abs() < 1e-10


def test_a_shift_by_whole_pixels_is_a_slice() -> None:
    windows = torch.rand(1, 3, 36, 36)
    shift = torch.tensor([[3 / 16, -2 / 16]])
    found = _exemplar_copies.apply(ExemplarOptions(), windows, 16, torch.eye(3), still(1, shift=shift))
    assert torch.allclose(found, windows[:, :, 8:24, 13:29], atol=1e-4)


def test_a_turn_and_its_inverse_restore_a_smooth_image() -> None:
    images = smooth_images(2, (64, 64))
    smooth = torch.stack([images.image(b) for b in range(2)]) / 255
    there, back = (still(2, turn=torch.full((2,), a)) for a in (0.3, -0.3))
    turned = _exemplar_copies.apply(ExemplarOptions(), smooth, 64, torch.eye(3), there)
    again = _exemplar_copies.apply(ExemplarOptions(), turned, 64, torch.eye(3), back)
    inside = (..., slice(20, 44), slice(20, 44))
    assert (turned[inside] - smooth[inside]).abs().mean() > 0.02
    assert (again[inside] - smooth[inside]).abs().max() < 0.01


def distance(values: torch.Tensor, low: float, high: float) -> float:
    """Kolmogorov and Smirnov's, of values from the uniform law on [low, high]."""
    ranked = values.double().flatten().sort().values
    assert low - 1e-6 <= ranked[0]
    assert ranked[-1] <= high + 1e-6
    law = (ranked - low) / (high - low)
    return (law - (torch.arange(len(law)) + 0.5) / len(law)).abs().max().item()


def test_changes_follow_their_laws() -> None:
    n = 20_000
    drawn, bound = changes(n), 1.95 / math.sqrt(n)  # p = 0.001
    for name, low, high in (
        ("zoom", 0.7, 1.4),
        ("components", 0.5, 2),
        ("power", 0.25, 4),
        ("factor", 0.7, 1.4),
    ):
        for one in drawn[name].view(n, -1).T:
            assert distance(one.log(), math.log(low), math.log(high)) < bound
            assert one.median().item() == pytest.approx(math.sqrt(low * high), abs=0.02)
    for name, low, high in (("shift", -0.2, 0.2), ("offset", -0.1, 0.1), ("hue", -0.1, 0.1)):
        for one in drawn[name].view(n, -1).T:
            assert distance(one, low, high) < bound
    assert distance(drawn["turn"], -math.pi / 9, math.pi / 9) < bound
    for one in changes(n, factors="uniform")["components"].T:
        assert distance(one, 0.5, 2) < bound


def test_what_changes_a_copy_changes_independently() -> None:
    """Each component of a copy on its own, and each kind of change: quarters of any two meet equally often."""
    drawn = changes(20_000)
    drawn = {name: drawn[name].view(20_000, -1) for name in drawn if name != "grey"}
    quarters = torch.cat(list(drawn.values()), 1).argsort(0).argsort(0) * 4 // 20_000
    for one, other in itertools.combinations(quarters.T, 2):
        seen = torch.bincount(4 * one + other, minlength=16).double()
        assert ((seen - 1250).square() / 1250).sum() < 40.5  # chi-square, 9 degrees of freedom, p = 6e-6


def test_each_copy_shows_its_seed_and_all_seeds_come_equally_often() -> None:
    method = made(**STILL)
    method.windows.copy_((torch.arange(20) * 10).view(20, 1, 1, 1).expand_as(method.windows))
    views = method.views(some(8), drawn_of(method, 8))
    assert torch.equal((views["copies"].mean((1, 2, 3)) * 25.5).round().long(), views["labels"])
    seen = torch.bincount(
        _exemplar_copies.labels(ExemplarOptions(seeds=20), 10_000, torch.Generator(), 0.5)
    ).double()
    assert ((seen - 1000).square() / 1000).sum() < 43.8  # chi-square with 19 degrees of freedom, p = 0.001


def test_the_mean_colour_names_the_seed_until_colours_change(
    record_property: Callable[[str, object], None],
) -> None:
    def solved(**options: object) -> float:
        method = made(**options)
        generator = torch.Generator().manual_seed(1)
        cast = torch.rand(20, 3, 1, 1, generator=generator) * 200
        noise = torch.randint(55, (20, 1, *method.windows.shape[2:]), generator=generator)
        method.windows.copy_((noise + cast).byte())
        halves = []
        for seed in range(2):
            views = method.views(some(150), drawn_of(method, 150, seed))
            halves.append((views["copies"].mean((2, 3)), views["labels"]))
        (known, names), (asked, truth) = halves
        means = torch.stack([known[names == k].mean(0) for k in range(20)])
        return (torch.cdist(asked, means).argmin(1) == truth).float().mean().item()

    off, on = solved(**NO_COLOUR), solved()
    record_property("mean colour names the seed", f"{off:.3f} without colour changes, {on:.3f} with them")
    assert off > 0.9
    assert on < off - 0.3


def test_fixed_copies_are_so_many_for_each_seed() -> None:
    method = made(transforms_per_seed=3)
    first, second = (
        method.draw_step(60, torch.Generator().manual_seed(step), 0.5, 0, step) for step in (0, 1)
    )
    for k in range(20):
        kinds = torch.cat([drawn["zoom"][drawn["labels"] == k] for drawn in (first, second)]).unique()
        assert 1 <= len(kinds) <= 3
    assert len(torch.cat([first["zoom"], second["zoom"]]).unique()) > 40, "seeds have copies of their own"
    assert len(drawn_of(made(), 60)["zoom"].unique()) == 120


def test_a_warm_start_shows_a_few_seeds_for_a_tenth_of_the_run() -> None:
    method = made(warm_start_seeds=4)
    assert drawn_of(method, 100, progress=0.09)["labels"].max() == 3
    assert drawn_of(method, 100, progress=0.1)["labels"].max() > 10


def test_the_cosine_head_is_sixteen_times_the_cosines() -> None:
    method = made(head="cosine")
    views = method.views(some(4), drawn_of(method, 4))
    features = method.encoder(views["copies"])
    wanted = 16 * F.cosine_similarity(features[:, None], method.head.weight, dim=2)
    assert torch.allclose(method.answers(views["copies"]), wanted, atol=1e-4)
    torch.nn.init.zeros_(method.head.weight)
    assert method(views)["loss"].item() == pytest.approx(math.log(20), abs=1e-5)
    with pytest.raises(UsageError, match="has no classes"):
        ExemplarOptions(head="cosine", form="instance")


def test_dropout_acts_in_training_alone() -> None:
    method = made(dropout=0.5)
    copies = torch.rand(4, 3, 16, 16)
    assert not torch.equal(method.answers(copies), method.answers(copies))
    method.eval()
    assert torch.equal(method.answers(copies), method.answers(copies))


def test_seeds_from_one_image_larger_seeds_and_black_borders() -> None:
    flat = (torch.arange(30) * 8).view(30, 1, 1, 1).expand(30, 3, 32, 32).byte()
    for per, count in ((1, 20), (2, 10)):
        method = made(seeds_per_image=per)
        method.prepare(ImageStore.of(flat), torch.Generator().manual_seed(0))
        assert len(method.windows[:, 0, 18, 18].unique()) == count
    stripes = ((torch.arange(32) // 4 % 2) * 255).expand(30, 3, 32, 32).byte()
    method = made(seed_scales=(2.0,))
    method.prepare(ImageStore.of(stripes), torch.Generator().manual_seed(0))
    edges = (method.originals()[0, 0, 8].diff().abs() > 0.5).sum()
    assert edges >= 6, "a seed of 16 px shows 32 px of the image"
    method = made(border="zero", gradient_sampling=False)
    method.prepare(ImageStore.of(torch.full_like(flat, 200)), torch.Generator().manual_seed(0))
    assert {0, 200} == set(method.windows.unique().tolist())


def test_antialiasing_smooths_what_is_shrunk_and_nothing_else() -> None:
    fine = (torch.arange(36)[:, None] + torch.arange(36)) % 2 * torch.ones(2, 3, 36, 36)
    drawn = still(2, zoom=torch.tensor([1.4, 0.8]))
    plain, smooth = (
        _exemplar_copies.apply(ExemplarOptions(antialias=on), fine, 16, torch.eye(3), drawn)
        for on in (False, True)
    )
    assert smooth[0].std() < 0.8 * plain[0].std()
    assert torch.equal(smooth[1], plain[1])


class InParts(TinyNet):
    """The small net with the means of nine parts of its last map."""

    def __init__(self) -> None:
        super().__init__(64)
        self.dim = 9 * 64

    def forward(self, images: torch.Tensor, standardised: bool = False) -> torch.Tensor:
        return F.adaptive_avg_pool2d(self.maps(images, standardised)["stage2"], 3).flatten(1)


@pytest.mark.slow
def test_fifty_seeds_are_told_apart_in_copies_that_were_not_seen() -> None:
    """Two convolutions and 300 steps: nine of ten copies, where chance is 2 %."""
    torch.manual_seed(0)
    method = Exemplar(InParts(), ExemplarOptions(seeds=50), DataInfo(64, 32))
    shown = smooth_images(50, (32, 32))
    pictures = ImageStore.of([shown.image(b) for b in range(50)])
    method.prepare(pictures, torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(method.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=300, pct_start=0.1)
    for step in range(300):
        update(method, optimizer, method.views(some(64), drawn_of(method, 64, step)))
        schedule.step()
    method.eval()
    assert method.held_out(method.views(some(200), drawn_of(method, 200, 1000)))["accuracy"] > 0.9


def test_the_papers_rate_is_divided_by_three() -> None:
    _, recipe = PAPER_STL10
    rates = [rate(step, 100, recipe) for step in (0, 49, 50, 75, 90)]
    assert rates == pytest.approx([0.01, 0.01, 0.01 / 3, 0.01 / 9, 0.01 / 27])
