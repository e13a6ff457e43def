"""Crops, flips, turns and rotations against torchvision and against their definitions, eager and compiled."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from nolabel import seeds
from nolabel.data.batch import ImageBatch
from nolabel.views import geometry, plain

SIZES = [(32, 32), (1, 1), (1, 50), (70, 9), (200, 131), (48, 64), (2, 2), (33, 17)]


@pytest.fixture(params=["0", "1"], ids=["eager", "compiled"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOLABEL_KERNELS", request.param)


def noise_images(sizes: list[tuple[int, int]], seed: int = 0) -> list[torch.Tensor]:
    g = seeds.generator(seed, "images")
    return [torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=g) for h, w in sizes]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_batch_lies_where_its_images_lie_and_a_stack_is_read_as_a_list(device: str) -> None:
    images = torch.stack(noise_images([(5, 7)] * 3)).to(device)
    stack, one_by_one = ImageBatch.of(images), ImageBatch.of(list(images))
    for field, other in zip(stack, one_by_one, strict=True):
        assert field.device.type == other.device.type == device
        assert device == "meta" or field.equal(other)


@pytest.mark.parametrize("size", [1, 7, 32, 150, (5, 40), (64, 24)])
def test_crop_resize_is_torchvisions_resized_crop_and_flip(size: int | tuple[int, int], form: None) -> None:
    images = noise_images(SIZES * 2)
    batch = ImageBatch.of(images)
    g = seeds.generator(0, "crop")
    boxes = geometry.boxes(geometry.draw_crop(batch.size, g, area=(0.01, 1.0)), batch.heights, batch.widths)
    flip = geometry.draw_flip(batch.size, g)["flip"]
    got = geometry.crop_resize(batch, boxes, size, flip)
    for image, box, mirrored, result in zip(images, boxes.tolist(), flip, got, strict=True):
        want = tv.resized_crop(image / 255, *box, size=[size, size] if isinstance(size, int) else list(size))
        torch.testing.assert_close(result, tv.hflip(want) if mirrored else want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 7, 32, 150, (5, 40), (64, 24)])
def test_bicubic_crops_are_torchvisions_clipped(size: int | tuple[int, int], form: None) -> None:
    images = noise_images(SIZES * 2)
    batch = ImageBatch.of(images)
    g = seeds.generator(0, "crop")
    boxes = geometry.boxes(geometry.draw_crop(batch.size, g, area=(0.01, 1.0)), batch.heights, batch.widths)
    flip = geometry.draw_flip(batch.size, g)["flip"]
    got = geometry.crop_resize(batch, boxes, size, flip, cubic=True)
    last = geometry.crop_resize(batch, boxes, size, flip, torch.channels_last, cubic=True)
    torch.testing.assert_close(last, got)
    sides = (size, size) if isinstance(size, int) else size
    for image, box, mirrored, result in zip(images, boxes.tolist(), flip, got, strict=True):
        cut = tv.crop(image / 255, *box)
        lying = sides[1] == 1  # torch 2.14 repeats the first row down a result that is one pixel wide
        shape, cut = (sides[::-1], cut.mT.contiguous()) if lying else (sides, cut)
        want = tv.resize(cut, list(shape), InterpolationMode.BICUBIC, antialias=True).clamp(0, 1)
        want = want.mT if lying else want
        torch.testing.assert_close(result, tv.hflip(want) if mirrored else want, atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_box_of_any_image_at_any_size(data: st.DataObject, form: None) -> None:
    h, w = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    box_h, box_w = data.draw(st.integers(1, h)), data.draw(st.integers(1, w))
    top, left = data.draw(st.integers(0, h - box_h)), data.draw(st.integers(0, w - box_w))
    size = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 70))
    (image,) = noise_images([(h, w)], seed=h * w)
    got = geometry.crop_resize(ImageBatch.of([image]), torch.tensor([[top, left, box_h, box_w]]), size)[0]
    cut = image[:, top : top + box_h, left : left + box_w] / 255
    if (
        size[1] == 1
    ):  # torch 2.14 repeats the first row down a result that is one pixel wide: ask for one lying down
        want = tv.resize(cut.mT.contiguous(), list(size[::-1])).mT
    else:
        want = tv.resize(cut, list(size))
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_images_are_read_as_float32_whatever_torchs_default_is(form: None) -> None:
    batch = ImageBatch.of(noise_images(SIZES))
    want = plain.whole(batch, 16)
    torch.set_default_dtype(torch.float64)
    try:
        got = plain.whole(batch, 16)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)


def test_images_at_other_places_of_the_packed_bytes_are_read_alike(form: None) -> None:
    batch = ImageBatch.of(noise_images(SIZES))
    shifted = batch._replace(pixels=torch.cat([torch.zeros(7, dtype=torch.uint8), batch.pixels]),
                             offsets=batch.offsets + 7)  # fmt: skip
    boxes = geometry.centre_boxes(batch.heights, batch.widths)
    assert geometry.crop_resize(shifted, boxes, 16).equal(geometry.crop_resize(batch, boxes, 16))


def test_a_crop_at_its_own_size_and_channels_last_are_exact(form: None) -> None:
    (image,) = noise_images([(40, 40)])
    batch, box = ImageBatch.of([image]), torch.tensor([[3, 5, 20, 20]])
    got = geometry.crop_resize(batch, box, 20)
    assert got[0].equal(image[:, 3:23, 5:25] / 255)
    last = geometry.crop_resize(batch, box, 20, memory_format=torch.channels_last)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert last.equal(got)


def test_whole_is_resize_and_centre_crop_and_exact_at_the_same_size(form: None) -> None:
    images = noise_images(SIZES)
    for size in (5, 32, 49):
        got = plain.whole(ImageBatch.of(images), size)
        for image, result in zip(images, got, strict=True):
            want = tv.center_crop(tv.resize(image / 255, [size]), [size])
            torch.testing.assert_close(result, want, atol=1e-5, rtol=0)
    assert plain.whole(ImageBatch.of(images[:1]), 32)[0].equal(images[0] / 255)


def test_full_is_resize_with_the_aspect_kept(form: None) -> None:
    images = noise_images([*SIZES, (32, 32)])
    for image, result in zip(images, plain.full(ImageBatch.of(images), 20), strict=True):
        torch.testing.assert_close(result, tv.resize(image / 255, [20]), atol=1e-5, rtol=0)


def test_boxes_follow_torchvisions_rules_trial_by_trial() -> None:
    sizes = [(32, 32), (1, 1), (300, 20), (20, 300), (7, 200), (100, 133), (3, 2)] * 50
    heights, widths = torch.tensor(sizes).unbind(1)
    drawn = geometry.draw_crop(len(sizes), seeds.generator(1, "crop"), area=(0.3, 1.0))
    boxes = geometry.boxes(drawn, heights, widths)
    for i, (height, width) in enumerate(sizes):
        trials = torch.stack([drawn["crop_area"][i], drawn["crop_log_aspect"][i]], 1).tolist()
        for share, log_aspect in trials:
            area, aspect = share * height * width, math.exp(log_aspect)
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                row, column = drawn["crop_place"][i].tolist()
                want = [int(row * (height - h + 1)), int(column * (width - w + 1)), h, w]
                break
        else:
            # An area that no trial can have makes torchvision take its fallback, which draws nothing.
            want = RandomResizedCrop.get_params(torch.empty(3, height, width), [9.0, 9.0], [3 / 4, 4 / 3])
        assert boxes[i].tolist() == list(want), (height, width)


def test_the_central_crop_is_taken_where_no_trial_fits() -> None:
    drawn = geometry.draw_crop(4, seeds.generator(0, "crop"), area=(4.0, 4.0))
    sides = torch.tensor([[30, 30], [10, 100], [100, 10], [40, 50]])
    boxes = geometry.boxes(drawn, *sides.unbind(1))
    assert boxes.tolist() == [[0, 0, 30, 30], [0, 43, 10, 13], [43, 0, 13, 10], [0, 0, 40, 50]]


def test_areas_aspects_and_places_are_distributed_as_simclr_says() -> None:
    n, side, low, high = 100_000, 224, 0.08, 1.0
    drawn = geometry.draw_crop(n, seeds.generator(2, "crop"), area=(low, high))
    sides = torch.full((n,), side)
    top, left, h, w = geometry.boxes(drawn, sides, sides).double().unbind(1)
    area, aspect = h * w / side**2, w / h
    assert area.min() > low - 0.01
    assert area.max() <= 1
    # A crop of area a fits if |log aspect| <= -log a: all up to 3/4, above it the fewer the larger.
    edges = torch.linspace(low, high, 24, dtype=torch.float64)
    fine = torch.linspace(low, high, 23 * 1000 + 1, dtype=torch.float64)
    fits = (-fine.log() / math.log(4 / 3)).clamp(max=1)
    expected = fits[:-1].view(23, 1000).mean(1)
    counts = torch.histogram(area.clamp(low, high), edges).hist
    expected = expected / expected.sum() * n
    assert ((counts - expected).abs() < 5 * expected.sqrt() + 0.02 * expected + 5).all()
    assert abs(area.mean() - (fits * fine).sum() / fits.sum()) < 0.005
    assert aspect.min() > 3 / 4 - 0.02
    assert aspect.max() < 4 / 3 + 0.02
    small = area < 0.5
    assert chisquare(torch.histc(aspect[small].log(), 9, -0.28, 0.28).numpy()).pvalue > 1e-4
    for start, extent in (top, h), (left, w):
        room = side - extent
        place = ((start + 0.5) / (room + 1))[room > 60]
        assert chisquare(torch.histc(place, 6, 0, 1).numpy()).pvalue > 1e-4


def test_flips_come_with_their_probability() -> None:
    n = 100_000
    share = geometry.draw_flip(n, seeds.generator(3, "flip"))["flip"].double().mean()
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / n)


def test_flip_mirrors_the_drawn_images_only() -> None:
    images = torch.rand(4, 3, 5, 6)
    got = geometry.flip(images, {"flip": torch.tensor([True, False, True, False])})
    assert got[::2].equal(tv.hflip(images[::2]))
    assert got[1::2].equal(images[1::2])


def test_turns_are_rot90_and_compose() -> None:
    images = torch.rand(4, 3, 7, 7)
    k = torch.tensor([0, 1, 2, 3])
    turned = geometry.turn(images, k)
    for quarter in range(4):
        assert turned[quarter].equal(images[quarter].rot90(quarter, (1, 2)))
    assert turned[1, :, 2, 3].equal(images[1, :, 3, 7 - 1 - 2])
    assert geometry.turn(turned, -k).equal(images)
    one = torch.ones(4, dtype=torch.int64)
    assert geometry.turn(geometry.turn(images, one), one).equal(geometry.turn(images, 2 * one))
    assert geometry.turn(geometry.turn(images, 2 * one), 2 * one).equal(images)
    assert geometry.turn(images, k).flip(-1).equal(geometry.turn(images.flip(-1), (4 - k) % 4))


def test_all_turns_stand_side_by_side_and_undo_to_the_same_image() -> None:
    images = torch.rand(2, 3, 6, 6)
    turned = geometry.all_turns(images)
    k = torch.arange(4).repeat(2)
    assert turned.equal(geometry.turn(images.repeat_interleave(4, 0), k))
    assert geometry.turn(turned, -k).equal(images.repeat_interleave(4, 0))


def test_drawn_turns_are_uniform_over_the_choices() -> None:
    k = geometry.draw_turn(30_000, seeds.generator(4, "turn"), choices=(1, 2, 3))["turn"]
    assert chisquare(k.bincount()[1:].numpy()).pvalue > 1e-4
    assert k.unique().tolist() == [1, 2, 3]


@pytest.mark.parametrize(("mode", "name"), [("zero", "constant"), ("reflect", "reflect")])
def test_pad_crop_is_pad_then_crop(mode: str, name: str) -> None:
    images = torch.rand(60, 3, 9, 12)
    drawn = geometry.draw_pad_crop(60, seeds.generator(5, "pad"))
    got = geometry.pad_crop(images, drawn, 4, mode)  # pyright: ignore[reportArgumentType]
    for image, (row, column), result in zip(images, drawn["pad_place"].tolist(), got, strict=True):
        padded = tv.pad(image, [4], padding_mode=name)
        assert result.equal(tv.crop(padded, int(row * 9), int(column * 9), 9, 12))
    middle = {"pad_place": torch.full((60, 2), 0.5)}
    assert geometry.pad_crop(images, middle, 4, mode).equal(images)  # pyright: ignore[reportArgumentType]


def test_padded_crops_reach_every_place_equally() -> None:
    drawn = geometry.draw_pad_crop(81 * 500, seeds.generator(6, "pad"))
    row, column = (drawn["pad_place"] * 9).long().unbind(1)
    assert chisquare((row * 9 + column).bincount(minlength=81).numpy()).pvalue > 1e-4


def test_rotate_is_torchvisions_bilinear_rotate() -> None:
    images = torch.rand(40, 3, 21, 30)
    drawn = {"angle": 360 * torch.rand(40, generator=seeds.generator(7, "rotate")) - 180}
    got = geometry.rotate(images, drawn)
    mirrored = geometry.rotate(images, drawn, "reflect")
    ones = geometry.rotate(torch.ones_like(images), drawn)
    for i, angle in enumerate(drawn["angle"].tolist()):
        want = tv.rotate(images[i], angle, InterpolationMode.BILINEAR)
        torch.testing.assert_close(got[i], want, atol=2e-5, rtol=0)
        inside = ones[i] > 1 - 1e-4
        torch.testing.assert_close(mirrored[i][inside], got[i][inside], atol=1e-3, rtol=0)
    assert geometry.rotate(torch.ones_like(images), drawn, "reflect").min() > 1 - 1e-5


def test_crops_outside_the_image_are_refused_by_the_compiled_form(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOLABEL_KERNELS", "1")
    batch = ImageBatch.of(noise_images([(8, 8), (8, 8)]))
    for box in [0, 0, 9, 8], [-1, 0, 4, 4], [0, 5, 4, 4], [0, 0, 0, 4]:
        with pytest.raises(ValueError, match="outside"):
            geometry.crop_resize(batch, torch.tensor([[0, 0, 8, 8], box]), 8)
    with pytest.raises(ValueError, match="There are 2 images but 1 values"):
        geometry.crop_resize(batch, torch.tensor([[0, 0, 8, 8]] * 2), 8, torch.tensor([True]))
