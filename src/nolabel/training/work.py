"""What every process of a run does: build, choose the numerics, train."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from nolabel import catalog, distributed
from nolabel.data.store import ImageStore
from nolabel.encoders._initial import IMAGES, initial_encoder, seeded
from nolabel.memory import keep_freed
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.runs import Run
from nolabel.seeds import generator
from nolabel.training.asked import build_options, plain_values
from nolabel.training.budget import Budget, steps_in_epochs
from nolabel.training.launch import make_fabric
from nolabel.training.loop import Settings, fit
from nolabel.training.precision import Numerics, choose, compiles
from nolabel.training.progress import Progress
from nolabel.training.step import ViewSource
from nolabel.training.watch import Monitor
from nolabel.views import plain

HELD_OUT = 512
HELD_OUT_FROM = 10 * HELD_OUT
MEASURED_IMAGES = 16
"""images whose views the numerics are measured on, on a processor"""


@dataclass(frozen=True)
class Work:
    """A run as resolved; plain values, so that it reaches other processes."""

    method: str
    options: dict[str, Any]
    recipe: Recipe
    encoder: str
    size: int
    seed: int
    init: str | None
    precision: str
    channels_last: bool | None
    compile: bool | None
    budget: Budget
    threads: int
    ends: float | None = None
    visible: bool = True
    tensorboard: bool = False


def training_images(store: ImageStore, seed: int) -> tuple[ImageStore, ImageStore | None]:
    """(images to train on, images to see how well the task is solved, or None).

    The training split where there is one, else everything. Held out are the test split, or 512 of the training
    images where there are ten times as many; nothing is chosen by them.
    """
    train = store.split("train")
    if "test" in store.split_names:
        return train, store.split("test")
    if len(train) < HELD_OUT_FROM:
        return train, None
    order = torch.randperm(len(train), generator=generator(seed, "held_out"))
    return train.subset(order[HELD_OUT:].sort().values), train.subset(order[:HELD_OUT].sort().values)


def build_method(work: Work, train: ImageStore) -> Method:
    """The method with its encoder as before step 0."""
    kind = catalog.load("methods", work.method, Method)
    options, data = build_options(kind.Options, work.options), DataInfo(len(train), work.size)
    order = torch.randperm(len(train), generator=generator(work.seed, "init"))
    images = plain.whole(train.batch(order[:IMAGES]), work.size)
    encoder = initial_encoder(
        work.encoder,
        kind.encoder_size(options, data),
        images,
        stem=work.recipe.stem,
        seed=work.seed,
        init=work.init,
    )
    with seeded(work.seed, "init", "method"):
        return kind(encoder, options, data)


def default_method(name: str, encoder: str, store: ImageStore, size: int) -> tuple[Method, Recipe]:
    """Method `name` with its default options, prepared on `store` as before step 0, and its recipe.

    Raises:
        UsageError: it cannot train this encoder at this size.
    """
    kind = catalog.load("methods", name, Method)
    options = kind.Options()
    recipe = kind.recipe_for(options, DataInfo(len(store), size))
    work = Work(
        name, plain_values(options), recipe, encoder, size, 0, None, "32-true", False, False, Budget(steps=1), 1
    )  # fmt: skip
    method = build_method(work, store)
    method.prepare(store, generator(0, "prepare"))
    return method, recipe


def train(
    work: Work, store: ImageStore, folder: Path, monitors: Callable[[ImageStore], Sequence[Monitor]]
) -> None:
    """Train as `work` says in the run folder `folder`; called in every process of the run.

    Raises:
        KeyboardInterrupt: a person ended the run; checkpoint and encoder are written.
    """
    keep_freed()
    torch.set_num_threads(work.threads)
    fabric = make_fabric("32-true")
    fabric.barrier()
    run, progress = Run.open(folder), Progress(work.visible and fabric.is_global_zero)
    images, held_out = training_images(store, work.seed)
    images = images.to(fabric.device)
    held_out = held_out.to(fabric.device) if held_out is not None else None
    method = build_method(work, images)
    if fabric.is_global_zero:
        run.update(chance={"loss": method.chance_loss(work.recipe.batch_size), "accuracy": method.chance})
    numerics = _numerics(work, method, images, fabric, run, progress)
    if numerics.precision != "32-true":
        fabric = make_fabric(numerics.precision)
    settings = Settings(
        recipe=work.recipe,
        budget=work.budget,
        size=work.size,
        seed=work.seed,
        numerics=numerics,
        ahead=2 if fabric.device.type == "cuda" else 0,
        ends=work.ends,
        tensorboard=work.tensorboard,
    )
    outcome = fit(
        method, images, fabric=fabric, settings=settings, run=run, held_out=held_out, monitors=monitors(images),
        progress=progress,
    )  # fmt: skip
    if fabric.is_global_zero:
        status = "interrupted" if outcome.interrupted else "finished"
        run.update(status=status, finished=_now(), seconds=round(outcome.seconds, 1), final=outcome.final)
    if outcome.interrupted:
        raise KeyboardInterrupt(
            f"Interrupted after step {outcome.steps:,}: checkpoint and encoder are in {folder}."
        )


def _numerics(
    work: Work, method: Method, images: ImageStore, fabric: Fabric, run: Run, progress: Progress
) -> Numerics:
    """As recorded, or as measured by the first process, and then recorded."""
    if "numerics" in run.info:
        return Numerics(**run.info["numerics"])
    measured = Numerics("32-true", channels_last=False, compile=False)
    if fabric.is_global_zero:
        with distributed.alone():
            measured = _measured(work, method, images, fabric, progress)
        run.update(numerics=asdict(measured), **asdict(measured))
    return fabric.broadcast(measured)


def _measured(work: Work, method: Method, images: ImageStore, fabric: Fabric, progress: Progress) -> Numerics:
    batch = work.recipe.batch_size // fabric.world_size
    few = batch if fabric.device.type == "cuda" else min(batch, MEASURED_IMAGES)
    source = ViewSource(method, images, max(few, min(2, len(images))), work.seed, channels_last=False)
    views = source.views(0, 0.5)
    method.to(fabric.device)
    chosen = choose(method, views, work.precision, work.channels_last)

    def seconds(one_pass: float) -> float:
        if work.budget.minutes is not None:
            return work.budget.minutes * 60
        steps = work.budget.steps or steps_in_epochs(
            work.budget.epochs or 0, len(images), work.recipe.batch_size
        )
        return steps * one_pass * batch / few

    return Numerics(*chosen, compiles(method, views, chosen, work.compile, seconds, progress.say))


def machine() -> dict[str, Any]:
    """Processor, cores and GPU of this machine, for `run.json`."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": torch.get_num_threads(),
        "gpu": gpu,
        "system": platform.platform(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Of what a result may depend on."""
    found = {"python": platform.python_version()}
    for package in ("nolabel", "torch", "lightning-fabric", "numpy", "timm"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
