"""Run folders in, one self-contained HTML page out: no script, no font, no address of another machine."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from nolabel.report import sections
from nolabel.report._text import duration, listed, short
from nolabel.report.accuracy import accuracy, by_stage
from nolabel.report.columns import columns
from nolabel.report.comparison import compared
from nolabel.report.labels import by_labels
from nolabel.report.published import published
from nolabel.report.records import Record, measured_on, read_record
from nolabel.report.transfer import transfer
from nolabel.runs import write_atomically

REPORT = "report.html"


def write_report(run_folder: str | Path, thumbnails: bool = True) -> Path:
    """Write `report.html` of one run into its folder; pieces the run does not have become a sentence.

    Args:
        run_folder: a run, finished or not.
        thumbnails: whether pictures of the images may be shown.

    Returns the page's path.

    Raises:
        UsageError: there is no run in the folder.
        FileFormatError: `run.json` or a `.jsonl` file is damaged or of an unknown version.
        RunError: the page cannot be written; an older one is left as it is.
    """
    record = read_record(run_folder)
    method, source = _method(record), record.data.get("source")
    title = f"{method} on {short(source)}" if source else method
    parts = [
        sections.verdict([record]),
        sections.warnings([record]),
        sections.what_ran(record),
        sections.curves([record], sections.own_curves(record) + sections.HEALTH_CURVES),
        sections.panel(record, thumbnails),
        sections.views(record, thumbnails),
        accuracy([record]),
        by_stage([record]),
        by_labels([record]),
        transfer(record),
        published([record]),
        sections.retrieval(record, thumbnails),
        sections.filters(record),
        sections.skipped(record),
        sections.glossary(),
    ]
    return write_page(Path(run_folder) / REPORT, title, _subtitle([record]), parts)


def write_comparison(run_folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write the page `out` that sets several runs beside each other and beside the baselines.

    Verdicts, accuracy, stages and the curves that can be compared come first, then each run's own sections. Where
    all were measured on the same images, the verdict over all comes before that on each. Errors as `write_report`.
    """
    records = [read_record(folder) for folder in run_folders]
    of_each = sections.verdict(records)
    judged = compared(records)
    if any(record.rows for record in records) and len(measured_on(records)) == 1:
        each = sections.part(
            "folded", "Each method by itself, without the correction for several tests", of_each
        )
        of_each = sections.part("verdict", judged, "") + each
    parts = [
        of_each,
        sections.warnings(records),
        accuracy(records),
        by_stage(records),
        by_labels(records),
        columns(records),
        published(records),
        sections.curves(records, sections.HEALTH_CURVES, "health", "Features during training"),
    ]
    for i, record in enumerate(records, 1):
        parts += [
            sections.part("run_heading", f"run{i}", f"Run {i}: {record.name}"),
            sections.what_ran(record, f"run{i}-ran"),
            sections.curves([record], sections.own_curves(record), f"run{i}-curves"),
            sections.panel(record, key=f"run{i}-method"),
            sections.views(record, key=f"run{i}-views"),
            sections.retrieval(record, key=f"run{i}-retrieval"),
            sections.filters(record, f"run{i}-filters"),
            sections.skipped(record, f"run{i}-skipped"),
        ]
    title = listed(map(_method, records)) + (" compared" if len(records) > 1 else "")
    return write_page(Path(out), title, _subtitle(records), [*parts, sections.glossary()])


def write_page(path: Path, title: str, subtitle: str, parts: Sequence[Markup]) -> Path:
    """Write the self-contained page `path` of these parts; errors as `write_report`."""
    page = sections.TEMPLATES.get_template("template.html").render(
        title=title, subtitle=subtitle, sections=parts
    )
    write_atomically(path, page)
    return path


def _method(record: Record) -> str:
    return short(record.method).removesuffix(".py")


def _subtitle(records: Sequence[Record]) -> str:
    told = []
    for record in records:
        info = record.info
        text = f"{info.get('encoder', 'an encoder')} trained without labels"
        text += f" in {duration(info['seconds'])}" if info.get("seconds") else ""
        told.append(text + (f", {str(info['started'])[:10]}" if info.get("started") else ""))
    return "; ".join(dict.fromkeys(told)) + "."
