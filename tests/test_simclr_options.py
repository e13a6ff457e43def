"""SimCLR's further options: chunks of a batch, further operations, one branch alone, the optimizer's."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nolabel
from nolabel.errors import UsageError
from nolabel.methods._simclr_head import projection_head
from nolabel.methods.base import DataInfo, Recipe
from nolabel.methods.simclr import (
    CODE_CIFAR10,
    CODE_IMAGENET,
    PAPER_CIFAR10,
    PAPER_IMAGENET,
    SimCLR,
    SimCLROptions,
)
from nolabel.training.optim import LARS, build_optimizer
from nolabel.training.schedule import peak_rate
from small import TinyNet, smooth_images

FULL: dict[str, Any] = {"sizes": (1.0,), "size_changes": ()}


def made(**options: Any) -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(TinyNet(), SimCLROptions(**(FULL | options)), DataInfo(images=8, size=16))


def drawn_of(method: SimCLR, n: int) -> dict[str, Tensor]:
    return method.draw(n, torch.Generator().manual_seed(0), 0.5)


def test_chunks_have_the_gradient_of_the_whole_batch_without_batchnorm() -> None:
    whole = made(head="mlp2")
    for name in ("one", "two"):
        getattr(whole.encoder, name)[1] = nn.GroupNorm(4, 32)
    chunks = copy.deepcopy(whole)
    object.__setattr__(chunks.options, "grad_cache", 3)
    images = smooth_images(8)
    views = whole.views(images, drawn_of(whole, 8))
    seen: list[int] = []
    chunks.encoder.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    losses = [method(views)["loss"] for method in (whole, chunks)]
    for loss in losses:
        loss.backward()
    assert torch.equal(losses[0], losses[1]) or torch.allclose(losses[0], losses[1], atol=1e-6)
    assert seen == [12, 12, 8] * 2 or sorted(seen) == [8, 8, 12, 12, 12, 12], (
        "once without and once with a graph"
    )
    for a, b in zip(whole.parameters(), chunks.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_batchnorm_sees_a_chunk_alone() -> None:
    method = made(grad_cache=2)
    views = method.views(smooth_images(4), drawn_of(method, 4))
    h, _ = method.embed(views["views"])
    alone, _ = made(grad_cache=0).embed(views["views"][:8])
    assert torch.allclose(h[:2], alone, atol=1e-5)


def test_the_first_view_is_cropped_and_flipped_alone() -> None:
    method = made(asymmetric=True, grey_p=1.0, jitter_p=1.0, blur_p=1.0, extra_ops=("sobel",), jpeg_p=1.0)
    drawn = drawn_of(method, 6)
    for name in ("jitter", "grey", "blur", "extra", "jpeg"):
        assert not drawn[name][:, 0].any(), name
        assert drawn[name][:, 1:].any(), name
    views = method.views(smooth_images(6), drawn)["views"].unflatten(0, (6, 4))
    spread = (views - views.mean(2, keepdim=True)).abs().amax((2, 3, 4))
    assert (spread[:, 0] > 0.05).all()


def test_one_blur_for_the_views_of_one_place() -> None:
    drawn = drawn_of(made(blur_p=0.5, blur_scope="batch"), 50)
    assert len(drawn["sigma"].unique()) == 4
    assert (drawn["sigma"] == drawn["sigma"][:1]).all()
    assert 0.35 < drawn["blur"].float().mean() < 0.65
    assert len(drawn_of(made(blur_p=0.5), 50)["sigma"].unique()) > 150


STILL: dict[str, Any] = {
    "views": 2, "crop_min": 1.0, "aspect": (1.0, 1.0), "flip_p": 0.0, "jitter_p": 0.0, "grey_p": 0.0
}  # fmt: skip


@pytest.mark.parametrize("name", ["cutout", "sobel", "noise", "rotate", "solarise"])
def test_an_extra_operation_changes_half_of_the_views(name: str) -> None:
    method, images = made(**STILL, extra_ops=(name,)), smooth_images(40, (16, 16))
    plain = made(**STILL).views(images, drawn_of(made(**STILL), 40))["views"]
    drawn = drawn_of(method, 40)
    views = method.views(images, drawn)["views"]
    changed = (views - plain).abs().amax((1, 2, 3)) > 1e-6
    which = ("cutout", "sobel", "noise", "rotate", "solarise").index(name)
    given = drawn["extra"].flatten(0, 1)[:, which]
    assert torch.equal(changed, given)
    assert 25 < int(given.sum()) < 55
    if name == "solarise":
        assert torch.allclose(views[given], torch.minimum(plain, 1 - plain)[given], atol=1e-6)
    if name == "rotate":
        b = int(given.nonzero()[0])
        turns = [torch.rot90(plain[b], k, (1, 2)) for k in (1, 2, 3)]
        assert sum(torch.allclose(views[b], turn, atol=1e-6) for turn in turns) == 1


@pytest.mark.parametrize("kernels", ["0", "1"])
def test_crops_are_resized_with_the_filter_that_was_chosen(
    monkeypatch: pytest.MonkeyPatch, kernels: str
) -> None:
    monkeypatch.setenv("NOLABEL_KERNELS", kernels)
    images = smooth_images(4, (40, 40))
    pixels = torch.stack([images.image(b) for b in range(4)]) / 255
    for resize in ("bilinear", "bicubic"):
        method = made(**STILL, resize=resize)
        views = method.views(images, drawn_of(method, 4))["views"][::2]
        want = F.interpolate(pixels, (16, 16), mode=resize, antialias=True).clamp(0, 1)
        torch.testing.assert_close(views, want, atol=1e-5, rtol=0)


def test_the_papers_listing_shifts_the_brightness_and_keeps_the_order() -> None:
    paper = SimCLR(TinyNet(), PAPER_CIFAR10[0], DataInfo(images=8, size=16))
    drawn = drawn_of(paper, 200)
    assert (drawn["brightness"] == 1).all()
    assert 0.3 < drawn["shift"].max() < 0.4
    assert -0.4 < drawn["shift"].min() < -0.3
    assert (drawn["order"] == torch.arange(4)).all()
    drawn = drawn_of(SimCLR(TinyNet(), CODE_CIFAR10[0], DataInfo(images=8, size=16)), 200)
    assert (drawn["shift"] == 0).all()
    assert len(drawn["order"].flatten(0, 1).unique(dim=0)) == 24


def test_compression_follows_the_distortions() -> None:
    method, images = made(**STILL, jpeg_p=1.0), smooth_images(4, (16, 16))
    plain = made(**STILL).views(images, drawn_of(made(**STILL), 4))["views"]
    apart = (method.views(images, drawn_of(method, 4))["views"] - plain).abs()
    assert 0 < apart.max() < 0.3
    assert apart.mean() < 0.05


def test_no_evaluator_sees_z() -> None:
    """Section 2.1: the head is thrown away. Nothing in `evaluation/` knows a method, and no encoder holds a head."""
    for file in (Path(nolabel.__file__).parent / "evaluation").glob("*.py"):
        assert "nolabel.methods" not in file.read_text(), file
    method = made()
    h, z = method.embed(torch.rand(8, 3, 16, 16))
    assert h.shape[-1] == method.encoder.dim != z.shape[-1]
    assert not set(method.encoder.parameters()) & set(method.head.parameters())


def test_options_out_of_range_are_refused() -> None:
    for wrong in ({"head_out": 0}, {"extra_ops": ("cutmix",)}):
        with pytest.raises(UsageError, match="extra_ops of cutout"):
            SimCLROptions(**wrong)  # type: ignore[arg-type]


def test_a_clipped_layer_has_at_most_the_rate_of_the_run() -> None:
    """w = (30, 40), g = (.06, .08): r = 0.001 * 50 / 0.1 = 0.5; at a rate of 0.1 the whole rate is 0.1, not 0.05."""
    ends = []
    for clip, lr in ((False, 0.1), (True, 0.1), (True, 1.0)):
        w = nn.Parameter(torch.tensor([[30.0, 40.0]]))
        w.grad = torch.tensor([[0.06, 0.08]])
        LARS([w], lr=lr, clip=clip).step()
        ends.append(((torch.tensor([[30.0, 40.0]]) - w) / w.grad).mean().item())
    assert ends == pytest.approx([0.05, 0.1, 0.5], rel=1e-2)


def test_a_recipe_reaches_its_optimizer() -> None:
    lars = build_optimizer(made(), Recipe(optimizer="lars", lars_eta=0.02, lars_clip=True))
    assert (lars.defaults["eta"], lars.defaults["clip"]) == (0.02, True)
    adam = build_optimizer(made(), Recipe(optimizer="adamw", beta2=0.99))
    assert adam.defaults["betas"] == (0.9, 0.99)


def test_paper_and_code_differ_as_the_specification_says() -> None:
    for (paper, solver), (code, released) in ((PAPER_IMAGENET, CODE_IMAGENET), (PAPER_CIFAR10, CODE_CIFAR10)):
        differ = {"head": "mlp2", "loss_scale": "mean", "blur_scope": "view", "brightness": "add"}
        assert replace(code, **differ, jitter_order="fixed") == paper
        assert (code.head, code.loss_scale, code.blur_scope) == ("mlp3_bn", "sum_of_means", "batch")
        assert (code.brightness, code.jitter_order) == ("mul", "random")
        assert paper.resize == code.resize == "bicubic"
        assert (solver.weight_decay, released.weight_decay) == (1e-6, 1e-4)
    assert peak_rate(CODE_IMAGENET[1]) == pytest.approx(4.8)
    assert peak_rate(CODE_CIFAR10[1]) == pytest.approx(2.0)
    code = CODE_CIFAR10[0]
    head = projection_head(code.head, 512, code.head_hidden, code.head_out)  # of ResNet-18
    assert sum(p.numel() for p in head.parameters()) == 592_000
