"""The public functions: `pretrain`, `evaluate`, `load_encoder`."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nolabel.data.store import ImageStore
from nolabel.encoders._io import load_encoder as load_encoder
from nolabel.encoders.base import Encoder
from nolabel.errors import NolabelError
from nolabel.runs import Run
from nolabel.training.asked import plain_values
from nolabel.training.begin import Request, go_on, settle, start
from nolabel.training.launch import check_devices, is_first, launch
from nolabel.training.precision import candidates
from nolabel.training.progress import Progress
from nolabel.training.watch import Monitor
from nolabel.training.work import Work, train

if TYPE_CHECKING:
    from nolabel.evaluation.base import Protocol, Result

KNN_QUERIES = 256
KNN_BANK = 768


def pretrain(
    method: str, data: str | Path | ImageStore, *, out: str | Path | None = None, encoder: str = "resnet10",
    size: int | None = None, epochs: float | None = None, steps: int | None = None, minutes: float | None = None,
    batch_size: int | None = None, lr: float | None = None, seed: int = 0, init: str | Path | None = None,
    labels: Path | None = None, options: Any = None, recipe: Mapping[str, Any] | None = None, devices: int = 1,
    precision: str = "auto", channels_last: bool | None = None, compile: bool | None = None, workers: int = 0,
    resume: bool = False, extend: bool = False, progress: bool = True, tensorboard: bool = False,
) -> Run:  # fmt: skip
    """Learn an encoder from images without labels; returns the run, whose folder holds `encoder.safetensors`.

    Args:
        method: a name of `nolabel methods`, a dotted path or a `.py` file.
        data: a folder, .zip or .tar of images, a list of paths, a data set's name, or a store.
        out: folder of the run; None: a new one under `runs`.
        size: side of the training images in pixels; None: the median of their shorter sides, at most 96.
        epochs, steps, minutes: one of them; none: the recipe's epochs. Minutes count from the call, compilation and
            all included, and at least half of them go to training. With `extend` they are added to a finished run,
            which follows the schedule of its new total after another warm-up.
        batch_size: images in a step over all processes. lr: peak rate at that batch. recipe: other fields of `Recipe`.
        init: see `encoders._io.initialise`. options: of the method, as a mapping or its dataclass.
        labels: CSV for the kNN accuracy along the way; labels are never trained on.
        precision, channels_last, compile: measured where "auto" or None.
        resume: go on in `out` with the settings it began with. Those that are named must be the same; a setting at its
            default counts as not named.

    Raises:
        UsageError: a wrong name or value, a folder that is not empty or in use, other settings on a resume.
        DataError: the images cannot be used, or changed since the run began.
        RunError: the run failed; what it had at the last checkpoint is kept.
        KeyboardInterrupt: a person ended it, after checkpoint and encoder were written; its text says where they are.
    """
    check_devices(devices)
    candidates(torch.device("cuda" if torch.cuda.is_available() else "cpu"), precision, channels_last)
    asked = plain_values({
        "method": method if "." in method else method.replace("-", "_"), "encoder": encoder, "size": size,
        "batch_size": batch_size, "lr": lr, "seed": seed, "init": None if init is None else str(init),
        "devices": devices, "precision": precision, "channels_last": channels_last, "compile": compile,
    })  # fmt: skip
    length = {
        k: v for k, v in {"epochs": epochs, "steps": steps, "minutes": minutes}.items() if v is not None
    }
    request = Request(
        asked, plain_values(options), dict(recipe or {}), length, data, None if out is None else Path(out), labels,
        workers, time.time(), Progress(progress and is_first()), progress, tensorboard,
    )  # fmt: skip
    run, work, store = go_on(request, extend=extend) if resume or extend else start(request)
    return _carry_out(run, work, store, request)


def _carry_out(run: Run, work: Work, store: ImageStore, request: Request) -> Run:
    """Train, and leave in `run.json` how it ended."""
    if run.info.get("status") == "finished":
        request.screen.say(f"The run in {run.folder} is finished: train it on with --extend.")
        return run
    try:
        launch(train, (work, store, run.folder, partial(_monitors, seed=work.seed, size=work.size)),
               run.info["devices"])  # fmt: skip
    except BaseException as error:
        _note_failure(run, error)
        raise
    else:
        if is_first():
            run.reload()
            settle(run)
    finally:
        run.close()
    return run


def _note_failure(run: Run, error: BaseException) -> None:
    """Status and sentence of a run that did not end by itself."""
    if not is_first():
        return
    run.reload()
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    sentence = str(error) if isinstance(error, NolabelError | KeyboardInterrupt) else type(error).__name__
    with suppress(NolabelError):  # the disk may be full, which is what `error` says
        run.update(status=status, error=sentence)
        settle(run)


def _monitors(images: ImageStore, *, seed: int, size: int) -> list[Monitor]:
    """The kNN accuracy on a part of the training images, where they have labels."""
    from nolabel.evaluation.monitor import knn_monitor

    monitor = knn_monitor(images, bank=KNN_BANK, queries=KNN_QUERIES, size=size, seed=seed)
    return [] if monitor is None else [monitor]


def evaluate(
    encoder: str | Path | Encoder,
    data: str | Path | ImageStore,
    *,
    protocols: Sequence["str | Protocol"] | None = None,
    baselines: Sequence[str] | None = None,
    size: int | None = None,
    labels: Path | None = None,
    seed: int = 0,
    workers: int = 0,
) -> list["Result"]:
    """Measure an encoder beside baselines; rows go to `evaluation.jsonl` of a run folder, protocol by protocol.

    Args:
        encoder: a run folder, an encoder file, or an encoder.
        data: labelled images, as for `pretrain`; without labels, label-free diagnostics alone.
        protocols, baselines: None: those of `evaluation.run.evaluate_encoder`, where errors are listed too.
        size: side in pixels at which images are read; None: the encoder's own.
        labels: CSV with the header `path,label`.
    """
    from nolabel.evaluation import baselines as known
    from nolabel.evaluation import run
    from nolabel.evaluation._written import write_results

    subject = encoder if isinstance(encoder, Encoder) else Path(encoder)
    baselines = known.DEFAULT if baselines is None else baselines

    def keep(measure: "Protocol", results: "list[Result]") -> None:
        if isinstance(subject, Path) and subject.is_dir():
            write_results(subject, results, measure)

    if not isinstance(data, ImageStore):
        side = run.side_of(subject, data, size, baselines)
        data = ImageStore.open(data, size=side, labels=labels, workers=workers)
    return run.evaluate_encoder(
        subject,
        data,
        protocols=run.PROTOCOLS if protocols is None else protocols,
        baselines=baselines,
        size=size,
        seed=seed,
        keep=keep,
    )
