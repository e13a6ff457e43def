"""What Context Prediction does to the look of a patch: shrunk and enlarged, two channels dropped."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.views import filters, geometry
from nolabel.views.base import coin

SCALES = (1 / 3, 1 / 2, 2 / 3)
"""sides that a patch is shrunk to before it is enlarged again, as shares of its own"""
WIDE = 0.1
"""deviation of the normal noise that uniform noise is made from: its clipping at five deviations is not seen"""


def draw(
    n: int, patches: int, generator: torch.Generator, pixelation_p: float, flip_p: float
) -> dict[str, Tensor]:
    """Looks of every patch of n images, (n, patches) each, and `flip` (n,) of the whole images."""
    count = n * patches
    looks = {
        "kept": torch.randint(3, (count,), generator=generator),
        **filters.draw_noise(count, generator),
        "pixelated": coin(count, pixelation_p, generator),
        "scale": torch.randint(len(SCALES), (count,), generator=generator),
    }
    each = {name: value.unflatten(0, (n, patches)) for name, value in looks.items()}
    return each | geometry.draw_flip(n, generator, flip_p)


def pixelated(parts: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """The patches (N, 3, p, p), those that were drawn shrunk and enlarged again."""
    side = parts.shape[-1]
    chosen, scale = (drawn[name].flatten().to(parts.device) for name in ("pixelated", "scale"))
    for number, share in enumerate(SCALES):
        small = F.interpolate(parts, size=max(2, round(share * side)), mode="bilinear", antialias=True)
        large = F.interpolate(small, size=side, mode="bilinear")
        parts = torch.where((chosen & (scale == number)).view(-1, 1, 1, 1), large, parts)
    return parts


def dropped(parts: Tensor, drawn: dict[str, Tensor], noise: str) -> Tensor:
    """The patches (N, 3, p, p) with noise about 1/2 in place of all channels but the drawn one.

    Its deviation is a hundredth of the kept channel's; `uniform`: it lies within half a level of 255.
    """
    index = drawn["kept"].flatten().to(parts.device).view(-1, 1, 1, 1)
    kept = parts.gather(1, index.expand(-1, 1, *parts.shape[2:]))
    width = kept.std((1, 2, 3)) / 100
    if noise == "uniform":
        width = torch.full_like(width, WIDE)
    asked = {"noise_sigma": width, "noise_seed": drawn["noise_seed"].flatten().to(parts.device)}
    others = filters.noise(torch.full_like(parts, 0.5), asked)
    if noise == "uniform":
        others = 0.5 + (torch.special.ndtr((others - 0.5) / WIDE) - 0.5) / 255
    channels = torch.arange(3, device=parts.device).view(1, 3, 1, 1)
    return torch.where(channels == index, kept, others)
