"""Counting: the equation and its exact solutions, tiles and filters, the other image, what keeps it from collapse."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nolabel import seeds
from nolabel.data.batch import ImageBatch
from nolabel.encoders import base as encoders
from nolabel.encoders.base import Encoder
from nolabel.errors import UsageError
from nolabel.methods import _counting_picture
from nolabel.methods._tallies import tallies
from nolabel.methods.base import DataInfo
from nolabel.methods.counting import (
    PAPER_IMAGENET,
    Counting,
    CountingOptions,
    counting_loss,
)
from nolabel.views.downsample import KINDS, halve, quarters
from small import TinyNet, smooth_images


def counting(size: int = 32, encoder: Encoder | None = None, **options) -> Counting:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Counting(encoder or TinyNet(), CountingOptions(**options), DataInfo(64, size))


def views_of(method: Counting, images: ImageBatch, step: int = 0) -> dict[str, Tensor]:
    return method.views(images, method.draw(images.size, seeds.generator(0, "views", step), 0.0))


def noise(n: int, side: int = 40) -> ImageBatch:
    generator = seeds.generator(0, "noise")
    return ImageBatch.of(torch.randint(256, (n, 3, side, side), generator=generator, dtype=torch.uint8))


def area(images: Tensor) -> Tensor:
    return halve(images, {"filter": torch.full((len(images),), KINDS.index("area"))})


def terms(phi, images: Tensor, shrink=area) -> tuple[Tensor, Tensor, Tensor]:
    """Both terms, and Σφ(T∘x), of a φ given as a function; the other image is the next one."""
    whole, parts = phi(shrink(images)), phi(quarters(images)).unflatten(0, (-1, 4)).sum(1)
    return *counting_loss(whole, parts, whole.roll(-1, 0), 10.0), parts


# ---- the loss


@pytest.mark.parametrize("k", [1, 64])
def test_counting_nothing_costs_exactly_the_margin_and_cannot_recover(k: int) -> None:
    whole, parts, other = (torch.zeros(3, k, requires_grad=True) for _ in range(3))
    positive, negative = counting_loss(whole, parts, other, 10.0)
    assert (positive + negative).tolist() == [10.0] * 3
    (positive + negative).sum().backward()
    assert all((counts.grad == 0).all() for counts in (whole, parts, other))


@pytest.mark.parametrize("c", [0.1, 0.3, 1.0])
def test_constant_counts_are_a_plateau(c: float) -> None:
    """9|c|² + max(0, M - 9|c|²) = max(M, 9|c|²)."""
    counts = torch.full((2, 5), c, dtype=torch.float64)
    positive, negative = counting_loss(counts, 4 * counts, counts, 10.0)
    assert (positive + negative).tolist() == pytest.approx([max(10, 9 * 5 * c * c)] * 2)


def test_pixel_sums_add_up_under_sums_and_not_under_averages() -> None:
    images = torch.rand(3, 3, 16, 16, dtype=torch.float64)

    def total(x: Tensor) -> Tensor:
        return x.sum((2, 3))

    positive, negative, parts = terms(total, images, lambda x: 4 * area(x))
    assert (positive / parts.square().sum(1)).max() < 1e-6
    apart = (parts.roll(-1, 0) - parts).square().sum(1)
    torch.testing.assert_close(negative, (10 - apart).clamp_min(0))
    positive, _, parts = terms(total, images)
    torch.testing.assert_close(positive, 9 / 16 * parts.square().sum(1))
    means, _, parts = terms(lambda x: x.mean((2, 3)), images)
    torch.testing.assert_close(means, 9 * (parts / 4).square().sum(1))


def test_isolated_pixels_are_counted() -> None:
    """Each leaves 0.25 after averaging: the number of places above 0.2 is n, in the whole and in the quarters."""
    images = torch.zeros(2, 3, 32, 32)
    for n, image in enumerate(images, 3):
        for i in range(n):
            image[:, 2 + 6 * i // 2 * 2, 5 + 4 * i] = 1
    counts = lambda x: (x[:, :1] > 0.2).float().sum((2, 3))  # noqa: E731
    positive, _, parts = terms(counts, images)
    assert parts[:, 0].tolist() == [3, 4]
    assert positive.tolist() == [0, 0]


def test_the_hinge_is_taken_per_pair() -> None:
    generator = np.random.default_rng(0)
    whole, parts, other = generator.normal(size=(3, 6, 4), scale=1.3)
    expected = [
        (((w - s) ** 2).sum(), max(0.0, 10 - ((o - s) ** 2).sum()))
        for w, s, o in zip(whole, parts, other, strict=True)
    ]
    given = [torch.from_numpy(x) for x in (whole, parts, other)]
    positive, negative = counting_loss(*given, 10.0)
    np.testing.assert_allclose(torch.stack([positive, negative], 1), expected, rtol=1e-12)
    assert 0 < (negative == 0).sum() < 6
    wrong = counting_loss(*given, 10.0, "per_element")[1]
    assert (wrong - negative).abs().min() > 0.1
    np.testing.assert_allclose(wrong, np.maximum(0, 10 - (other - parts) ** 2).mean(1), rtol=1e-12)


def test_the_hinge_stops_at_the_margin() -> None:
    parts = torch.zeros(2, 1, requires_grad=True)
    negative = counting_loss(torch.zeros(2, 1), parts, torch.tensor([[3.0], [4.0]]), 10.0)[1]
    negative.sum().backward()
    assert negative.tolist() == [1.0, 0.0]
    assert parts.grad is not None
    assert parts.grad.tolist() == [[6.0], [0.0]]


def test_tallies_of_known_counts() -> None:
    whole = torch.tensor([[2.0, 0, 0], [4.0, 0, 0]])
    found = tallies(whole, whole * 2, torch.tensor([0.0, 1.0]))
    assert {key: value.item() for key, value in found.items()} == pytest.approx(
        {"close": 0.5, "ratio": 0.5, "error": 1.0, "active": 1, "spread": 1 / 3}
    )
    assert all(value.isfinite() for value in tallies(0 * whole, 0 * whole, whole[:, 0]).values())
    assert tallies(whole, torch.tensor([[0.0, 0, 0], [3.0, 0, 0]]), whole[:, 0])[
        "ratio"
    ].item() == pytest.approx(2)


def test_counts_that_stay_the_same_are_named_after_a_fifth_of_the_run() -> None:
    method = counting()
    assert method.collapsed({"spread": 5e-4}, 0.19) is None
    assert method.collapsed({"spread": 2e-3}, 1.0) is None
    told = method.collapsed({"spread": 5e-4}, 0.2) or ""
    assert "20%" in told
    assert "--count-bias" in told
    assert told.endswith(".")


# ---- the views


def test_tiles_put_together_are_the_crop() -> None:
    images = torch.rand(2, 3, 12, 12)
    tiles = quarters(images)
    assert tiles.shape == (8, 3, 6, 6)
    one, two, three, four = tiles[4:]
    assert torch.equal(torch.cat([torch.cat([one, two], 2), torch.cat([three, four], 2)], 1), images[1])


@pytest.mark.parametrize("size", [28, 32, 33, 64, 96])
def test_whole_and_tiles_are_of_one_size(size: int) -> None:
    method = counting(size)
    views = views_of(method, smooth_images(3, (size + 9, size + 20)))
    side = size // 2
    assert views["whole"].shape == (3, 3, side, side)
    assert views["tiles"].shape == (12, 3, side, side)
    assert Counting.encoder_size(method.options, method.data) == side


def test_the_whole_is_the_halved_tiles() -> None:
    method = counting(downsample="area", grey_p=0)
    views = views_of(method, noise(3))
    halved = nn.functional.avg_pool2d(views["tiles"], 2).unflatten(0, (3, 4))
    torch.testing.assert_close(views["whole"][:, :, :8, 8:], halved[:, 1])
    torch.testing.assert_close(views["whole"][:, :, 8:, :8], halved[:, 2])


def test_all_five_views_are_grey_or_none() -> None:
    method = counting(16)
    drawn = method.draw(10_000, seeds.generator(0), 0.0)
    assert drawn["grey"].float().mean().item() == pytest.approx(0.67, abs=0.02)
    views = views_of(counting(), noise(40))
    grey_whole = (views["whole"].std(1) < 1e-6).flatten(1).all(1)
    grey_tiles = (views["tiles"].std(1) < 1e-6).flatten(1).all(1).view(40, 4)
    assert torch.equal(grey_whole[:, None].expand(-1, 4), grey_tiles)
    assert 10 < grey_whole.sum() < 38


def test_grey_is_the_mean_of_the_channels() -> None:
    colour, grey = (views_of(counting(grey_p=p), noise(2))["tiles"] for p in (0.0, 1.0))
    torch.testing.assert_close(grey[:, 0], colour.mean(1))


def test_one_filter_a_step_or_one_an_image() -> None:
    for each, kinds in ((False, 1), (True, 4)):
        method = counting(downsample_per_image=each)
        assert len(method.draw(100, seeds.generator(0), 0.0)["filter"].unique()) == kinds
    fixed = counting(downsample="bicubic").draw(5, seeds.generator(0), 0.0)["filter"]
    assert fixed.tolist() == [KINDS.index("bicubic")] * 5


def test_crops_lie_in_the_central_square() -> None:
    """A wide image whose outer thirds are white: central crops see none of it."""
    pixels = torch.zeros(3, 40, 120, dtype=torch.uint8)
    pixels[:, :, :40] = pixels[:, :, 80:] = 255
    images = ImageBatch.of([pixels] * 50)
    assert views_of(counting(), images)["tiles"].max() == 0
    assert views_of(counting(central_precrop=False), images)["tiles"].max() == 1


@pytest.mark.parametrize(("predownscale", "exact"), [(True, False), (False, True)])
def test_without_resizing_the_tiles_are_the_files_own_pixels(predownscale: bool, exact: bool) -> None:
    method, images = counting(grey_p=0, predownscale=predownscale), noise(1, 64)
    images = images.take(torch.tensor([0, 0]))
    tile = views_of(method, images)["tiles"][0]
    places = (images.image(0) / 255).unfold(1, 16, 1).unfold(2, 16, 1).permute(1, 2, 0, 3, 4)
    assert ((places - tile).abs().amax((2, 3, 4)) < 1e-6).any() == exact


def test_jitter_is_equal_in_all_five_views() -> None:
    method = counting(shared_jitter=0.4, downsample="area", grey_p=0)
    views = views_of(method, noise(3))
    halved = nn.functional.avg_pool2d(views["tiles"], 2).unflatten(0, (3, 4))
    torch.testing.assert_close(views["whole"][:, :, :8, :8], halved[:, 0])
    plain = views_of(counting(downsample="area", grey_p=0), noise(3))
    assert (views["whole"] - plain["whole"]).abs().max() > 0.05


def test_resampled_tiles_show_part_of_their_quarter() -> None:
    before, after = (views_of(counting(tile_resample=on), smooth_images(3))["tiles"] for on in (False, True))
    assert after.shape == before.shape
    assert 0.005 < (after - before).abs().mean() < 0.1


# ---- the other image


@pytest.mark.parametrize("n", [2, 3, 8])
def test_a_roll_never_meets_the_image_itself(n: int) -> None:
    method = counting()
    shifts = set()
    for step in range(60):
        partner = method.draw(n, seeds.generator(0, step), 0.0)["partner"]
        assert sorted(partner.tolist()) == list(range(n))
        assert (partner != torch.arange(n)).all()
        shifts.add(int(partner[0]))
    assert shifts == set(range(1, n))


def test_any_image_may_be_the_image_itself() -> None:
    partner = counting(negative="any").draw(1000, seeds.generator(0), 0.0)["partner"]
    assert len(partner.unique()) > 500


def test_one_image_has_no_other() -> None:
    with pytest.raises(UsageError, match="at least 2 images"):
        counting().draw(1, seeds.generator(0), 0.0)


# ---- the method


def test_counts_are_never_negative() -> None:
    method = counting()
    views = views_of(method, noise(5))
    whole, tiles = method.counts(views["whole"], views["tiles"])
    assert whole.shape == (5, 64)
    assert tiles.shape == (5, 4, 64)
    assert min(whole.min(), tiles.min()) >= 0


@pytest.mark.parametrize(("size", "k", "bias"), [(32, 64, 0.1), (96, 128, 0.0932), (128, 256, 0.0659)])
def test_number_of_counts_and_their_start(size: int, k: int, bias: float) -> None:
    method = counting(size)
    last = method.head[-2]
    assert last.out_features == k
    assert last.bias[0].item() == pytest.approx(bias, abs=1e-4)
    nn.init.zeros_(last.weight)
    views = views_of(method, smooth_images(3, (size, size)))
    assert method(views)["loss"].item() == pytest.approx(10, abs=1e-5)
    assert counting(count_bias=0.0).head[-2].bias.abs().max() == 0


def test_one_forward_pass_equals_five_in_evaluation() -> None:
    together, apart = counting(), counting(joint_forward=False)
    views = views_of(together, noise(4))
    in_training = [method(views)["loss"].item() for method in (together, apart)]
    assert abs(in_training[0] - in_training[1]) > 1e-3
    together.eval()
    whole, tiles = together.counts(views["whole"], views["tiles"])
    for j in range(4):
        alone = together.head(together.encoder.maps(views["tiles"][j::4])["stage2"])
        torch.testing.assert_close(tiles[:, j], alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(whole, together.head(together.encoder.maps(views["whole"])["stage2"]))


def test_loss_is_equation_three() -> None:
    method = counting().eval()
    views = views_of(method, noise(4))
    whole, tiles = method.counts(views["whole"], views["tiles"])
    expected, swapped = torch.zeros(()), torch.zeros(())
    for i, j in enumerate(views["partner"].tolist()):
        s, t = tiles[i].sum(0), tiles[j].sum(0)
        first = ((whole[i] - s) ** 2).sum()
        expected = expected + first + (10 - ((whole[j] - s) ** 2).sum()).clamp_min(0)
        swapped = swapped + first + (10 - ((whole[i] - t) ** 2).sum()).clamp_min(0)
    torch.testing.assert_close(method(views)["loss"], expected / 4)
    both = counting(symmetric_loss=True).eval()
    torch.testing.assert_close(both(views)["loss"], (expected + swapped) / 8)
    assert counting(contrastive=False).eval()(views)["loss"].item() == pytest.approx(
        method(views)["positive"].item()
    )


@pytest.mark.parametrize("contrastive", [True, False])
def test_both_terms_reach_the_encoder(contrastive: bool) -> None:
    method = counting(contrastive=contrastive, margin=1000.0)
    views = views_of(method, noise(6))
    gradients = []
    for term in ("positive", "both"):
        method.zero_grad()
        whole, tiles = method.counts(views["whole"], views["tiles"])
        positive, negative = counting_loss(whole, tiles.sum(1), whole[views["partner"]], 1000.0)
        (positive if term == "positive" else positive + negative).mean().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in method.encoder.parameters()]))  # type: ignore[union-attr]
    method.zero_grad()
    method(views)["loss"].backward()
    for value in method.parameters():
        assert value.grad is not None
        assert value.grad.isfinite().all()
        assert value.grad.abs().max() > 0
    assert (gradients[0] - gradients[1]).abs().max() > 1e-6
    found = torch.cat([p.grad.flatten() for p in method.encoder.parameters()])  # type: ignore[union-attr]
    torch.testing.assert_close(found, gradients[int(contrastive)], rtol=1e-3, atol=1e-6)


def test_parameters_of_the_papers_net() -> None:
    with torch.device("meta"):
        encoder = encoders.build("alexnet_counting", 112)
        head = replace(PAPER_IMAGENET[0], count_bias=0.0)
        method = Counting(encoder, head, DataInfo(100, 224))
        whole, tiles = method.counts(torch.zeros(2, 3, 112, 112), torch.zeros(8, 3, 112, 112))
    assert sum(parameter.numel() for parameter in method.parameters()) == 32_653_672
    assert (whole.shape, tiles.shape) == ((2, 1000), (2, 4, 1000))
    assert PAPER_IMAGENET[1].drop_factor ** -29 == pytest.approx(0.9**29)


def test_an_image_of_a_pixel_is_cropped_to_it_however_large_it_was_loaded() -> None:
    method, images = counting(load_scale=40.0), smooth_images(2, (1, 1))
    views = method.views(images, method.draw(2, seeds.generator(0), 0.0))
    assert (views["whole"].flatten(2).std(2) < 1e-5).all()


@pytest.mark.parametrize("wrong", [{"margin": 0}, {"load_scale": 0.9}, {"counts": -1}])
def test_options_out_of_range_are_refused_in_one_sentence(wrong: dict) -> None:
    with pytest.raises(UsageError) as error:
        CountingOptions(**wrong)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize("trained", [False, True])
def test_panel_shows_counts_of_a_trained_net(trained: bool) -> None:
    method = counting().train()
    figure = method.panel(smooth_images(2), seeds.generator(0), trained=trained)
    assert len(figure.axes) == (9 if trained else 4)
    assert sum(len(axis.patches) for axis in figure.axes) == (2 * 2 * 5 * 5 if trained else 0)
    assert ("Equal height" in figure.get_supxlabel()) == trained
    assert method.training


@pytest.mark.slow
def test_sixteen_images_are_learnt_by_heart() -> None:
    method = counting(encoder=encoders.build("resnet10", 16))
    optimizer, images = torch.optim.AdamW(method.parameters(), 1e-3), smooth_images(16)
    found = []
    for step in range(300):
        views = views_of(method, images, step % 4)
        optimizer.zero_grad()
        found.append(method(views))
        found[-1]["loss"].backward()
        optimizer.step()
    first, last = found[0], found[-1]
    assert last["positive"] < 0.1 * first["positive"]
    assert last["close"] < first["close"]


def test_of_a_trained_net_whole_and_quarters_are_drawn_against_each_other() -> None:
    tiles = torch.rand(2, 4, 3, 8, 8)
    counts = torch.rand(2, 4, 6)
    whole, other = counts.sum(1), torch.rand(2, 6)
    figure = _counting_picture.draw(torch.rand(2, 3, 8, 8), tiles, (whole, counts, other), 0.5)
    places = {
        drawn.get_label(): torch.from_numpy(drawn.get_offsets().data) for drawn in figure.axes[-1].collections
    }
    same, another = (
        next(at for name, at in places.items() if name.startswith(f"{which} image"))
        for which in ("the same", "another")
    )
    torch.testing.assert_close(same[:, 0], same[:, 1])
    torch.testing.assert_close(another, torch.stack([whole.flatten(), other.flatten()], 1).double())
