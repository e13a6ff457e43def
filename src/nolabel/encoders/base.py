"""The contract of an encoder, and how one is built from its name."""

import contextlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nolabel import catalog
from nolabel.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SMALLEST = 8
AMPLE = 224
"""px at which every network can be built that can be built at all"""


class Encoder(nn.Module, ABC):
    """A convolutional network from RGB in [0, 1] to named stage maps and one pooled vector.

    The encoder owns its normalisation (buffers `mean` and `std`, each (3, 1, 1)). Views that a task
    standardises itself (jigsaw tiles, context patches, lightness) are passed with `standardised=True`, which
    skips it. Any input at least as large as the size the stem was built for is accepted.
    """

    name: str
    """the string that builds it, such as `resnet18`"""
    size: int
    """side in pixels that the stem was built for"""
    stages: tuple[str, ...]
    """names of the stage maps, in depth order"""
    dim: int
    """length of the pooled vector"""
    whitened: bool = False
    """whether the stem holds whitening filters and is frozen"""
    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1))

    def normalised(self, images: Tensor, standardised: bool = False) -> Tensor:
        """`images` (B, 3, H, W) in [0, 1], channel by channel minus `mean`, over `std`."""
        return images if standardised else (images - self.mean) / self.std

    def in_turn(self, x: Tensor) -> dict[str, Tensor]:
        """Maps of an encoder whose stages are submodules of these names: x goes into the first, each into the next."""
        found = {}
        for stage in self.stages:
            found[stage] = x = self.get_submodule(stage)(x)
        return found

    @abstractmethod
    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        """Stage name -> map (B, C, h, w), in depth order."""

    @abstractmethod
    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        """The pooled vector, (B, dim)."""

    @property
    @abstractmethod
    def stem(self) -> nn.Conv2d:
        """The first convolution: its filters are drawn in the report and may be whitened."""


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Within it, `module` is in evaluation mode; afterwards it is in the mode that it was in."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


@torch.no_grad()
def map_shapes(encoder: Encoder, size: int) -> list[tuple[int, int]]:
    """(channels, side) of every stage for square images of `size` px, in depth order; the encoder stays as it is.

    Raises:
        UsageError: nothing is left of so small images before the last stage.
    """
    image = torch.zeros(1, 3, size, size, device=encoder.mean.device, dtype=encoder.mean.dtype)
    try:
        with evaluating(encoder):
            maps = encoder.maps(image)
    except RuntimeError:
        raise UsageError(
            f"Images of {size} px are too small for {encoder.name}: give a larger --size."
        ) from None
    return [(value.shape[1], value.shape[2]) for value in maps.values()]


def build(name: str, size: int) -> Encoder:
    """The encoder called `name` for images of side `size` px, randomly initialised from torch's generator.

    Each file of `encoders/` states a `PATTERN` (a regular expression of the names it builds), `EXAMPLES` of
    names, and a function `build(name, size)`. A `.py` file or a dotted module that has `build` works as a
    name too.

    Raises:
        UsageError: no file builds that name (the nearest is suggested), the one named has no `build`, or the size is
            below 8 px.
    """
    if size < SMALLEST:
        raise UsageError(f"An encoder for images of {size} px cannot be built: give at least {SMALLEST} px.")
    examples: list[str] = []
    for entry in catalog.names("encoders"):
        module = catalog.module("encoders", entry)
        if re.fullmatch(module.PATTERN, name):
            return module.build(name, size)
        examples += module.EXAMPLES
    if name.endswith(".py") or catalog.is_dotted(name):
        module = catalog.module("encoders", name)
        if not hasattr(module, "build"):
            raise UsageError(f"{name} builds no encoder: define build(name, size) in it, which gives one.")
        return module.build(name, size)
    raise UsageError(catalog.unknown("encoder", name, tuple(examples)))


def check_name(name: str) -> tuple[str, ...]:
    """The stages of the encoder called `name`, of which no weights are made; UsageError where no file builds it."""
    with torch.device("meta"):
        return build(name, AMPLE).stages
