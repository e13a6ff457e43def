"""Sides of the views along a run: small ones first, because they cost little and teach much."""

import math

from nolabel.encoders.base import Encoder, map_shapes
from nolabel.errors import UsageError


def check_sizes(sizes: tuple[float, ...], size_changes: tuple[float, ...]) -> None:
    """Raise UsageError unless there is one change fewer than sizes, and sizes are shares in (0, 1]."""
    if len(sizes) != len(size_changes) + 1:
        raise UsageError(
            f"{len(sizes)} sizes need {len(sizes) - 1} size_changes, but {len(size_changes)} are given: "
            "name one change fewer than sizes."
        )
    if not all(0 < share <= 1 for share in sizes):
        raise UsageError(f"sizes are shares of the training size in (0, 1], so {sizes} cannot be used.")


def view_side(side: int, sizes: tuple[float, ...], size_changes: tuple[float, ...], progress: float) -> int:
    """Side in pixels at `progress`: a share of `side`, rounded up to a multiple of 4, never above `side`."""
    share = sizes[sum(progress >= change for change in size_changes)]
    return min(side, 4 * math.ceil(share * side / 4))


def check_encoder(encoder: Encoder, side: int, sizes: tuple[float, ...]) -> None:
    """Raise UsageError where `encoder` gives no maps of the smallest views of images of `side` px."""
    smallest = view_side(side, (min(sizes),), (), 0.0)
    try:
        map_shapes(encoder, smallest)
    except UsageError:
        raise UsageError(
            f"{encoder.name} cannot see views of {smallest} px, with which a run on images of {side} px begins: choose "
            '--sizes 1 --size-changes "" or a larger --size.'
        ) from None
