"""What `nolabel pretrain` does once the words are understood."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nolabel import api
from nolabel.cli import _pictures, _screen
from nolabel.cli._shared import Shared
from nolabel.data.store import ImageStore
from nolabel.encoders._io import load_encoder
from nolabel.encoders.base import check_name
from nolabel.report import pictures
from nolabel.report.page import write_report
from nolabel.runs import Run
from nolabel.training.begin import labels_of
from nolabel.training.launch import is_first
from nolabel.training.restore import load_method
from nolabel.training.work import training_images


def run_method(method: str, data: str, options: Any, shared: Shared) -> None:
    """Pretrain, draw the pictures, write the report, say where they are."""
    run = train(method, data, options, shared)
    if is_first():
        _screen.line(f"The report is {write_report(run.folder)}.")
        _screen.line("The encoder loads with:")
        _screen.line("  import nolabel")
        _screen.line(f'  encoder = nolabel.load_encoder("{run.folder}")  # RGB in [0, 1] to vectors')


def train(method: str, data: str | ImageStore, options: Any, shared: Shared) -> Run:
    """A finished run with its pictures."""
    check_name(shared.encoder)
    run = api.pretrain(method, data, options=options, **asdict(shared))
    if is_first():
        draw(run, data, shared.labels or labels_of(run.info))
    return run


def illustrate(folders: Sequence[Path], images: ImageStore) -> None:
    """Draw what was not drawn before of the runs on `images`, and of the first what random weights find."""
    for folder in folders:
        if not (folder / pictures.FOLDER / pictures.RETRIEVAL).is_file():  # the last that is drawn
            draw(Run.open(folder), images, None)
    _pictures.draw_untrained(folders[0], images)


def draw(run: Run, data: str | ImageStore, labels: Path | None) -> None:
    """Write the pictures of `run`, which was trained on `data`."""
    if not isinstance(data, ImageStore):
        data = ImageStore.open(data, size=run.info["data"]["opened_at"], labels=labels)
    train, held_out = training_images(data, run.info["seed"])
    method = load_method(run.folder)
    _pictures.draw_all(run.folder, method, load_encoder(run.folder), train, held_out, run.info["seed"])
