"""`nolabel evaluate`: what an encoder is worth on labelled images, beside baselines."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.cli._method_options import comma_separated
from nolabel.cli._protocol_options import Set, with_options
from nolabel.data.store import ImageStore
from nolabel.evaluation import baselines as known
from nolabel.evaluation._features import MOST_VALUES, VALUES
from nolabel.evaluation._grey import greyed
from nolabel.evaluation._written import write_results
from nolabel.evaluation.base import Protocol, Result
from nolabel.evaluation.run import PROTOCOLS, evaluate_encoder, side_of, subject_of
from nolabel.report._text import count, listed, p_value, signed
from nolabel.report.accuracy import CHOICES, chosen_in_words
from nolabel.report.page import write_report
from nolabel.report.records import (
    DIFFERENCE,
    LABEL_FREE,
    Row,
    images_in_words,
    leaks,
    measure_in_words,
    protocol_in_words,
    subject_in_words,
    unconverged,
)
from nolabel.report.verdict import ABSENT, judge
from nolabel.runs import DESCRIPTION, LEAKED

LISTED = Parameter(
    converter=comma_separated, n_tokens=1, negative=(), show_default=lambda value: ",".join(map(str, value))
)
VALUES_HELP = f"of the features: at most so many a stage; RotNet's linear rows: {MOST_VALUES}"
CHOSEN = CHOICES | {
    "c": "C",
    "lr": "rate",
    "weight_decay": "weight decay",
    "validation": "validation accuracy",
}
"""keys of `Result.chosen` that are told, and how they are called"""
ACCURACIES = {"top1": "top-1", "balanced": "balanced", "top5": "top-5"}


def evaluate(
    encoder: Path,
    data: str,
    /,
    *,
    protocols: Annotated[tuple[str, ...], LISTED, Parameter(help="separated by commas")] = PROTOCOLS,
    options: Set = (),
    values: Annotated[int, Parameter(help=VALUES_HELP)] = VALUES,
    baselines: Annotated[tuple[str, ...], LISTED, Parameter(help=known.HELP)] = known.DEFAULT,
    size: Annotated[int | None, Parameter(help="side in pixels; the encoder's own")] = None,
    labels: Annotated[Path | None, Parameter(help="CSV with the header path,label")] = None,
    grey: Annotated[
        bool, Parameter(negative=(), help="take the colour out of the images; rows of their own")
    ] = False,
    seed: Annotated[int, Parameter(help="of the validation part and of random baselines")] = 0,
    workers: Annotated[int, Parameter(help="processes that read the images; 0: one per core")] = 0,
) -> None:
    """Measure an encoder on labelled images, beside baselines.

    The results of a run go into its evaluation.jsonl and its report.html. Without labels the label-free
    diagnostics are given.

    Parameters
    ----------
    encoder
        A run folder or an encoder.safetensors.
    data
        A folder, .zip or .tar of images, a list of paths, or a data set's name.
    """
    measured = with_options(protocols, options)
    side = side_of(encoder, data, size, baselines)
    with _screen.counting("Reading images") as progress:
        store = ImageStore.open(data, size=side, labels=labels, workers=workers, progress=progress)
    _screen.line(store.describe())
    store = greyed(store) if grey else store
    measure(encoder, store, protocols=measured, baselines=baselines, size=size, values=values, seed=seed)
    if (encoder / DESCRIPTION).is_file():
        _screen.line(f"The report is {write_report(encoder)}.")


def measure(
    encoder: Path,
    store: ImageStore,
    *,
    protocols: Sequence[str | Protocol],
    baselines: Sequence[str],
    size: int | None = None,
    values: int = VALUES,
    seed: int = 0,
) -> None:
    """Evaluate, show the results, and add them to the run where `encoder` is one, each protocol's once it is done."""
    is_run = (encoder / DESCRIPTION).is_file()
    with _screen.counting("Measuring") as bar:
        results = evaluate_encoder(
            encoder,
            store,
            protocols=protocols,
            baselines=baselines,
            size=size,
            values=values,
            seed=seed,
            progress=lambda what, done, total: bar(done, total),
            keep=lambda one, found: write_results(encoder, found, one) if is_run else None,
        )
    show(results, subject_of(encoder))
    if is_run and any(result.pairs for result in results):
        _screen.line(f"Test images that are also in another set are listed in {encoder / LEAKED}.")


def show(results: Sequence[Result], subject: str) -> None:
    """Print accuracies with intervals and what was chosen, differences with p, diagnostics, and the verdict."""
    rows = [Row(**{name: getattr(result, name) for name in Row.__dataclass_fields__}) for result in results]
    shares = [row for row in rows if row.is_share]
    protocols = list(dict.fromkeys(row.protocol for row in shares))
    names = sorted(
        dict.fromkeys((row.protocol, row.subject) for row in shares), key=lambda n: protocols.index(n[0])
    )
    metrics = [metric for metric in ACCURACIES if any(row.metric == metric for row in shares)]
    columns = [ACCURACIES[metric] for metric in metrics]
    lines = [_accuracies(shares, *name, metrics) for name in names]
    columns = [f"{column} (95 % interval)" for column in columns]
    _show(("protocol", "features", *columns, "images"), lines, (*columns, "images"))
    for row in (row for row in shares if row.subject == subject and row.metric == metrics[0]):
        _screen.line(_choice(row))
    if shares:
        _screen.line()
    for metric, name in ACCURACIES.items():
        paired = [row for row in rows if row.metric == metric + DIFFERENCE]
        paired.sort(key=lambda row: protocols.index(row.protocol))
        headings = ("protocol", f"points of {subject} over", name, "95 % interval", "p")
        _show(headings, [_difference(row) for row in paired], (name,))
    for protocol in dict.fromkeys(row.protocol for row in rows if row.is_measure):
        _show_measures([row for row in rows if row.protocol == protocol and row.is_measure])
    diagnostics = [
        (measure_in_words(row.metric, row.against), row.in_words, row.ends, count(row.n))
        for row in rows
        if row.protocol == LABEL_FREE
    ]
    _show(("diagnostic", "value", "95 % interval", "images"), diagnostics, ("value", "images"))
    for said in dict.fromkeys(
        str(row.setting["verdict"]) for row in rows if row.setting.get("verdict") and shares
    ):
        _screen.line(said)
    kept = dict.fromkeys(subject_in_words(row.subject) for row in rows if row.setting.get("from_cache"))
    if kept:
        _screen.line(f"From the cache, measured on these images before: {listed(kept)}.")
    for sentence in unconverged(rows):
        _screen.line(sentence)
    verdict = judge(rows, subject)
    for sentence in leaks(rows):
        if sentence not in verdict.sentences:
            _screen.line(sentence)
    _screen.line(f"{verdict.title}. {' '.join(verdict.sentences)}")


def _show(headings: Sequence[str], lines: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    if lines:
        _screen.table(headings, lines, right=right)
        _screen.line()


def _show_measures(rows: Sequence[Row]) -> None:
    """A line for each encoder and baseline, a column for each measure with its 95 % interval."""
    metrics = list(dict.fromkeys((row.metric, row.against) for row in rows))
    lines = []
    for subject in dict.fromkeys(row.subject for row in rows):
        own = {(row.metric, row.against): row for row in rows if row.subject == subject}
        cells = (_with_ends(own[m]) if m in own else "" for m in metrics)
        lines.append((subject_in_words(subject), *cells, images_in_words(list(own.values()))))
    names = [measure_in_words(*metric) for metric in metrics]
    _show((protocol_in_words(rows[0].protocol), *names, "images"), lines, (*names, "images"))


def _accuracies(rows: Sequence[Row], protocol: str, subject: str, metrics: Sequence[str]) -> tuple[str, ...]:
    own = {row.metric: row for row in rows if (row.protocol, row.subject) == (protocol, subject)}
    values = (_with_ends(own[m]) if m in own else "" for m in metrics)
    count = f"{next(iter(own.values())).n:,}"
    return (protocol_in_words(protocol), subject_in_words(subject), *values, count)


def _with_ends(row: Row) -> str:
    return f"{row.in_words} ({row.ends})" if row.ends else row.in_words


def _choice(row: Row) -> str:
    """What was chosen on training images, and which images are which: one line."""
    absent = row.setting.get(ABSENT)
    without = f"no test image of {listed(absent)}, left out of balanced" if absent else None
    told = "; ".join(
        filter(None, (chosen_in_words(row, CHOSEN), row.setting.get("split"), without, row.spread))
    )
    return f"{protocol_in_words(row.protocol)}: {told}."


def _difference(row: Row) -> tuple[str, ...]:
    against, p = subject_in_words(row.against), p_value(row.setting["p"])
    return (protocol_in_words(row.protocol), against, signed(row.value), row.ends, p)
