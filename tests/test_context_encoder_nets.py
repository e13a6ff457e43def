"""Context encoder, second part: its nets, its switches and its adversary."""

import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from context_encoders import ADVERSARIAL, context_encoder, views_of
from nolabel import distributed, seeds
from nolabel.encoders import base as encoders
from nolabel.encoders.context_encoder_nets import discriminator
from nolabel.errors import UsageError
from nolabel.methods.base import Method, Recipe, unmoved
from nolabel.methods.context_encoder import (
    ContextEncoder,
    ContextEncoderOptions,
    adversary_loss,
    fooling_loss,
)
from nolabel.runs import Run
from nolabel.training.launch import launch, make_fabric
from nolabel.training.loop import fit
from nolabel.training.optim import build_optimizer, parameter_groups
from nolabel.training.progress import Progress
from nolabel.training.step import ViewSource, train_step
from nolabel.training.sync_batchnorm import synchronise
from small import smooth_images
from toys import Toy, toy_method, toy_run, toy_settings, toy_store


@pytest.mark.parametrize("values", [{"mask_fraction": 0.0}, {"hole_fraction": 1.0}, {"g_lr_mult": 0.0}])
def test_options_that_leave_nothing_to_do(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="Choose"):
        ContextEncoderOptions(**values)


SWITCHES: list[dict[str, Any]] = [
    {"bottleneck": "fc", "noise_dim": 5},
    {"noise_dim": 5, "bottleneck_dropout": 0.5},
    {"bottleneck": "none", "skip_connections": True},
    {"skip_connections": True, "mask": "central"},
    {"reconstruction": "l1", "fill": "noise", "loss_region": "whole"},
    {"mask": "central", "loss_region": "whole", "norm_target": True},
    {"mask": "random_block", "mask_channel": True, "adversarial": True, "condition_discriminator": True},
    {"mask": "central", "adversarial": True, "norm_target": True, "lambda_rec": 0.0, "lambda_adv": 1.0},
]


@pytest.mark.parametrize("options", SWITCHES, ids=str)
def test_every_switch_reaches_every_parameter(options: dict[str, Any]) -> None:
    method = context_encoder(**options)
    found = method(views_of(method, n=4))
    losses = {"loss", "adversary_loss"} & found.keys()
    assert {name for name, value in found.items() if value.requires_grad} == losses
    torch.stack([found[name] for name in losses]).sum().backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0 or name.endswith("bias"), name
    assert all(math.isfinite(value) for value in method.eval().held_out(views_of(method)).values())
    assert method.panel(smooth_images(2), seeds.generator(0), trained=True).axes


def test_noise_at_the_bottleneck_changes_the_picture() -> None:
    method = context_encoder(noise_dim=4).eval()
    views = views_of(method)
    assert not torch.equal(method.paint(views), method.paint(views | {"noise": views["noise"].flip(1)}))


def test_skip_connections_are_cut_to_what_the_decoder_paints() -> None:
    """With a local encoder and no bottleneck, what lies far outside the hole has no way into it but a skip."""
    method = context_encoder(64, mask="central", skip_connections=True)
    maps = torch.arange(62.0).expand(1, 1, 62, 62)
    cut = method.painter._over_window(maps)
    assert cut[0, 0, 0].tolist() == list(range(15, 47))


@pytest.mark.parametrize("trained", [False, True])
def test_panel_shows_the_fill_only_of_a_trained_net(trained: bool) -> None:
    method = context_encoder(mask="central").train()
    figure = method.panel(smooth_images(2), seeds.generator(0), trained)
    titles = [axis.get_title().partition("\n")[0] for axis in figure.axes if axis.get_title()]
    families = ["a region (25%)", "blocks (23%)", "the centre (14%)"]
    fills = ["painted", "pasted", "error"] if trained else families
    assert titles == ["given", *fills, "truth"]
    pictures = {name: axis.images[0].get_array() for name, axis in zip(titles, figure.axes[:5], strict=False)}
    assert (pictures["given"][16, 16] == method.encoder.mean.flatten().numpy()).all()
    assert (pictures["given"][0] == pictures["truth"][0]).all()
    assert method.training


def test_the_released_net_starts_as_in_the_released_code() -> None:
    torch.manual_seed(0)
    released = encoders.build("context_encoder_inpainting", 128)
    method = context_encoder(128, released, mask="central", bottleneck="fc", adversarial=True)
    kinds = nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d
    layers = {name: layer for name, layer in method.named_modules() if isinstance(layer, kinds)}
    assert {name.split(".")[0] for name in layers} == {"encoder", "painter", "adversary"}
    for name, layer in layers.items():
        centre = float(isinstance(layer, nn.BatchNorm2d))
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.4), name
        assert layer.weight.mean().item() == pytest.approx(centre, abs=0.01), name
        assert layer.bias is not None, name
        assert not layer.bias.any(), name


# --- the adversary: the contract of `Method.adversary` -----------------------------------------------------------


def adversarial(**options: Any) -> ContextEncoder:
    return context_encoder(16, **ADVERSARIAL | options)


def gradients(method: Method, loss: Tensor) -> dict[str, Tensor]:
    """Names and gradients of the parameters that `loss` reaches."""
    method.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def test_losses_of_an_undecided_adversary() -> None:
    zero = torch.zeros(5, 1)
    assert adversary_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert fooling_loss(zero).item() == pytest.approx(math.log(2))
    real, fake = torch.tensor([[2.0]]), torch.tensor([[-1.0]])
    expected = -math.log(1 / (1 + math.exp(-2))) - math.log(1 - 1 / (1 + math.exp(1)))
    assert adversary_loss(real, fake).item() == pytest.approx(expected)
    assert fooling_loss(fake).item() == pytest.approx(math.log(1 + math.exp(1)))


@pytest.mark.parametrize("options", [{}, {"condition_discriminator": True, "mask_channel": True}])
def test_each_loss_reaches_its_own_parameters(options: dict[str, Any]) -> None:
    method = adversarial(**options)
    views = views_of(method, n=4)
    names = {name for name, _ in method.named_parameters()}
    rivals = {name for name in names if name.startswith("adversary.")}
    assert rivals
    assert gradients(method, method(views)["adversary_loss"]).keys() == rivals
    assert gradients(method, method(views)["loss"]).keys() == names - rivals


def test_without_weight_the_adversary_changes_no_gradient() -> None:
    with_rival, alone = adversarial(lambda_adv=0.0), context_encoder(16, mask="central")
    alone.load_state_dict(with_rival.state_dict(), strict=False)
    views = views_of(alone, n=4)
    expected = gradients(alone, 0.999 * alone(views)["loss"])
    found = gradients(with_rival, with_rival(views)["loss"])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-7, rtol=1e-4)
    strong = adversarial(lambda_adv=1.0)
    strong.load_state_dict(with_rival.state_dict())
    differs = gradients(strong, strong(views)["loss"])
    assert any((differs[name] - value).abs().max() > 1e-4 for name, value in expected.items())


def test_unmoved_gives_the_inputs_gradient_and_none_to_the_parameters() -> None:
    net, plain = discriminator(3, 16), discriminator(3, 16)
    plain.load_state_dict(net.state_dict())
    x = torch.randn(4, 3, 16, 16, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    one, two = unmoved(net, x), plain(y)
    one.sum().backward()
    two.sum().backward()
    assert torch.equal(one, two)
    assert x.grad is not None
    assert y.grad is not None
    assert torch.equal(x.grad, y.grad)
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), plain.buffers(), strict=True))


RECIPE = Recipe(batch_size=8, optimizer="sgd", lr=0.05, momentum=0.0, weight_decay=0.0, adversary_rate=0.1)


def test_one_step_moves_both_nets_once_each_by_its_own_loss_and_rate() -> None:
    method = adversarial()
    views = views_of(method, n=4)
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    state = {name: value.clone() for name, value in method.state_dict().items()}
    own = gradients(method, method(views)["loss"])
    method.load_state_dict(state)
    rival = gradients(method, method(views)["adversary_loss"])
    method.load_state_dict(state)
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(method, build_optimizer(method, RECIPE))
    train_step(fabric, model, optimizer, views, 0.05, 0, 0)
    for name, parameter in method.named_parameters():
        moved = 0.005 * rival[name] if name in rival else 0.05 * own[name]
        torch.testing.assert_close(parameter.detach(), before[name] - moved, atol=1e-7, rtol=1e-5)


def test_a_method_without_an_adversary_has_the_groups_and_bits_it_always_had() -> None:
    method, recipe = toy_method(toy_store(), dropout=0.0), Toy.recipe
    assert method.adversary is None
    groups = parameter_groups(method, recipe)
    assert [(group["adapt"], group["rate"]) for group in groups] == [(True, 1.0), (False, 1.0)]
    assert len(parameter_groups(adversarial(), RECIPE)) == 4
    twin = toy_method(toy_store(), dropout=0.0)
    views = {name: torch.rand(8, 3, 16, 16) for name in ("first", "second")}
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(method, build_optimizer(method, recipe))
    weights, others = ([p for p in twin.parameters() if (p.ndim > 1) == many] for many in (True, False))
    plain = torch.optim.AdamW(
        [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
        recipe.lr, fused=True,
    )  # fmt: skip
    for step in range(3):
        train_step(fabric, model, optimizer, views, recipe.lr, 0, step)
        plain.zero_grad()
        twin(views)["loss"].backward()
        plain.step()
    assert all(torch.equal(a, b) for a, b in zip(method.parameters(), twin.parameters(), strict=True))


def fit_adversarial(
    folder: Path, steps: int, run: Run | None = None, monitors: tuple[Any, ...] = ()
) -> ContextEncoder:
    method, run = adversarial(), run or toy_run(folder, steps)
    recipe = Recipe(batch_size=8, optimizer="adamw", lr=0.01, momentum=0.5, adversary_rate=0.1)
    try:
        fit(
            method, toy_store(), fabric=Fabric(accelerator="cpu", devices=1), run=run,
            settings=toy_settings(steps, recipe=recipe), monitors=monitors, progress=Progress(False),
        )  # fmt: skip
    finally:
        run.close()
    return method


def test_a_resumed_run_with_an_adversary_ends_with_the_same_bits(tmp_path: Path) -> None:
    def kill(encoder: nn.Module, step: int) -> dict[str, float]:
        if step == 4:
            raise ZeroDivisionError
        return {}

    whole = fit_adversarial(tmp_path / "whole", 5)
    with pytest.raises(ZeroDivisionError):
        fit_adversarial(tmp_path / "parts", 5, monitors=(kill,))
    parts = fit_adversarial(tmp_path / "parts", 5, run=Run.resume(tmp_path / "parts"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    row = Run.open(tmp_path / "parts").metrics()[-1]
    assert {"loss", "adversary_loss", "reconstruction"} <= row.keys()


def three_steps(options: dict[str, Any], out: Path) -> None:
    """The losses of three steps in float64 and the state after them, written by the first process."""
    torch.set_num_threads(1)
    fabric = make_fabric("64-true")
    method = context_encoder(16, **options).double()
    if fabric.world_size > 1:
        synchronise(method, fabric.device)
    model, optimizer = fabric.setup(method, build_optimizer(method, RECIPE))
    source = ViewSource(method, toy_store(), 8, 3, False, fabric.global_rank, fabric.world_size)
    losses: list[Tensor] = []
    method.register_forward_hook(
        lambda _method, _views, out: losses.append(torch.stack([*out.values()]).detach())
    )
    for step in range(3):
        train_step(fabric, model.train(), optimizer, source.views(step, 0.0), 0.05, 3, step)
    found = {"losses": distributed.mean(torch.stack(losses)), **method.state_dict()}
    if fabric.is_global_zero:
        safetensors.torch.save_file({name: value.contiguous() for name, value in found.items()}, out)


@pytest.mark.parametrize("options", [ADVERSARIAL, pytest.param({}, marks=pytest.mark.slow)])
def test_two_processes_with_an_adversary_are_one(tmp_path: Path, options: dict[str, Any]) -> None:
    launch(three_steps, (options, tmp_path / "one"), 1)
    launch(three_steps, (options, tmp_path / "two"), 2)
    one, two = (safetensors.torch.load_file(tmp_path / processes) for processes in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-10, rtol=0, msg=name)


# --- what it learns ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_eight_images_are_learnt_by_heart() -> None:
    method = context_encoder(32, encoders.build("resnet10", 32), crop_min=1.0, flip_p=0.0)
    optimizer, images = torch.optim.AdamW(method.parameters(), 2e-3), smooth_images(8)
    losses = []
    for _ in range(300):
        loss = method(views_of(method, images))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    assert (
        method(views_of(method, images))["loss"] < method.held_out(views_of(method, images))["constant_loss"]
    )
