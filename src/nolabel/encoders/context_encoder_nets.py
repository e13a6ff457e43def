"""The context encoder's own two nets, the decoders and the discriminator that go with all encoders.

Pathak, Krähenbühl, Donahue, Darrell, Efros, "Context encoders: feature learning by inpainting", CVPR 2016.

| name | what |
| --- | --- |
| `context_encoder_features` | AlexNet in two groups without normalisation, made for 227 px (section 3.1) |
| `context_encoder_inpainting` | five 4×4 convolutions of stride 2, made for 128 px, from 32 px on (released code) |
"""

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.encoders.alexnet import AlexNet, Form
from nolabel.encoders.base import Encoder, map_shapes
from nolabel.errors import UsageError

Kind = Literal["channel_fc", "fc", "none"]

PATTERN = r"context_encoder_(features|inpainting)"
EXAMPLES = ["context_encoder_features", "context_encoder_inpainting"]

SMALLEST = 32
SLOPE = 0.2
LARGEST = 8
"""side in px of the largest map that a bottleneck takes as it is"""
REDUCED = 64


def build(name: str, size: int) -> Encoder:
    """The paper's net called `name`.

    Raises:
        UsageError: images of `size` px are too small for it.
    """
    if name == "context_encoder_features":
        return AlexNet(name, size, Form(groups=2))
    if size < SMALLEST:
        raise UsageError(f"{name} halves five times, so {size} px are too few: give at least {SMALLEST} px.")
    return InpaintingNet(name, size)


class InpaintingNet(Encoder):
    """Stages `conv1` … `conv5`, each after its activation (128 px: 512 maps of 4×4), and global average pool."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        self.name, self.size, self.dim = name, size, 512
        self.stages = ("conv1", "conv2", "conv3", "conv4", "conv5")
        channels = (3, 64, 64, 128, 256, 512)
        for index, stage in enumerate(self.stages):
            self.add_module(stage, _halving(channels[index], channels[index + 1], norm=index > 0))
        _initialise(self)

    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        return self.in_turn(self.normalised(images, standardised))

    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        return self.maps(images, standardised)["conv5"].mean((2, 3))

    @property
    def stem(self) -> nn.Conv2d:
        return self.get_submodule("conv1.0")  # type: ignore[return-value]


@dataclass(frozen=True)
class Shape:
    """What stands between an encoder and its decoder."""

    units: int = 512
    """length of a fully-connected bottleneck"""
    width: int = 256
    """channels that the decoder is given"""
    pool5: bool = False
    """whether AlexNet's last pool comes first"""


SHAPES = {
    "context_encoder_features": Shape(units=4000, pool5=True),
    "context_encoder_inpainting": Shape(units=4000, width=512),
}
"""of the paper's nets; the plain `Shape()` is the scaled one of all others"""


class ChannelWiseFC(nn.Module):
    """Each of C maps of n×n places through a dense matrix of its own: C n⁴ weights and C n² biases (section 3.1)."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        places = side * side
        self.weight = nn.Parameter(torch.randn(channels, places, places) / side)
        self.bias = nn.Parameter(torch.zeros(channels, places))

    def forward(self, x: Tensor) -> Tensor:
        return (torch.einsum("bci,cij->bcj", x.flatten(2), self.weight) + self.bias[None]).view(x.shape)


class Bottleneck(nn.Module):
    """From an encoder's last map (B, C, m, m) to a decoder's first (B, W, n, n), with n as `side`.

    Maps of 8 px and more are averaged to 8 px and brought to 64 channels first, which keeps C n⁴ small. `noise_dim`
    values an image join between the two halves.
    """

    def __init__(
        self,
        kind: Kind,
        channels: int,
        side: int,
        shape: Shape,
        dropout: float,
        noise_dim: int,
    ) -> None:
        super().__init__()
        first: list[nn.Module] = []
        if shape.pool5 and side > 2:
            first, side = [nn.MaxPool2d(3, 2)], (side - 1) // 2
        if side >= LARGEST:
            reduce = nn.Conv2d(channels, REDUCED, 1, bias=False)
            first += [nn.AdaptiveAvgPool2d(LARGEST), reduce, nn.BatchNorm2d(REDUCED), nn.ReLU()]
            channels, side = REDUCED, LARGEST
        if kind == "fc":
            first += [
                nn.Conv2d(channels, shape.units, side),
                nn.BatchNorm2d(shape.units),
                nn.LeakyReLU(SLOPE),
            ]
            last = nn.ConvTranspose2d(shape.units, shape.width, side)
            channels = shape.units
        else:
            first += [ChannelWiseFC(channels, side)] if kind == "channel_fc" else []
            last = nn.Conv2d(channels, shape.width, 1, bias=False)
        self.side = side
        self.first = nn.Sequential(*first, nn.Dropout(dropout))
        self.noise = nn.Linear(noise_dim, channels, bias=False) if noise_dim else None
        self.last = nn.Sequential(last, nn.BatchNorm2d(shape.width), nn.ReLU())

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        x = self.first(x)
        if self.noise is not None and noise is not None:
            x = x + self.noise(noise)[:, :, None, None]
        return self.last(x)


class Decoder(nn.Module):
    """Up-convolutions from (B, W, n, n) to (B, 3, side, side), bilinear where `side` is no power of two times n.

    `skips` (their channels in `skipped`, deepest first) are maps of the encoder that are resized and added through a
    1×1 convolution after each up-convolution but the last; more than there is room for are left out.
    """

    def __init__(
        self, blocks: list[nn.Sequential], last: nn.Module, side: int, skipped: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.side = side
        self.blocks, self.last = nn.ModuleList(blocks), last
        outs = [block[0].out_channels for block in blocks]
        self.laterals = nn.ModuleList(
            nn.Conv2d(into, out, 1, bias=False)  # type: ignore[arg-type]
            for into, out in zip(skipped, outs, strict=False)
        )

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index < len(self.laterals):
                x = x + self.laterals[index](_resized(skips[index], x.shape[-1]))
        return _resized(self.last(x), self.side)


def decoder(encoder: Encoder, start: int, side: int, skipped: tuple[int, ...] = ()) -> Decoder:
    """The decoder for `encoder` from maps of `start` px to an image of `side` px: the paper's for its own nets.

    Scaled: doublings of 256 to 128, 64, 32, 16 channels, then a 3×3 convolution. `context_encoder_inpainting` (released
    code): doublings to 256, 128, 64 channels, the last straight to colours. `context_encoder_features` (section 3.1):
    five 5×5 up-convolutions from n to 2n - 1.
    """
    width, doublings = SHAPES.get(encoder.name, Shape()).width, max(0, int(math.log2(side / start)))
    if encoder.name == "context_encoder_features":
        widths = (width, 128, 64, 64, 32)
        ups = [nn.ConvTranspose2d(widths[i], widths[i + 1], 5, 2, 2) for i in range(4)]
        blocks = [nn.Sequential(up, nn.ReLU(inplace=True)) for up in ups]
        return Decoder(blocks, nn.ConvTranspose2d(32, 3, 5, 2, 2), side, skipped)
    if encoder.name == "context_encoder_inpainting":
        widths = tuple(max(64, width >> i) for i in range(max(1, doublings)))
        blocks = [_doubling(a, b) for a, b in itertools.pairwise(widths)]
        return Decoder(blocks, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), side, skipped)
    widths = tuple(max(16, width >> i) for i in range(doublings + 1))
    blocks = [_doubling(a, b, bias=False) for a, b in itertools.pairwise(widths)]
    return Decoder(blocks, nn.Conv2d(widths[-1], 3, 3, padding=1), side, skipped)


class Painter(nn.Module):
    """From the stage maps of an encoder to the pixels of `window` (along both axes): bottleneck and decoder.

    Args:
        size: side in pixels of the images that the encoder sees
        kind: of the bottleneck, as are `dropout` and `noise_dim`
        skips: whether the decoder is given the earlier maps, as far as they lie over `window`
    """

    def __init__(
        self,
        encoder: Encoder,
        size: int,
        window: slice,
        kind: Kind,
        dropout: float,
        noise_dim: int,
        skips: bool,
    ) -> None:
        super().__init__()
        self.size, self.window = size, window
        *earlier, (channels, side) = map_shapes(encoder, size)
        shape = SHAPES.get(encoder.name, Shape())
        self.bottleneck = Bottleneck(kind, channels, side, shape, dropout, noise_dim)
        skipped = tuple(channels for channels, _ in reversed(earlier)) if skips else ()
        self.decoder = decoder(encoder, self.bottleneck.side, window.stop - window.start, skipped)
        if encoder.name == "context_encoder_inpainting":
            _initialise(self)

    def forward(self, maps: list[Tensor], noise: Tensor | None = None) -> Tensor:
        """(B, 3, s, s), of any range."""
        return self.decoder(self.bottleneck(maps[-1], noise), [self._over_window(m) for m in maps[-2::-1]])

    def _over_window(self, maps: Tensor) -> Tensor:
        side = maps.shape[-1]
        share = slice(self.window.start * side // self.size, -(-self.window.stop * side // self.size))
        return maps[..., share, share]


def discriminator(channels: int, side: int) -> nn.Sequential:
    """From patches (B, channels, side, side) to logits (B, 1) of being real (released code, DCGAN).

    Halvings of 64, 128, 256, 512 channels until at most 4×4 px are left (128 px: one more of 64), then one valid
    convolution.
    """
    count = max(1, math.ceil(math.log2(side / 4)))
    widths = [channels, *(64 << max(0, i - max(0, count - 4)) for i in range(count))]
    halvings = [_halving(widths[i], widths[i + 1], norm=i > 0) for i in range(count)]
    left = side >> count
    net = nn.Sequential(*halvings, nn.Conv2d(widths[-1], 1, left), nn.Flatten())
    _initialise(net)
    return net


def _resized(x: Tensor, side: int) -> Tensor:
    return (
        x
        if x.shape[-1] == side
        else F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
    )


def _halving(into: int, out: int, norm: bool) -> nn.Sequential:
    """4×4 convolution of stride 2."""
    layers = [nn.BatchNorm2d(out)] if norm else []
    return nn.Sequential(nn.Conv2d(into, out, 4, 2, 1), *layers, nn.LeakyReLU(SLOPE, inplace=True))


def _doubling(into: int, out: int, bias: bool = True) -> nn.Sequential:
    """4×4 transposed convolution of stride 2."""
    up = nn.ConvTranspose2d(into, out, 4, 2, 1, bias=bias)
    return nn.Sequential(up, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


def _initialise(net: nn.Module) -> None:
    """Weights from N(0, 0.02), BatchNorm scales from N(1, 0.02), biases zero (released code)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            nn.init.normal_(module.weight, float(isinstance(module, nn.BatchNorm2d)), 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
