"""Exemplar's three published nets, made for seeds of 32 px.

Dosovitskiy, Springenberg, Riedmiller, Brox, "Discriminative unsupervised feature learning with convolutional neural
networks" (NIPS 2014; the largest in the journal form, TPAMI 2016). `64c5` is a convolution of 64 filters of 5×5, `128f`
a fully-connected layer of 128 units; a pool of 2×2 stands after the first two convolutions.

| name | the paper writes |
| --- | --- |
| `exemplar_small` | 64c5-64c5-128f |
| `exemplar_medium` | 64c5-128c5-256c5-512f |
| `exemplar_large` | 92c5-256c5-512c5-1024f |

The paper does not say how borders are treated. From 32 px on there is no padding, so that 32 px end in a map of 5×5 or
1×1; smaller seeds (ours) keep their size in each convolution, because five pixels would be too many to lose.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.encoders.base import Encoder
from nolabel.errors import UsageError

MADE_FOR = 32
"""side in pixels of the paper's seeds"""


@dataclass(frozen=True)
class Form:
    """Channels of the convolutions, and units of the fully-connected layer."""

    channels: tuple[int, ...]
    units: int


FORMS = {
    "exemplar_small": Form((64, 64), 128),
    "exemplar_medium": Form((64, 128, 256), 512),
    "exemplar_large": Form((92, 256, 512), 1024),
}
PATTERN = "|".join(FORMS)
EXAMPLES = list(FORMS)


def build(name: str, size: int) -> "ExemplarNet":
    """The paper's net called `name`, for seeds of `size` px."""
    return ExemplarNet(name, size, FORMS[name])


class ExemplarNet(Encoder):
    """Maps `conv1`, `conv2` (each before its pool), `conv3` where there is one, and `fc`, all after their ReLU.

    The fully-connected layer is a convolution over the whole last map of a seed, so that it runs over larger images as
    the paper's does (section 4.2); the pooled vector is its global average. No normalisation. Weights start from He's
    normal distribution, biases at zero.
    """

    def __init__(self, name: str, size: int, form: Form) -> None:
        super().__init__()
        self.name, self.size, self.dim = name, size, form.units
        padding = 0 if size >= MADE_FOR else 2
        convolutions = [
            nn.Conv2d(into, out, 5, padding=padding)
            for into, out in zip((3, *form.channels), form.channels, strict=False)
        ]
        side = _last_side(min(size, MADE_FOR), len(form.channels), padding)
        convolutions.append(nn.Conv2d(form.channels[-1], form.units, side))
        self.stages = (*(f"conv{number}" for number in range(1, len(convolutions))), "fc")
        for stage, convolution in zip(self.stages, convolutions, strict=True):
            nn.init.kaiming_normal_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            self.add_module(stage, nn.Sequential(convolution, nn.ReLU(inplace=True)))

    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        least = min(self.size, MADE_FOR)
        if min(images.shape[-2:]) < least:
            raise UsageError(
                f"{self.name} for {self.size} px reads images from {least} px on: take a task that does not shrink "
                "them, or larger images."
            )
        x = self.normalised(images, standardised)
        found = {}
        for number, stage in enumerate(self.stages):
            x = F.max_pool2d(x, 2) if number in (1, 2) else x
            found[stage] = x = self.get_submodule(stage)(x)
        return found

    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        return self.maps(images, standardised)["fc"].mean((2, 3))

    @property
    def stem(self) -> nn.Conv2d:
        return self.get_submodule("conv1.0")  # type: ignore[return-value]


def _last_side(size: int, convolutions: int, padding: int) -> int:
    """Side of the map that the fully-connected layer sees of a seed of `size` px."""
    side = size
    for number in range(convolutions):
        side += 2 * padding - 4
        side //= 2 if number < 2 else 1
    return side
