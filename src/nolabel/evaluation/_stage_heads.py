"""Heads on the frozen stage maps of an encoder, as RotNet measures them: the best stage, trained anew.

The candidates (each stage, each rate) are trained in one run on the same maps, their losses added.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from nolabel.encoders._initial import seeded
from nolabel.evaluation._head_training import (
    Choice,
    Forward,
    Plan,
    Setting,
    accuracies,
    fit,
    halves,
    network_of,
    results,
    scores_of,
)
from nolabel.evaluation._ranges import COUNT, COUNT_OR_NONE, NOT_NEGATIVE, POSITIVE, hold
from nolabel.evaluation.base import Features, Result
from nolabel.views import plain

Build = Callable[[tuple[int, int, int], int], nn.Module]
"""(C, h, w) of a map, number of classes -> a head from the map to scores"""


@dataclass(frozen=True)
class StageHead:
    """A head on the map of one stage, or a candidate for it."""

    stage: str
    setting: Setting
    module: nn.Module


def stage_heads(
    subject: Features, build: Build, stages: Sequence[str], settings: Sequence[Setting], seed: int
) -> list[StageHead]:
    """Fresh heads, one for each stage and setting, on the encoder's device."""
    network = network_of(subject)
    with torch.no_grad():
        images = plain.whole(network.store.batch(subject.train[:1]), network.size)
        maps = network.encoder.eval().maps(images)
    heads = []
    for stage in stages:
        shape = (maps[stage].shape[1], maps[stage].shape[2], maps[stage].shape[3])
        for setting in settings:
            with seeded(seed, "evaluate", "head", stage):
                module = build(shape, len(subject.class_names))
            module = module.to(images.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            heads.append(StageHead(stage, setting, module))
    return heads


def fit_heads(subject: Features, heads: Sequence[StageHead], rows: Tensor, plan: Plan, seed: int) -> Forward:
    """Train `heads` in place on the frozen maps of the images `rows`, all in one run; images -> their scores."""
    encoder = network_of(subject).encoder.eval()

    def forward(images: Tensor) -> list[Tensor]:
        with torch.no_grad():
            maps = encoder.maps(images)
        return [head.module(maps[head.stage]) for head in heads]

    fit(forward, [(head.module, head.setting) for head in heads], subject, rows, plan, seed)
    return forward


@dataclass(frozen=True)
class HeadOptions:
    """How a head is trained."""

    steps: int
    """of the final training; RotNet: 39,000"""
    choice_steps: int
    """of the heads that choose the stage and the rate"""
    batch_size: int = 128
    """images a step"""
    lr: tuple[float, ...] = (0.1,)
    """first learning rates that are tried"""
    weight_decay: float = 5e-4
    """of every parameter of the head"""
    augment: Literal["shift", "crop", "none"] = "shift"
    """training views: small shifts and flips, random crops and flips, or the whole image"""
    unfrozen_steps: int = 0
    """then the whole net is trained on for so many steps at a tenth of the rate: rows `<protocol>_finetuned`"""

    def __post_init__(self) -> None:
        hold(
            self,
            steps=COUNT,
            choice_steps=COUNT,
            batch_size=COUNT,
            lr=POSITIVE,
            weight_decay=NOT_NEGATIVE,
            unfrozen_steps=COUNT_OR_NONE,
        )


def frozen_results(
    subject: Features,
    protocol: str,
    build: Build,
    options: HeadOptions,
    drops: tuple[float, ...],
    seed: int,
) -> list[Result]:
    """Results of a head on the best frozen stage map, and of the whole net trained on, where that is asked for.

    Args:
        drops: shares of the run at which the rate is divided.
    """
    plan = Plan(options.steps, options.batch_size, options.augment, drops)
    settings = [Setting(lr, options.weight_decay) for lr in options.lr]
    stage, choice, each = best_head(subject, build, settings, replace(plan, steps=options.choice_steps), seed)
    (head,) = stage_heads(subject, build, [stage], [choice.setting], seed)
    forward = fit_heads(subject, [head], subject.train, plan, seed)
    chosen = {"stage": stage, **choice.described(), "stages": each}
    setting = {
        "train_images": len(subject.train),
        **plan.described(subject),
        "choice_steps": options.choice_steps,
    }
    setting |= {"head_parameters": sum(p.numel() for p in head.module.parameters())}
    (scores,) = scores_of(forward, subject, subject.test)
    rows = results(subject, protocol, scores, seed, chosen, setting)
    if options.unfrozen_steps:
        longer = replace(plan, steps=options.unfrozen_steps)
        (scores,) = scores_of(_unfreeze(subject, head, longer, seed), subject, subject.test)
        setting |= {"unfrozen_steps": longer.steps}
        rows += results(subject, f"{protocol}_finetuned", scores, seed, chosen, setting)
    return rows


def best_head(
    subject: Features, build: Build, settings: Sequence[Setting], plan: Plan, seed: int
) -> tuple[str, Choice, dict[str, float]]:
    """(stage, setting, stage -> accuracy): the best on the validation part; all are trained in one run."""
    rows, held = halves(subject, seed)
    stages = network_of(subject).encoder.stages
    if not len(held):
        return stages[-1], Choice(settings[0], None, {}), {}
    heads = stage_heads(subject, build, stages, settings, seed)
    found = list(
        zip(heads, accuracies(fit_heads(subject, heads, rows, plan, seed), subject, held), strict=True)
    )
    best, accuracy = max(found, key=lambda pair: pair[1])
    tried = {str(head.setting): value for head, value in found if head.stage == best.stage}
    each = {stage: max(value for head, value in found if head.stage == stage) for stage in stages}
    return best.stage, Choice(best.setting, accuracy, tried if len(settings) > 1 else {}), each


def _unfreeze(subject: Features, head: StageHead, plan: Plan, seed: int) -> Forward:
    """Train a copy of the encoder and `head` together, in place, at a tenth of the head's rate."""
    encoder = copy.deepcopy(network_of(subject).encoder)
    setting = replace(head.setting, lr=head.setting.lr / 10)

    def forward(images: Tensor) -> list[Tensor]:
        return [head.module(encoder.maps(images)[head.stage])]

    fit(forward, [(encoder, setting), (head.module, setting)], subject, subject.train, plan, seed)
    return forward


def fan_out(layers: nn.Module) -> nn.Module:
    """`layers` with weights from N(0, 2/fan-out), k²·out for a convolution, and biases 0 (RotNet's code)."""
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return layers
