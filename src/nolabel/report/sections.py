"""The sections of a page, each a function from what was recorded to HTML."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from nolabel.errors import FileFormatError
from nolabel.report import figures, pictures
from nolabel.report._text import count, duration, in_words, number, percent, readable, short
from nolabel.report.captions import value_in_words
from nolabel.report.records import Record, measured_on, pooled
from nolabel.report.verdict import judge

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True,
    finalize=lambda value: value if isinstance(value, Markup) else readable(value),
)  # fmt: skip
LEFT_OUT = "Pictures of the images were left out of this page, as asked."
VIEWS = (
    "Each row: an image as it is stored, then what the network sees of it in training. The views are made "
    "anew each time, so that the network cannot learn single images by heart."
)
NO_VIEWS = "No views were kept of this run. The picture of its method, where there is one, shows what the network sees."
WHITENED = (
    "They were computed from patches of the images before training and stay as they are: the patterns that "
    "such patches are made of, most common first, each also with opposite sign."
)
LEARNT = "They were learnt: edges and colour contrasts are a good sign, noise means that they hardly changed."
MOST_SKIPPED = 200
GLOSSARY = (
    (
        "Linear probe",
        "The encoder is frozen. A linear classifier is trained on its features of labelled training "
        "images, and asked for the class of test images. It measures how much of the classes can be read "
        "off the features.",
    ),
    (
        "kNN",
        "Nothing is trained: the k training images with the most similar features vote for the class of a "
        "test image.",
    ),
    (
        "Random features",
        "The same network with weights that were never trained, measured in the same way. They are not "
        "useless, so an encoder has learnt something only as far as it is better than they are.",
    ),
    (
        f"95{chr(160)}% interval",
        "How exactly the test images determine a number. If test sets of this size were drawn again and "
        "again, 95 of 100 such intervals would hold the true value. It does not cover luck in training "
        "unless several seeds ran.",
    ),
    (
        "RankMe",
        "How many independent directions the features really use, between 1 and their number. Near 1 means "
        "collapse: the encoder says the same of every image.",
    ),
)


@dataclass(frozen=True)
class Curve:
    """One chart over the run."""

    names: tuple[str, ...]
    """metrics that share the axes"""
    title: str
    caption: str
    shares: bool = False
    level: figures.Level | None = None


OWN_CURVES = (
    Curve(
        ("loss", "held_out/loss"),
        "Loss",
        "What training makes small. It says how well the task invented for training is solved, not how "
        "good the features are.",
    ),
    Curve(
        ("held_out/kl",),
        "Loss above its least",
        "The loss less the part that no answer could avoid, because the targets leave several colours open. 0: "
        "a perfect answer.",
    ),
    Curve(
        ("lr",),
        "Learning rate",
        "How large the steps of training are: a short rise, then a decay to the end of the run.",
    ),
)
HEALTH_CURVES = (
    Curve(
        ("feature_std",),
        "Spread of the features",
        "1: the features of different images point in all directions. 0: they are all the same, and the "
        "encoder has collapsed.",
        level=figures.Level(1.0, "spread evenly"),
    ),
    Curve(
        ("rankme",), "RankMe", "How many independent directions the features use. Near 1 they have collapsed."
    ),
    Curve(
        ("knn",),
        "kNN accuracy",
        "Labels were only used to draw this curve: how often the most similar images have the right class.",
        shares=True,
    ),
)


def part(name: str, *values: Any) -> Markup:
    """The macro `name` of parts.html, called with `values`."""
    return getattr(TEMPLATES.get_template("parts.html").module, name)(*values)


def verdict(records: Sequence[Record]) -> Markup:
    """What the evaluation says of each run on each set of images."""
    parts, sets = [], measured_on(records)
    for data in sets:
        for record, rows in zip(records, pooled(records, data), strict=True):
            if rows or not record.rows:
                about = [record.name] * (len(records) > 1) + [short(data)] * (len(sets) > 1)
                parts.append(part("verdict", judge(rows, record.subject), " on ".join(about)))
    return Markup().join(parts)


def warnings(records: Sequence[Record]) -> Markup:
    """What went wrong on the way of each run."""
    return Markup().join(part("warnings", _warnings(record)) for record in records)


def _warnings(record: Record) -> list[str]:
    told = {
        "running": "This run has not finished: the page shows it as it was when the page was written.",
        "interrupted": "This run was interrupted: the encoder is the one of the last checkpoint.",
        "failed": f"This run failed: {record.info.get('error') or 'the reason was not recorded'}",
    }
    found = [told.get(str(record.info.get("status"))), (record.info.get("collapse") or {}).get("sentence")]
    return [sentence for sentence in found if sentence]


def what_ran(record: Record, key: str = "run") -> Markup:
    """Command, data, encoder, budget, machine, time, seeds and the command that repeats the run."""
    info, data = record.info, record.data
    rows = [
        ("Command", info.get("command"), True),
        ("Images", data.get("describe") or data.get("source"), False),
        ("Test images", data.get("divided"), False),
        (
            "Skipped",
            f"{count(len(record.skipped))} files, listed below" if record.skipped else "none",
            False,
        ),
        ("Method", info.get("method"), False),
        ("Encoder", _encoder(info), False),
        ("Budget", _budget(info), False),
        ("Training", _length(info), False),
        ("Time", duration(info["seconds"]) if info.get("seconds") else None, False),
        ("Speed", _speed(record.metrics), False),
        ("Machine", _machine(info.get("machine") or {}), False),
        ("Precision", value_in_words("precision", info.get("precision")), False),
        ("Seed", str(info.get("seed", "")), False),
        ("Versions", in_words(info.get("versions")), False),
        ("Exact repeat", info.get("repeat"), True),
    ]
    settings = [
        (name, in_words(info[name]), False)
        for name in ("options", "recipe")
        if isinstance(info.get(name), dict)
    ]
    body = part("facts", [row for row in rows if row[1]])
    if settings:
        body += part("folded", "All settings of the method and of training", part("facts", settings))
    return part("section", key, "What ran", body)


def _encoder(info: dict[str, Any]) -> str:
    size = info.get("size")
    return f"{info.get('encoder') or 'unknown'}" + (f", for images of {size} × {size} px" if size else "")


def _budget(info: dict[str, Any]) -> str:
    asked = (info.get("budget") or {}).get("asked") or {}
    return ", ".join(f"{in_words(value)} {name}" for name, value in asked.items() if value is not None)


def _machine(machine: dict[str, Any]) -> str:
    cores = f"{machine['cores']} cores" if machine.get("cores") else None
    told = (machine.get("processor"), cores, machine.get("gpu"), machine.get("system"))
    return ", ".join(str(one) for one in told if one)


def _length(info: dict[str, Any]) -> str:
    budget = info.get("budget") or {}
    told = [f"{count(budget['steps'])} steps"] if budget.get("steps") else []
    return ", ".join(
        told + ([f"each image seen {number(budget['epochs'])} times"] if budget.get("epochs") else [])
    )


def _speed(metrics: Sequence[dict[str, Any]]) -> str:
    rates = [row["views_per_second"] for row in metrics if row.get("views_per_second")]
    waits = [row["wait"] for row in metrics if row.get("wait") is not None]
    if not rates:
        return ""
    waiting = f", {percent(statistics.median(waits))} of the time waiting for images" if waits else ""
    return f"{count(statistics.median(rates))} views per second{waiting}"


def curves(
    records: Sequence[Record], charts: Sequence[Curve], key: str = "curves", title: str = "Curves"
) -> Markup:
    """The charts for which the runs logged something; several runs share the axes."""
    drawn = [
        part("chart", chart.title, figure, chart.caption)
        for chart in charts
        if (figure := _curve(records, chart))
    ]
    body = part("charts", drawn) if drawn else part("sentence", "Nothing was logged while this run trained.")
    return part("section", key, title, body)


def own_curves(record: Record) -> tuple[Curve, ...]:
    """Loss, learning rate, and how well the method's own task is solved on held-out images."""
    logged = dict.fromkeys(name for row in record.metrics for name in row if name.startswith("held_out/"))
    tasks = tuple(
        Curve(
            (name.removeprefix("held_out/"), name),
            f"Training task: {name.removeprefix('held_out/').replace('acc_', 'accuracy, ')}",
            "How well the task invented for training is solved. Held-out images were not trained on, so they "
            "tell understanding from learning by heart.",
            shares=True,
        )
        for name in logged
        if name.removeprefix("held_out/").startswith("acc")
    )
    return OWN_CURVES[:1] + tasks + OWN_CURVES[1:]


def _curve(records: Sequence[Record], chart: Curve) -> Markup | None:
    clock = "epoch" if all("epoch" in row for record in records for row in record.metrics) else "step"
    lines, levels = [], [chart.level] if chart.level else []
    for record in records:
        for name in chart.names:
            points = [(row[clock], row[name]) for row in record.metrics if row.get(name) is not None]
            if len(points) > 1:
                x, y = np.array(points, float).T
                lines.append(figures.Line(_line_label(record, name, len(records) > 1), x, y))
            chance = (record.info.get("chance") or {}).get(name.removeprefix("held_out/"))
            if points and chance is not None and len(records) == 1:
                told = percent(chance) if chart.shares else number(chance)
                levels.append(figures.Level(float(chance), f"guessing: {told}"))
    if not lines:
        return None
    x_label = "epoch (how often each image was seen)" if clock == "epoch" else "step"
    return Markup(
        figures.curves(
            lines, x_label=x_label, alt=f"Chart: {chart.title}", levels=levels, shares=chart.shares
        )
    )


def _line_label(record: Record, name: str, several: bool) -> str:
    if several:
        return record.name
    return "held-out images" if name.startswith("held_out/") else "training images"


def views(record: Record, thumbnails: bool = True, key: str = "views") -> Markup:
    """What the network saw in training, with its paragraph."""

    def body() -> Markup:
        sheet = pictures.load_views(record.folder)
        if sheet is None:
            return part("sentence", NO_VIEWS)
        exact = max(sheet.tiles.shape[2:4]) <= figures.SMALL
        picture = figures.contact_sheet(sheet.tiles)
        width = min(960, picture.shape[1] * (max(1, 96 // sheet.tiles.shape[3])))
        uri = figures.data_uri(picture, exact)
        caption = f"{VIEWS} {sheet.text}".rstrip()
        return part("picture", uri, "Images and their views", caption, exact, width, sheet.columns)

    return part(
        "section", key, "What the network sees", _pictured(body) if thumbnails else part("sentence", LEFT_OUT)
    )


def panel(record: Record, thumbnails: bool = True, key: str = "method") -> Markup:
    """The picture that explains the method; nothing where the run has none."""
    held = pictures.load_panel(record.folder)
    if held is None or not thumbnails:
        return Markup()
    uri = figures.bytes_uri(held.picture, "image/svg+xml")
    return part(
        "section",
        key,
        "The method in one picture",
        part("panel", uri, f"{record.method} explained", held.text),
    )


def retrieval(record: Record, thumbnails: bool = True, key: str = "retrieval") -> Markup:
    """Rows of a held-out image and the training images with the most similar features."""

    def body() -> Markup:
        found = pictures.load_retrieval(record.folder)
        if found is None:
            return part("sentence", "No images were looked up with this encoder.")
        k = found.matches.shape[1]
        caption = (
            f"Left: the query, a test image where the data have such. Right of it: the {k} training images "
            "whose features are most similar, most similar first. "
        )
        if any(found.query_labels):
            caption += "Solid frame and ✓: same class as the query. Dashed frame and ✗: another class."
        else:
            caption += "Below each: the cosine similarity, 1 for equal features."
        return part("matches", [_match_row(found, q) for q in range(len(found.queries))], caption)

    return part(
        "section", key, "Most similar images", _pictured(body) if thumbnails else part("sentence", LEFT_OUT)
    )


def _match_row(found: pictures.Retrieval, q: int) -> dict[str, Any]:
    def tile(picture: np.ndarray) -> dict[str, Any]:
        exact = max(picture.shape[:2]) <= figures.SMALL
        return {"uri": figures.data_uri(picture, exact), "exact": exact}

    wanted = found.query_labels[q]
    matches = [
        tile(picture)
        | {
            "label": label,
            "score": f"{float(score):.2f}",
            "verdict": ("right" if label == wanted else "wrong") if wanted and label else "",
        }
        for picture, label, score in zip(
            found.matches[q], found.match_labels[q], found.similarities[q], strict=True
        )
    ]
    return {"query": tile(found.queries[q]) | {"label": wanted}, "matches": matches}


def filters(record: Record, key: str = "filters") -> Markup:
    """The first layer's filters."""

    def body() -> Markup:
        weights = pictures.load_filters(record.folder)
        if weights is None:
            return part("sentence", "The first layer's filters were not kept.")
        sheet = figures.filter_sheet(weights)
        scale = max(1, min(12, 640 // sheet.shape[1]))
        whitened = (record.info.get("recipe") or {}).get("stem") == "whitened"
        told = WHITENED if whitened else LEARNT
        caption = (
            f"The {len(weights)} filters of the first layer, {weights.shape[2]} × {weights.shape[3]} pixels "
            "each: what each one looks for in the image, scaled by its own largest weight; mid-grey is "
            f"zero. {told}"
        )
        uri = figures.data_uri(sheet, exact=True)
        return part("picture", uri, "Filters of the first layer", caption, True, scale * sheet.shape[1], ())

    return part("section", key, "First layer", _pictured(body))


def _pictured(body: Callable[[], Markup]) -> Markup:
    """The body, or the sentence that says which file of pictures is damaged."""
    try:
        return body()
    except FileFormatError as error:
        return part("sentence", str(error))


def skipped(record: Record, key: str = "skipped") -> Markup:
    """The files that could not be read, folded; nothing where there is none."""
    if not record.skipped:
        return Markup()
    more = len(record.skipped) - MOST_SKIPPED
    rest = f"{count(more)} more are listed in skipped.csv of the run folder." if more > 0 else ""
    shown = part("skipped", record.skipped[:MOST_SKIPPED], rest)
    title = f"{count(len(record.skipped))} files that were not used, and why"
    return part("section", key, "Skipped files", part("folded", title, shown))


def glossary() -> Markup:
    """Five terms in two sentences each."""
    return part("section", "glossary", "Terms", part("terms", GLOSSARY))
