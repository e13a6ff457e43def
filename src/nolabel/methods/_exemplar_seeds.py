"""Exemplar's seeds: where they are cut (Dosovitskiy et al., section 2.1)."""

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.views import colour, plain

if TYPE_CHECKING:
    from nolabel.data.store import ImageStore

ROOM = 2.2
"""side of what is kept around a seed, in sides of the seed: enough for every shift, zoom and turn together"""
SOURCES = 10_000
"""images that seeds are looked for in"""


def room_of(side: int) -> int:
    """Side in pixels of what is kept around a seed of `side` px."""
    return math.ceil(ROOM * side)


def gradient_energy(images: Tensor, side: int) -> Tensor:
    """Mean squared gradient of the grey image in every window of `side` px of (B, 3, H, W): (B, H-side+1, W-side+1)."""
    grey = F.pad(colour.luma(images), (1,) * 4, mode="replicate")
    across = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    return F.avg_pool2d(across.square() + down.square(), side, 1)[:, 0]


def cut(
    store: "ImageStore", count: int, side: int, size: int, by_energy: bool, generator: torch.Generator
) -> Tensor:
    """`count` seeds of `side` px with their surroundings, uint8 (count, 3, room, room), from images of `size` px.

    Each lies in another image where there are enough; its place is drawn by the energy of the gradients, or anywhere.
    """
    order = torch.randperm(len(store), generator=generator)[:SOURCES]
    found = []
    for rows in order[torch.arange(count) % len(order)].split(500):
        images = plain.whole(store.batch(rows), size).cpu()
        energy = gradient_energy(images, side)
        chance = energy.flatten(1) + 1e-12 if by_energy else torch.ones_like(energy.flatten(1))
        place = torch.multinomial(chance, 1, generator=generator)[:, 0]
        corner = torch.stack([place // energy.shape[2], place % energy.shape[2]], 1)
        found.append(_around(images, corner, side))
    return torch.cat(found)


def _around(images: Tensor, corner: Tensor, side: int) -> Tensor:
    """The square around each seed (its top left `corner`), images continued by reflection."""
    room, last = room_of(side), images.shape[-1] - 1
    steps = torch.arange(room) - (room - side) // 2
    rows, columns = (last - ((corner[:, i : i + 1] + steps) % (2 * last) - last).abs() for i in (0, 1))
    image = torch.arange(len(images)).view(-1, 1, 1)
    found = images.movedim(1, -1)[image, rows[:, :, None], columns[:, None]]
    return (found.movedim(-1, 1) * 255).round().byte()
