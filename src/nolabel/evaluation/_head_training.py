"""Training with labels, budgeted in steps: heads on frozen maps, or whole networks, one candidate or several.

SGD with Nesterov momentum 0.9. Candidates are compared on a validation part of the training images; the one
chosen is trained anew on all of them, and the test images are read once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nolabel.encoders.base import Encoder
from nolabel.errors import RunError
from nolabel.evaluation import _accuracy
from nolabel.evaluation.base import Features, Network, Result, not_finite
from nolabel.number_format import autocast, fast_precision
from nolabel.seeds import generator
from nolabel.views import geometry, plain

MOMENTUM = 0.9
DROP = 5.0
"""the rate is divided by it at each of a plan's drops"""
VALIDATION_SHARE = 0.2
MOST_VALIDATION = 2000
READ = 256
"""images read at once without gradient"""

Forward = Callable[[Tensor], Sequence[Tensor]]
"""images (B, 3, S, S) -> scores (B, C) of each candidate"""


@dataclass(frozen=True)
class Plan:
    """How long is trained, on what views, and how the rate falls."""

    steps: int
    batch_size: int
    augment: Literal["crop", "shift", "none"] = "crop"
    """"crop": random crops, resized, and flips (SimCLR); "shift": up to an eighth of the side, and flips (RotNet)"""
    drops: tuple[float, ...] = ()
    """shares of the run at which the rate is divided by five; without, it falls to 0 as a cosine"""

    def rate(self, step: int) -> float:
        """Share of the first rate that `step` has."""
        share = step / self.steps
        if self.drops:
            return DROP ** -sum(share >= drop for drop in self.drops)
        return (1 + math.cos(math.pi * share)) / 2

    def described(self, subject: Features) -> dict[str, Any]:
        """For `Result.setting`, of a training on the images of `subject`."""
        precision = fast_precision(network_of(subject).encoder.mean.device)
        return {
            "steps": self.steps,
            "batch_size": self.batch_size,
            "augment": self.augment,
            "precision": precision,
        }


@dataclass(frozen=True)
class Setting:
    """What the optimizer is given."""

    lr: float
    weight_decay: float = 0.0

    def __str__(self) -> str:
        return f"lr {self.lr:.3g}, weight decay {self.weight_decay:.3g}"


class Classifier(nn.Module):
    """An encoder and a linear layer on its pooled vector, which starts at zero: images -> scores (B, C)."""

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.linear = nn.Linear(encoder.dim, classes, device=encoder.mean.device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.encoder(images))


def network_of(subject: Features) -> Network:
    """The network behind `subject`; `evaluation.run` gives these protocols no subject without one."""
    assert subject.network is not None
    return subject.network


def fit(
    forward: Forward,
    trained: Sequence[tuple[nn.Module, Setting]],
    subject: Features,
    rows: Tensor,
    plan: Plan,
    seed: int,
) -> None:
    """Train modules in place on the images `rows`; they are in evaluation mode afterwards.

    The images come in random orders, one after another, so the number of steps does not fall with their
    number. The losses of the candidates are added, and each candidate has parameters of its own.

    Trained in bfloat16 autocast where the device has units for it (`number_format.fast_precision`); the loss and
    whatever is read afterwards are float32.

    Args:
        trained: modules in use by `forward`, each with its setting; whatever else `forward` uses stays frozen.

    Raises:
        RunError: the first scores are not finite.
    """
    network = network_of(subject)
    groups = [
        {"params": [p for p in module.parameters() if p.requires_grad], "weight_decay": setting.weight_decay}
        for module, setting in trained
    ]
    precision = fast_precision(network.encoder.mean.device)
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, nesterov=True)
    for module, _ in trained:
        module.train()
    order = rows[_orders(len(rows), plan.steps * plan.batch_size, seed)]
    for step, picked in enumerate(order.split(plan.batch_size)):
        for group, (_, setting) in zip(optimizer.param_groups, trained, strict=True):
            group["lr"] = setting.lr * plan.rate(step)
        images = _views(network, picked, plan.augment, generator(seed, "evaluate", "head", "views", step))
        labels = subject.labels[picked].to(images.device)
        with autocast(images.device, precision):
            scores = [one.float() for one in forward(images)]
        if step == 0 and not all(bool(one.isfinite().all()) for one in scores):
            raise not_finite(subject.name)
        optimizer.zero_grad()
        torch.stack([F.cross_entropy(one, labels) for one in scores]).sum().backward()
        optimizer.step()
        network.progress(subject.name, (step + 1) * plan.batch_size, len(order))
    for module, _ in trained:
        module.eval()


def _orders(n: int, total: int, seed: int) -> Tensor:
    """`total` positions below n: random orders of all n, one after another."""
    random = generator(seed, "evaluate", "head", "order")
    return torch.cat([torch.randperm(n, generator=random) for _ in range(-(-total // n))])[:total]


def _views(network: Network, rows: Tensor, augment: str, random: torch.Generator) -> Tensor:
    """Float32 (B, 3, S, S), channels last."""
    batch, size, form = network.store.batch(rows), network.size, torch.channels_last
    if augment == "none":
        return plain.whole(batch, size, form)
    flip = geometry.draw_flip(len(rows), random)
    if augment == "crop":
        boxes = geometry.boxes(geometry.draw_crop(len(rows), random), batch.heights, batch.widths)
        return geometry.crop_resize(batch, boxes, size, flip["flip"], form)
    images = geometry.flip(plain.whole(batch, size), flip)
    moved = geometry.pad_crop(images, geometry.draw_pad_crop(len(rows), random), pad=size // 8)
    return moved.contiguous(memory_format=form)


@torch.no_grad()
def scores_of(forward: Forward, subject: Features, rows: Tensor) -> list[Tensor]:
    """Scores (n, C) of each candidate on the images `rows`, read whole."""
    network = network_of(subject)
    parts = []
    for some in rows.split(READ):
        images = plain.whole(network.store.batch(some), network.size, torch.channels_last)
        parts.append([one.float().cpu() for one in forward(images)])
    return [torch.cat(list(one)) for one in zip(*parts, strict=True)]


def accuracies(
    forward: Forward, subject: Features, rows: Tensor, metric: _accuracy.Metric = "top1"
) -> list[float]:
    """The accuracy of each candidate on the images `rows`; 0 for one that diverged."""
    labels = subject.labels[rows]
    return [
        _accuracy.share(one.argmax(1) == labels, labels, metric) if bool(one.isfinite().all()) else 0.0
        for one in scores_of(forward, subject, rows)
    ]


def halves(subject: Features, seed: int) -> tuple[Tensor, Tensor]:
    """(rows to fit on, rows to choose by): the validation images of the data, else a fifth of each class of the
    training images, 2,000 in all or fewer."""
    share = min(VALIDATION_SHARE, MOST_VALIDATION / len(subject.train))
    held = subject.choice_part(share, generator(seed, "evaluate", "head", "choice"))
    return subject.train[~held], subject.train[held]


def results(
    subject: Features,
    protocol: str,
    scores: Tensor,
    seed: int,
    chosen: dict[str, Any],
    setting: dict[str, Any],
) -> list[Result]:
    """`_accuracy.results`, with the seed of the training where the subject has none.

    Raises:
        RunError: scores that are not finite.
    """
    if not bool(scores.isfinite().all()):
        raise RunError(
            f"The training of {protocol} on {subject.name} diverged: give its options a smaller learning rate."
        )
    rows = _accuracy.results(subject, protocol, scores, seed, chosen, setting)
    return [replace(row, seeds=row.seeds or (seed,)) for row in rows]


@dataclass(frozen=True)
class Choice:
    """The best of several settings on the validation part."""

    setting: Setting
    validation: float | None
    """its accuracy; None: there was nothing to choose, or no class with an image to spare"""
    tried: dict[str, float]
    """setting in words -> accuracy"""

    def described(self) -> dict[str, Any]:
        """For `Result.chosen`."""
        setting = {"lr": self.setting.lr, "weight_decay": self.setting.weight_decay}
        return setting | {"validation": self.validation, "settings": self.tried}


def choose(
    subject: Features,
    start: Callable[[], Encoder],
    settings: Sequence[Setting],
    plan: Plan,
    seed: int,
    metric: _accuracy.Metric = "top1",
) -> Choice:
    """The setting whose `Classifier`, trained from `start()`, is best on the validation part by `metric`."""
    rows, held = halves(subject, seed)
    if len(settings) == 1 or not len(held):
        return Choice(settings[0], None, {})
    tried = {}
    for setting in settings:
        model = train_classifier(subject, start(), rows, setting, plan, seed)
        (tried[setting],) = accuracies(lambda images, model=model: [model(images)], subject, held, metric)
    best = max(tried, key=lambda setting: tried[setting])
    return Choice(best, tried[best], {str(setting): value for setting, value in tried.items()})


def train_classifier(
    subject: Features, encoder: Encoder, rows: Tensor, setting: Setting, plan: Plan, seed: int
) -> Classifier:
    """`encoder` (trained in place) under a linear layer, fitted to the images `rows`.

    BatchNorm keeps max(1 − 10/s, 0.9) of its statistics at each step, s the steps of an epoch (SimCLR, B.8.1).
    """
    epoch = -(-len(rows) // plan.batch_size)
    for module in encoder.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = min(10 / epoch, 0.1)
    model = Classifier(encoder, len(subject.class_names)).to(memory_format=torch.channels_last)
    fit(lambda images: [model(images)], [(model, setting)], subject, rows, plan, seed)
    return model


def predict(model: Classifier, subject: Features, rows: Tensor) -> Tensor:
    """Scores (n, C) of the images `rows`, read whole."""
    return scores_of(lambda images: [model(images)], subject, rows)[0]
