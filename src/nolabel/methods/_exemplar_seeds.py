"""Exemplar's seeds: how large they are, and where they are cut (Dosovitskiy et al., section 2.1)."""

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.encoders.base import SMALLEST
from nolabel.errors import UsageError
from nolabel.views import colour, plain

if TYPE_CHECKING:
    from nolabel.data.store import ImageStore
    from nolabel.methods.exemplar import Exemplar, ExemplarOptions

ROOM = 2.2
"""least side of what is kept around a seed, in sides of the seed: the paper's shift, zoom and turn together need it"""
SOURCES = 10_000
"""images that seeds are looked for in, unless more are needed to take no more from one than asked"""


def side_of(o: "ExemplarOptions", size: int) -> int:
    """Side of a seed in pixels for images of `size` px; UsageError where it is too small or too large."""
    usual = size // 2 if size <= 32 else 8 * round(size / 24 if size <= 96 else 3 * size / 64)
    side = o.patch or usual
    if not SMALLEST <= side <= size:
        raise UsageError(f"Seeds of {side} px do not fit images of {size} px: take {SMALLEST} to {size} px.")
    return side


def room_of(o: "ExemplarOptions", side: int) -> int:
    """Side in pixels of what is kept around a seed of `side` px, which lies exactly in its middle.

    Enough for the largest zoom, turn and shift together (specification 1.2).
    """
    turn = min(math.radians(abs(o.turn)), math.pi / 4)
    room = max(ROOM, o.zoom * (math.cos(turn) + math.sin(turn)) + 2 * abs(o.shift))
    return side + 2 * math.ceil((room - 1) * side / 2)


def fit_saved(method: "Exemplar", state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Before `method` is loaded from `state`: its windows get the saved size, since older runs kept `ROOM` at most."""
    saved = state.get(f"{prefix}windows")
    if saved is not None:
        method.windows = saved.new_empty(saved.shape, device=method.windows.device)


def gradient_energy(images: Tensor, side: int) -> Tensor:
    """Mean squared gradient of the grey image in every window of `side` px of (B, 3, H, W): (B, H-side+1, W-side+1)."""
    grey = F.pad(colour.luma(images), (1,) * 4, mode="replicate")
    across = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    return F.avg_pool2d(across.square() + down.square(), side, 1)[:, 0]


def weights(energy: Tensor) -> Tensor:
    """How likely each window of an image is, (B, W) of its `energy`: flat ones are not, unless all are flat."""
    return torch.where(energy.amax(1, keepdim=True) > 0, energy, torch.ones_like(energy))


def cut(
    store: "ImageStore", o: "ExemplarOptions", side: int, size: int, generator: torch.Generator
) -> Tensor:
    """The seeds of `side` px with their surroundings, uint8 (o.seeds, 3, room, room), from images of `size` px.

    An image gives `o.seeds_per_image` where there are enough images, each at one of the scales, by turns; their places
    are drawn by the energy of the gradients, or anywhere, where all is flat only when no other place is left, and none
    twice at one scale unless there are fewer than seeds; where the image is large enough, the surroundings of a seed
    lie in it (specification 1.8).
    """
    sources = max(SOURCES, math.ceil(o.seeds / o.seeds_per_image))
    order = torch.randperm(len(store), generator=generator)[:sources]
    number = torch.arange(o.seeds)
    source, turn = number // o.seeds_per_image % len(order), number % len(o.seed_scales)
    wide = torch.tensor([max(side, round(size / scale)) for scale in o.seed_scales])[turn]
    found, room = [], room_of(o, side)
    for width in dict.fromkeys(wide.tolist()):
        wanted = torch.bincount(source[wide == width], minlength=len(order))
        for rows in wanted.nonzero()[:, 0].split(500):
            images = plain.whole(store.batch(order[rows]), width).cpu()
            corners, image = _places(images, wanted[rows], o.gradient_sampling, side, room, generator)
            found.append(_around(images[image], corners, side, room, o.border))
    return torch.cat(found)


def _places(
    images: Tensor, wanted: Tensor, by_energy: bool, side: int, room: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Top left corners of `wanted` (B,) seeds of each image, int64 (n, 2), and the image of each, int64 (n,)."""
    energy, edge = gradient_energy(images, side), 0
    if images.shape[-1] >= room:
        edge = (room - side) // 2
        energy = energy[:, edge : energy.shape[1] - edge, edge : energy.shape[2] - edge]
    flat, most = energy.flatten(1), int(wanted.max())
    weight = weights(flat) if by_energy else torch.ones_like(flat)
    every = torch.multinomial(weight, most, replacement=most > flat.shape[1], generator=generator)
    place = every[torch.arange(most) < wanted[:, None]]
    corners = torch.stack([place // energy.shape[2], place % energy.shape[2]], 1) + edge
    return corners, torch.arange(len(images)).repeat_interleave(wanted)


def _around(images: Tensor, corner: Tensor, side: int, room: int, border: str) -> Tensor:
    """The square of `room` px around each seed (its top left `corner`), images continued by reflection, or black."""
    last = images.shape[-1] - 1
    steps = torch.arange(room) - (room - side) // 2
    wanted = [corner[:, i : i + 1] + steps for i in (0, 1)]
    rows, columns = (last - (at % (2 * last) - last).abs() for at in wanted)
    image = torch.arange(len(images)).view(-1, 1, 1)
    found = images.movedim(1, -1)[image, rows[:, :, None], columns[:, None]].movedim(-1, 1)
    if border == "zero":
        inside = [(at >= 0) & (at <= last) for at in wanted]
        found = found * (inside[0][:, None, :, None] & inside[1][:, None, None, :])
    return (found * 255).round().byte()
