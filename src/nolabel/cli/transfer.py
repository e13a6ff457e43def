"""`nolabel transfer`: what encoders are worth on other data sets, each with its own metric."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.cli.evaluate import LISTED
from nolabel.data.store import ImageStore
from nolabel.encoders._io import encoder_digest, image_size, load_encoder
from nolabel.errors import UsageError
from nolabel.evaluation.finetune import FinetuneOptions
from nolabel.evaluation.run import check_channels, evaluation_device, subject_of
from nolabel.evaluation.targets import Candidate, Wanted, transfer_all
from nolabel.report import transfer as table
from nolabel.report._text import count, number, p_value, percent
from nolabel.report.page import write_report
from nolabel.runs import DESCRIPTION, TRANSFER


def transfer(
    encoder: Path,
    /,
    *data: str,
    beside: Annotated[
        tuple[str, ...],
        LISTED,
        Parameter(help="more runs or encoder files, in the same table; separated by commas"),
    ] = (),
    finetune: Annotated[bool, Parameter(negative=())] = False,
    steps: int = FinetuneOptions.steps,
    batch_size: int = FinetuneOptions.batch_size,
    grid: Literal["small", "paper"] = "small",
    size: Annotated[int | None, Parameter(help="side in pixels; the first run's own")] = None,
    seed: Annotated[int, Parameter(help="of validation parts, random weights and fine-tuning")] = 0,
    workers: Annotated[int, Parameter(help="processes that read the images; 0: one per core")] = 0,
    out: Annotated[Path | None, Parameter(help="folder of the table; the run's own")] = None,
) -> None:
    """Measure encoders and random weights on other labelled data sets, and say where they help.

    Each set has its own metric (top-1, the mean over classes, 11-point mean average precision), known by its
    name. L2 is chosen from the paper's 45 values on a part of the training images, and a paired permutation
    test and the interval of the difference decide ties. The same command again goes on where it stopped: sets
    that were measured are left alone.

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
        Of fine-tuning; twice as many from scratch; the paper: 20,000.
    batch_size
        Images a step of fine-tuning; the paper: 256.
    grid
        Settings of fine-tuning, and from scratch, that are tried: small 6, paper 56.
    """
    if not data:
        raise UsageError("No data set is named: give at least one folder, .zip or name after the encoder.")
    candidates = _candidates([encoder, *map(Path, beside)])
    side = image_size(encoder, candidates[0].encoder) if size is None else size
    wanted = Wanted(side, seed, finetune, steps, batch_size, grid)
    is_run = (encoder / DESCRIPTION).is_file()
    folder = out or (encoder if is_run else Path("runs") / f"transfer-{subject_of(encoder)}")
    stores = [_opened(name, side, workers) for name in data]
    with _screen.counting("Measuring") as bar:
        transfer_all(candidates, stores, folder / TRANSFER, wanted,
                     progress=lambda what, done, total: bar(done, total), say=_screen.line)  # fmt: skip
    _show(folder)
    if is_run and folder == encoder:
        _screen.line(f"The report is {write_report(encoder)}.")


def _opened(name: str, side: int, workers: int) -> ImageStore:
    """The images of one set, told on the screen."""
    with _screen.counting(f"Reading {name}") as progress:
        store = ImageStore.open(name, size=side, workers=workers, progress=progress)
    _screen.line(f"{name}: {store.describe()}")
    return store


def _candidates(places: Sequence[Path]) -> list[Candidate]:
    """The encoders, each called by its method, or by its path where another is called so."""
    found: list[Candidate] = []
    for place in places:
        network = load_encoder(place).to(evaluation_device())
        check_channels(network)
        name = subject_of(place)
        if name in {one.name for one in found}:
            name = str(place)
        if name in {one.name for one in found}:
            raise UsageError(f"{place} is named twice: name each encoder once.")
        found.append(Candidate(name, network, encoder_digest(network), place))
    return found


def _show(folder: Path) -> None:
    """Print for each protocol the comparisons, the board of several encoders, and what was found in words."""
    for protocol, found in table.lines(folder).items():
        heading = table.TITLES[protocol].lower()
        _screen.line()
        if len({line.encoder.subject for line in found}) > 1:
            _show_board(table.board(found), heading)
        headings = (heading, "metric", "encoder", "reaches", "beside", "at", "points", "95 % interval", "p", "p (Holm)",
                    "images", "chosen", "")  # fmt: skip
        right = ("reaches", "at", "points", "images")
        _screen.table(headings, [_cells(line) for line in found], right=right)
        for sentence in table.summary(found):
            _screen.line(sentence)
    for sentence in (*table.left_out(folder), *table.unfinished(folder), *table.leaks(folder)):
        _screen.line(sentence)


def _show_board(board: table.Board, heading: str) -> None:
    """Encoders as rows, data sets as columns."""
    mean = board.ranks
    columns = (*map(table.set_name, board.sets), *(("mean rank", "mean logit") if mean else ()))
    rows = [
        (
            table.called(subject),
            *(board.cell(subject, name) for name in board.sets),
            *map(number, mean.get(subject, ())),
        )
        for subject in board.subjects
    ]
    _screen.table((heading, *columns), rows, right=columns)
    _screen.line(board.legend)
    _screen.line()


def _cells(line: table.Line) -> tuple[str, ...]:
    setting = line.difference.setting
    tests = (p_value(float(setting[name])).removeprefix("p\u00a0=\u00a0") for name in ("p", "holm"))
    return (
        line.name,
        line.metric,
        table.called(line.encoder.subject),
        percent(line.encoder.value) + (f" ({line.top5})" if line.top5 else ""),
        table.called(line.other.subject),
        percent(line.other.value),
        line.change,
        line.ends,
        *tests,
        count(line.encoder.n),
        line.chosen,
        line.says,
    )
