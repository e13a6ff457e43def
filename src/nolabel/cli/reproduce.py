"""`nolabel reproduce RECIPE DATA`: a published setting run again, and the published numbers beside it."""

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from nolabel import recipes
from nolabel.cli import _screen
from nolabel.errors import UsageError

OF_TASKS = {
    ("Context Prediction task", "accuracy"): "accuracy",
    ("Colorization Table 1", "AuC of the ab error, thresholds 0 to 150"): "auc",
    ("Context Encoder Table 1", "mean L1, %"): "l1",
    ("Context Encoder Table 1", "mean L2, %"): "l2",
    ("Context Encoder Table 1", "PSNR, dB"): "psnr",
}
"""published table and metric of a task itself -> what `held_out` calls the same; dB, or shares"""


def reproduce(
    recipe: str | None = None,
    data: str | None = None,
    /,
    *,
    minutes: Annotated[float | None, Parameter(help="of training, instead of the recipe's length")] = None,
    steps: Annotated[int | None, Parameter(help="of training, instead of the recipe's length")] = None,
    labels: Annotated[Path | None, Parameter(help="CSV with the header path,label")] = None,
    seed: Annotated[int, Parameter(help="of all randomness")] = 0,
    out: Annotated[
        Path | None, Parameter(help="folder; the same command again goes on where it stopped")
    ] = None,
) -> None:
    """Run a published setting again, measure it, and say what was published and what differs.

    Without a recipe, list them. Published and measured numbers stand in columns of their own: they compare only
    where data set, encoder, protocol and metric are the same.
    """
    if recipe is None:
        return _list()
    found = recipes.find(recipe)
    if data is None:
        raise UsageError(
            f"{recipe} needs images: give a folder, .zip or .tar after it (made for {found.dataset})."
        )
    if minutes is not None and steps is not None:
        raise UsageError("The length of a run is one of --minutes and --steps, but both were given.")
    asked = {name: value for name, value in (("minutes", minutes), ("steps", steps)) if value is not None}
    folder = out or Path("runs") / f"reproduce-{recipe.replace('_', '-')}-{Path(data).stem}"
    _carry_out(found, data, folder, asked or dict(found.length), labels, seed)
    _numbers(folder, found)
    _screen.line("\nWhat differs from the published setting:")
    shorter = (f"Length: {recipes.length_in_words(asked)} instead of {found.asked}.",) if asked else ()
    for sentence in (
        *found.deviations,
        *shorter,
        f"Images: {data}; the setting was made for {found.dataset}.",
    ):
        _screen.line(f"- {sentence}")


def _list() -> None:
    rows = [
        (name, one.encoder, f"{one.size} px", one.asked, one.dataset, one.result)
        for name in recipes.names()
        for one in (recipes.find(name),)
    ]
    _screen.table(("recipe", "encoder", "size", "length", "made for", "measured here"), rows)


def _carry_out(
    found: recipes.Reproduction, data: str, folder: Path, length: dict[str, float], labels: Path | None, seed: int
) -> None:  # fmt: skip
    """Train and evaluate what is not there yet in `folder`, and write its report."""
    from nolabel import api
    from nolabel.data.store import ImageStore
    from nolabel.evaluation.run import ready, unmeasured
    from nolabel.report.page import write_report
    from nolabel.training.ensure import ensure

    ready(found.protocols, ImageStore.open(data, size=found.size, labels=labels), seed)
    new = ensure(api.pretrain, folder, found.method, data, encoder=found.encoder, seed=seed, length=length,
                 size=found.size, options=found.options, recipe=found.recipe, labels=labels)  # fmt: skip
    if not new:
        _screen.line(f"{folder} is trained already.")
    if todo := unmeasured(folder, found.protocols):
        api.evaluate(folder, data, protocols=todo, baselines=("random",), labels=labels, seed=seed)
    _screen.line(f"The report is {write_report(folder)}.")


def _numbers(folder: Path, found: recipes.Reproduction) -> None:
    """One table of what was measured in `folder` and of what was published; a row has only the cell that it has."""
    from nolabel.report import records
    from nolabel.runs import EVALUATION, read_description

    about, every = read_description(folder), records.read_table(folder / EVALUATION)
    here = [
        (
            records.subject_in_words(row.subject), about["encoder"], Path(about["data"]["source"]).name,
            records.protocol_in_words(row.protocol),
            records.METRICS_IN_WORDS.get(row.metric) or records.measure_in_words(row.metric, row.against),
            f"{row.in_words} ({row.ends})" if row.ends else row.in_words, "", "",
        )
        for row in every
        if row.is_share or row.is_measure
    ]  # fmt: skip
    here += _of_the_task(about, found)
    printed = [
        (
            row.method, row.encoder, row.dataset, row.protocol, row.metric, "", row.shown,
            "; ".join(filter(None, (row.source, row.note))),
        )
        for row in sorted(found.published(), key=lambda row: row.dataset != found.dataset)
        if row.implements == found.method
    ]  # fmt: skip
    _screen.line(
        "\nMeasured here (in brackets: 95 % interval) and published (in per cent unless the metric names a unit). "
        "Compare only where data set, encoder, protocol and metric are the same:"
    )
    headings = ("of", "encoder", "data set", "protocol", "metric", "measured here", "published", "source")
    _screen.table(headings, [*here, *printed], right=("measured here", "published"))
    _screen.line(f"What others reach in the same tables: nolabel methods {found.method.replace('_', '-')}.")
    for sentence in records.leaks(every):
        _screen.line(sentence)


def _of_the_task(about: dict[str, Any], found: recipes.Reproduction) -> list[tuple[str, ...]]:
    """The rows of what the run `about` solved of its own task, where the published tables print the same."""
    from nolabel.report import records
    from nolabel.report._text import count, number, percent
    from nolabel.runs import held_out

    held = held_out(about.get("final", {}))
    published = dict.fromkeys((row.table, row.metric) for row in found.published())
    return [
        (
            records.subject_in_words(about["method"]), about["encoder"], Path(about["data"]["source"]).name,
            f"the task itself, {count(held['images'])} held-out images", metric,
            number(held[name]) if name == "psnr" else percent(held[name]), "", "",
        )
        for table, metric in published
        if (name := OF_TASKS.get((table, metric))) in held
    ]  # fmt: skip
