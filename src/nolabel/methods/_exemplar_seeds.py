"""Exemplar's seeds: where they are cut (Dosovitskiy et al., section 2.1)."""

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.views import colour, plain

if TYPE_CHECKING:
    from nolabel.data.store import ImageStore
    from nolabel.methods.exemplar import ExemplarOptions

ROOM = 2.2
"""side of what is kept around a seed, in sides of the seed: enough for every shift, zoom and turn together"""
SOURCES = 10_000
"""images that seeds are looked for in"""


def room_of(side: int) -> int:
    """Side in pixels of what is kept around a seed of `side` px, which lies exactly in its middle."""
    return side + 2 * math.ceil((ROOM - 1) * side / 2)


def gradient_energy(images: Tensor, side: int) -> Tensor:
    """Mean squared gradient of the grey image in every window of `side` px of (B, 3, H, W): (B, H-side+1, W-side+1)."""
    grey = F.pad(colour.luma(images), (1,) * 4, mode="replicate")
    across = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    return F.avg_pool2d(across.square() + down.square(), side, 1)[:, 0]


def cut(
    store: "ImageStore", o: "ExemplarOptions", side: int, size: int, generator: torch.Generator
) -> Tensor:
    """The seeds of `side` px with their surroundings, uint8 (o.seeds, 3, room, room), from images of `size` px.

    An image gives `o.seeds_per_image` where there are enough images, each at one of the scales, by turns; its place is
    drawn by the energy of the gradients, or anywhere.
    """
    order = torch.randperm(len(store), generator=generator)[:SOURCES]
    chosen = order[torch.arange(o.seeds) // o.seeds_per_image % len(order)]
    found = []
    for turn, scale in enumerate(o.seed_scales):
        for rows in chosen[turn :: len(o.seed_scales)].split(500):
            images = plain.whole(store.batch(rows), max(side, round(size / scale))).cpu()
            energy = gradient_energy(images, side)
            flat = energy.flatten(1)
            place = torch.multinomial(
                flat + 1e-12 if o.gradient_sampling else torch.ones_like(flat), 1, generator=generator
            )[:, 0]
            corner = torch.stack([place // energy.shape[2], place % energy.shape[2]], 1)
            found.append(_around(images, corner, side, o.border))
    return torch.cat(found)


def _around(images: Tensor, corner: Tensor, side: int, border: str) -> Tensor:
    """The square around each seed (its top left `corner`), images continued by reflection, or black."""
    room, last = room_of(side), images.shape[-1] - 1
    steps = torch.arange(room) - (room - side) // 2
    wanted = [corner[:, i : i + 1] + steps for i in (0, 1)]
    rows, columns = (last - (at % (2 * last) - last).abs() for at in wanted)
    image = torch.arange(len(images)).view(-1, 1, 1)
    found = images.movedim(1, -1)[image, rows[:, :, None], columns[:, None]].movedim(-1, 1)
    if border == "zero":
        inside = [(at >= 0) & (at <= last) for at in wanted]
        found = found * (inside[0][:, None, :, None] & inside[1][:, None, None, :])
    return (found * 255).round().byte()
