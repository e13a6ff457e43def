"""`nolabel transfer`: what an encoder is worth on other data sets, each with its own metric."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.data.store import ImageStore
from nolabel.encoders._io import encoder_digest, image_size, load_encoder
from nolabel.errors import UsageError
from nolabel.evaluation.finetune import FinetuneOptions
from nolabel.evaluation.run import check_channels, subject_of
from nolabel.evaluation.targets import Wanted, transfer_all
from nolabel.report import transfer as table
from nolabel.report._text import count, p_value, percent, signed
from nolabel.report.page import write_report
from nolabel.runs import DESCRIPTION, TRANSFER


def transfer(
    encoder: Path,
    /,
    *data: str,
    finetune: Annotated[bool, Parameter(negative=())] = False,
    steps: int = FinetuneOptions.steps,
    grid: Literal["small", "paper"] = "small",
    size: Annotated[int | None, Parameter(help="side in pixels; the run's own")] = None,
    seed: Annotated[int, Parameter(help="of validation parts, random weights and fine-tuning")] = 0,
    workers: Annotated[int, Parameter(help="processes that read the images; 0: one per core")] = 0,
    out: Annotated[Path | None, Parameter(help="folder of the table; the run's own")] = None,
) -> None:
    """Measure an encoder and random weights on other labelled data sets, and say where it helps.

    Each set has its own metric (top-1, the mean over classes, 11-point mean average precision), known by its
    name. L2 is chosen from the paper's 45 values on a part of the training images, and a paired permutation
    test decides ties. The same command again goes on where it stopped: sets that were measured are left alone.

    Parameters
    ----------
    encoder
        A run folder or an encoder.safetensors.
    data
        Folders, .zip or .tar files of images, data sets' names, or a CSV path,label; several labels of an image
        are separated by semicolons.
    finetune
        Fine-tune the encoder on each set too, and train the same network from random weights.
    steps
        Of each setting of fine-tuning; the paper: 20,000.
    grid
        Settings of fine-tuning that are tried: small 6, paper 56.
    """
    if not data:
        raise UsageError("No data set is named: give at least one folder, .zip or name after the encoder.")
    network = load_encoder(encoder)
    check_channels(network)
    side = size or image_size(encoder, network)
    is_run = (encoder / DESCRIPTION).is_file()
    folder = out or (encoder if is_run else Path("runs") / f"transfer-{subject_of(encoder)}")
    stores = []
    for name in data:
        with _screen.counting(f"Reading {name}") as progress:
            stores.append(ImageStore.open(name, size=side, workers=workers, progress=progress))
        _screen.line(f"{name}: {stores[-1].describe()}")
    wanted = Wanted(subject_of(encoder), encoder_digest(network), side, seed, finetune, steps, grid)
    with _screen.counting("Measuring") as bar:
        transfer_all(
            network,
            stores,
            folder / TRANSFER,
            wanted,
            progress=lambda what, done, total: bar(done, total),
            say=_screen.line,
        )
    _show(folder)
    if is_run and folder == encoder:
        _screen.line(f"The report is {write_report(encoder)}.")


def _show(folder: Path) -> None:
    """Print a table for each protocol, and where the encoder is better, tied or worse."""
    right = ("encoder", "random", "points", "images")
    for protocol, found in table.lines(folder).items():
        heading = table.TITLES[protocol].lower()
        headings = (
            heading,
            "metric",
            "encoder",
            "random",
            "points",
            "95 % interval",
            "p",
            "p (Holm)",
            "images",
            "λ",
            "",
        )
        _screen.line()
        _screen.table(headings, [_cells(line) for line in found], right=right)
        _screen.line(table.summary(found))


def _cells(line: table.Line) -> tuple[str, ...]:
    setting = line.difference.setting
    values = (
        percent(line.encoder.value),
        percent(line.random.value),
        signed(line.difference.value),
        line.ends,
    )
    tests = (p_value(float(setting[name])).removeprefix("p\u00a0=\u00a0") for name in ("p", "holm"))
    return (line.name, line.metric, *values, *tests, count(line.encoder.n), line.l2, line.says)
