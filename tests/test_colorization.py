"""Colorization: conversions against scikit-image, classes, targets, weights and loss against closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nolabel.data.batch import ImageBatch
from nolabel.data.store import ImageStore
from nolabel.encoders.base import build
from nolabel.errors import UsageError
from nolabel.methods import _colouring, colorization
from nolabel.methods._colour_bins import (
    annealed_mean,
    class_weights,
    colour_classes,
    errors,
    soft_targets,
)
from nolabel.methods.base import DataInfo
from nolabel.methods.colorization import (
    CODE_IMAGENET,
    PAPER_IMAGENET,
    Colorization,
    ColorizationOptions,
    colorization_loss,
)
from nolabel.training.schedule import rate
from nolabel.views import lab
from nolabel.views.lab import rgb_to_lab
from small import TinyNet, smooth_images


def made(size: int = 32, **options: object) -> Colorization:
    torch.manual_seed(0)
    return Colorization(build("resnet10", size), ColorizationOptions(**options), DataInfo(64, size))  # type: ignore[arg-type]


def some(n: int, size: int = 32) -> ImageBatch:
    return ImageBatch.of(torch.randint(256, (n, 3, size, size), dtype=torch.uint8))


def test_lab_equals_scikit_image_and_goes_back() -> None:
    from skimage.color import rgb2lab

    images = torch.rand(4, 3, 50, 50)
    ours = lab.rgb_to_lab(images)
    assert np.abs(ours.movedim(1, -1).numpy() - rgb2lab(images.movedim(1, -1).numpy())).max() < 1e-3
    assert torch.allclose(lab.lab_to_rgb(ours), images, atol=1e-3)


@pytest.mark.parametrize(
    ("rgb", "known"),
    [
        ((1, 0, 0), (53.241, 80.092, 67.203)),
        ((0, 1, 0), (87.735, -86.183, 83.180)),
        ((0, 0, 1), (32.296, 79.186, -107.857)),
        ((1, 1, 0), (97.14, -21.555, 94.478)),
        ((1, 0, 1), (60.324, 98.233, -60.821)),
        ((0, 1, 1), (91.113, -48.091, -14.126)),
        ((1, 1, 1), (100, 0, 0)),
    ],
)
def test_lab_of_the_corners_of_rgb(rgb: tuple[int, ...], known: tuple[float, ...]) -> None:
    found = lab.rgb_to_lab(torch.tensor(rgb).float().view(1, 3, 1, 1)).flatten()
    assert found == pytest.approx(torch.tensor(known), abs=0.01)


def test_yuv_goes_back_and_grey_has_no_colour() -> None:
    images = torch.rand(4, 3, 5, 5)
    assert torch.allclose(lab.yuv_to_rgb(lab.rgb_to_yuv(images)), images, atol=1e-4)
    assert lab.rgb_to_yuv(torch.full((1, 3, 2, 2), 0.4))[:, 1:].abs().max() < 1e-5


def test_u_and_v_reach_as_far_as_the_specification_says() -> None:
    """Of all colours, because the conversion is linear: at blue, yellow, red and cyan."""
    corners = torch.cartesian_prod(*3 * [torch.tensor([0.0, 1.0])])
    _, u, v = lab.rgb_to_yuv(corners.view(8, 3, 1, 1))[..., 0, 0].T
    for found, most, at in ((u, 0.43591, [0.0, 0.0, 1.0]), (v, 0.61478, [1.0, 0.0, 0.0])):
        assert (found.min().item(), found.max().item()) == pytest.approx((-most, most), abs=1e-5)
        assert corners[found.argmax()].tolist() == at
        assert corners[found.argmin()].tolist() == [1 - value for value in at]


def test_the_target_of_a_centre_has_the_known_weights() -> None:
    index, share = soft_targets(torch.tensor([[0.0, 0.0]]), colour_classes(), 5)
    assert colour_classes()[index[0, 0]].tolist() == [0, 0]
    assert share[0].tolist() == pytest.approx([0.6488, 0.0878, 0.0878, 0.0878, 0.0878], abs=1e-4)
    assert float(-(share * share.log()).sum()) == pytest.approx(1.135, abs=1e-3)


def test_targets_are_those_of_a_loop() -> None:
    ab, classes = (60 * torch.randn(40, 2, dtype=torch.float64)).numpy(), colour_classes().double()
    for neighbours in (5, 10):
        index, share = soft_targets(torch.from_numpy(ab), classes, neighbours)
        for row, (a, b) in enumerate(ab):
            squared = [(a - x) ** 2 + (b - y) ** 2 for x, y in classes.tolist()]
            nearest = sorted(range(313), key=lambda q, far=squared: far[q])[:neighbours]
            weights = np.exp([-squared[q] / 50 for q in nearest])
            assert index[row].tolist() == nearest
            assert share[row].tolist() == pytest.approx((weights / weights.sum()).tolist(), abs=1e-9)
        assert (share > 0).all()


def test_a_rarer_class_never_weighs_less() -> None:
    prior = torch.rand(313, dtype=torch.float64).pow(4)
    prior[:30] = 0
    prior /= prior.sum()
    for uniform in (0.1, 0.5, 0.9):
        falling = class_weights(prior, uniform)[prior.argsort()]
        assert (falling.diff() <= 0).all()
        assert falling[0] > falling[-1]


def test_weights_average_to_one_and_their_ratio_is_bounded() -> None:
    prior = torch.rand(313, dtype=torch.float64).square()
    prior[:50] = 0
    prior /= prior.sum()
    weights = class_weights(prior, 0.5)
    assert float((prior * weights).sum()) == pytest.approx(1, abs=1e-6)
    assert float(weights.max() / weights.min()) <= 314
    assert torch.allclose(class_weights(prior, 1.0), torch.ones(313, dtype=torch.float64), atol=1e-6)


def test_the_loss_of_a_uniform_answer_is_the_logarithm_of_313() -> None:
    index, share = soft_targets(60 * torch.randn(50, 2), colour_classes(), 5)
    found = colorization_loss(torch.zeros(50, 313), index, share, torch.ones(50))
    assert float(found) == pytest.approx(math.log(313), abs=1e-5)


def test_rebalancing_reaches_the_gradient() -> None:
    index, share = soft_targets(60 * torch.randn(8, 2), colour_classes(), 5)
    weight = torch.tensor([1.0, 3.0] * 4)
    logits = torch.zeros(8, 313, requires_grad=True)
    colorization_loss(logits, index, share, weight).backward()
    assert logits.grad is not None
    norms = logits.grad.abs().sum(1) / logits.grad[0].abs().sum()
    dense = torch.zeros(8, 313).scatter_(1, index, share) - 1 / 313
    expected = weight * dense.abs().sum(1) / dense[0].abs().sum()
    assert norms.tolist() == pytest.approx(expected.tolist(), rel=1e-4)


def test_a_low_temperature_takes_the_commonest_class_and_one_the_mean() -> None:
    classes = colour_classes()
    logits = torch.zeros(1, 313)
    logits[0, 7] = 1.0
    assert annealed_mean(logits, classes, 0.001)[0].tolist() == pytest.approx(classes[7].tolist(), abs=1e-2)
    assert annealed_mean(torch.zeros(1, 313), classes, 1.0)[0].tolist() == pytest.approx(
        classes.mean(0).tolist(), abs=1e-3
    )


def test_the_lightness_is_jittered_in_contrast_and_brightness() -> None:
    """By default in neither; the colours to be found stay."""
    images = some(200, 32)
    plain, jittered = made(32), made(32, lightness_jitter=0.5)
    drawn = jittered.draw(200, torch.Generator().manual_seed(0), 0.0)
    none = plain.draw(200, torch.Generator().manual_seed(0), 0.0)
    assert (none["contrast"] == 1).all()
    assert (none["brightness"] == 0).all()
    seen, known = jittered.views(images, drawn), plain.views(images, none)
    assert torch.equal(seen["colours"], known["colours"])
    x, y = known["grey"].flatten(1), seen["grey"].flatten(1)
    slope = ((x - x.mean(1, keepdim=True)) * y).sum(1) / (x - x.mean(1, keepdim=True)).square().sum(1)
    level = y.mean(1) - slope * x.mean(1)
    for found, middle in ((slope, 1.0), (level, 0.0)):
        assert found.min().item() == pytest.approx(middle - 0.5, abs=0.05)
        assert found.max().item() == pytest.approx(middle + 0.5, abs=0.05)


@pytest.mark.parametrize("size", [32, 96, 128])
def test_input_is_grey_and_the_first_loss_is_the_weighted_logarithm(size: int) -> None:
    method = made(size, colour_mask=False)
    views = method.views(some(4, size), method.draw(4, torch.Generator().manual_seed(0), 0.0))
    assert torch.equal(views["grey"][:, 0], views["grey"][:, 2])
    assert views["colours"].shape[-1] == method.target
    assert method(views)["loss"].item() == pytest.approx(math.log(313), rel=1e-2)


def test_a_zero_head_costs_the_logarithm_times_the_mean_weight() -> None:
    """And nearly that before it is zero, in eval mode, where BatchNorm does not yet tell images apart."""
    method, images = made(), smooth_images(6)
    method.prepare(ImageStore.of([images.image(b) for b in range(6)]), torch.Generator())
    torch.nn.init.zeros_(method.head[-1].bias)  # type: ignore[arg-type]
    views = method.views(images, method.draw(6, torch.Generator().manual_seed(0), 0.0))
    weight = method._targets(views["colours"])[2]
    assert weight.std() > 0.1
    expected = math.log(313) * weight.mean().item()
    assert method.eval()(views)["loss"].item() == pytest.approx(expected, rel=0.1)
    torch.nn.init.zeros_(method.head[-1].weight)  # type: ignore[arg-type]
    assert method.train()(views)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_paper_and_code_differ_as_the_specification_says() -> None:
    (paper, solver), (code, released) = PAPER_IMAGENET, CODE_IMAGENET
    assert (paper.neighbours, code.neighbours) == (5, 10)
    assert (paper.colour_mask, code.colour_mask) == (False, True)
    assert code.temperature == pytest.approx(0.3837, abs=1e-4)
    rates = [rate(step, 450, solver) for step in (0, 199, 200, 374, 375)]
    assert rates == pytest.approx([3e-5, 3e-5, 1e-5, 1e-5, 3e-6], rel=0.06)
    rates = [rate(step, 500, released) for step in (0, 224, 225, 449, 450)]
    assert rates == pytest.approx([3e-5, 3e-5, 3e-6, 3e-6, 3e-7])


def test_images_without_colour_teach_nothing() -> None:
    method = made()
    grey = torch.randint(256, (4, 1, 32, 32), dtype=torch.uint8).expand(4, 3, 32, 32)
    views = method.views(ImageBatch.of(grey.contiguous()), method.draw(4, torch.Generator(), 0.0))
    loss = method(views)["loss"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())


def test_the_prior_comes_from_the_images_and_stays_in_the_checkpoint() -> None:
    method = made()
    method.prepare(ImageStore.of(torch.randint(256, (30, 3, 32, 32), dtype=torch.uint8)), torch.Generator())
    assert method.weights.std() > 0.1
    assert "weights" in method.state_dict()


def test_a_prepared_net_starts_from_the_best_constant_answer() -> None:
    method = made().eval()
    images = smooth_images(24)
    views = method.views(images, method.draw(24, torch.Generator().manual_seed(0), 0.0))
    before = method.held_out(views)
    method.prepare(ImageStore.of([images.image(b) for b in range(24)]), torch.Generator())
    after = method.held_out(views)
    assert after["loss"] < 1.1 * after["constant_loss"]
    assert before["loss"] > 1.1 * before["constant_loss"]


def test_the_tied_encoder_gives_the_same_on_grey_input() -> None:
    method = made().eval()
    grey = torch.rand(2, 1, 32, 32).expand(2, 3, 32, 32)
    before = method.encoder((grey - 0.5) / 0.25, standardised=True)
    method.finish(method.encoder)
    assert torch.allclose(method.encoder(grey), before, atol=1e-5, rtol=0)


def test_the_lecture_form_regresses_and_beats_nothing_at_the_start() -> None:
    method = made(loss="regression")
    views = method.views(some(4), method.draw(4, torch.Generator().manual_seed(0), 0.0))
    found = method.eval().held_out(views)
    assert found["loss"] == pytest.approx(views["colours"].square().mean().item(), rel=0.05)
    assert found["constant_loss"] <= 1.05 * found["loss"]
    assert method.colours(torch.rand(2, 3, 32, 32)).shape == (2, 2, 16, 16)


def test_colours_are_chosen_only_to_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The annealed mean costs about as much as the loss: no training step computes it, held-out images do."""
    asked: list[int] = []

    def counted(logits: torch.Tensor, classes: torch.Tensor, temperature: float) -> torch.Tensor:
        asked.append(len(logits))
        return annealed_mean(logits, classes, temperature)

    monkeypatch.setattr(colorization, "annealed_mean", counted)
    method = made()
    views = method.views(some(4), method.draw(4, torch.Generator().manual_seed(0), 0.0))
    assert method(views).keys() == {"loss"}
    assert not asked
    found = method.eval().held_out(views)
    assert asked == [4 * method.target**2]
    assert found["loss"] == pytest.approx(method(views)["loss"].item(), rel=1e-5)
    logits = method.answer(views["grey"]).detach().movedim(1, -1).flatten(0, 2)
    ab = annealed_mean(logits, method.classes, 0.38)
    truth = views["colours"].movedim(1, -1).flatten(0, 2)
    assert found["ab_error"] == pytest.approx((ab - truth).norm(dim=1).mean().item(), rel=1e-4)


def test_a_perfect_answer_diverges_from_its_targets_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it has a loss: the targets leave several colours open (specification 4.4)."""
    method, images = made().eval(), smooth_images(6)
    method.prepare(ImageStore.of([images.image(b) for b in range(6)]), torch.Generator())
    views = method.views(images, method.draw(6, torch.Generator().manual_seed(0), 0.0))
    index, share, weight = method._targets(views["colours"])
    perfect = torch.full((len(index), 313), -100.0).scatter(1, index, share.log())
    for logits, wanted in (
        (perfect, 0.0),
        (torch.zeros_like(perfect), (weight * (math.log(313) + (share * share.log()).sum(1))).mean().item()),
    ):
        maps = logits.unflatten(0, (6, method.target, method.target)).movedim(-1, 1)
        monkeypatch.setattr(method, "answer", lambda grey, maps=maps: maps)
        found = method.held_out(views)
        assert found["kl"] == pytest.approx(wanted, abs=1e-5)
        assert found["loss"] > found["kl"] + 0.5


def test_a_coarse_grid_has_fewer_outputs_and_wider_targets() -> None:
    method, images = made(ab_grid=20), smooth_images(4)
    assert len(method.classes) == method.head[-1].out_channels == 77
    method.prepare(ImageStore.of([images.image(b) for b in range(4)]), torch.Generator())
    views = method.views(images, method.draw(4, torch.Generator().manual_seed(0), 0.0))
    index, share, _ = method._targets(views["colours"])
    squared = (views["colours"].movedim(1, -1).reshape(-1, 1, 2) - method.classes[index]).square().sum(-1)
    assert torch.allclose(share, (-squared / 200).softmax(1), atol=1e-4)
    found = method.eval().held_out(views)
    assert found["constant_loss"] <= found["loss"] * 1.001
    assert method.colours(torch.rand(2, 3, 32, 32)).shape == (2, 2, 16, 16)
    for wrong in ({"ab_grid": 3}, {"head_depth": 3}, {"ab_grid": 30, "neighbours": 41}):
        with pytest.raises(UsageError, match=r"ab_grid|neighbours"):
            ColorizationOptions(**wrong)  # type: ignore[arg-type]


def test_the_area_under_the_errors_of_grey_pictures_is_the_closed_form() -> None:
    """1 - mean(min(chroma, 150)) / 150: the published 89.1 means a mean chroma of 16.35."""
    classes = colour_classes()
    truth = torch.tensor([[16.35, 0.0], [0.0, -16.35]])
    found = errors(torch.zeros(2, 2), truth, classes)
    assert found["auc"] == pytest.approx(0.891, abs=1e-4)
    assert found["auc_grey"] == found["auc"]
    assert found["ab_error"] == pytest.approx(16.35, abs=1e-4)
    three = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [40.0, 40.0]])
    uneven = errors(torch.zeros(4, 2), three, classes)
    far = 1 - math.hypot(40, 40) / 150
    assert uneven["auc"] == pytest.approx((3 + far) / 4, abs=1e-5)
    assert uneven["auc_rebalanced"] == pytest.approx((1 + far) / 2, abs=1e-5)


def test_ab_regression_sees_lightness_and_gives_ab_back() -> None:
    options, data = ColorizationOptions(loss="ab_regression"), DataInfo(8, 32)
    method = Colorization(TinyNet(), options, data)
    rgb = torch.rand(2, 3, 32, 32)
    seen = method.split(rgb)
    lab = rgb_to_lab(rgb)
    assert torch.allclose(seen["grey"], ((lab[:, :1] / 100 - 0.5) / 0.25).expand(-1, 3, -1, -1), atol=1e-5)
    assert torch.allclose(seen["colours"] * 110, F.avg_pool2d(lab[:, 1:], 2), atol=1e-3)
    assert method.space == "lab"
    answer = method.answer(seen["grey"])
    assert torch.allclose(method.colours(rgb), answer * 110, atol=1e-4)
    found = method.held_out(seen)
    mean = seen["colours"].mean((0, 2, 3), keepdim=True)
    assert found["constant_loss"] == pytest.approx((seen["colours"] - mean).square().mean().item(), rel=1e-4)
    assert {"auc", "auc_rebalanced", "auc_grey"} <= set(found)
    method(seen)["loss"].backward()
    assert all(p.grad is not None for p in method.head.parameters())


@pytest.mark.parametrize("size", [31, 32, 35, 90, 96])
@pytest.mark.parametrize("subsample", ["point", "area"])
def test_colours_fit_the_grid_at_any_size(size: int, subsample: str) -> None:
    method = made(size, subsample=subsample)
    method.prepare(
        ImageStore.of(torch.randint(256, (4, 3, size, size), dtype=torch.uint8)), torch.Generator()
    )
    views = method.views(some(2, size), method.draw(2, torch.Generator().manual_seed(0), 0.0))
    assert views["colours"].shape[-2:] == (method.target, method.target)
    assert method(views)["loss"].isfinite()


def test_huber_is_squared_near_the_truth_and_grows_with_the_distance_beyond() -> None:
    method = made(loss="huber").eval()
    assert method.space == "yuv"
    colours = torch.zeros(1, 2, 1, 3)
    answer = torch.tensor([0.05, 0.1, 2.0]).expand_as(colours)
    found = _colouring.regression_loss(answer, colours, method.reach).item()
    wanted = [0.05**2 / 2, 0.1**2 / 2, 0.1 * (2 - 0.05)]
    assert found == pytest.approx(sum(wanted) / 3, rel=1e-5)
    far = torch.tensor([0.0, 0.0, 0.02, 5.0]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    constant = _colouring.best_constant(far, 0.1)
    tried = [
        _colouring.regression_loss(torch.full_like(far, c / 100), far, 0.1).item() for c in range(-50, 200)
    ]
    assert _colouring.regression_loss(constant, far, 0.1).item() == pytest.approx(min(tried), rel=1e-3)
    assert torch.allclose(_colouring.best_constant(far, math.inf), torch.full_like(far, far.mean().item()))
    held = method.held_out(method.views(some(3), method.draw(3, torch.Generator().manual_seed(0), 0.0)))
    assert set(held) == {"loss", "constant_loss"}


def test_a_constant_answer_costs_variance_and_squared_bias() -> None:
    colours = torch.rand(3, 2, 4, 4, dtype=torch.float64)
    constant = torch.tensor([0.3, -0.2], dtype=torch.float64).view(1, 2, 1, 1)
    spread = colours.var((0, 2, 3), correction=0) + (colours.mean((0, 2, 3)) - constant.flatten()).square()
    found = _colouring.regression_loss(constant.expand_as(colours), colours, math.inf)
    assert found.item() == pytest.approx(spread.mean().item(), abs=1e-12)
