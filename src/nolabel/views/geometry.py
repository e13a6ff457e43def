"""Geometric views: random resized crop, flip, quarter turns, free rotation, padded crop."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from nolabel.data.batch import ImageBatch
from nolabel.views import _kernels
from nolabel.views._resample import Axis, resample
from nolabel.views.base import coin, per_image, uniform

TRIALS = 10
"""crops tried before the central one is taken, as in torchvision"""


def draw_crop(
    n: int,
    generator: torch.Generator,
    area: tuple[float, float] = (0.2, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> dict[str, Tensor]:
    """Random resized crops of n images whose sizes are not known yet; `boxes` resolves them.

    The share of the area is uniform in `area`, the logarithm of width / height uniform between those of
    `aspect` (SimCLR, section 3 and appendix A; torchvision's RandomResizedCrop). Keys: crop_area (n, 10),
    crop_log_aspect (n, 10), crop_place (n, 2) in [0, 1), crop_limits (n, 2).
    """
    low, high = math.log(aspect[0]), math.log(aspect[1])
    return {
        "crop_area": uniform(n * TRIALS, *area, generator).view(n, TRIALS),
        "crop_log_aspect": uniform(n * TRIALS, low, high, generator).view(n, TRIALS),
        "crop_place": torch.rand(n, 2, generator=generator),
        "crop_limits": torch.tensor(aspect, dtype=torch.float64).expand(n, 2).clone(),
    }


def boxes(drawn: dict[str, Tensor], heights: Tensor, widths: Tensor) -> Tensor:
    """The drawn crops of images of these sizes (B,): int64 (B, 4) with columns top, left, height, width.

    The first of the ten trials that fits is taken; if none does, the largest central crop within the limits
    of the aspect. Rules and rounding are those of torchvision's RandomResizedCrop.
    """
    device = heights.device
    exact = torch.float32 if device.type == "mps" else torch.float64  # there are no doubles on MPS
    keys = ("crop_area", "crop_log_aspect", "crop_place", "crop_limits")
    share, log_aspect, place, limits = (drawn[key].to(device, exact) for key in keys)
    area, aspect = share * (heights * widths)[:, None], log_aspect.exp()
    w, h = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (w > 0) & (w <= widths[:, None]) & (h > 0) & (h <= heights[:, None])
    first = fits.int().argmax(1, keepdim=True)
    w, h, found = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0], fits.any(1)
    top, left = (place * torch.stack([heights - h + 1, widths - w + 1], 1)).long().unbind(1)

    narrow, wide = limits.unbind(1)
    h_whole = torch.where(widths < narrow * heights, (widths / narrow).round().long(), heights)
    w_whole = torch.where(widths > wide * heights, (heights * wide).round().long(), widths)
    central = torch.stack([(heights - h_whole) // 2, (widths - w_whole) // 2, h_whole, w_whole], 1)
    return torch.where(found[:, None], torch.stack([top, left, h, w], 1), central)


def centre_boxes(heights: Tensor, widths: Tensor) -> Tensor:
    """The largest central square of each image: int64 (B, 4) with columns top, left, height, width."""
    side = torch.minimum(heights, widths)
    return torch.stack([(heights - side) // 2, (widths - side) // 2, side, side], 1)


def crop_resize(
    images: ImageBatch,
    boxes: Tensor,
    size: int | tuple[int, int],
    flip: Tensor | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
    cubic: bool = False,
) -> Tensor:
    """Each image's box, resized to `size` (a side, or height and width): float32 (B, 3, h, w) in [0, 1].

    Bilinear, or where `cubic` bicubic and clipped, antialiased where it shrinks; equal to torchvision's
    `resized_crop(antialias=True)` on float images, followed by `horizontal_flip` where `flip` (B,) is True.
    `boxes` int64 (B, 4): top, left, height, width, inside the image.
    """
    height, width = (size, size) if isinstance(size, int) else size
    top, left, h, w = boxes.to(images.device).unbind(1)
    rows, columns = Axis.onto(top, h, height, cubic), Axis.onto(left, w, width, cubic)
    return read(images, rows, columns, (height, width), flip, memory_format)


def read(
    images: ImageBatch,
    rows: Axis,
    columns: Axis,
    size: tuple[int, int],
    flip: Tensor | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """The images resampled along both axes, what crops and plain reading share: float32 (B, 3, h, w)."""
    if _kernels.usable(images.pixels):
        drawn = {} if flip is None else {"flip": flip}
        return _kernels.read(images, rows, columns, size, drawn, memory_format)
    flip = None if flip is None else flip.to(images.device)
    result = resample(images, rows, columns, size, flip).permute(0, 3, 1, 2)
    return result.contiguous(memory_format=memory_format)


def draw_flip(n: int, generator: torch.Generator, p: float = 0.5) -> dict[str, Tensor]:
    """Which of n images are mirrored: flip, bool (n,)."""
    return {"flip": coin(n, p, generator)}


def flip(images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """Left and right exchanged in the images that were drawn."""
    return torch.where(per_image(drawn["flip"], images), images.flip(-1), images)


def draw_turn(
    n: int, generator: torch.Generator, choices: tuple[int, ...] = (0, 1, 2, 3)
) -> dict[str, Tensor]:
    """Quarter turns, uniform over `choices`: turn, int64 (n,). SimCLR's study uses (1, 2, 3)."""
    return {"turn": torch.tensor(choices)[torch.randint(len(choices), (n,), generator=generator)]}


def turn(images: Tensor, k: Tensor) -> Tensor:
    """Square images (B, C, S, S) turned counter-clockwise by k (B,) quarters, as `torch.rot90`; exact."""
    side = images.shape[-1]
    index = torch.arange(side * side, device=images.device).view(side, side)
    table = torch.stack([index.rot90(quarter).flatten() for quarter in range(4)])
    source = table[k.to(images.device) % 4][:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).gather(2, source).view_as(images)


def all_turns(images: Tensor) -> Tensor:
    """The four turns of every square image, adjacent: (4B, C, S, S); item 4b + k is image b turned by k.

    Labels are then (0, 1, 2, 3, 0, 1, 2, 3, ...) (Gidaris et al. 2018, section 3 and the released code).
    """
    return torch.stack([images.rot90(k, (-2, -1)) for k in range(4)], 1).flatten(0, 1)


def draw_pad_crop(n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Where the crop of a padded image begins: pad_place (row, column), float32 (n, 2) in [0, 1)."""
    return {"pad_place": torch.rand(n, 2, generator=generator)}


def pad_crop(
    images: Tensor, drawn: dict[str, Tensor], pad: int = 4, mode: Literal["zero", "reflect"] = "zero"
) -> Tensor:
    """Images (B, C, H, W) padded by `pad` on each side, then cut back to H x W at the drawn place; exact.

    Moves an image by at most `pad` pixels (Gidaris et al. 2018, released code: 4, zero). "reflect" mirrors
    without repeating the edge and needs pad < min(H, W).
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, (pad,) * 4, mode="constant" if mode == "zero" else mode)
    place = (drawn["pad_place"].to(images.device) * (2 * pad + 1)).long()
    rows = place[:, :1] + torch.arange(height, device=images.device)
    columns = place[:, 1:] + torch.arange(width, device=images.device)
    source = (rows[:, :, None] * (width + 2 * pad) + columns[:, None]).view(batch, 1, -1)
    return padded.flatten(2).gather(2, source.expand(-1, channels, -1)).view_as(images)


def rotate(images: Tensor, drawn: dict[str, Tensor], mode: Literal["zero", "reflect"] = "zero") -> Tensor:
    """Images (B, C, H, W) rotated counter-clockwise about their centre by the drawn angle, bilinear.

    Outside is zero (then equal to torchvision's `rotate`) or the image mirrored at its edge.
    """
    height, width = images.shape[-2:]
    radians = torch.deg2rad(drawn["angle"].to(images.device)).view(-1, 1, 1)
    y = torch.arange(height, device=images.device).view(1, -1, 1) - (height - 1) / 2
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    source_x = x * radians.cos() - y * radians.sin()
    source_y = x * radians.sin() + y * radians.cos()
    grid = torch.stack([source_x * 2 / width, source_y * 2 / height], -1)
    outside = "zeros" if mode == "zero" else "reflection"
    return F.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)
