"""The encoder before step 0, the same for a run and for the random baseline that it is compared with."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from nolabel.encoders import _io, base
from nolabel.encoders._statistics import set_normalisation
from nolabel.encoders._whitening import whiten_stem
from nolabel.encoders.base import Encoder
from nolabel.seeds import derive

IMAGES = 1024
"""training images, drawn from `generator(seed, "init")`, that an encoder starts from"""


def initial_encoder(
    name: str,
    size: int,
    images: Tensor,
    *,
    stem: Literal["random", "whitened"],
    seed: int,
    init: str | Path | None = None,
) -> Encoder:
    """The encoder called `name` for `size` px, on the CPU, as a run with `seed` starts from it.

    Mean and standard deviation of the pixels, and the filters of a "whitened" stem, come from `images` (n, 3, s, s)
    in [0, 1], plain training images. With `init` (see `initialise`) they come with the weights.

    Raises:
        UsageError: an unknown name, images of one colour, or weights that do not fit.
    """
    with seeded(seed, "init"):
        encoder = base.build(name, size)
    if init is not None:
        _io.initialise(encoder, init)
        return encoder
    images = images.cpu()
    set_normalisation(encoder, images.mean((0, 2, 3)), images.std((0, 2, 3)))
    if stem == "whitened":
        whiten_stem(encoder, images)
    return encoder


@contextlib.contextmanager
def seeded(seed: int, *path: str | int) -> Iterator[None]:
    """Within it, torch's own generator starts from `derive(seed, *path)`; afterwards it is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, *path))
        yield
