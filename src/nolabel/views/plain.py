"""Images as they are, for evaluation: no randomness."""

import torch
from torch import Tensor

from nolabel.data.batch import ImageBatch, check_size
from nolabel.views._resample import Axis
from nolabel.views.geometry import read


def whole(
    images: ImageBatch, size: int, memory_format: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """Shorter side resized to `size`, then the central square: float32 (B, 3, size, size) in [0, 1].

    Equal to torchvision's `resize` (antialiased bilinear) and `center_crop`; exact for images of that size
    already. Raises UsageError where `size` is below 1.
    """
    check_size(size)
    shorter = torch.minimum(images.heights, images.widths)

    def axis(length: Tensor) -> Axis:
        resized = torch.where(length == shorter, size, size * length // shorter)
        return Axis(
            torch.zeros_like(length),
            length,
            length.float() / resized,
            ((resized - size) / 2).round().long(),
        )

    return read(images, axis(images.heights), axis(images.widths), (size, size), None, memory_format)


def full(images: ImageBatch, shorter: int) -> list[Tensor]:
    """Whole images, shorter side resized to `shorter`, aspect kept: B tensors float32 (3, h, w) in [0, 1]."""
    least = torch.minimum(images.heights, images.widths)
    sizes = torch.stack([shorter * images.heights // least, shorter * images.widths // least], 1).cpu()
    result: list[Tensor] = [torch.empty(0)] * images.size
    for size in sizes.unique(dim=0):
        at = (sizes == size).all(1).nonzero()[:, 0]
        part = images.take(at.to(images.device))
        height, width = int(size[0]), int(size[1])
        zero = torch.zeros_like(part.heights)
        rows, columns = Axis.onto(zero, part.heights, height), Axis.onto(zero, part.widths, width)
        for b, image in zip(at.tolist(), read(part, rows, columns, (height, width)), strict=True):
            result[b] = image
    return result
