"""Images of one batch, of mixed sizes, as one packed array."""

from typing import NamedTuple

import torch
from torch import Tensor

from nolabel.errors import UsageError


class ImageBatch(NamedTuple):
    """B images: uint8 RGB bytes, rows first, channels last, one image after another.

    `pixels` may hold more than these images (a whole store): image b occupies
    `pixels[offsets[b] : offsets[b] + 3 * heights[b] * widths[b]]`.
    """

    pixels: Tensor
    """uint8 (P,)"""
    offsets: Tensor
    """int64 (B,), first byte of each image in `pixels`"""
    heights: Tensor
    """int64 (B,)"""
    widths: Tensor
    """int64 (B,)"""
    indices: Tensor
    """int64 (B,), position of each image in its store"""

    @property
    def size(self) -> int:
        """B, the number of images."""
        return self.offsets.shape[0]

    @property
    def device(self) -> torch.device:
        return self.pixels.device

    def take(self, which: Tensor | slice) -> "ImageBatch":
        """The images `which`; repeats are allowed; the bytes are shared."""
        return ImageBatch(self.pixels, *(t[which] for t in self[1:]))

    def image(self, b: int) -> Tensor:
        """Image b as uint8 (3, H, W)."""
        h, w, start = int(self.heights[b]), int(self.widths[b]), int(self.offsets[b])
        return self.pixels[start : start + 3 * h * w].view(h, w, 3).permute(2, 0, 1)

    @staticmethod
    def of(images: list[Tensor] | Tensor) -> "ImageBatch":
        """A batch of uint8 images, each (3, H, W), of any sizes, on the device of the first."""
        device = images[0].device
        if isinstance(images, Tensor):
            pixels = images.permute(0, 2, 3, 1).reshape(-1)
            sides = torch.tensor(images.shape[2:], device=device).expand(len(images), 2)
        else:
            pixels = torch.cat([i.permute(1, 2, 0).reshape(-1) for i in images])
            sides = torch.tensor([i.shape[1:] for i in images], device=device)
        heights, widths = sides.T.contiguous()
        sizes = 3 * heights * widths
        indices = torch.arange(len(sizes), device=device)
        return ImageBatch(pixels, sizes.cumsum(0) - sizes, heights, widths, indices)


def check_size(size: int) -> None:
    """Raise UsageError where no image has sides of `size` px."""
    if size < 1:
        raise UsageError(f"There are no images of {size} px: give a --size of at least 1.")
