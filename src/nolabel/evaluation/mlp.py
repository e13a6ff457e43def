"""Non-linear head: two hidden layers on a frozen stage map, the stage chosen on training images.

RotNet's "non-linear" rows (Gidaris et al. 2018, tables 1 and 3; the released code's schedule in shares of the
run): two layers of min(20 · classes, 2048) units with BatchNorm and ReLU, a linear layer, SGD at 0.1, weight
decay 5e-4, small shifts and flips. A map of more than 12,288 values, those of RotNet's conv2, is averaged to a
coarser grid. The heads of all stages are trained in one run; that of the best is trained anew on all images.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from nolabel.evaluation import _stage_heads as heads
from nolabel.evaluation._features import pool, pool_side
from nolabel.evaluation.base import Features, Protocol, Result

VALUES = 12_288
"""192 · 8 · 8, RotNet's conv2"""
DROPS = (0.2, 0.4, 0.45)
"""of the released code; the last rate holds for the second half"""


@dataclass(frozen=True)
class MLPOptions(heads.HeadOptions):
    """How the head is trained."""

    steps: int = 1000
    """of the final training; RotNet: 39,000"""
    choice_steps: int = 300
    """of the heads that choose the stage and the rate"""


class MLP(Protocol):
    """See the module."""

    Options = MLPOptions
    options: MLPOptions
    protocol: ClassVar[str] = "mlp"
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
    side = pool_side(*shape, VALUES)
    hidden = min(20 * classes, 2048)
    layers = nn.Sequential(
        Pooled(side),
        nn.Linear(shape[0] * side**2, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, classes),
    )
    return heads.fan_out(layers)


class Pooled(nn.Module):
    """Maps (B, C, h, w) averaged over side × side cells: (B, C · side²)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps: Tensor) -> Tensor:
        return pool(maps, self.side)
