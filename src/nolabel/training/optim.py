"""Optimizers and which parameters they change how."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from nolabel.methods.base import Method, Recipe
from nolabel.training.schedule import peak_rate


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rates (You, Gitman, Ginsburg, 2017), in the order of SimCLR's released code.

    For a parameter w with gradient g: g += weight_decay * w; r = eta * |w| / |g|, and 1 where a norm is 0;
    v = momentum * v + lr * r * g, with the rate inside the buffer; w -= v (Nesterov: w -= momentum * v + lr * r * g).
    In a group with `adapt=False` (BatchNorm and biases) r is 1. With `clip` the whole rate lr * r becomes the smaller
    one of r and lr (solo-learn's rule: r is divided by lr and cut at 1).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        eta: float = 0.001,
        clip: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "eta": eta,
            "clip": clip,
        }
        super().__init__(params, defaults | {"adapt": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        if closure is not None:
            with torch.enable_grad():
                closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        grad = parameter.grad
        assert grad is not None
        if group["weight_decay"]:
            grad = grad.add(parameter, alpha=group["weight_decay"])
        if group["adapt"]:
            size, slope = parameter.norm(), grad.norm()
            ratio = torch.where((size > 0) & (slope > 0), group["eta"] * size / slope, torch.ones_like(size))
            if group["clip"]:
                ratio = (ratio / group["lr"]).clamp(max=1)
            grad = grad * ratio
        state = self.state[parameter]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        velocity = state["velocity"].mul_(group["momentum"]).add_(grad, alpha=group["lr"])
        parameter.sub_(velocity, alpha=group["momentum"] if group["nesterov"] else 1.0)
        if group["nesterov"]:
            parameter.sub_(grad, alpha=group["lr"])


def parameter_groups(method: Method, recipe: Recipe) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: weights, and (without decay or adaptation) normalisation and biases.

    Everything with fewer than two axes counts as the second; `recipe.decay_norm_bias` lets it decay too. An
    adversary has two groups of its own. `rate` is each group's share of the learning rate.
    """
    rivals = set() if method.adversary is None else set(method.adversary.parameters())
    decay = recipe.weight_decay if recipe.decay_norm_bias else 0.0
    groups: list[dict[str, Any]] = []
    for rival, rate in ((False, 1.0), (True, recipe.adversary_rate)):
        moved = [p for p in method.parameters() if p.requires_grad and (p in rivals) == rival]
        weights, others = [p for p in moved if p.ndim > 1], [p for p in moved if p.ndim <= 1]
        groups += [
            {"params": weights, "weight_decay": recipe.weight_decay, "adapt": True, "rate": rate},
            {"params": others, "weight_decay": decay, "adapt": False, "rate": rate},
        ]
    return [group for group in groups if group["params"]]


def build_optimizer(method: Method, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of `recipe` over the trainable parameters of `method`, at the peak rate."""
    groups, lr = parameter_groups(method, recipe), peak_rate(recipe)
    if recipe.optimizer == "lars":
        return LARS(
            groups, lr, recipe.momentum, nesterov=recipe.nesterov, eta=recipe.lars_eta, clip=recipe.lars_clip
        )
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr, betas=(recipe.momentum, recipe.beta2), fused=True)
    return torch.optim.SGD(groups, lr, recipe.momentum, nesterov=recipe.nesterov, fused=True)
