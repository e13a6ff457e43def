"""Colorization's own net, and the heads that give colours from the last map of any encoder.

Zhang, Isola, Efros, "Colorful image colorization", ECCV 2016, section 3.1 and the released model: eight blocks of
3×3 convolutions without pooling, ReLU after each, BatchNorm at the end of a block.

| name | what |
| --- | --- |
| `colorization_net` | conv1 … conv7: strides to 1/8, then dilation 2 in conv5 and conv6; 512 maps |

Our encoders see three channels where the paper's sees one, the lightness; it stands in all three.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.encoders.base import Encoder, map_shapes

PATTERN = r"colorization_net"
EXAMPLES = ["colorization_net"]

BLOCKS = (
    (64, 2, 2, 1),
    (128, 2, 2, 1),
    (256, 3, 2, 1),
    (512, 3, 1, 1),
    (512, 3, 1, 2),
    (512, 3, 1, 2),
    (512, 3, 1, 1),
)
"""of each block: channels, convolutions, stride of the last one, dilation"""
WIDTH = 128
"""channels of the scaled head"""
PAPER_WIDTH = 256


def build(name: str, size: int) -> Encoder:
    """The paper's net without conv8, for images of `size` px."""
    return ColorizationNet(name, size)


class ColorizationNet(Encoder):
    """Stages `conv1` … `conv7`, each after its BatchNorm (176 px: 512 maps of 22×22), and global average pool."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        self.name, self.size, self.dim = name, size, BLOCKS[-1][0]
        self.stages = tuple(f"conv{i}" for i in range(1, len(BLOCKS) + 1))
        channels = 3
        for stage, (width, count, stride, dilation) in zip(self.stages, BLOCKS, strict=True):
            layers: list[nn.Module] = []
            for i in range(count):
                step = stride if i == count - 1 else 1
                layers += [nn.Conv2d(channels, width, 3, step, dilation, dilation), nn.ReLU(inplace=True)]
                channels = width
            self.add_module(stage, nn.Sequential(*layers, nn.BatchNorm2d(width)))
        _initialise(self)

    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        return self.in_turn(self.normalised(images, standardised))

    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        return self.maps(images, standardised)["conv7"].mean((2, 3))

    @property
    def stem(self) -> nn.Conv2d:
        return self.get_submodule("conv1.0")  # type: ignore[return-value]


class Enlarged(nn.Module):
    """Maps (B, C, h, w) at `share` times their size, bilinearly; for pictures of any size and shape."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, maps: Tensor) -> Tensor:
        if self.share == 1:
            return maps
        size = [round(side * self.share) for side in maps.shape[-2:]]
        return F.interpolate(maps, size=size, mode="bilinear")


def colour_head(encoder: Encoder, size: int, target: int, outputs: int, depth: int = 1) -> nn.Sequential:
    """From the last map of `encoder` to (B, outputs, target, target), for images of `size` px.

    For `colorization_net` the paper's conv8 (one doubling by a transposed convolution) and its logits; for all others
    a thin head of 128 channels (specification 4.8): 1×1, then `depth` 3×3 convolutions after each doubling.
    """
    channels, side = map_shapes(encoder, size)[-1]
    layers: list[nn.Module]
    if encoder.name == "colorization_net":
        layers = [nn.ConvTranspose2d(channels, PAPER_WIDTH, 4, 2, 1), nn.ReLU(inplace=True)]
        for _ in range(2):
            layers += [nn.Conv2d(PAPER_WIDTH, PAPER_WIDTH, 3, padding=1), nn.ReLU(inplace=True)]
        side, channels = 2 * side, PAPER_WIDTH
    else:
        layers = _normalised(channels, 1)
        for _ in range(max(1, round(math.log2(target / side)))):
            wider = min(target, 2 * side)
            layers += [
                Enlarged(wider / side),
                *(layer for _ in range(depth) for layer in _normalised(WIDTH, 3)),
            ]
            side, channels = wider, WIDTH
    head = nn.Sequential(*layers, Enlarged(target / side), nn.Conv2d(channels, outputs, 1))
    if encoder.name == "colorization_net":
        _initialise(head)
    nn.init.normal_(head[-1].weight, std=0.03)  # type: ignore[arg-type]
    nn.init.zeros_(head[-1].bias)  # type: ignore[arg-type]
    return head


def _normalised(channels: int, kernel: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, WIDTH, kernel, padding=kernel // 2)
    return [conv, nn.BatchNorm2d(WIDTH), nn.ReLU()]


def _initialise(net: nn.Module) -> None:
    """He's normal weights and zero biases (ours, in place of the paper's k-means initialisation)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
