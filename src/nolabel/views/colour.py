"""Colour views: SimCLR's jitter in a random order of its four operations, and greyscale.

Each operation equals torchvision's on float images for the same parameter; here it differs from image to
image.
"""

import torch
from torch import Tensor

from nolabel.views import _kernels
from nolabel.views.base import coin, per_image, uniform

OPERATIONS = ("brightness", "contrast", "saturation", "hue")
"""the numbers in `order` are positions in this tuple"""
JITTER = ("jitter", "brightness", "shift", "contrast", "saturation", "hue", "order")
"""what `draw_jitter` draws"""
LUMA = (0.2989, 0.587, 0.114)
"""weights of red, green and blue in grey, as in torchvision"""


def brightness(images: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """factor * image + shift, clipped to [0, 1]; `factor` and `shift` (B,)."""
    return (images * per_image(factor, images) + per_image(shift, images)).clamp(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """The distance to the image's mean grey multiplied by `factor` (B,), clipped to [0, 1]."""
    return _blend(images, luma(images).mean((2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """The distance to the pixel's own grey multiplied by `factor` (B,), clipped to [0, 1]."""
    return _blend(images, luma(images), factor)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """The hue moved by `shift` (B,) in [-0.5, 0.5] of its circle; saturation and value of HSV are kept."""
    red, green, blue = images.unbind(1)
    high, low = images.amax(1), images.amin(1)
    spread = high - low
    divisor = torch.where(spread == 0, 1.0, spread)
    angle = torch.where(
        high == red,
        (green - blue) / divisor,
        torch.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    angle = (angle + 6 * shift.to(images.device).view(-1, 1, 1)).remainder(6)
    ramps = torch.stack([(angle - 3).abs() - 1, 2 - (angle - 2).abs(), 2 - (angle - 4).abs()], 1)
    return low[:, None] + spread[:, None] * ramps.clamp(0, 1)


def luma(images: Tensor) -> Tensor:
    """Grey value of every pixel: (B, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def _blend(images: Tensor, other: Tensor, ratio: Tensor) -> Tensor:
    ratio = per_image(ratio, images)
    return (ratio * images + (1 - ratio) * other).clamp(0, 1)


def draw_jitter(
    n: int,
    generator: torch.Generator,
    brightness: float = 0.8,
    contrast: float = 0.8,
    saturation: float = 0.8,
    hue: float = 0.2,
    p: float = 0.8,
    additive: bool = False,
) -> dict[str, Tensor]:
    """Colour jitter of n images with probability `p` each (SimCLR, appendix A; the default is strength 1).

    Factors are uniform in [max(0, 1 - x), 1 + x], the hue's shift in [-hue, hue], the order of the four
    operations uniform over the 24. `additive` shifts the brightness by U[-x, x] instead of multiplying it
    (SimCLR's first code). Keys: jitter, bool (n,); brightness, shift, contrast, saturation, hue, float32
    (n,); order, int64 (n, 4), the operation (see OPERATIONS) that comes first, second, ...
    """
    factor = uniform(n, max(0.0, 1 - brightness), 1 + brightness, generator)
    shift = uniform(n, -brightness, brightness, generator)
    return {
        "jitter": coin(n, p, generator),
        "brightness": torch.ones(n) if additive else factor,
        "shift": shift if additive else torch.zeros(n),
        "contrast": uniform(n, max(0.0, 1 - contrast), 1 + contrast, generator),
        "saturation": uniform(n, max(0.0, 1 - saturation), 1 + saturation, generator),
        "hue": uniform(n, -hue, hue, generator),
        "order": torch.rand(n, 4, generator=generator).argsort(1),
    }


def jitter(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """The images with their drawn brightness, contrast, saturation and hue, each image in its own order."""
    if _kernels.usable(images):
        return _kernels.change(images, {key: drawn[key] for key in JITTER})
    apply = {
        0: lambda x, at: brightness(x, drawn["brightness"][at], drawn["shift"][at]),
        1: lambda x, at: contrast(x, drawn["contrast"][at]),
        2: lambda x, at: saturation(x, drawn["saturation"][at]),
        3: lambda x, at: hue(x, drawn["hue"][at]),
    }
    result = images.clone()
    for position in range(4):
        for operation, function in apply.items():
            at = (drawn["jitter"] & (drawn["order"][:, position] == operation)).nonzero()[:, 0]
            on_device = at.to(images.device)
            result[on_device] = function(result[on_device], at)
    return result


def draw_grey(n: int, generator: torch.Generator, p: float = 0.2) -> dict[str, Tensor]:
    """Which of n images lose their colour: grey, bool (n,)."""
    return {"grey": coin(n, p, generator)}


def grey(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """Three equal channels in the images that were drawn."""
    if _kernels.usable(images):
        return _kernels.change(images, {"grey": drawn["grey"]})
    return torch.where(per_image(drawn["grey"], images), luma(images), images)
