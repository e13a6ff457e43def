"""What the view operations share: draws with one value an image, and their shape for broadcasting.

Every operation is a pair. `draw_x(n, generator, ...)` returns all its randomness as small CPU tensors whose
axis 0 is the image, under names no other operation uses, so that the draws of a pipeline merge into one dict.
`x(images, ...)` is pure: float32 (B, 3, H, W) in [0, 1] in and out, on any device.
"""

import torch
from torch import Tensor


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """n numbers from U[low, high): float32 (n,)."""
    return torch.rand(n, generator=generator) * (high - low) + low


def coin(n: int, p: float, generator: torch.Generator) -> Tensor:
    """n independent coins that show True with probability `p`: bool (n,)."""
    return torch.rand(n, generator=generator) < p


def per_image(values: Tensor, like: Tensor) -> Tensor:
    """One value an image, shaped (B, 1, 1, 1) and on the device of `like` (B, 3, H, W)."""
    return values.to(like.device).view(-1, 1, 1, 1)
