"""JPEG's loss without the file: images get the traces of a compression at a quality of our choice.

Baseline JPEG (ITU-T T.81, JFIF) without chroma subsampling: colour transform, cosine transform of 8×8 blocks, and
rounding to the steps of Annex K's tables, scaled by quality as libjpeg does.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from nolabel.views.base import coin, per_image, uniform

BRIGHTNESS = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
COLOUR = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *(((99,) * 8,) * 4),
)  # fmt: skip
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def draw_jpeg(
    n: int, generator: torch.Generator, p: float = 0.5, quality: tuple[float, float] = (30, 95)
) -> dict[str, Tensor]:
    """Which of n images are compressed, and how well: jpeg, bool (n,); quality, float32 (n,) in [1, 100]."""
    return {"jpeg": coin(n, p, generator), "quality": uniform(n, *quality, generator).round()}


def jpeg(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """The images (B, 3, H, W) in [0, 1] whose coin shows it, as they come back from a file of their quality."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate")
    ycc = torch.einsum("ck,bkhw->bchw", images.new_tensor(TO_YCC), 255 * padded)
    ycc = ycc.round() - images.new_tensor((128, 0, 0)).view(3, 1, 1)
    blocks = ycc.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    cosines, steps = _cosines().to(images), _steps(drawn["quality"]).to(images)[:, :, None, None]
    kept = (cosines @ blocks @ cosines.T / steps).round() * steps
    back = (cosines.T @ kept @ cosines).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    back = back.round() + images.new_tensor((128, 0, 0)).view(3, 1, 1)
    rgb = torch.einsum("ck,bkhw->bchw", images.new_tensor(TO_RGB), back).round().clamp(0, 255) / 255
    return torch.where(per_image(drawn["jpeg"], images), rgb[..., :height, :width], images)


def _cosines() -> Tensor:
    """The orthonormal cosine transform of 8 values."""
    k, x = torch.arange(8.0)[:, None], torch.arange(8.0)
    transform = torch.cos(math.pi * k * (2 * x + 1) / 16) / 2
    transform[0] /= math.sqrt(2)
    return transform


def _steps(quality: Tensor) -> Tensor:
    """Quantisation steps of the three channels at each quality (B,): (B, 3, 8, 8)."""
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality).view(-1, 1, 1, 1)
    tables = torch.tensor([BRIGHTNESS, COLOUR, COLOUR])
    return ((tables * scale + 50) / 100).floor().clamp(1, 255)
