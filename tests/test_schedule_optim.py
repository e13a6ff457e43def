"""Learning rates and optimizers against the values of the papers and of closed forms."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from nolabel.errors import UsageError
from nolabel.methods.base import Recipe
from nolabel.training.budget import Budget, steps_in_epochs
from nolabel.training.optim import LARS, build_optimizer, parameter_groups
from nolabel.training.schedule import peak_rate, rate
from toys import Toy, toy_method, toy_store

ROTATION = Recipe(lr=0.1, schedule="step", warmup=0, drops=(0.3, 0.6, 0.8), drop_factor=5)


@pytest.mark.parametrize("epochs", [100, 200])
def test_the_steps_of_rotation(epochs: int) -> None:
    at = {0: 0.1, 59: 0.1, 60: 0.02, 119: 0.02, 120: 0.004, 160: 0.0008}
    for epoch, expected in at.items():
        step = epoch * epochs * 390 // 200
        assert rate(step, 390 * epochs, ROTATION) == pytest.approx(expected)


def test_the_cosine_of_simclr() -> None:
    recipe = Recipe(lr=0.3, lr_rule="linear", batch_size=4096, schedule="cosine", warmup=0.1)
    assert rate(0, 1000, recipe) == 0
    assert rate(50, 1000, recipe) == pytest.approx(2.4)
    assert rate(100, 1000, recipe) == pytest.approx(4.8)
    assert rate(550, 1000, recipe) == pytest.approx(2.4)
    assert rate(999, 1000, recipe) == pytest.approx(0, abs=1e-4)
    for step in range(100, 1000, 90):
        assert rate(step, 1000, recipe) == pytest.approx(2.4 * (1 + math.cos(math.pi * (step - 100) / 900)))


def test_a_constant_rate_and_a_run_of_one_step() -> None:
    recipe = Recipe(lr=0.3, schedule="constant", warmup=0)
    assert {rate(step, 7, recipe) for step in range(7)} == {0.3}
    assert rate(0, 1, replace(recipe, schedule="cosine")) == 0.3


def test_an_extended_run_warms_up_again_into_the_schedule_of_its_new_total() -> None:
    recipe = Recipe(lr=1.0, schedule="cosine", warmup=0.1)
    assert rate(100, 200, recipe, start=100) == 0
    assert rate(105, 200, recipe, start=100) == pytest.approx(rate(105, 200, recipe) / 2)
    assert rate(110, 200, recipe, start=100) == rate(110, 200, recipe)


@pytest.mark.parametrize(("batch", "linear", "root"), [(64, 0.075, 0.6), (512, 0.6, 1.697), (4096, 4.8, 4.8)])
def test_the_rate_follows_the_batch(batch: int, linear: float, root: float) -> None:
    recipe = Recipe(batch_size=batch, lr=0.3, lr_rule="linear", lr_batch=256)
    assert peak_rate(recipe) == pytest.approx(linear)
    assert peak_rate(replace(recipe, lr=4.8, lr_rule="sqrt", lr_batch=4096)) == pytest.approx(root, abs=1e-3)
    assert peak_rate(replace(recipe, lr_rule="fixed")) == 0.3


@pytest.mark.parametrize(("decay", "ratio"), [(0.0, 0.005), (1e-4, 0.0049975)])
def test_the_trust_ratio_of_lars(decay: float, ratio: float) -> None:
    w = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    w.grad = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    LARS([w], lr=1.0, weight_decay=decay).step()
    step = ratio * (w.grad + decay * torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    assert torch.allclose(
        w.detach(), torch.tensor([[3.0, 4.0]], dtype=torch.float64) - step, atol=1e-8, rtol=0
    )


def test_lars_keeps_the_rate_inside_its_buffer() -> None:
    def end(rates: tuple[float, float], *, inside: bool) -> float:
        w, velocity = torch.tensor(5.0, dtype=torch.float64), 0.0
        p = nn.Parameter(w.clone())
        optimizer = LARS([{"params": [p], "adapt": False}], lr=1.0, momentum=0.9)
        for lr in rates:
            optimizer.param_groups[0]["lr"] = lr
            p.grad = torch.ones_like(p)
            optimizer.step()
            velocity = 0.9 * velocity + 1
            w -= lr * velocity
        return float(p if inside else w)

    assert end((0.1, 0.1), inside=True) == pytest.approx(end((0.1, 0.1), inside=False))
    assert end((0.1, 0.5), inside=True) == pytest.approx(5 - 0.1 - (0.9 * 0.1 + 0.5))
    assert end((0.1, 0.5), inside=False) == pytest.approx(5 - 0.1 - 0.5 * 1.9)


def test_lars_with_nesterov_zero_norms_and_excluded_parameters() -> None:
    w = nn.Parameter(torch.tensor([[3.0, 4.0]]))
    w.grad = torch.tensor([[0.6, 0.8]])
    LARS([w], lr=1.0, nesterov=True).step()
    assert torch.allclose(w, torch.tensor([[3.0, 4.0]]) - 1.9 * 0.005 * torch.tensor([[0.6, 0.8]]))
    zero = nn.Parameter(torch.zeros(1, 2))
    zero.grad = torch.tensor([[0.6, 0.8]])
    LARS([zero], lr=1.0).step()
    assert torch.allclose(zero, torch.tensor([[-0.6, -0.8]]))
    still = nn.Parameter(torch.ones(1, 2))
    still.grad = torch.zeros(1, 2)
    LARS([still], lr=1.0).step()
    assert torch.equal(still, torch.ones(1, 2))


def test_normalisation_and_biases_neither_decay_nor_adapt() -> None:
    method = toy_method(toy_store())
    method.encoder.stem.requires_grad_(False)
    weights, others = parameter_groups(method, Recipe(weight_decay=0.1))
    assert weights["weight_decay"] == 0.1
    assert (others["weight_decay"], others["adapt"]) == (0, False)
    assert all(p.ndim > 1 for p in weights["params"])
    counted = len(weights["params"]) + len(others["params"])
    assert counted == len(list(method.parameters())) - 1
    assert parameter_groups(method, Recipe(weight_decay=0.1, decay_norm_bias=True))[1]["weight_decay"] == 0.1


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_every_optimizer_lowers_the_loss(name: str) -> None:
    store = toy_store()
    method = toy_method(store).train()
    lr = {"sgd": 0.05, "adamw": 0.01, "lars": 5.0}[name]
    optimizer = build_optimizer(method, replace(Toy.recipe, optimizer=name, lr=lr, nesterov=True))  # type: ignore[arg-type]
    views = {"first": torch.rand(8, 3, 16, 16), "second": torch.rand(8, 3, 16, 16)}
    losses = []
    for _ in range(15):
        torch.manual_seed(0)
        loss = method(views)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


def test_the_length_of_a_run() -> None:
    assert steps_in_epochs(2, 50_000, 128) == 780
    assert steps_in_epochs(0.001, 100, 10) == 1
    with pytest.raises(UsageError, match="--epochs and --minutes"):
        Budget(epochs=1, minutes=1)
    with pytest.raises(UsageError, match="none was given"):
        Budget()
    with pytest.raises(UsageError, match="--minutes must be above 0, not 0"):
        Budget(minutes=0)
