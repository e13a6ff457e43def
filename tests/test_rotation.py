"""Rotation: exact turns and their layout, the loss, what cannot be learnt and what can, attention maps."""

import math

import pytest
import torch
from torch import Tensor

from nolabel import seeds
from nolabel.data.batch import ImageBatch
from nolabel.encoders import base as encoders
from nolabel.encoders.base import Encoder
from nolabel.errors import UsageError
from nolabel.methods.base import DataInfo
from nolabel.methods.rotation import (
    CODE_CIFAR10,
    CODE_IMAGENET,
    PAPER_CIFAR10,
    PAPER_IMAGENET,
    Rotation,
    RotationOptions,
    attention,
    hidden_layers,
    rotation_loss,
)
from nolabel.training.schedule import rate
from small import TinyNet, smooth_images


def rotation(size: int = 32, encoder: Encoder | None = None, **options) -> Rotation:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fixed = {"sizes": (1.0,), "size_changes": ()}
        return Rotation(encoder or TinyNet(), RotationOptions(**fixed | options), DataInfo(64, size))


def noise(n: int, *path: str | int, side: int = 32) -> ImageBatch:
    generator = seeds.generator(0, "noise", *path)
    return ImageBatch.of(torch.randint(256, (n, 3, side, side), generator=generator, dtype=torch.uint8))


def quarter(images: Tensor, k: int) -> Tensor:
    return rotation().turned(images, torch.full((len(images),), k))


def test_turns_are_exact_and_form_a_group() -> None:
    images = torch.rand(2, 3, 32, 32)
    for k in range(4):
        assert torch.equal(quarter(images, k), torch.rot90(images, k, (2, 3)))
        assert torch.equal(quarter(images, k).flip(3), quarter(images.flip(3), (4 - k) % 4))
    assert torch.equal(quarter(quarter(images, 1), 3), images)
    assert torch.equal(quarter(quarter(images, 1), 1), quarter(images, 2))
    assert torch.equal(quarter(quarter(images, 2), 2), images)


def test_index_form_of_the_turns() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3).expand(1, 3, 3, 3)
    for i in range(3):
        for j in range(3):
            assert quarter(image, 1)[0, 0, i, j] == image[0, 0, j, 2 - i]
            assert quarter(image, 2)[0, 0, i, j] == image[0, 0, 2 - i, 2 - j]
            assert quarter(image, 3)[0, 0, i, j] == image[0, 0, 2 - j, i]


@pytest.mark.parametrize("options", [{}, {"crop": "resized"}, {"colour_jitter": 0.5, "grey_p": 0.5}])
def test_the_four_copies_are_adjacent_and_one_augmented_image(options: dict) -> None:
    method = rotation(**options)
    views = method.views(smooth_images(2), method.draw(2, seeds.generator(0), 0.0))
    assert views["labels"].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert views["images"].shape == (8, 3, 32, 32)
    for b in range(2):
        for k in range(4):
            undone = torch.rot90(views["images"][4 * b + k], -k, (1, 2))
            assert torch.equal(undone, views["images"][4 * b])


def test_without_crop_and_flip_the_first_copy_is_the_image() -> None:
    method, images = rotation(crop_pad=0, flip_p=0), noise(3)
    views = method.views(images, method.draw(3, seeds.generator(0), 0.0))["images"]
    torch.testing.assert_close(views[4], images.image(1) / 255)


def test_images_grow_along_the_run() -> None:
    method, images = rotation(sizes=(0.5, 0.75, 1.0), size_changes=(0.5, 0.8)), noise(2)
    drawn = [method.draw(2, seeds.generator(0), progress) for progress in (0.0, 0.49, 0.5, 0.79, 0.8, 0.99)]
    assert [method.views(images, d)["images"].shape[-1] for d in drawn] == [16, 16, 24, 24, 32, 32]


def test_padded_crop_shifts_by_at_most_the_pad_in_proportion_to_the_size() -> None:
    method = rotation(flip_p=0, pad_mode="zero", turns_per_image=1, turns="two_0_180")
    white = ImageBatch.of(torch.full((200, 3, 32, 32), 255, dtype=torch.uint8))
    views = method.views(white, method.draw(200, seeds.generator(0), 0.0))["images"]
    lost = (views[:, 0].amax(2) == 0).sum(1)
    assert lost.unique().tolist() == [0, 1, 2, 3, 4]
    reflected = rotation(flip_p=0)
    assert reflected.views(white, reflected.draw(200, seeds.generator(0), 0.0))["images"].min() == 1


@pytest.mark.parametrize(("turns", "angles"), [("two_0_180", (0, 2)), ("two_90_270", (1, 3))])
def test_two_turns(turns: str, angles: tuple[int, int]) -> None:
    method, images = rotation(turns=turns, crop_pad=0, flip_p=0), noise(2)
    views = method.views(images, method.draw(2, seeds.generator(0), 0.0))
    assert views["labels"].tolist() == [0, 1, 0, 1]
    for copy, k in enumerate(angles):
        torch.testing.assert_close(views["images"][copy], torch.rot90(images.image(0) / 255, k, (1, 2)))
    assert method(views)["loss"].isfinite()


def test_eight_turns_keep_the_quarters_exact() -> None:
    method, images = rotation(turns="eight", turns_per_image=8, crop_pad=0, flip_p=0), noise(2)
    views = method.views(images, method.draw(2, seeds.generator(0), 0.0))["images"].unflatten(0, (2, 8))
    for k in range(4):
        torch.testing.assert_close(views[0, 2 * k], torch.rot90(images.image(0) / 255, k, (1, 2)))
        torch.testing.assert_close(
            views[0, 2 * k + 1], torch.rot90(views[0, 1], k, (1, 2)), rtol=0, atol=1e-4
        )
    assert not torch.equal(views[0, 0], views[0, 1])


@pytest.mark.parametrize("copies", [1, 2])
def test_fewer_turns_than_four_are_distinct_and_uniform(copies: int) -> None:
    method = rotation(turns_per_image=copies)
    labels = method.draw(4000, seeds.generator(0), 0.0)["labels"]
    assert labels.shape == (4000, copies)
    assert copies == 1 or (labels[:, 0] < labels[:, 1]).all()
    share = labels.flatten().bincount(minlength=4) / labels.numel()
    assert (share - 0.25).abs().max() < 4 * math.sqrt(0.25 * 0.75 / labels.numel())


def test_loss_values() -> None:
    labels = torch.arange(4).repeat(3)
    assert rotation_loss(torch.zeros(12, 4), labels).item() == pytest.approx(1.386294, abs=1e-6)
    certain = 10 * torch.nn.functional.one_hot(labels).double()
    assert torch.nn.functional.cross_entropy(certain, labels).item() == pytest.approx(1.361905e-4, abs=1e-9)
    assert rotation_loss(certain, labels).item() == pytest.approx(1.361905e-4, abs=1e-7)
    logits = torch.randn(12, 4)
    per_image = [rotation_loss(logits[4 * b : 4 * b + 4], labels[:4]) for b in range(3)]
    torch.testing.assert_close(rotation_loss(logits, labels), torch.stack(per_image).mean())


def test_images_that_look_the_same_under_all_turns_cannot_be_solved() -> None:
    """A constant image: at best a uniform guess (Jensen), and always the same answer for the four turns."""
    method = rotation().eval()
    colours = torch.randint(256, (5, 3, 1, 1), dtype=torch.uint8).expand(-1, -1, 32, 32)
    found = method.held_out(method.views(ImageBatch.of(colours), method.draw(5, seeds.generator(0), 0.0)))
    assert found["loss"] >= math.log(4)
    assert found["accuracy"] == 0.25


def test_attention_lights_the_cell_that_is_not_zero() -> None:
    features = torch.zeros(1, 6, 4, 4)
    features[0, 2, 1, 3] = -5.0
    heat = attention(features, 2, 32)
    assert heat.shape == (1, 32, 32)
    assert 0.9 < heat.max() <= 1
    assert heat[0].argmax() // 32 in range(8, 16)
    assert heat[0].argmax() % 32 in range(24, 32)
    far = torch.ones(32, 32, dtype=torch.bool)
    far[4:20, 20:] = False
    assert heat[0][far].max() == 0
    assert attention(features, 2, 4).nonzero().tolist() == [[0, 1, 3]]
    assert attention(torch.zeros(1, 6, 4, 4), 1, 8).max() == 0


def test_a_higher_power_sharpens_attention() -> None:
    features = torch.rand(2, 16, 8, 8)
    assert (
        attention(features, 4, 8).mean() < attention(features, 2, 8).mean() < attention(features, 1, 8).mean()
    )


@pytest.mark.parametrize(
    ("setting", "epochs", "rates"),
    [
        (PAPER_CIFAR10, 100, {0: 0.1, 29: 0.1, 30: 0.02, 59: 0.02, 60: 0.004, 80: 0.0008, 99: 0.0008}),
        (CODE_CIFAR10, 200, {0: 0.1, 59: 0.1, 60: 0.02, 119: 0.02, 120: 0.004, 160: 0.0008}),
        (PAPER_IMAGENET, 30, {0: 0.01, 9: 0.01, 10: 0.001, 19: 0.001, 20: 0.0001}),
        (CODE_IMAGENET, 50, {0: 0.01, 14: 0.01, 15: 0.001, 30: 0.0001, 44: 0.0001, 45: 0.00001}),
    ],
)
def test_schedules_of_paper_and_code(setting: tuple, epochs: int, rates: dict[int, float]) -> None:
    recipe = setting[1]
    assert recipe.epochs == epochs
    assert {epoch: rate(epoch, epochs, recipe) for epoch in rates} == pytest.approx(rates)
    assert (recipe.momentum, recipe.weight_decay, recipe.decay_norm_bias) == (0.9, 5e-4, True)
    assert recipe.nesterov == (setting in (CODE_CIFAR10, CODE_IMAGENET))


def test_paper_settings_keep_the_size() -> None:
    method = Rotation(TinyNet(), PAPER_CIFAR10[0], DataInfo(64, 32))
    assert method.views(noise(2), method.draw(2, seeds.generator(0), 0.0))["images"].shape == (8, 3, 32, 32)
    assert PAPER_IMAGENET[0].crop == "resized"


def parameters(method: Rotation) -> int:
    return sum(parameter.numel() for parameter in method.parameters())


@pytest.mark.parametrize(("blocks", "total"), [(3, 1_004_484), (4, 1_411_140), (5, 1_817_796)])
def test_parameters_of_the_nin_form(blocks: int, total: int) -> None:
    for name in (f"nin{blocks}", f"nin{blocks}avg") if blocks > 3 else ("nin3",):
        with torch.device("meta"):
            method = Rotation(encoders.build(name, 32), PAPER_CIFAR10[0], DataInfo(64, 32))
            maps = method.encoder.maps(torch.zeros(1, 3, 32, 32))
        assert parameters(method) == total
        last = 4 if "avg" in name else 8
        assert [m.shape[-1] for m in maps.values()] == [16, 8, *[last] * (blocks - 2)]


@pytest.mark.parametrize(("name", "total"), [("nin4half", 357_668), ("nin4third", 161_102)])
def test_parameters_of_the_narrow_nin(name: str, total: int) -> None:
    with torch.device("meta"):
        assert parameters(Rotation(encoders.build(name, 32), RotationOptions(), DataInfo(64, 32))) == total


def test_parameters_of_the_alexnet_form() -> None:
    with torch.device("meta"):
        method = Rotation(encoders.build("alexnet", 224), PAPER_IMAGENET[0], DataInfo(64, 224))
        logits = method.answers(torch.zeros(2, 3, 224, 224))
    assert parameters(method) == 57_030_724
    assert logits.shape == (2, 4)


def test_the_pool_of_the_alexnet_form_is_the_papers() -> None:
    maps = torch.rand(2, 5, 13, 13)
    pooled = torch.nn.functional.max_pool2d(maps, 3, 2)
    assert torch.equal(hidden_layers(5, 4)[0](maps), pooled)
    assert pooled.shape[-1] == 6


def test_border_crop_leaves_a_frame_out() -> None:
    pixels = torch.zeros(3, 40, 50, dtype=torch.uint8)
    pixels[:, 4:-4, 4:-4] = 255
    images = ImageBatch.of([pixels] * 20)
    for crop in ("padded", "resized"):
        method = rotation(border_crop=0.1, crop=crop, crop_pad=0)
        assert method.views(images, method.draw(20, seeds.generator(0), 0.0))["images"].min() > 0.999
        method = rotation(crop=crop, crop_pad=0)
        assert method.views(images, method.draw(20, seeds.generator(0), 0.0))["images"].min() < 0.5


def test_masked_corners_are_black_under_all_turns() -> None:
    white = ImageBatch.of(torch.full((2, 3, 32, 32), 255, dtype=torch.uint8))
    method = rotation(mask_corners=True, crop_pad=0)
    views = method.views(white, method.draw(2, seeds.generator(0), 0.0))["images"]
    assert torch.equal(views, views[:1].expand_as(views))
    assert views[0, 0, 0, 0] == 0
    assert views[0, 0, 0, 16] == views[0, 0, 16, 31] == views[0, 0, 16, 16] == 1
    assert views.mean().item() == pytest.approx(math.pi / 4, abs=0.01)


def test_blur_and_compression_change_little_and_alike() -> None:
    plain = rotation(crop_pad=0, flip_p=0)
    images = smooth_images(3)
    sharp = plain.views(images, plain.draw(3, seeds.generator(0), 0.0))["images"]
    for options in ({"blur_p": 1.0}, {"jpeg_p": 1.0}):
        method = rotation(crop_pad=0, flip_p=0, **options)
        views = method.views(images, method.draw(3, seeds.generator(0), 0.0))["images"]
        assert 1e-4 < (views - sharp).abs().mean() < 0.05
        undone = torch.rot90(views[4:8:2][1], -2, (1, 2))
        assert (undone - views[4]).abs().mean() < 0.05


@pytest.mark.parametrize("wrong", [{"border_crop": 0.5}, {"turns_per_image": 0}, {"sizes": (1.0, 2.0)}])
def test_options_out_of_range_are_refused_in_one_sentence(wrong: dict) -> None:
    with pytest.raises(UsageError) as error:
        RotationOptions(**wrong)
    assert str(error.value).endswith(".")


def test_undecided_images_are_counted() -> None:
    method = rotation().eval()
    views = method.views(noise(6), method.draw(6, seeds.generator(0), 0.0))
    torch.nn.init.zeros_(method.head.weight)
    torch.nn.init.zeros_(method.head.bias)
    assert method.held_out(views)["undecided"] == 1
    torch.nn.init.constant_(method.head.bias[0], 30.0)
    found = method.held_out(views)
    assert found["accuracy"] == 0.25
    assert found["loss"] == pytest.approx(22.5)


@pytest.mark.parametrize(
    ("turns", "count"), [("two_0_180", 2), ("two_90_270", 2), ("quarter", 4), ("eight", 8)]
)
def test_guessing_follows_the_number_of_turns(turns: str, count: int) -> None:
    """The first image has the loss of a guess, the second one that shows a clear answer, whatever K is."""
    method = rotation(turns=turns, turns_per_image=count).eval()
    assert method.chance == 1 / count
    assert method.chance_loss(2) == pytest.approx(math.log(count))
    labels = torch.arange(count).repeat(2)
    logits = torch.zeros(2 * count, count)
    logits[count:] = 2 * torch.nn.functional.one_hot(labels[count:], count)
    method.answers = lambda images: logits  # type: ignore[method-assign]
    assert method.held_out({"images": logits, "labels": labels})["undecided"] == 0.5


@pytest.mark.parametrize("trained", [False, True])
def test_panel_shows_answers_only_of_a_trained_net(trained: bool) -> None:
    method = rotation().train()
    figure = method.panel(smooth_images(2), seeds.generator(0), trained=trained)
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert len(figure.axes) == (8 + 3 * 4 if trained else 8)
    heights = [axis.get_ylabel().splitlines()[-1] for axis in figure.axes if axis.get_ylabel()]
    assert heights == (["early stage", "middle stage", "late stage"] if trained else [])
    assert sum("%" in label for label in labels) == (8 if trained else 0)
    assert method.training


def train(method: Rotation, steps: int, batch, lr: float = 2e-3) -> None:
    optimizer = torch.optim.AdamW(method.parameters(), lr)
    for step in range(steps):
        images = batch(step)
        views = method.views(images, method.draw(images.size, seeds.generator(0, "views", step), 0.0))
        optimizer.zero_grad()
        method(views)["loss"].backward()
        optimizer.step()


@pytest.mark.slow
@pytest.mark.parametrize("pad_mode", ["zero", "reflect"])
def test_nothing_but_content_gives_the_turn_away(pad_mode: str) -> None:
    """After 200 steps on noise, turns of fresh noise are named by chance only (99.9 % band)."""
    method = rotation(16, encoders.build("resnet10", 16), pad_mode=pad_mode)
    train(method, 200, lambda step: noise(16, step, side=16))
    method.eval()
    fresh = noise(500, "fresh", side=16)
    accuracy = method.held_out(method.views(fresh, method.draw(500, seeds.generator(1), 0.0)))["accuracy"]
    # The four copies of an image are not independent, so the band is that of 500 draws, not of 2,000.
    assert abs(accuracy - 0.25) < 3.29 * math.sqrt(0.25 * 0.75 / 500)


@pytest.mark.slow
def test_sixteen_images_are_learnt_by_heart() -> None:
    method, images = rotation(32, encoders.build("resnet10", 32), crop_pad=0, flip_p=0), smooth_images(16)
    train(method, 60, lambda step: images)
    views = method.views(images, method.draw(16, seeds.generator(0), 0.0))
    assert method(views)["accuracy"] == 1
