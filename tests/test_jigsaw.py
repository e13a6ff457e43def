"""Jigsaw: cutting, shuffling and loss against closed forms."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import build
from nolabel.errors import UsageError
from nolabel.methods._permutations import permutation_set
from nolabel.methods.base import DataInfo
from nolabel.methods.jigsaw import (
    CODE_IMAGENET,
    PAPER_IMAGENET,
    Jigsaw,
    JigsawOptions,
    geometry_of,
    jigsaw_loss,
    shuffled,
)
from nolabel.views import tiles
from small import TinyNet, seen_by_a_lens, update


def made(size: int = 32, **options: object) -> Jigsaw:
    chosen, data = JigsawOptions(**options), DataInfo(64, size)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return Jigsaw(build("resnet10", Jigsaw.encoder_size(chosen, data)), chosen, data)


def some(n: int, size: int) -> ImageBatch:
    return ImageBatch.of(torch.randint(256, (n, 3, size, size), dtype=torch.uint8))


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
    brighter = 0.2 + 0.3 * parts[1]
    assert torch.allclose(tiles.standardise(brighter), found[1], atol=1e-4)


def test_shuffling_features_equals_shuffling_tiles() -> None:
    method = made().eval()
    views = method.views(some(3, 32), method.draw(3, torch.Generator().manual_seed(1), 0.0))
    orders = method.orders[views["labels"]]
    pixels = shuffled(views["tiles"].unflatten(0, (3, 4)), orders)
    with torch.no_grad():
        moved = method.shrink(method.encoder(pixels.flatten(0, 2), standardised=True)).unflatten(0, (12, 4))
        direct = method.head(moved.flatten(1))
        assert torch.allclose(direct, method.answer(views["tiles"], views["labels"]), atol=1e-6)


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


def drawn_of(method: Jigsaw, n: int, seed: int = 0) -> dict[str, Tensor]:
    return method.draw(n, torch.Generator().manual_seed(seed), 0.0)


@pytest.mark.parametrize(
    ("setting", "size", "fc6", "fc7", "total"),
    [
        (CODE_IMAGENET[0], 255, 2_360_320, 37_752_832, 46_544_232),
        (replace(PAPER_IMAGENET[0], gap=False), 225, 2_097_664, 18_878_464, 27_407_208),
    ],
)
def test_the_context_free_net_has_the_parameters_of_the_paper(
    setting: JigsawOptions, size: int, fc6: int, fc7: int, total: int
) -> None:
    """The released net on tiles of 64 px, and the paper's figure of 27.5 million, on whole cells of 75 px."""
    options = replace(setting, permutations=1000, criterion="random")
    data = DataInfo(64, size)
    with torch.device("meta"):
        encoder = build("alexnet_jigsaw", Jigsaw.encoder_size(options, data))
        method = Jigsaw(encoder, options, data)
    count = [sum(p.numel() for p in part.parameters()) for part in (method.shrink, method.head[0], method)]
    assert count == [fc6, fc7, total]
    side = geometry_of(options, size)[2]
    assert method.each(torch.zeros(9, 3, side, side, device="meta")).shape == (9, options.per_tile)


def test_orders_are_chosen_as_the_options_say() -> None:
    chosen = {"criterion": "mean", "min_hamming": 6, "tie_break": "first", "permutation_seed": 2}
    apart = made(grid=3, permutations=20, **chosen).orders.numpy()
    assert (apart == permutation_set(9, 20, "mean", False, 2, 6, "first")).all()
    assert PAPER_IMAGENET[0].tie_break == "first"


def test_saved_orders_are_those_of_the_loaded_method() -> None:
    saved, other = (made(grid=3, permutations=20, permutation_seed=seed) for seed in (0, 1))
    assert not torch.equal(saved.orders, other.orders)
    other.load_state_dict(saved.state_dict())
    assert torch.equal(saved.orders, other.orders)


def test_dropout_stands_behind_fc6_and_fc7() -> None:
    method = made(96, head="fc", per_tile=16, head_hidden=32, dropout=0.5)
    for net in (method.shrink, method.head):
        kinds = [type(layer).__name__ for layer in net.children()]
        assert kinds[kinds.index("Dropout") - 1] == "ReLU"
    views = method.views(some(2, 96), drawn_of(method, 2))
    assert not torch.equal(method.answer(**_asked(views)), method.answer(**_asked(views)))
    method.eval()
    assert torch.equal(method.answer(**_asked(views)), method.answer(**_asked(views)))


def _asked(views: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"parts": views["tiles"], "labels": views["labels"]}


def test_each_place_receives_the_tile_that_its_order_names_and_the_inverse_puts_it_back() -> None:
    method = made(grid=3, gap=False, tile_norm="none", channel_jitter=0, grey_p=0.0, random_crop=False)
    images = some(2, 32)
    parts = method.views(images, drawn_of(method, 2))["tiles"].unflatten(0, (2, 9))
    order = method.orders[5].expand(2, 1, 9)
    puzzle = shuffled(parts, order)[:, 0]
    for place, cell in enumerate(order[0, 0].tolist()):
        assert torch.equal(puzzle[0, place], parts[0, cell])
        y, x = 10 * (cell // 3), 10 * (cell % 3)
        assert torch.allclose(puzzle[0, place], images.image(0)[:, y : y + 10, x : x + 10] / 255, atol=1e-6)
    assert torch.equal(shuffled(puzzle, order.argsort(-1))[:, 0], parts)


def test_gaps_follow_their_law() -> None:
    """Slack 5: gaps of 0 to 10 px, 5 on average, none in one of 36."""
    method = made(64, channel_jitter=0)
    offset = drawn_of(method, 40_000)["offset"][..., 1].unflatten(1, (3, 3))
    gaps = (5 - offset[:, :, 0] + offset[:, :, 1]).flatten().float()
    assert (gaps.min(), gaps.max()) == (0, 10)
    assert gaps.mean().item() == pytest.approx(5, abs=0.05)
    share, error = 1 / 36, math.sqrt(35 / 36**2 / len(gaps))
    assert (gaps == 0).float().mean().item() == pytest.approx(share, abs=3 * error)


@pytest.mark.parametrize(("jitter", "least"), [(0, 3), (1, 2), (1, 7), (2, 4)])
def test_tiles_keep_the_gap_that_is_asked_for(jitter: int, least: int) -> None:
    """Between any two channels, and no more than that: 96 px has cells of 31 and tiles of 24."""
    method = made(96, channel_jitter=jitter, min_gap=least, grey_p=0.0)
    drawn = drawn_of(method, 4000)
    at = (method.corners(drawn)[:, :, None] + drawn["channels"]).unflatten(1, (3, 3))
    for gaps in (at[:, 1:, :, :, 0] - at[:, :-1, :, :, 0], at[:, :, 1:, :, 1] - at[:, :, :-1, :, 1]):
        assert int(gaps.min()) - 24 == least
    inside = drawn["offset"][:, :, None] + drawn["channels"]
    assert (int(inside.min()), int(inside.max())) == (least // 2, 7 - least + least // 2)


def test_a_gap_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="no gaps of 8 px"):
        geometry_of(JigsawOptions(min_gap=8), 96)
    with pytest.raises(UsageError, match="0 or more"):
        JigsawOptions(min_gap=-1)


def test_one_pass_over_all_tiles_is_that_of_a_loop_over_places() -> None:
    method = made(96).eval()
    parts = method.views(some(3, 96), drawn_of(method, 3))["tiles"]
    with torch.no_grad():
        together = method.each(parts).unflatten(0, (3, 9))
        for place in range(9):
            torch.testing.assert_close(together[:, place], method.each(parts[place::9]), atol=1e-6, rtol=0)


def test_a_constant_image_has_no_order() -> None:
    method = made(tile_norm="none", grey_p=0.0).eval()
    tiles_of_one = torch.full((4, 3, 12, 12), 0.4)
    logits = method.answer(tiles_of_one, torch.arange(24)[None])
    assert torch.allclose(logits, logits[:1].expand_as(logits), atol=1e-6)


def test_two_equal_tiles_cannot_be_told_apart() -> None:
    method = made().eval()
    parts = method.views(some(1, 32), drawn_of(method, 1))["tiles"].clone()
    parts[3] = parts[1]
    orders = method.orders.tolist()
    swapped = [1 if v == 3 else 3 if v == 1 else v for v in orders[7]]
    pair = torch.tensor([[7, orders.index(swapped)]])
    first, second = method.answer(parts, pair)
    assert torch.allclose(first, second, atol=1e-6)
    other = method.answer(parts, torch.tensor([[(7 + 1) % 24]]))[0]
    assert not torch.allclose(first, other, atol=1e-4)


def test_channels_are_exact_shifts_and_grey_images_stay_grey() -> None:
    method = made(96, tile_norm="none", random_crop=False)
    images, drawn = some(40, 96), drawn_of(method, 40)
    parts = method.views(images, drawn)["tiles"].unflatten(0, (40, 9))
    grey = drawn["grey"]
    assert grey.any()
    assert not grey.all()
    for image in (grey, ~grey):
        spread = (parts[image] - parts[image].mean(2, keepdim=True)).abs().amax((1, 2, 3, 4))
        assert ((spread < 1e-6) == grey[image]).all()
    b = int((~grey).nonzero()[0])
    at = (method.corners(drawn)[:, :, None] + drawn["channels"])[b]
    assert drawn["channels"][b].abs().max() == 1
    for place in range(9):
        for c in range(3):
            y, x = at[place, c].tolist()
            seen = images.image(b)[c, y : y + 24, x : x + 24] / 255
            assert torch.allclose(parts[b, place, c], seen, atol=1e-6)


def test_a_third_is_grey_and_all_orders_come_equally_often() -> None:
    drawn = drawn_of(made(96, grid=2, puzzles=1), 24_000)
    assert drawn["grey"].float().mean().item() == pytest.approx(0.3, abs=0.01)
    seen = torch.bincount(drawn["labels"].flatten(), minlength=24).double()
    assert ((seen - 1000).square() / 1000).sum() < 49.7  # chi-square with 23 degrees of freedom, p = 0.001
    halves = torch.bincount(drawn["labels"][:12_000].flatten(), minlength=24).double()
    assert ((halves - 500).square() / 500).sum() < 49.7


def test_a_flip_mirrors_the_whole_image() -> None:
    still = {"gap": False, "tile_norm": "none", "channel_jitter": 0, "grey_p": 0.0}
    images = some(1, 32)
    plain, turned = (
        method.views(images, drawn_of(method, 1))["tiles"].view(2, 2, 3, 16, 16)
        for method in (made(**still), made(**still, flip_p=1.0))
    )
    assert torch.equal(turned, plain.flip(1, 4))


# Planted shortcuts: images without content, and a reader that needs none (specification 3.11, T13).


def solved(method: Jigsaw, images: Tensor, told: Tensor, read: str) -> float:
    """Share of orders that are found when each tile is read by one number, and cells by `told` (9,) or (9, d)."""
    n = len(images)
    views = method.views(ImageBatch.of((images * 255).round().byte()), drawn_of(method, n))
    parts, labels = views["tiles"].unflatten(0, (n, 9)), views["labels"]
    if read == "mean":
        seen = parts.mean((2, 3, 4))[..., None]
    elif read == "spread":
        seen = parts.std((3, 4)).mean(2)[..., None]
    else:
        seen = _lens(parts)
    puzzle = shuffled(seen, method.orders[labels])[:, 0]
    score = torch.einsum("bid,kid->bk", puzzle, told.view(9, -1)[method.orders])
    return (score.argmax(1) == labels[:, 0]).float().mean().item()


def _lens(parts: Tensor) -> Tensor:
    """The shift of green against red in every tile (B, 9, 3, p, p), by least squares on gradients: (B, 9, 2)."""
    red, green = parts[:, :, 0], parts[:, :, 1]
    down = (red[..., 2:, 1:-1] - red[..., :-2, 1:-1]) / 2
    right = (red[..., 1:-1, 2:] - red[..., 1:-1, :-2]) / 2
    slopes = torch.stack([down, right], -1).flatten(2, 3)
    change = (green - red)[..., 1:-1, 1:-1].flatten(2)[..., None]
    return torch.linalg.lstsq(slopes.double(), change.double()).solution[..., 0].float()


BARE = {"grid": 3, "permutations": 24, "channel_jitter": 0, "grey_p": 0.0, "random_crop": False, "puzzles": 1}
CHANCE = 1 / 24 + 3 * math.sqrt(23 / 24**2 / 400)
"""three standard errors above it, of 400 puzzles"""


def test_a_ramp_of_brightness_is_a_shortcut_until_means_are_removed() -> None:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    images = ((3 * y + x) / (4 * 64)).expand(400, 3, 64, 64)
    told = torch.tensor([3 * r + c for r in range(3) for c in range(3)]).float() - 4
    assert solved(made(64, tile_norm="none", **BARE), images, told, "mean") > 0.9
    assert solved(made(64, tile_norm="mean", **BARE), images, told, "mean") < CHANCE


def test_contrast_is_a_shortcut_until_deviations_are_removed() -> None:
    level = torch.linspace(0.1, 1, 9)
    amplitude = F.pad(level.view(3, 3).repeat_interleave(21, 0).repeat_interleave(21, 1), (0, 1, 0, 1))
    noise = torch.rand(400, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images = 0.5 + (noise - 0.5) * amplitude
    assert solved(made(64, tile_norm="mean", **BARE), images, level - level.mean(), "spread") > 0.9
    assert solved(made(64, tile_norm="mean_std", **BARE), images, level - level.mean(), "spread") < CHANCE


def test_a_lens_is_a_shortcut_that_grey_and_channel_shifts_weaken() -> None:
    images = seen_by_a_lens(400, 64)
    told = torch.tensor([[r, c] for r in range(3) for c in range(3)]).float() - 1
    found = [
        solved(made(64, tile_norm="none", **(BARE | defence)), images, -told, "lens")
        for defence in ({}, {"grey_p": 1.0}, {"channel_jitter": 1})
    ]
    assert found[0] > 0.6
    assert found[1] < CHANCE
    assert found[2] < found[0] - 0.2


def test_lines_between_cells_are_a_shortcut_until_tiles_are_smaller() -> None:
    images = torch.zeros(400, 3, 64, 64)
    images[:, :, [0, 20, 21], :] = images[:, :, :, [0, 20, 21]] = 1.0
    cells = images[0, 0, :63, :63].unflatten(1, (3, 21)).unflatten(0, (3, 21))
    told = cells.mean((1, 3)).flatten()
    told = told - told.mean()
    bare = {"tile_norm": "none"} | BARE
    assert solved(made(64, gap=False, **bare), images, told, "mean") > solved(
        made(64, **bare), images, told, "mean"
    )


@pytest.mark.slow
def test_four_orders_are_learnt_on_images_that_were_not_seen() -> None:
    """Waves that run down in the upper half and across in the lower one, and grow to the right."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    start = 6.3 * torch.rand(200, 1, 1, generator=torch.Generator().manual_seed(0))
    pictures = 0.5 + 0.5 * (0.2 + 0.8 * x) * torch.sin(start + 40 * torch.where(y < 0.5, y, x))
    images = ImageBatch.of((pictures[:, None].expand(-1, 3, -1, -1) * 255).byte())
    chosen = JigsawOptions(permutations=4, criterion="algebraic", tile_norm="mean")
    torch.manual_seed(0)
    method = Jigsaw(TinyNet(), chosen, DataInfo(200, 32))
    optimizer = torch.optim.AdamW(method.parameters(), 3e-3)
    for step in range(60):
        rows = torch.randint(150, (32,), generator=torch.Generator().manual_seed(step))
        update(method, optimizer, method.views(images.take(rows), drawn_of(method, 32, step)))
    method.eval()
    held = method.views(images.take(torch.arange(150, 200)), drawn_of(method, 50, 1000))
    assert method.held_out(held)["accuracy"] > 0.9


@pytest.mark.slow
def test_shuffled_names_of_the_orders_teach_nothing() -> None:
    """Images are learnt by heart, and those that were not seen stay at 1 / K."""
    shown = seen_by_a_lens(200, 64)
    images = ImageBatch.of((shown * 255).round().byte())
    torch.manual_seed(0)
    chosen = JigsawOptions(permutations=24, tile_norm="mean")
    method = Jigsaw(TinyNet(), chosen, DataInfo(100, 64))
    optimizer = torch.optim.AdamW(method.parameters(), 3e-3)
    train = method.views(images.take(torch.arange(100)), drawn_of(method, 100))
    names = train["labels"].flatten()[torch.randperm(400)]
    for _ in range(60):
        optimizer.zero_grad()
        loss = jigsaw_loss(method.answer(train["tiles"], train["labels"]), names)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.7 * math.log(24), "they are learnt by heart"
    held = method.views(images.take(torch.arange(100, 200)), drawn_of(method, 100, 1))
    accuracy = method.eval().held_out(held)["accuracy"]
    assert accuracy == pytest.approx(1 / 24, abs=3 * math.sqrt(23 / 24**2 / 400))
