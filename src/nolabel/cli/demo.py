"""`nolabel demo`: the main job in a few minutes, on demo photographs or the user's own images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nolabel.cli import _pictures, _screen
from nolabel.cli._pretrain import train
from nolabel.cli._shared import Shared
from nolabel.cli.evaluate import measure
from nolabel.data.demo import demo_store
from nolabel.errors import DataError
from nolabel.evaluation._split import hold_out
from nolabel.evaluation.run import ready
from nolabel.report.page import write_comparison, write_report
from nolabel.runs import new_folder
from nolabel.training.begin import open_images

PROTOCOLS = ("linear", "knn")
MINUTES = 1.0
VALUES = 1024
"""of a stage: fewer than `nolabel evaluate` reads, so that the demo ends within five minutes"""


@dataclass(frozen=True)
class Part:
    """One method of the demo."""

    method: str
    idea: str
    baselines: tuple[str, ...]
    """random features start as the method does, so each has its own; those without a network are shared"""


PARTS = (
    Part("simclr", "two distortions of one image must find each other", ("random", "pixels", "histogram")),
    Part("rotation", "which way up was the image?", ("random",)),
)


def demo(
    *,
    data: Annotated[str | None, Parameter(help="your images instead: a folder, .zip or .tar")] = None,
    minutes: Annotated[float, Parameter(help="of training, for each of the two methods")] = MINUTES,
    out: Annotated[
        Path | None, Parameter(help="a new folder; the next free runs/demo-NN when not given")
    ] = None,
) -> None:
    """Pretrain SimCLR and Rotation on demo photographs or your own images, and report.

    Each method trains an encoder without labels; labels, where there are any, are then used to measure what
    the encoders are worth beside random features, raw pixels and a colour histogram.
    """
    folder = new_folder(out, "demo", data)
    images = demo_store() if data is None else open_images(data, size=None)[0]
    trouble = None
    try:
        if bool((images.labels >= 0).any()):
            images = hold_out(images, seed=0)
            ready(PROTOCOLS, images, seed=0)
    except DataError as error:
        trouble = str(error)
        _screen.line(f"The encoders will be trained, but not measured: {trouble}")
    for part in PARTS:
        _screen.line(f"\n--- {part.method}: {part.idea} ({minutes:g} min of training) ---")
        train(part.method, images, None, Shared(minutes=minutes, out=folder / part.method))
    for part in PARTS:
        if not trouble:
            _screen.line(f"\n--- what {part.method} has learnt ---")
            measure(
                folder / part.method,
                images,
                protocols=PROTOCOLS,
                baselines=part.baselines,
                values=VALUES,
            )
        write_report(folder / part.method)
    _pictures.draw_untrained(folder / PARTS[0].method, images)
    page = write_comparison([folder / part.method for part in PARTS], folder / "report.html")
    _screen.line(f"\nLook at {page}: open it in a browser.")
    if data is None:
        _screen.line(
            "Your own images: nolabel demo --data PATH; for longer: nolabel pretrain simclr PATH --minutes 10"
        )
