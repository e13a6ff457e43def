"""Convolutional head: a fresh block of RotNet's network on a frozen stage map, the stage chosen on training images.

RotNet's "conv" rows (Gidaris et al. 2018, table 3; the released code's schedule in shares of the run): a 3×3 and
two 1×1 convolutions of 192 channels with BatchNorm and ReLU, global average pool, a linear layer; SGD at 0.1,
weight decay 5e-4, small shifts and flips. On the second block of RotNet's net it makes the supervised net whole.
Maps wider than 8 × 8, the size of that block's, are averaged to the finest grid of equal cells within it. The
heads of all stages are trained in one run; that of the best is trained anew on all images.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nolabel.encoders.nin import ConvB
from nolabel.evaluation import _stage_heads as heads
from nolabel.evaluation._features import pool_side
from nolabel.evaluation.base import Features, Protocol, Result

CHANNELS, SIDE = 192, 8
DROPS = (0.35, 0.7, 0.85)


@dataclass(frozen=True)
class ConvOptions(heads.HeadOptions):
    """How the head is trained."""

    steps: int = 600
    """of the final training; RotNet: 39,000"""
    choice_steps: int = 200
    """of the heads that choose the stage and the rate"""


class Conv(Protocol):
    """See the module."""

    Options = ConvOptions
    options: ConvOptions
    protocol: ClassVar[str] = "conv"
    needs = "encoder"
    baseline_seeds = 1

    def run(self, subject: Features, seed: int) -> list[Result]:
        """Top-1, balanced accuracy (and top-5 where classes are many) on the test images.

        Raises:
            RunError: features that are not finite, or the training diverged.
        """
        return heads.frozen_results(subject, self.protocol, head, self.options, DROPS, seed)


def head(shape: tuple[int, int, int], classes: int) -> nn.Module:
    """From maps of `shape` (C, h, w) to scores; initialised by fan-out, as the released code does."""
    channels, height, width = shape
    layers = nn.Sequential(
        nn.AdaptiveAvgPool2d(pool_side(1, height, width, SIDE**2)),
        ConvB(channels, CHANNELS, 3),
        ConvB(CHANNELS, CHANNELS, 1),
        ConvB(CHANNELS, CHANNELS, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(CHANNELS, classes),
    )
    return heads.fan_out(layers)
