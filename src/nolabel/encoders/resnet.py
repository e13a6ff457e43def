"""Residual networks: the thin `resnet10` for a CPU, and ResNet-18, 34, 50 in several widths.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016), post-activation form, with
the 3×3 convolution of a bottleneck carrying the stride, as torchvision and timm have it. Parameters bear
torchvision's names, so weights pass between the three where the stem is the same (images of 128 px and more).

| name | what |
| --- | --- |
| `resnet10` | one basic block each of 32, 64, 128, 256 channels |
| `resnet18`, `resnet34`, `resnet50` | 64, 128, 256, 512 channels (times 4 after a bottleneck) |
| `…x2`, `…x4` | every channel count times 2 or 4 (SimCLR, section 3) |
| `…b16`, `…b32` | 16 or 32 channels in the first group in place of 64 |
| `…-open` | residual branches start with their last BatchNorm at one, not at zero |

The stem follows the size of the images:

| side in px | `resnet10` | the others |
| --- | --- | --- |
| up to 32 | 3×3 | 3×3 |
| up to 64 | 3×3, stride 2 | 3×3, stride 2 |
| up to 127 | 3×3, stride 2, max pool | 3×3, stride 2, max pool |
| 128 and more | 3×3, stride 2, max pools until the map is at most 32×32 | 7×7, stride 2, max pool |
"""

import re

import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.encoders.base import Encoder

PATTERN = r"(resnet10|resnet(18|34|50)(x2|x4|b16|b32)?)(-open)?"
EXAMPLES = ["resnet10", "resnet18", "resnet34", "resnet50", "resnet18b16"]

DEPTHS = {"10": (1, 1, 1, 1), "18": (2, 2, 2, 2), "34": (3, 4, 6, 3), "50": (3, 4, 6, 3)}
SMALL_IMAGE = 32
LARGE_IMAGE = 128


def build(name: str, size: int) -> "ResNet":
    """The residual network called `name` with the stem for images of `size` px."""
    found = re.fullmatch(r"resnet(\d+)(?:x(\d)|b(\d+))?(?:-open)?", name)
    assert found
    depth, multiple, base = found.groups()
    width = 32 if depth == "10" else int(base or 64 * int(multiple or 1))
    return ResNet(name, size, DEPTHS[depth], width, bottleneck=depth == "50", thin=depth == "10")


class ResNet(Encoder):
    """Stem, four groups of residual blocks (`stage1` … `stage4`), global average pool.

    The last BatchNorm of each residual branch starts at zero, so that every block starts as its shortcut
    (Goyal et al. 2017, section 5.1; SimCLR's released code), but for nets named `…-open` at one (torchvision);
    convolutions start from a truncated normal of variance 1 / fan-in (SimCLR's code).
    """

    def __init__(
        self, name: str, size: int, depths: tuple[int, ...], width: int, *, bottleneck: bool, thin: bool
    ) -> None:
        super().__init__()
        self.name, self.size = name, size
        self.stages = ("stage1", "stage2", "stage3", "stage4")
        kernel = 7 if size >= LARGE_IMAGE and not thin else 3
        stride = 1 if size <= SMALL_IMAGE else 2
        self.pools = _pools(size) if thin else int(size > 2 * SMALL_IMAGE)
        self.conv1 = nn.Conv2d(3, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        block = Bottleneck if bottleneck else BasicBlock
        channels = width
        for group, depth in enumerate(depths):
            blocks = []
            for index in range(depth):
                inner = width * 2**group
                blocks.append(block(channels, inner, stride=2 if group and not index else 1))
                channels = inner * block.expansion
            self.add_module(f"layer{group + 1}", nn.Sequential(*blocks))
        self.dim = channels
        _initialise(self)

    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        x = F.relu(self.bn1(self.conv1(self.normalised(images, standardised))), inplace=True)
        for _ in range(self.pools):
            x = F.max_pool2d(x, 3, 2, padding=1)
        found = {}
        for group, stage in enumerate(self.stages):
            found[stage] = x = self.get_submodule(f"layer{group + 1}")(x)
        return found

    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        return self.maps(images, standardised)[self.stages[-1]].mean((2, 3))

    @property
    def stem(self) -> nn.Conv2d:
        return self.conv1


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside the shortcut."""

    expansion = 1

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.downsample = _shortcut(channels, inner, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride) and 1×1 convolutions beside the shortcut; gives 4 × `inner` channels."""

    expansion = 4

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, inner * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(inner * self.expansion)
        self.downsample = _shortcut(channels, inner * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


def _shortcut(channels: int, out: int, stride: int) -> nn.Sequential | None:
    """A projection where the shape changes, else None: the shortcut is the identity."""
    if stride == 1 and channels == out:
        return None
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


def _pools(size: int) -> int:
    """Halvings after a stride-2 stem until the map of a `size` px image is at most 32 px wide."""
    pools = 0
    while size > 2 * SMALL_IMAGE << pools:
        pools += 1
    return pools


def _initialise(net: ResNet) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            # A normal cut at two standard deviations keeps 0.8796 of its standard deviation.
            std = module.weight[0].numel() ** -0.5 / 0.87962566103423978
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        elif isinstance(module, BasicBlock | Bottleneck) and not net.name.endswith("-open"):
            last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
            nn.init.zeros_(last.weight)
