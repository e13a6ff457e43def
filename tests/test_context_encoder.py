"""Context encoder: what is hidden stays hidden, the losses in closed form, its nets, its switches, its adversary."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from context_encoders import context_encoder, count, views_of
from nolabel import seeds
from nolabel.encoders import base as encoders
from nolabel.encoders.context_encoder_nets import Bottleneck, ChannelWiseFC, Shape
from nolabel.errors import UsageError
from nolabel.methods._inpainting import measures
from nolabel.methods.base import DataInfo
from nolabel.methods.context_encoder import (
    CODE_PICTURES,
    PAPER_FEATURES,
    PAPER_PICTURES,
    ContextEncoder,
    ContextEncoderOptions,
    reconstruction_loss,
)
from small import smooth_images


@pytest.mark.parametrize(
    ("channels", "side", "weights"), [(512, 4, 131_072), (512, 3, 41_472), (64, 8, 262_144)]
)
def test_channel_wise_layer_has_its_parameters(channels: int, side: int, weights: int) -> None:
    assert count(ChannelWiseFC(channels, side)) == weights + channels * side * side


def test_channel_wise_layer_is_one_linear_layer_for_each_channel() -> None:
    layer, x = ChannelWiseFC(5, 3), torch.randn(2, 5, 3, 3)
    nn.init.normal_(layer.bias)
    for c in range(5):
        alone = nn.Linear(9, 9)
        alone.load_state_dict({"weight": layer.weight[c].T, "bias": layer.bias[c]})
        torch.testing.assert_close(layer(x)[:, c].flatten(1), alone(x[:, c].flatten(1)))
    changed = x.clone()
    changed[:, 2, 1, 1] += 1
    differs = (layer(changed) != layer(x)).flatten(2).any(2)
    assert differs.tolist() == [[False, False, True, False, False]] * 2
    with torch.no_grad():
        layer.weight.copy_(torch.eye(9).expand(5, 9, 9))
        layer.bias.zero_()
    assert torch.equal(layer(x), x)


@pytest.mark.parametrize("kind", ["channel_fc", "fc", "none"])
def test_places_exchange_information_only_through_a_bottleneck(kind: Any) -> None:
    net, x = Bottleneck(kind, 6, 4, Shape(width=5), 0.0, 0).eval(), torch.randn(20, 6, 4, 4)
    far = x.clone()
    far[..., 0, 0] += 1
    reaches = bool((net(far) != net(x))[..., 3, 3].any())
    assert net(x).shape == (20, 5, 4, 4)
    assert reaches == (kind != "none")


@pytest.mark.parametrize("mask", ["random_region", "random_block", "central"])
@pytest.mark.parametrize("options", [{}, {"fill": "noise"}, {"mask_channel": True}])
def test_nothing_hidden_reaches_the_encoder(mask: str, options: dict[str, Any]) -> None:
    method = context_encoder(mask=mask, **options)
    views = views_of(method)
    hidden = views["mask"][:, None].expand_as(views["images"])
    other = views | {"images": torch.where(hidden, torch.rand_like(views["images"]), views["images"])}
    assert not torch.equal(views["images"], other["images"])
    assert torch.equal(method.given(views), method.given(other))
    assert torch.equal(method.paint(views), method.paint(other))
    assert torch.equal(method.given(views)[~hidden], views["images"][~hidden])


def test_the_mean_fill_is_zero_to_the_encoder() -> None:
    method = context_encoder()
    views = views_of(method)
    seen = method.encoder.normalised(method.given(views))
    assert (seen[views["mask"][:, None].expand_as(seen)] == 0).all()


def test_fill_of_noise_differs_in_every_image() -> None:
    given = (method := context_encoder(fill="noise", mask="central")).given(views_of(method))
    assert not torch.equal(given[0, :, 12:20, 12:20], given[1, :, 12:20, 12:20])


def test_the_mask_channel_leaves_whole_images_as_they_are() -> None:
    method = context_encoder(mask_channel=True)
    views = views_of(method)
    whole = views | {"mask": torch.zeros_like(views["mask"])}
    assert torch.equal(method.given(whole), views["images"])
    plain = torch.where(views["mask"][:, None], method.encoder.mean, views["images"])
    assert not torch.equal(method.given(views), plain)


def test_one_mask_for_the_batch_or_one_for_each_image() -> None:
    assert not torch.equal(*views_of(context_encoder(), n=2)["mask"])
    assert torch.equal(*views_of(context_encoder(mask_per_image=False), n=2)["mask"])


def loss_of(method: ContextEncoder, views: dict[str, Tensor], painted: Tensor) -> float:
    truth, weights, centre, spread = method.task(views)
    return reconstruction_loss(
        painted, (truth - centre) / spread, weights, method.options.reconstruction
    ).item()


def test_only_hidden_pixels_count() -> None:
    painted, visible = torch.rand(3, 3, 32, 32), torch.rand(3, 3, 32, 32)
    for region, same in (("masked", True), ("whole", False)):
        method = context_encoder(loss_region=region)
        views = views_of(method)
        other = torch.where(views["mask"][:, None], painted, visible)
        assert (loss_of(method, views, painted) == loss_of(method, views, other)) == same


@pytest.mark.parametrize("overlap", [7, 0])
def test_the_rim_counts_ten_times(overlap: int) -> None:
    method = context_encoder(128, mask="central", overlap=overlap)
    views = views_of(method, n=2)
    truth, weights, _, _ = method.task(views)
    assert truth.shape == (2, 3, 64, 64)
    assert torch.equal(truth, views["images"][..., 32:96, 32:96])
    blank = 64 - 2 * overlap
    assert (views["mask"].sum((1, 2)) == blank**2).all()
    assert (weights[1] == 10).sum() == 64**2 - blank**2
    assert (weights[1] == 1).sum() == blank**2
    painted = torch.zeros_like(truth).requires_grad_()
    reconstruction_loss(painted, torch.ones_like(truth), weights).backward()
    assert painted.grad is not None
    ratio = painted.grad[0, 0, 0, 32] / painted.grad[0, 0, 32, 32]
    assert ratio.item() == pytest.approx(10 if overlap else 1)
    torch.testing.assert_close(painted.grad[0, 0, 32, 32].item(), -2 / (2 * 3 * 64 * 64))


def test_closed_forms_of_the_reconstruction() -> None:
    target = torch.rand(64, 3, 48, 48, generator=seeds.generator(0)) * 2 - 1
    mask = (torch.rand(64, 1, 48, 48, generator=seeds.generator(1)) < 0.25).float()
    assert reconstruction_loss(target, target, mask) == 0
    assert reconstruction_loss(torch.zeros_like(target), target, mask).item() == pytest.approx(
        1 / 3, abs=2e-3
    )
    assert reconstruction_loss(torch.full_like(target, 0.3), target, mask).item() == pytest.approx(
        1 / 3 + 0.09, abs=3e-3
    )
    assert reconstruction_loss(torch.zeros_like(target), target, mask, "l1").item() == pytest.approx(
        0.5, abs=2e-3
    )
    direct = float((mask * target).square().sum() / (3 * mask.sum()))
    assert reconstruction_loss(torch.zeros_like(target), target, mask).item() == pytest.approx(
        direct, rel=1e-2
    )


@pytest.mark.parametrize("mask", ["random_region", "random_block", "central"])
def test_the_loss_of_a_zero_decoder_is_the_squared_pixel(mask: str) -> None:
    """Pixels lie in [-1, 1]; before the last layer is zero the loss is nearly that, in eval mode."""
    method = context_encoder(mask=mask, overlap=0)
    views = views_of(method)
    hidden = [(2 * image[:, where] - 1) for image, where in zip(views["images"], views["mask"], strict=True)]
    expected = sum(pixels.square().mean().item() for pixels in hidden) / len(hidden)
    assert method.eval()(views)["loss"].item() == pytest.approx(expected, rel=0.1)
    for value in method.painter.decoder.last.parameters():
        nn.init.zeros_(value)
    assert method.train()(views)["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_the_mean_over_images_however_large_their_masks() -> None:
    painted, target, mask = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8), torch.zeros(4, 1, 8, 8)
    for b in range(4):
        mask[b, :, : 2 * b + 1] = 1
    parts = [reconstruction_loss(painted[b : b + 2], target[b : b + 2], mask[b : b + 2]) for b in (0, 2)]
    torch.testing.assert_close(reconstruction_loss(painted, target, mask), torch.stack(parts).mean())
    first = (painted[0, :, :1] - target[0, :, :1]).square().mean()
    torch.testing.assert_close(reconstruction_loss(painted[:1], target[:1], mask[:1]), first)


def test_a_standardised_target_has_mean_0_and_variance_1_where_it_is_hidden() -> None:
    method = context_encoder(norm_target=True)
    views = views_of(method)
    truth, weights, centre, spread = method.task(views)
    target = (truth - centre) / spread
    for b in range(3):
        hidden = target[b][:, views["mask"][b]]
        torch.testing.assert_close(hidden.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
        torch.testing.assert_close(hidden.var(1, correction=0), torch.ones(3), atol=1e-2, rtol=0)
    found = method.eval().held_out(views)
    assert found["constant_loss"] == pytest.approx(1, abs=1e-2)
    assert weights.sum() == views["mask"].sum()


def test_measures_of_a_known_error() -> None:
    truth, mask = torch.full((2, 3, 8, 8), 0.5), torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    mask[:, :, :4] = True
    painted = truth.clone()
    painted[0, :, :4] += 0.1
    painted[1, :, :4] -= 0.01
    painted[:, :, 4:] = 0  # visible: counts nowhere
    found = measures(painted, truth, mask)
    assert found["l1"] == pytest.approx(0.055)
    assert found["l2"] == pytest.approx((0.01 + 0.0001) / 2)
    assert found["psnr"] == pytest.approx((20 + 40) / 2)  # of each image, then the mean


@pytest.mark.parametrize("mask", ["random_region", "random_block", "central"])
def test_held_out_names_the_best_constants(mask: str) -> None:
    method, images = context_encoder(mask=mask, overlap=0).eval(), smooth_images(4)
    views = views_of(method, images)
    found = method.held_out(views)
    pixels, hidden = views["images"], views["mask"]
    means = [pixels[b][:, hidden[b]].mean(1, keepdim=True) for b in range(4)]
    l2 = [(pixels[b][:, hidden[b]] - means[b]).square().mean().item() for b in range(4)]
    assert found["constant_l2"] == pytest.approx(sum(l2) / 4, rel=1e-5)
    assert found["constant_loss"] == pytest.approx(
        4 * found["constant_l2"], rel=1e-5
    )  # from -1 to 1, not 0 to 1
    assert found["constant_psnr"] == pytest.approx(sum(-10 * math.log10(v) for v in l2) / 4, rel=1e-5)
    seen = [pixels[b][:, ~hidden[b]].mean(1, keepdim=True) for b in range(4)]
    l1 = [(pixels[b][:, hidden[b]] - seen[b]).abs().mean().item() for b in range(4)]
    assert found["visible_l1"] == pytest.approx(sum(l1) / 4, rel=1e-5)
    assert found["constant_l2"] <= found["visible_l2"]
    assert found["loss"] == pytest.approx(method(views)["loss"].item())


def test_paper_nets_have_the_parameters_of_the_papers() -> None:
    net = encoders.build("context_encoder_inpainting", 128)
    assert count(net) == 2_824_064
    method = context_encoder(128, net, mask="central", bottleneck="fc", adversarial=True)
    painter = method.painter
    assert count(painter.bottleneck.first) == 32_780_000
    assert count(painter.bottleneck.last) == 32_769_536
    assert count(painter.decoder) == 2_756_931
    assert method.adversary is not None
    assert count(method.adversary) == 2_766_529
    whole = context_encoder(128, net, bottleneck="fc", adversarial=True)
    assert count(net, whole.painter) == 71_196_259
    assert whole.adversary is not None
    assert count(whole.adversary) == 2_832_257
    assert method(views_of(method, n=2))["loss"].isfinite()

    alexnet = encoders.build("context_encoder_features", 227)
    assert count(alexnet) == 2_334_080
    features = context_encoder(227, alexnet, **{"bottleneck_dropout": 0.5})
    assert features.painter.bottleneck.side == 6
    assert features.painter.bottleneck.first[1].weight.numel() == 331_776
    assert features(views_of(features, n=2))["loss"].isfinite()


def test_paper_settings() -> None:
    options, recipe = PAPER_PICTURES
    assert (options.mask, options.overlap, options.overlap_weight) == ("central", 7, 10)
    assert (options.lambda_rec, options.lambda_adv, options.bottleneck) == (0.999, 0.001, "fc")
    assert (recipe.lr, recipe.lr * recipe.adversary_rate, recipe.momentum) == (2e-3, 2e-4, 0.5)
    assert PAPER_FEATURES[0].mask == "random_region"
    iterations = PAPER_FEATURES[1].epochs * 1_281_167 / PAPER_FEATURES[1].batch_size
    assert iterations == pytest.approx(100_000, rel=0.01), "on ImageNet (section 4.2)"
    assert (replace(options, overlap=4), recipe) == CODE_PICTURES
    pictures = ContextEncoder.recipe_for(
        ContextEncoderOptions(adversarial=True, g_lr_mult=4.0), DataInfo(1, 32)
    )
    assert pictures.lr == pytest.approx(8e-4)
    assert pictures.lr * pictures.adversary_rate == pytest.approx(2e-4)
    assert ContextEncoder.recipe_for(ContextEncoderOptions(), DataInfo(1, 32)) is ContextEncoder.recipe


@pytest.mark.parametrize("size", [32, 64, 96, 128])
@pytest.mark.parametrize("name", ["resnet10", "resnet18b16", "nin3", "alexnet", "timm:mobilenetv3_small_100"])
def test_every_encoder_paints_at_every_size(name: str, size: int) -> None:
    encoder = encoders.build(name, size)
    for options, side in (({}, size), ({"mask": "central"}, size // 2)):
        method = context_encoder(size, encoder, **options).eval()
        with torch.no_grad():
            assert method.paint(views_of(method, n=1)).shape == (1, 3, side, side)
        assert count(method.painter) < 2_000_000


@pytest.mark.parametrize("size", [32, 227])
@pytest.mark.parametrize("name", ["context_encoder_features", "context_encoder_inpainting"])
def test_paper_nets_paint_at_other_sizes(name: str, size: int) -> None:
    method = context_encoder(size, encoders.build(name, size), mask="central").eval()
    assert method.paint(views_of(method, n=1)).shape[-1] == len(method.rim)


def test_an_image_too_small_for_the_inpainting_net() -> None:
    with pytest.raises(UsageError, match="at least 32 px"):
        encoders.build("context_encoder_inpainting", 24)
