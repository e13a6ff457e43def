"""The contract of a method: encoder, head, loss and views of one paper, in one file."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from nolabel.catalog import checked
from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import Encoder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nolabel.data.store import ImageStore


@dataclass(frozen=True)
class DataInfo:
    """What a method may know of the images before it sees one."""

    images: int
    """number of training images"""
    size: int
    """side of the training view in pixels"""


@dataclass(frozen=True)
class Recipe:
    """Optimizer, rate, batch and schedule; each method states its own, with the source of every value."""

    batch_size: int = 256
    """images in one step, over all processes (views or turns of an image not counted)"""
    optimizer: Literal["sgd", "adamw", "lars"] = "sgd"
    lr: float = 0.1
    """peak learning rate at batch size `lr_batch`"""
    lr_rule: Literal["fixed", "linear", "sqrt"] = "fixed"
    """how the rate follows the batch: not at all, proportional, or by its square root"""
    lr_batch: int = 256
    """the batch size at which `lr` holds"""
    momentum: float = 0.9
    """of `sgd` and `lars`; the first decay rate (beta 1) of `adamw`"""
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_norm_bias: bool = False
    """whether BatchNorm parameters and biases decay too"""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup: float = 0.05
    """share of the run with a linearly rising rate"""
    drops: tuple[float, ...] = ()
    """schedule `step`: shares of the run after which the rate is divided by `drop_factor`"""
    drop_factor: float = 10.0
    epochs: float = 100.0
    """length when no budget is given"""
    stem: Literal["random", "whitened"] = "random"
    """`whitened`: the first convolution is set to the whitening filters of image patches and frozen"""
    batchnorm: Literal["running", "reestimated"] = "running"
    """`reestimated`: statistics are set again on plain training images when the encoder is written"""
    beta2: float = 0.999
    """of `adamw`: the second decay rate"""
    lars_eta: float = 0.001
    """of `lars`: the trust coefficient"""
    lars_clip: bool = False
    """of `lars`: whether a layer's rate never exceeds the run's"""
    adversary_rate: float = 1.0
    """rate of the parameters of `adversary`, as a share of everybody else's"""


class Method(nn.Module, ABC):
    """One paper, which knows nothing of the loop, devices, precision, files or logging, and sees no labels.

    Subclasses are final: an implemented method is never overridden. The paper's loss is a plain function in
    the same file, so that a test can call it.

    A method that trains against a second net names it `adversary` and returns `adversary_loss` beside `loss`. Each
    loss moves its own parameters: `adversary_loss` those of `adversary` (its other inputs are detached), `loss` all
    others (it asks the adversary through `unmoved`). The step adds the two up, goes back once and updates once.
    """

    Options: ClassVar[type]
    """frozen dataclass with a docstring under each field: command line, docs and report come from it"""
    recipe: ClassVar[Recipe]
    """scaled defaults; the file's header gives the paper's values with their section"""
    paper: ClassVar[str]
    """authors, venue and year"""
    chance: float | None = None
    """accuracy of guessing at the pretext task, or None where there is no such number; it may follow the options"""

    explained: ClassVar[str] = ""
    """one paragraph for a reader who is new to it: the task, and what solving it takes"""
    when: ClassVar[str] = ""
    """when it is the method to take, and when it is not"""
    undefended: ClassVar[dict[str, Any]] = {}
    """values of options that turn off its defences against solutions that need no understanding; the loss stays"""
    defended: ClassVar[dict[str, Any]] = {}
    """values of options that turn such defences on, of a method whose defaults have none"""
    needs: ClassVar[Literal["", "colour", "turns"]] = ""
    """what of the images the task asks for, where some images do not have it: `check-pretext` says whether these do"""
    unseen: ClassVar[str] = ""
    """what `held_out` and a trained `panel` are asked about, where that is not images that were not trained on"""

    encoder: Encoder
    """what is kept"""
    adversary: nn.Module | None
    """what `adversary_loss` trains, at `Recipe.adversary_rate`; None where there is none"""

    def __init__(self, encoder: Encoder, options: Any, data: DataInfo) -> None:
        super().__init__()
        self.register_module("adversary", None)
        self.encoder = encoder
        self.options = checked(options)
        self.data = data

    @classmethod
    def recipe_for(cls, options: Any, data: DataInfo) -> Recipe:
        """The recipe when these options and data ask for another one than `recipe`."""
        return cls.recipe

    @classmethod
    def encoder_size(cls, options: Any, data: DataInfo) -> int:
        """Side in pixels that the encoder's stem is built for: the tile's or patch's, where the task sees parts."""
        return data.size

    @classmethod
    def least_images(cls, options: Any) -> int:
        """Images that a step needs over all processes, and `held_out` too: 2 where images are compared."""
        return 1

    def prepare(self, store: "ImageStore", generator: torch.Generator) -> None:
        """One pass over the images before step 0; what it finds are buffers, saved with the checkpoint."""
        return None

    @abstractmethod
    def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, Tensor]:
        """All randomness of one step for n images of the global batch, on the CPU.

        Axis 0 of every tensor with at least one axis is the image (the loop slices it by rank); 0-d tensors
        hold what the whole step shares. `progress` in [0, 1) is the share of the run that is done.
        """

    def draw_step(
        self, n: int, generator: torch.Generator, progress: float, seed: int, step: int
    ) -> dict[str, Tensor]:
        """`draw` for step `step` of the run with `seed`; another one where a run fixes copies, or deals something out.

        An epoch is `data.images // n` steps.
        """
        return self.draw(n, generator, progress)

    @abstractmethod
    def views(self, images: ImageBatch, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the loss is computed from, images float32 in [0, 1] or standardised.

        Pure, without gradient; may run ahead of the step.
        """

    def given(self, views: dict[str, Tensor]) -> Tensor | None:
        """What the encoder is given of the images, (B m, 3, h, w), the m of an image adjacent; None: nothing of them.

        For the sheet of views in a report.
        """
        return next((v for v in views.values() if v.ndim == 4 and v.shape[1] == 3), None)

    @abstractmethod
    def forward(self, views: dict[str, Tensor]) -> dict[str, Tensor]:
        """`loss` (0-d, the mean over the images of this process) and scalars to log, without randomness.

        With an `adversary` also `adversary_loss`, a mean over the same images.
        """

    def chance_loss(self, images: int) -> float | None:
        """Closed form of the least loss of a head that gives the same for all inputs, at `images` images a step."""
        return None

    @abstractmethod
    @torch.no_grad()
    def held_out(self, views: dict[str, Tensor]) -> dict[str, float]:
        """How well the task itself is solved on images that were not trained on (in eval mode)."""

    def collapsed(self, row: dict[str, float], progress: float) -> str | None:
        """One sentence that names a collapse of this very task and what to try; None: there is none.

        `row` is what was logged of a step, and `progress` in (0, 1] the share of the run that is done after it.
        """
        return None

    def finish(self, encoder: Encoder) -> None:
        """What the paper does to a copy of the encoder before transfer."""
        return None

    @abstractmethod
    def panel(self, images: ImageBatch, generator: torch.Generator, trained: bool = False) -> "Figure":
        """The picture that explains the method, drawn from a few images; with `trained`, its answers too."""


def unmoved(module: nn.Module, *inputs: Tensor) -> Tensor:
    """`module(*inputs)`, from which the inputs get their gradient and the parameters of `module` none.

    How a loss asks an adversary; the buffers of `module` (BatchNorm statistics) follow as in any call.
    """
    fixed = {name: value.detach() for name, value in module.named_parameters()}
    return torch.func.functional_call(module, fixed, inputs)
