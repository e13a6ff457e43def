"""Options that every method shares; the same names wherever they appear."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

_WHAT = Parameter(group=Group("What is learnt", sort_key=2))
_LENGTH = Parameter(group=Group("How long (one of three)", sort_key=3))
_WHERE = Parameter(group=Group("Where and how it runs", sort_key=4))


@dataclass(frozen=True)
class Shared:
    """The options of a run that do not depend on the method."""

    encoder: Annotated[str, _WHAT] = "resnet10"
    """resnet10, resnet18, resnet34, resnet50 (resnet50x2: twice as wide), nin3 to nin5, or timm:NAME"""
    size: Annotated[int | None, _WHAT] = None
    """side of the training images in pixels; the median of their shorter sides, at most 96, when not given"""
    epochs: Annotated[float | None, _LENGTH] = None
    """passes over the images"""
    steps: Annotated[int | None, _LENGTH] = None
    """updates of the weights"""
    minutes: Annotated[float | None, _LENGTH] = None
    """minutes of wall-clock, all included"""
    batch_size: Annotated[int | None, _WHAT] = None
    """images in one step, over all processes; the method's own when not given"""
    lr: Annotated[float | None, _WHAT] = None
    """peak learning rate at that batch size; the method's own when not given"""
    seed: Annotated[int, _WHAT] = 0
    """of all randomness: one seed, one result"""
    init: Annotated[str | None, _WHAT] = None
    """start from this run, safetensors file, or `timm` (its weights for the model of that name)"""
    labels: Annotated[Path | None, _WHAT] = None
    """CSV with the header path,label, for the kNN accuracy along the way; labels are never trained on"""
    out: Annotated[Path | None, _WHERE] = None
    """folder of the run; a new one under runs/ when not given"""
    resume: Annotated[bool, Parameter(negative=()), _WHERE] = False
    """go on with the stopped run in --out"""
    extend: Annotated[bool, Parameter(negative=()), _WHERE] = False
    """train the finished run in --out on, for the length given"""
    devices: Annotated[int, _WHERE] = 1
    """processes: one a GPU, or this many on the processor"""
    precision: Annotated[Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"], _WHERE] = "auto"
    """number format; auto measures which one is faster here"""
    channels_last: Annotated[bool | None, _WHERE] = None
    """memory layout; the faster one here when not given"""
    compile: Annotated[bool | None, _WHERE] = None
    """compile the step; done where it pays when not given"""
    workers: Annotated[int, _WHERE] = 0
    """processes that read the images; 0: one per core; the result does not depend on it"""
    tensorboard: Annotated[bool, Parameter(negative=()), _WHERE] = False
    """write TensorBoard files too"""
