"""Context prediction: places, pairs and loss against closed forms."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import build
from nolabel.errors import UsageError
from nolabel.methods import _places
from nolabel.methods._places import PLACES, geometry_of, pairs_of_grid
from nolabel.methods.base import DataInfo
from nolabel.methods.context_prediction import (
    CODE_IMAGENET,
    PAPER_IMAGENET,
    ContextPrediction,
    ContextPredictionOptions,
    project,
)
from small import TinyNet, seen_by_a_lens, update

Record = Callable[[str, object], None]


def made(size: int = 32, **options: object) -> ContextPrediction:
    chosen, data = ContextPredictionOptions(**options), DataInfo(64, size)  # type: ignore[arg-type]
    torch.manual_seed(0)
    return ContextPrediction(build("resnet10", ContextPrediction.encoder_size(chosen, data)), chosen, data)


def drawn_of(method: ContextPrediction, n: int, seed: int = 0) -> dict[str, Tensor]:
    return method.draw(n, torch.Generator().manual_seed(seed), 0.0)


def placed(size: int, n: int) -> dict[str, Tensor]:
    """Where free pairs are cut from n images of `size` px."""
    return _places.draw("free", n, 1, size, geometry_of(size), torch.Generator().manual_seed(0))


PLAIN = {"jitter": 0, "colour_mode": "none", "patch_norm": False, "pixelation_p": 0.0}


@pytest.mark.parametrize(("rows", "columns", "count"), [(2, 2, 12), (3, 3, 40), (4, 4, 84), (2, 3, 22)])
def test_a_grid_has_the_known_number_of_ordered_pairs(rows: int, columns: int, count: int) -> None:
    assert len(pairs_of_grid(rows, columns)[0]) == count


def test_swapping_a_pair_turns_its_label_into_seven_minus_it() -> None:
    first, second, labels = (one.tolist() for one in pairs_of_grid(3, 3))
    known = {(a, b): label for a, b, label in zip(first, second, labels, strict=True)}
    assert all(known[b, a] == 7 - label for (a, b), label in known.items())


def test_labels_of_a_grid_are_as_unbalanced_as_computed() -> None:
    _, _, labels = pairs_of_grid(3, 3)
    assert torch.bincount(labels).tolist() == [4, 6, 4, 6, 6, 4, 6, 4]


def test_patches_of_a_coordinate_image_lie_where_the_label_says() -> None:
    method = made(size=96, **PLAIN)
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    images = ImageBatch.of(torch.stack([x, y, torch.zeros_like(x)]).to(torch.uint8)[None])
    drawn = method.draw(1, torch.Generator().manual_seed(0), 0.0)
    parts = method.views(images, drawn)["patches"]
    first, second, labels = pairs_of_grid(*[math.isqrt(len(parts))] * 2)
    corner = (parts[:, :2, 0, 0] * 255).round()
    moved = (corner[second] - corner[first]) / (method.side + method.gap)
    expected = torch.tensor([[dx, dy] for dy, dx in PLACES])[labels]
    assert torch.equal(moved, expected.float())


@pytest.mark.parametrize("size", [32, 64, 96, 128])
@pytest.mark.parametrize("layout", ["grid", "free", "centre"])
def test_patches_stay_inside_the_image(size: int, layout: str) -> None:
    method = made(size=size, layout=layout)
    for seed in range(20):
        drawn = method.draw(5_000, torch.Generator().manual_seed(seed), 0.0)
        assert int(drawn["at"].min()) >= 0
        assert int(drawn["at"].max()) + method.side <= int(drawn["size"])


def test_the_geometry_is_that_of_the_specification() -> None:
    found = [geometry_of(size) for size in (32, 64, 96, 128)]
    assert found == [(12, 5, 1), (12, 5, 1), (16, 8, 1), (24, 12, 2)]


@pytest.mark.parametrize(
    ("options", "known"), [({}, 0.0), ({"patch": 24}, 0.33), ({"pixelation_p": 1.0}, 1.0)]
)
def test_small_patches_are_not_shrunk(options: dict[str, object], known: float) -> None:
    shrunk = drawn_of(made(96, layout="free", **options), 5_000)["pixelated"].float()
    assert shrunk.mean().item() == pytest.approx(known, abs=0.02)


def test_the_loss_of_a_zero_head_is_the_logarithm_of_eight() -> None:
    method = made()
    torch.nn.init.zeros_(method.head[-1].weight)
    torch.nn.init.zeros_(method.head[-1].bias)
    images = ImageBatch.of(torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8))
    views = method.views(images, method.draw(4, torch.Generator().manual_seed(0), 0.0))
    assert method(views)["loss"].item() == pytest.approx(math.log(8), abs=1e-5)


def test_the_projection_removes_green_against_magenta_and_nothing_else() -> None:
    axis = torch.tensor([-1.0, 2.0, -1.0]).view(3, 1, 1)
    assert project(axis).abs().max() < 1e-6
    other = torch.tensor([1.0, 1.0, 1.0]).view(3, 1, 1)
    assert torch.allclose(project(other), other, atol=1e-6)
    some = torch.rand(2, 3, 4, 4)
    assert torch.allclose(project(project(some)), project(some), atol=1e-6)


def test_dropping_leaves_one_channel_and_noise_of_a_hundredth() -> None:
    method = made(colour_mode="drop", patch_norm=False, pixelation_p=0.0)
    images = ImageBatch.of(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8))
    parts = method.views(images, method.draw(8, torch.Generator().manual_seed(0), 0.0))["patches"]
    spread = parts.std((2, 3)).sort(1).values
    assert (spread[:, :2] < 0.02 * spread[:, 2:]).all()


def test_normalised_patches_have_mean_0_and_root_mean_square_1() -> None:
    method = made()
    images = ImageBatch.of(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8))
    parts = method.views(images, method.draw(8, torch.Generator().manual_seed(0), 0.0))["patches"]
    assert parts.mean((2, 3)).abs().max() < 1e-4
    assert parts.square().mean((1, 2, 3)) == pytest.approx(torch.ones(len(parts)), abs=1e-3)


def test_the_pair_net_has_the_parameters_of_the_released_code() -> None:
    data = DataInfo(64, 387)
    with torch.device("meta"):
        encoder = build("alexnet_context", ContextPrediction.encoder_size(PAPER_IMAGENET[0], data))
        method = ContextPrediction(encoder, PAPER_IMAGENET[0], data)
    parts = (encoder, method.branch, method.head, method)
    found = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert found == [3_747_200, 9_441_280, 50_372_616, 63_561_096]
    each = [sum(p.numel() for p in layer.parameters()) for layer in method.head]
    assert [count for count in each if count] == [33_558_528, 16_781_312, 32_776]


@pytest.mark.parametrize(("affine", "count"), [(False, 266_248), (True, 267_272)])
def test_the_small_head_has_the_parameters_of_the_specification(affine: bool, count: int) -> None:
    encoder = build("resnet10", 12)
    encoder.dim = 256
    method = ContextPrediction(encoder, ContextPredictionOptions(bn_affine=affine), DataInfo(64, 32))
    assert sum(p.numel() for p in method.head.parameters()) == count
    deep = made(96, head="fc", head_hidden=32, bn_affine=affine)
    norms = [m for part in (deep.branch, deep.head) for m in part if isinstance(m, torch.nn.BatchNorm1d)]
    assert [norm.affine for norm in norms] == [affine] * 2


def test_momentum_is_the_papers_and_the_code_has_none() -> None:
    """And a gradient that stays moves as far in the end."""
    (_, paper), (_, code) = PAPER_IMAGENET, CODE_IMAGENET
    assert (paper.momentum, code.momentum) == (0.999, 0.0)
    assert paper.lr / (1 - paper.momentum) == pytest.approx(code.lr)
    assert code.lr == pytest.approx(1e-5 * 2290, rel=0.01)


@pytest.mark.parametrize("options", [{"layout": "free", "grids": 3}, {"grids": 2}, {"head": "fc"}])
def test_every_form_reaches_all_of_its_parameters(options: dict[str, object]) -> None:
    method = made(head_hidden=32, **options)
    images = ImageBatch.of(torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8))
    views = method.views(images, drawn_of(method, 6))
    found = method(views)
    assert views["labels"].shape[1] == {2: 24, 3: 3}.get(options.get("grids", 1), 12)  # type: ignore[arg-type]
    found["loss"].backward()
    assert found["loss"].isfinite()
    assert all(p.grad is not None for p in method.head.parameters())
    assert all(p.grad is not None for p in method.branch.parameters())


def test_around_the_middle_there_is_one_grid() -> None:
    with pytest.raises(UsageError, match="1 around the middle"):
        ContextPredictionOptions(layout="centre", grids=2)


def test_free_places_are_balanced() -> None:
    labels = placed(96, 80_000)["labels"].flatten()
    seen = torch.bincount(labels, minlength=8).double()
    assert ((seen - 10_000).square() / 10_000).sum() < 24.3  # chi-square with 7 degrees of freedom, p = 0.001


def test_around_the_middle_every_place_comes_once_an_image() -> None:
    method = made(96, layout="centre", **PLAIN)
    images = ImageBatch.of(torch.randint(256, (2, 3, 96, 96), dtype=torch.uint8))
    drawn = drawn_of(method, 2)
    views = method.views(images, drawn)
    assert views["labels"].tolist() == [list(range(8))] * 2
    first, second, _ = method._pairs(9)
    assert first.tolist() == [4] * 8
    assert second.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert torch.equal(drawn["at"][0, 4], torch.tensor([40, 40]))


def test_free_pairs_lie_where_their_label_says() -> None:
    method = made(96, layout="free", grids=4, **PLAIN)
    drawn = drawn_of(method, 50)
    at = drawn["at"].unflatten(1, (4, 2))
    assert torch.equal(at[:, :, 1] - at[:, :, 0], torch.tensor(PLACES)[drawn["labels"]] * (16 + 8))


def test_the_gap_varies_by_two_jitters_and_the_jitter_is_uniform() -> None:
    drawn = placed(96, 60_000)
    apart = drawn["at"][:, 1] - drawn["at"][:, 0]
    right = apart[drawn["labels"][:, 0] == 4]
    gaps = torch.bincount(right[:, 1] - 16, minlength=11).double()
    assert gaps[:6].sum() == 0
    law = torch.tensor([1, 2, 3, 2, 1]).double() / 9 * gaps.sum()
    assert ((gaps[6:11] - law).square() / law).sum() < 18.5  # 4 degrees of freedom, p = 0.001
    assert gaps[6:11].sum() == len(right)


@pytest.mark.parametrize(("size", "known"), [(64, 0.281), (96, 0.258), (128, 0.302)])
def test_the_place_of_the_second_patch_alone_tells_as_much_as_was_computed(size: int, known: float) -> None:
    """The best answer from its position: rows and columns are independent, given the direction."""
    drawn = placed(size, 100_000)
    at, labels = drawn["at"][:, 1], drawn["labels"][:, 0]
    sides = torch.tensor(PLACES)[labels]
    law = [
        torch.stack(
            [torch.bincount(at[sides[:, axis] == d, axis], minlength=size).double() for d in (-1, 0, 1)]
        )
        for axis in (0, 1)
    ]
    rows, columns = (one / one.sum(1, keepdim=True) for one in law)
    each = torch.stack([rows[dy + 1][:, None] * columns[dx + 1] for dy, dx in PLACES])
    assert each.amax(0).sum().item() / 8 == pytest.approx(known, abs=0.02)


def test_without_gap_and_jitter_patches_tile_the_window() -> None:
    method = made(96, gap=0, **PLAIN)
    images = ImageBatch.of(torch.randint(256, (1, 3, 96, 96), dtype=torch.uint8))
    drawn = drawn_of(method, 1)
    parts = method.views(images, drawn)["patches"]
    cells = math.isqrt(len(parts))
    window = parts.unflatten(0, (cells, cells)).permute(2, 0, 3, 1, 4).reshape(3, cells * 16, cells * 16)
    y, x = drawn["at"][0, 0].tolist()
    seen = images.image(0)[:, y : y + 16 * cells, x : x + 16 * cells] / 255
    assert torch.allclose(window, seen, atol=1e-6)


def test_any_channel_is_kept_and_each_patch_has_its_own() -> None:
    kept = drawn_of(made(96, layout="free"), 20_000)["kept"]
    shares = torch.bincount(kept.flatten(), minlength=3) / kept.numel()
    assert shares == pytest.approx(torch.full((3,), 1 / 3), abs=0.02)
    both = torch.bincount(3 * kept[:, 0] + kept[:, 1], minlength=9) / len(kept)
    assert both == pytest.approx(torch.full((9,), 1 / 9), abs=0.01)


def test_uniform_noise_lies_within_half_a_level() -> None:
    method = made(colour_mode="drop", drop_noise="uniform", patch_norm=False, pixelation_p=0.0)
    images = ImageBatch.of(torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8))
    drawn = drawn_of(method, 8)
    parts = method.views(images, drawn)["patches"]
    channels = torch.arange(3).view(1, 3, 1, 1)
    noise = (parts - 0.5)[(channels != drawn["kept"].view(-1, 1, 1, 1)).expand_as(parts)] * 255
    assert noise.abs().max() <= 0.5
    assert noise.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.01)
    assert noise.mean().abs() < 0.01


def test_a_constant_patch_becomes_zero_and_the_paper_leaves_contrast() -> None:
    method = made(colour_mode="none", pixelation_p=0.0)
    assert (method._normalised(torch.full((2, 3, 12, 12), 0.5)) == 0).all()
    paper = made(patch_contrast=False)
    parts = torch.rand(4, 3, 12, 12)
    assert torch.allclose(paper._normalised(parts), parts - parts.mean((2, 3), keepdim=True))
    assert (PAPER_IMAGENET[0].patch_contrast, CODE_IMAGENET[0].patch_contrast) == (False, True)


def test_the_projection_is_the_papers_matrix() -> None:
    matrix = project(torch.eye(3)[..., None, None])[..., 0, 0].T
    assert torch.allclose(matrix * 6, torch.tensor([[5.0, 2, -1], [2, 2, 2], [-1, 2, 5]]), atol=1e-6)
    assert torch.linalg.matrix_rank(matrix) == 2


def test_both_patches_go_through_one_encoder() -> None:
    method = made(96, layout="free").eval().double()
    images = ImageBatch.of(torch.randint(256, (3, 3, 96, 96), dtype=torch.uint8))
    patches = method.views(images, drawn_of(method, 3))["patches"].double()
    together = method.seen(patches)
    for slot in (0, 1):
        assert torch.allclose(together[slot::2], method.seen(patches[slot::2]), atol=1e-6)


# Planted shortcuts (specification 2.10, T9 and T11).


def test_a_lens_tells_the_place_of_a_patch_until_channels_are_dropped() -> None:
    """Green magnified by 0.97: its shift against red in a patch follows the patch's place."""
    images = ImageBatch.of((seen_by_a_lens(200, 96) * 255).round().byte())
    found = {}
    for mode in ("none", "projection", "drop"):
        method = made(96, layout="free", patch_norm=False, pixelation_p=0.0, colour_mode=mode)
        drawn = drawn_of(method, 200)
        parts = method.views(images, drawn)["patches"]
        if mode == "projection":
            assert torch.allclose(parts, parts[:, :1].expand_as(parts), atol=1e-6)
            continue
        red, green = parts[:, 0], parts[:, 1]
        slopes = torch.stack([red[:, 2:, 1:-1] - red[:, :-2, 1:-1], red[:, 1:-1, 2:] - red[:, 1:-1, :-2]], -1)
        change = (green - red)[:, 1:-1, 1:-1].flatten(1)[..., None]
        shift = torch.linalg.lstsq(slopes.flatten(1, 2).double() / 2, change.double()).solution[..., 0]
        both = torch.stack([shift.T.flatten(), drawn["at"].flatten(0, 1).T.double().flatten()])
        found[mode] = torch.corrcoef(both)[0, 1].abs().item()
    assert found["none"] > 0.9
    assert found["drop"] < 0.1


def test_lines_that_go_on_tell_the_side_until_there_is_a_gap(record_property: Record) -> None:
    coarse = torch.rand(400, 3, 33, 33, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, (96, 96), mode="bicubic", align_corners=True).clamp(0, 1)
    images = ImageBatch.of((smooth * 255).round().byte())

    def solved(**options: object) -> float:
        method = made(96, layout="free", **(PLAIN | options))
        drawn = drawn_of(method, 400)
        first, second = method.views(images, drawn)["patches"].unflatten(0, (400, 2)).unbind(1)
        edges = ((1, first[..., 0, :], second[..., -1, :]), (3, first[..., 0], second[..., -1]),
                 (4, first[..., -1], second[..., 0]), (6, first[..., -1, :], second[..., 0, :]))  # fmt: skip
        apart = torch.stack([(a - b).abs().mean((1, 2)) for _, a, b in edges], 1)
        named = torch.tensor([label for label, _, _ in edges])[apart.argmin(1)]
        sides = torch.isin(drawn["labels"][:, 0], torch.tensor([1, 3, 4, 6]))
        return (named == drawn["labels"][:, 0])[sides].float().mean().item()

    touching, apart = solved(gap=0), solved(jitter=1)
    record_property("lines name the side", f"{touching:.3f} without a gap, {apart:.3f} with one")
    assert touching > 0.9
    assert apart < 0.5


# Small nets that are trained on images without content (specification 2.10, T9, T10 and T13).


def trained(method: ContextPrediction, images: Tensor, steps: int, blank: bool = False) -> float:
    """Accuracy on the last quarter of the images (N, 3, 96, 96) after `steps` on the others, 32 images each.

    `blank`: the first patch of every pair is black.
    """
    batch = ImageBatch.of((images * 255).round().byte())
    known = 3 * len(images) // 4

    def views(rows: Tensor, seed: int) -> dict[str, Tensor]:
        found = method.views(batch.take(rows), drawn_of(method, len(rows), seed))
        if blank:
            found["patches"][0::2] = 0
        return found

    optimizer = torch.optim.AdamW(method.parameters(), 5e-3)
    for step in range(steps):
        update(method, optimizer, views(torch.randint(known, (32,)), step))
    return method.eval().held_out(views(torch.arange(known, len(images)), steps))["accuracy"]


def small(**options: object) -> ContextPrediction:
    torch.manual_seed(0)
    chosen = ContextPredictionOptions(layout="free", grids=4, head_hidden=64, **options)  # type: ignore[arg-type]
    return ContextPrediction(TinyNet(), chosen, DataInfo(600, 96))


@pytest.mark.slow
def test_a_lens_is_learnt_until_channels_are_dropped() -> None:
    images = seen_by_a_lens(800, 96)
    error = math.sqrt(0.125 * 0.875 / 800)
    assert trained(small(colour_mode="none"), images, 60) > 0.125 + 6 * error
    assert trained(small(colour_mode="drop"), images, 60) == pytest.approx(0.125, abs=3 * error)


@pytest.mark.slow
def test_the_second_patch_alone_tells_no_more_than_its_place(record_property: Record) -> None:
    """Coordinates as colours: both patches name the place, the second alone no more often than was computed (2.8)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 96), indexing="ij")
    images = torch.stack([x, y, torch.zeros_like(x)]).expand(400, 3, 96, 96)
    bare = {"colour_mode": "none", "patch_norm": False}
    method = small(**bare)
    accuracy = trained(method, images, 60)
    anchor_blank_accuracy = trained(small(**bare), images, 60, blank=True)
    record_property("accuracy", f"{accuracy:.3f}, {anchor_blank_accuracy:.3f} with the first patch blank")
    assert anchor_blank_accuracy < 0.258 + 3 * math.sqrt(0.258 * 0.742 / 400)
    assert accuracy > 0.9
    views = method.views(ImageBatch.of((images[:64] * 255).byte()), drawn_of(method, 64))
    with torch.no_grad():
        pairs = method.seen(views["patches"]).unflatten(0, (-1, 2)).flatten(1)
        joint = method.head[:3](pairs)
        shares = method.head[3](joint).softmax(1)
    assert joint.var(0).mean() > 1e-4, "the joint layer collapsed"
    assert -(shares * shares.log()).sum(1).mean() < 0.9 * math.log(8)
