"""Antialiased bilinear and bicubic resampling of packed images of mixed sizes: the eager form, on any device.

Filters and windows are those of `torch.nn.functional.interpolate(mode="bilinear" or "bicubic", antialias=True)`:
support = max(scale, 1), twice that of the cubic, taps cut at the edge of the source, weights normalised to sum 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from nolabel.data.batch import ImageBatch


class Axis(NamedTuple):
    """How one axis of B images is read: output i is centred on `scale * (first + i + 0.5)` of the source."""

    start: Tensor
    """int64 (B,), first source pixel that may be read"""
    length: Tensor
    """int64 (B,), number of source pixels from `start`; the filter never looks further"""
    scale: Tensor
    """float32 (B,), source pixels per output pixel"""
    first: Tensor
    """int64 (B,), which pixel of the whole resized axis is the first that is wanted"""
    cubic: bool = False
    """whether the filter is Keys' cubic (a = -0.5), which overshoots, in place of the triangle"""

    @staticmethod
    def onto(start: Tensor, length: Tensor, out: int, cubic: bool = False) -> "Axis":
        """The axis that shrinks or enlarges `length` pixels to `out`."""
        return Axis(start, length, length.float() / out, torch.zeros_like(start), cubic)


class Taps(NamedTuple):
    """One axis: output i of image b is the sum of weight[b, i, k] * source[low[b, i] + k] over k."""

    low: Tensor
    """int64 (B, out), relative to the axis's start"""
    high: Tensor
    """int64 (B, out), one past the last source pixel"""
    weight: Tensor
    """float32 (B, out, K), zero past `high`"""


def taps(axis: Axis, out: int) -> Taps:
    """Windows and weights of `out` output pixels."""
    device = axis.start.device
    scale, length = axis.scale[:, None], axis.length[:, None]
    centre = scale * (torch.arange(out, device=device) + axis.first[:, None] + 0.5)
    stretch = scale.clamp(min=1.0)
    support = 2 * stretch if axis.cubic else stretch
    low = (centre - support + 0.5).long().clamp(min=0)
    high = torch.minimum((centre + support + 0.5).long(), length)
    position = low[..., None] + torch.arange(int((high - low).max()), device=device)
    distance = ((position - centre[..., None] + 0.5) / stretch[..., None]).abs()
    weight = _cubic(distance) if axis.cubic else (1 - distance).clamp(min=0.0)
    weight = weight * (position < high[..., None])
    return Taps(low, high, weight / weight.sum(-1, keepdim=True))


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic with a = -0.5 at distances x >= 0, zero from 2 on."""
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def resample(
    images: ImageBatch, rows: Axis, columns: Axis, size: tuple[int, int], flip: Tensor | None
) -> Tensor:
    """float32 (B, h, w, 3) in [0, 1], clipped: columns first, then rows; mirrored where `flip` (B,) is True."""
    height, width = size
    down, across = taps(rows, height), taps(columns, width)
    if flip is not None:
        mirror = flip[:, None]
        across = Taps(
            torch.where(mirror, across.low.flip(1), across.low),
            torch.where(mirror, across.high.flip(1), across.high),
            torch.where(mirror[..., None], across.weight.flip(1), across.weight),
        )
    top = down.low[:, :1]
    needed = torch.arange(int((down.high[:, -1:] - top).max()), device=images.device)
    row = rows.start[:, None] + torch.minimum(top + needed, rows.length[:, None] - 1)
    line = images.offsets[:, None] + 3 * row * images.widths[:, None]
    triples = images.pixels.unfold(0, 3, 1)

    narrow = torch.zeros(images.size, len(needed), width, 3, dtype=torch.float32, device=images.device)
    for k in range(across.weight.shape[2]):
        column = columns.start[:, None] + torch.minimum(across.low + k, columns.length[:, None] - 1)
        narrow += across.weight[:, None, :, k, None] * triples[line[:, :, None] + 3 * column[:, None]]

    narrow = narrow.flatten(2)
    result = torch.zeros(images.size, height, width * 3, dtype=torch.float32, device=images.device)
    for k in range(down.weight.shape[2]):
        source = (down.low - top + k).clamp(max=len(needed) - 1)
        result += down.weight[:, :, k, None] * narrow.gather(1, source[..., None].expand_as(result))
    result = (result / 255).view(-1, height, width, 3)
    return result.clamp(0, 1) if rows.cubic else result
