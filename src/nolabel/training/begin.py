"""From what was asked for to a run that can start: new, resumed or extended."""

import math
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nolabel import catalog
from nolabel.data.store import ImageStore
from nolabel.encoders import base
from nolabel.encoders._initial import seeded
from nolabel.encoders._io import initialise
from nolabel.errors import DataError, UsageError
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.runs import Run
from nolabel.training.asked import build_options, check_same, fitted, plain_values, recipe_of, repeat_command
from nolabel.training.budget import Budget
from nolabel.training.launch import check_devices, external, is_first, world_size
from nolabel.training.progress import Progress
from nolabel.training.schedule import peak_rate
from nolabel.training.work import Work, machine, training_images, versions

LARGEST_DEFAULT_SIZE = 96
"""px; larger images are trained on at this size unless another is named"""

DEFAULTS: dict[str, Any] = {"encoder": "resnet10", "seed": 0, "devices": 1, "precision": "auto"}

TOLD = ("batch_size", "lr", "lr_rule", "lr_batch", "epochs")
"""fields of a recipe that `--batch-size`, `--lr` and `--steps` stand for"""


@dataclass(frozen=True)
class Request:
    """What a person asked for."""

    asked: dict[str, Any]
    """settings of the run by name, None where not named"""
    options: dict[str, Any]
    """of the method"""
    recipe: dict[str, Any]
    """fields of `Recipe` beside batch size and rate"""
    length: dict[str, Any]
    """epochs, steps or minutes; at most one"""
    data: str | Path | ImageStore
    out: Path | None
    labels: Path | None
    workers: int
    began: float
    """time.time() at which the minutes begin"""
    screen: Progress
    visible: bool
    tensorboard: bool


def start(request: Request) -> tuple[Run, Work, ImageStore]:
    """A new run folder, the run as resolved, and the images; errors as `api.pretrain`."""
    kind = catalog.load("methods", request.asked["method"], Method)
    options = build_options(kind.Options, request.options)
    run = _new_folder(request)
    try:
        store, opened_at = _open(request, request.asked["size"])
        request.screen.say(store.describe())
        train, _ = training_images(store, request.asked["seed"])
        size = request.asked["size"] or default_size(train)
        data = DataInfo(len(train), size)
        recipe = _recipe(request, kind, options, data)
        budget = Budget(**(request.length or {"epochs": recipe.epochs}))
        threads = max(1, torch.get_num_threads() // (1 if external() else request.asked["devices"]))
        work = _work(request, plain_values(options), recipe, budget, size, threads)
        with seeded(work.seed, "init"):
            # a wrong name, and weights that cannot be had, are told before a file is written
            encoder = base.build(work.encoder, kind.encoder_size(options, data))
            if work.init is not None:
                initialise(encoder, work.init)
        if is_first():
            _describe(run, request, work, store, train, opened_at)
    except BaseException:
        run.discard()
        raise
    return run, work, store


def go_on(request: Request, *, extend: bool) -> tuple[Run, Work, ImageStore]:
    """The run in `request.out` with the settings it began with, and its images; errors as `api.pretrain`."""
    if request.out is None:
        raise UsageError("Which run? Name its folder with --out.")
    run = Run.resume(request.out) if is_first() else Run.open(request.out)
    try:
        info = run.info
        _check_same(request, info)
        _check_length(request, info, extend, run.folder)
        if not external():
            check_devices(info["devices"])
        store, _ = _open(
            replace(request, labels=request.labels or labels_of(info)), info["data"]["opened_at"]
        )
        if store.fingerprint != info["data"]["fingerprint"]:
            raise DataError(
                f"The images in {store.source} changed since the run in {run.folder} began: bring them back, or start "
                "another run with --out."
            )
        kind = catalog.load("methods", info["method"], Method)
        recipe = recipe_of(info["recipe"])
        asked = request.length if extend else info["budget"]["asked"]
        if extend:
            run.info["budget"] = {"asked": asked, "start": info["budget"]["steps"]}
            run.info.pop("repeat", None)
        work = replace(
            _work(request, plain_values(build_options(kind.Options, info["options"])), recipe, Budget(**asked),
                  info["size"], info["threads"]),
            encoder=info["encoder"], seed=info["seed"], init=info["init"],
        )  # fmt: skip
        if is_first() and (extend or info["status"] != "finished"):
            run.update(status="running")
    except BaseException:
        run.close()
        raise
    return run, work, store


def settle(run: Run) -> None:
    """Write the command that gives the encoder again bit for bit, and none where no command line says all of it."""
    info = run.info
    info.pop("repeat", None)
    kind = catalog.load("methods", info["method"], Method)
    defaults = plain_values(kind.Options())
    changed = {name: value for name, value in info["options"].items() if value != defaults.get(name)}
    if _repeatable(info, kind) and None not in changed.values():
        info["repeat"] = repeat_command(info | {"lr": peak_rate(recipe_of(info["recipe"]))}, changed)
    run.update()


def _repeatable(info: Mapping[str, Any], kind: type[Method]) -> bool:
    """Whether `nolabel pretrain` can be told all that decided the run: images, recipe, length and processes."""
    budget, data = info["budget"], info["data"]
    if "steps" not in budget or "numerics" not in info or budget.get("start") or external():
        return False
    recipe = recipe_of(info["recipe"])
    options = build_options(kind.Options, info["options"])
    own = kind.recipe_for(options, DataInfo(data["trained_on"], info["size"]))
    return bool(data.get("named")) and recipe == replace(
        own, **{name: getattr(recipe, name) for name in TOLD}
    )


def labels_of(info: Mapping[str, Any]) -> Path | None:
    """The file of labels that a run began with."""
    held = info["data"].get("labels")
    return Path(held) if held else None


def default_size(store: ImageStore) -> int:
    """The median of the shorter sides, at most 96 px."""
    return min(LARGEST_DEFAULT_SIZE, int(torch.minimum(store.heights, store.widths).median()))


def _new_folder(request: Request) -> Run:
    if external() and request.out is None:
        raise UsageError("Several machines or torchrun need one folder for the run: name it with --out.")
    if not is_first():
        assert request.out is not None
        return Run(request.out)
    inside = None if isinstance(request.data, ImageStore) else request.data
    source = request.data.source if isinstance(request.data, ImageStore) else str(request.data)
    name = "-".join(
        (catalog.short_name(request.asked["method"]), request.asked["encoder"], Path(source).stem or "images")
    )
    return Run.create(request.out, name=name.replace(":", "-").replace("/", "-"), source=inside)


def _open(request: Request, size: int | None) -> tuple[ImageStore, int]:
    """The images, and the training size they were stored for."""
    if isinstance(request.data, ImageStore):
        return request.data, request.data.opened_at
    return open_images(request.data, size, request.labels, request.workers)


def open_images(
    data: str | Path, size: int | None, labels: Path | None = None, workers: int = 0
) -> tuple[ImageStore, int]:
    """The images as a run on `data` opens them, and the training size they are stored for.

    Where no size is named they are stored for 96 px, and again for their own size where that would differ. Errors
    as `ImageStore.open`.
    """
    side = LARGEST_DEFAULT_SIZE if size is None else size
    store = ImageStore.open(data, size=side, labels=labels, workers=workers)
    own = default_size(store.split("train"))
    largest = int(torch.minimum(store.heights, store.widths).max())
    if size is None and own < side and largest > 1.25 * own:
        return ImageStore.open(data, size=own, labels=labels, workers=workers), own
    return store, side


def _recipe(request: Request, kind: type[Method], options: Any, data: DataInfo) -> Recipe:
    """The method's recipe with what was named, and a batch that fits."""
    recipe = recipe_of(plain_values(kind.recipe_for(options, data)) | request.recipe)
    if request.asked["batch_size"] is not None:
        recipe = replace(recipe, batch_size=request.asked["batch_size"])
    if request.asked["lr"] is not None:
        recipe = replace(recipe, lr=request.asked["lr"], lr_rule="fixed")
    if not 0 <= recipe.lr < math.inf:
        raise UsageError(f"--lr must be a finite number of 0 or more, not {recipe.lr}.")
    recipe, sentence = fitted(recipe, data.images, world_size(request.asked["devices"]))
    if recipe.batch_size < (least := kind.least_images(options)):
        raise UsageError(
            f"{request.asked['method']} compares images, so a batch of {recipe.batch_size} is too small: give a "
            f"--batch-size of at least {least}, and as many images."
        )
    if sentence:
        request.screen.say(sentence)
    return recipe


def _work(
    request: Request, options: dict[str, Any], recipe: Recipe, budget: Budget, size: int, threads: int
) -> Work:
    asked = request.asked
    return Work(
        asked["method"], options, recipe, asked["encoder"], size, asked["seed"], asked["init"], asked["precision"],
        asked["channels_last"], asked["compile"], budget, threads,
        ends=None if budget.minutes is None else request.began + 60 * budget.minutes,
        visible=request.visible, tensorboard=request.tensorboard,
    )  # fmt: skip


def _program() -> str:
    """What was started: `nolabel`, also as `python -m nolabel`, or the name of a script."""
    name = Path(sys.argv[0]).name
    return "nolabel" if name == "__main__.py" else name


def _describe(
    run: Run, request: Request, work: Work, store: ImageStore, train: ImageStore, opened_at: int
) -> None:
    """Write `run.json` as it stands before the first step, and `skipped.csv`."""
    splits = torch.bincount(store.splits.cpu(), minlength=len(store.split_names)).tolist()
    run.update(
        command=shlex.join([_program(), *sys.argv[1:]]),
        method=work.method,
        options=work.options,
        recipe=plain_values(work.recipe),
        encoder=work.encoder,
        size=work.size,
        init=work.init,
        asked=request.asked,
        data={
            "source": store.source,
            "fingerprint": store.fingerprint,
            "opened_at": opened_at,
            "images": len(store),
            "trained_on": len(train),
            "splits": dict(zip(store.split_names, splits, strict=True)),
            "describe": store.describe(),
            "named": not isinstance(request.data, ImageStore),
            "divided": store.divided,
            "labels": None if request.labels is None else str(request.labels),
        },
        seed=work.seed,
        devices=request.asked["devices"],
        threads=work.threads,
        budget={"asked": work.budget.asked},
        versions=versions(),
        machine=machine(),
        started=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        status="running",
    )
    if store.skipped:
        store.write_skipped(run.folder / "skipped.csv")


def _check_same(request: Request, info: Mapping[str, Any]) -> None:
    """Settings that were named must be those that the run began with, as asked or as resolved."""
    recipe = recipe_of(info["recipe"])
    resolved = {**info, "batch_size": recipe.batch_size, "lr": peak_rate(recipe), **info.get("numerics", {})}
    named = {name: value for name, value in request.asked.items() if value != info["asked"].get(name)}
    check_same(named, DEFAULTS, resolved, request.out)
    kind = catalog.load("methods", info["method"], Method)
    check_same(request.options, plain_values(kind.Options()), info["options"], request.out)


def _check_length(request: Request, info: Mapping[str, Any], extend: bool, folder: Path) -> None:
    if extend and info["status"] != "finished":
        raise UsageError(
            f"The run in {folder} has not finished ({info['status']}): end it with --resume first."
        )
    if extend and not request.length:
        raise UsageError("How much longer? Give --epochs, --steps or --minutes with --extend.")
    if not extend and request.length:
        check_same(request.length, {}, info["budget"]["asked"], folder)
