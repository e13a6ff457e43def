"""The compiled form equals the eager one; how it is built, kept and done without."""

import multiprocessing
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from nolabel import seeds
from nolabel.data.batch import ImageBatch
from nolabel.views import _kernels, colour, compiled, filters, fused, geometry, plain


@pytest.fixture
def fresh() -> Iterator[None]:
    """The library is looked for again, in this test and after it."""
    _kernels.library.cache_clear()
    yield
    _kernels.library.cache_clear()


def mixed_images(n: int, seed: int) -> ImageBatch:
    g = seeds.generator(seed, "images")
    sides = torch.randint(1, 110, (n, 2), generator=g).tolist()
    return ImageBatch.of([torch.randint(0, 256, (3, h, w), dtype=torch.uint8, generator=g) for h, w in sides])


def draw_view(n: int, seed: int) -> dict[str, Tensor]:
    g = seeds.generator(seed, "views")
    crop, jitter = geometry.draw_crop(n, g, (0.05, 1.0)), colour.draw_jitter(n, g)
    return {**crop, **geometry.draw_flip(n, g), **jitter, **colour.draw_grey(n, g), **filters.draw_blur(n, g)}


def both(monkeypatch: pytest.MonkeyPatch, view: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    monkeypatch.setenv("NOLABEL_KERNELS", "0")
    eager = view()
    monkeypatch.setenv("NOLABEL_KERNELS", "1")
    return eager, view()


def test_the_kernels_are_built_where_there_is_a_compiler() -> None:
    assert (_kernels.library() is not None) == (shutil.which("cc") is not None)


@pytest.mark.parametrize("size", [1, 7, 24, 33, 64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_view_is_the_same_in_both_forms(
    monkeypatch: pytest.MonkeyPatch, size: int, layout: torch.memory_format
) -> None:
    images, drawn = mixed_images(50, size), draw_view(50, size)
    eager, compiled = both(monkeypatch, lambda: fused.simclr_view(images, drawn, size, layout))
    torch.testing.assert_close(compiled, eager, atol=1e-5, rtol=0)
    assert compiled.is_contiguous(memory_format=layout)
    cubic = both(monkeypatch, lambda: fused.simclr_view(images, drawn, size, layout, cubic=True))
    torch.testing.assert_close(cubic[1], cubic[0], atol=1e-5, rtol=0)
    assert not torch.allclose(cubic[0], eager, atol=1e-3)
    eager, compiled = both(monkeypatch, lambda: plain.whole(images, size))
    torch.testing.assert_close(compiled, eager, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernels", ["0", "1"])
def test_the_fused_view_is_its_operations_in_turn(monkeypatch: pytest.MonkeyPatch, kernels: str) -> None:
    monkeypatch.setenv("NOLABEL_KERNELS", kernels)
    images, drawn = mixed_images(60, 0), draw_view(60, 0)
    boxes = geometry.boxes(drawn, images.heights, images.widths)
    steps = geometry.crop_resize(images, boxes, 40)
    for operation in geometry.flip, colour.jitter, colour.grey, filters.blur:
        steps = operation(steps, drawn)
    torch.testing.assert_close(fused.simclr_view(images, drawn, 40), steps, atol=1e-5, rtol=0)
    only_crop = {key: value for key, value in drawn.items() if key.startswith("crop")}
    assert fused.simclr_view(images, only_crop, 40).equal(geometry.crop_resize(images, boxes, 40))


@pytest.mark.parametrize("kernels", ["0", "1"])
def test_views_follow_from_what_was_drawn_alone(monkeypatch: pytest.MonkeyPatch, kernels: str) -> None:
    monkeypatch.setenv("NOLABEL_KERNELS", kernels)
    before, images = torch.get_rng_state(), mixed_images(21, 1)
    drawn = draw_view(21, 1)
    assert all(
        value.equal(again) for value, again in zip(drawn.values(), draw_view(21, 1).values(), strict=True)
    )
    view = fused.simclr_view(images, drawn, 24)
    assert torch.get_rng_state().equal(before)
    assert view.min() >= 0
    assert view.max() <= 1
    part = fused.simclr_view(
        images.take(slice(7, 12)), {key: value[7:12] for key, value in drawn.items()}, 24
    )
    torch.testing.assert_close(part, view[7:12], atol=1e-6, rtol=0)


def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    images, drawn = mixed_images(33, 2), draw_view(33, 2)
    results = []
    for threads in 1, 2, 5:
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        results.append(fused.simclr_view(images, drawn, 32))
    assert results[0].equal(results[1])
    assert results[0].equal(results[2])


def test_no_compiler_means_one_notice_and_the_eager_form(
    monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    images, drawn = mixed_images(9, 3), draw_view(9, 3)
    monkeypatch.setenv("NOLABEL_KERNELS", "0")
    eager = fused.simclr_view(images, drawn, 16)
    monkeypatch.setenv("NOLABEL_KERNELS", "1")
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.warns(UserWarning, match="several times slower.*no compiler 'no-such-compiler'.*needs gcc"):
        assert fused.simclr_view(images, drawn, 16).equal(eager)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fused.simclr_view(images, drawn, 16).equal(eager)


def test_a_compiler_that_fails_means_the_same(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.warns(UserWarning, match="several times slower"):
        assert _kernels.library() is None


def test_a_damaged_library_is_built_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh: None
) -> None:
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path))
    path = compiled._built(_kernels.SOURCE)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.write_bytes(b"not a library")
    assert _kernels.library() is not None


def test_views_work_in_a_forked_process() -> None:
    """Threads do not survive a fork: the child must start its own."""
    images = mixed_images(8, 4)
    plain.whole(images, 8)
    child = multiprocessing.get_context("fork").Process(target=plain.whole, args=(images, 8))
    child.start()
    child.join(60)
    if child.exitcode is None:
        child.kill()
    assert child.exitcode == 0
