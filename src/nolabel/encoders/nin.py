"""RotNet's network in network: `nin3`, `nin4`, `nin5` blocks of a spatial and two 1×1 convolutions.

Gidaris, Singh, Komodakis, "Unsupervised Representation Learning by Predicting Image Rotations" (ICLR 2018),
section 3.1 and the released code in its CIFAR-10 pretext configuration: blocks 1 and 2 end with a pool that
halves the map (of which the stage map is the output), and all later blocks keep it. Made for 32 px; it is the
same net for larger images, whose maps grow with them.

`nin4avg` and `nin5avg` also end block 3 with a pool (the default of the code's class, which its CIFAR-10 configuration
turns off); `nin4half` and `nin4third` have a half and a third of the channels (ours, for a CPU).
"""

import re

import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.encoders.base import Encoder

PATTERN = r"nin(3|[45](avg)?)(half|third)?"
EXAMPLES = ["nin3", "nin4", "nin5"]


def build(name: str, size: int) -> "NIN":
    """The network in network called `name`."""
    found = re.fullmatch(r"nin(\d)(avg)?(half|third)?", name)
    assert found
    blocks, average, width = found.groups()
    return NIN(name, size, int(blocks), average is not None, {None: 1, "half": 2, "third": 3}[width])


class NIN(Encoder):
    """Blocks `conv1` … `convK` (96 channels, then 192), each map after its pool, and global average pool.

    Initialised as torch's layers are: the released code defines another initialisation and never calls it.
    """

    def __init__(self, name: str, size: int, blocks: int, pool_third: bool, narrower: int) -> None:
        super().__init__()
        wide, middle, narrow = (channels // narrower for channels in (192, 160, 96))
        self.name, self.size, self.dim = name, size, wide
        self.stages = tuple(f"conv{number}" for number in range(1, blocks + 1))
        self.conv1 = _block(3, (wide, middle, narrow), 5, nn.MaxPool2d(3, 2, padding=1))
        self.conv2 = _block(narrow, (wide, wide, wide), 5, nn.AvgPool2d(3, 2, padding=1))
        for stage in self.stages[2:]:
            pool = [nn.AvgPool2d(3, 2, padding=1)] if stage == "conv3" and pool_third else []
            self.add_module(stage, _block(wide, (wide, wide, wide), 3, *pool))

    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        return self.in_turn(self.normalised(images, standardised))

    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        return self.maps(images, standardised)[self.stages[-1]].mean((2, 3))

    @property
    def stem(self) -> nn.Conv2d:
        return self.get_submodule("conv1.0.conv")  # type: ignore[return-value]


class ConvB(nn.Module):
    """Convolution without bias, BatchNorm, ReLU; keeps the map's size."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _block(channels: int, outs: tuple[int, int, int], kernel: int, *pool: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        ConvB(channels, outs[0], kernel), ConvB(outs[0], outs[1], 1), ConvB(outs[1], outs[2], 1), *pool
    )
