"""Writes docs/methods/, a page for each method, from its file and docs/results: `python tools/method_pages.py`.

Also what the package itself says of measured runs: `published/measured.csv`, and the headers of the recipes. Call it
whenever `record_runs.py` has added a run.

With images, and perhaps trained runs, it draws the pictures on the pages first, as the gallery does:
`python tools/method_pages.py DATA [RUN ...]`.
"""

import csv
import inspect
import io
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

from record_runs import accuracy_in_words, machine_in_words, over_random_in_words, task_in_words

from nolabel import catalog, published, recipes
from nolabel.cli._method_options import method_file, read_options
from nolabel.methods.base import Method
from nolabel.published import Measured
from nolabel.runs import read_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"
PAGES = DOCS / "methods"
RESULTS = DOCS / "results"
RECIPES = Path(recipes.__file__).parent
PICTURES = DOCS / "pictures" / "methods"
LARGEST = 120_000
"""bytes of a picture"""
SETTINGS = "Settings: command; length; hardware; result (by tools/method_pages.py)."
"""begins the part of a recipe's header that is written here"""
ARCHIVES = {recipes.CIFAR10: "cifar10.zip", recipes.CALTECH: "caltech101.zip", "STL-10": "stl10"}
PROTOCOL = (
    "Trained with the method's defaults. Linear: logistic regression on the stage that is best on a part of the "
    "training images, pooled to at most 4,096 values. kNN: cosines of the pooled vector. Top-1 on the test "
    "images in per cent, with 95 % intervals; over random: points above random weights with the same stem, by a paired "
    "McNemar test. The task is asked on held-out images."
)


def recorded() -> list[Measured]:
    """The runs in docs/results that were trained with a method's defaults, page by page."""
    found = []
    for file in sorted(RESULTS.glob("*.jsonl")):
        for row in read_rows(file):
            if "held_out" not in row:
                continue
            found.append(
                Measured(
                    row["method"], row["encoder"], row["size"], Path(row["data"]).stem,
                    recipes.length_in_words(row["asked"]), row["seed"],
                    task_in_words(row), accuracy_in_words(row, "linear"), over_random_in_words(row, "linear"),
                    accuracy_in_words(row, "knn"), over_random_in_words(row, "knn"),
                    machine_in_words(row), row["started"][:10],
                    file.stem,
                )
            )  # fmt: skip
    return found


def measured_file(found: Sequence[Measured]) -> str:
    """The text of `published/measured.csv`."""
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, [f.name for f in fields(Measured)], lineterminator="\n")
    rows.writeheader()
    rows.writerows(asdict(run) for run in found)
    return text.getvalue()


def recipe_file(stem: str) -> str:
    """The text of `recipes/STEM.py` with the settings in its header as they are."""
    text = (RECIPES / f"{stem}.py").read_text(encoding="utf-8")
    header, _, code = text.removeprefix('"""').partition('"""')
    lines = []
    for name in recipes.names():
        one = recipes.find(name)
        if one.method == stem:
            command = f"`nolabel reproduce {name} {ARCHIVES.get(one.dataset, 'DATA')}`"
            told = f"- {command}: {one.asked}; {one.hardware}; {one.result}."
            lines.append(textwrap.fill(told, 116, subsequent_indent="  ", break_on_hyphens=False))
    parts = (header.partition(SETTINGS)[0].strip(), SETTINGS, "\n".join(lines))
    return '"""' + "\n\n".join(parts) + '\n"""' + code


def results(name: str) -> list[str]:
    """What was measured of one method, as paragraphs."""
    found = published.measured(lambda run: run.method == name)
    if not found:
        return ["Not run."]
    head = (
        "data set", "encoder", "px", "length", "seed", "the task", "linear", "over random", "kNN", "over random",
        "machine", "date",
    )  # fmt: skip
    rows = [
        (f"[{run.data}](../results/{run.page}.md)", run.encoder, run.size, run.length, run.seed, run.task, run.linear,
         run.linear_gain, run.knn, run.knn_gain, run.machine, run.date)
        for run in found
    ]  # fmt: skip
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (head, ("---",) * len(head), *rows)]
    return [PROTOCOL, "\n".join(lines)]


def page(name: str) -> str:
    """The page of one method in Markdown."""
    kind = catalog.load("methods", name, Method)
    module = inspect.getmodule(kind)
    first, *rest = inspect.cleandoc((module.__doc__ if module else "") or "").split("\n\n")
    word = name.replace("_", "-")
    parts = [
        f"# {first}",
        kind.explained,
        f"![the task of {name.replace('_', ' ')}, drawn](../pictures/methods/{name}.png)",
        f"`nolabel pretrain {word} DATA --minutes 10` · {kind.paper}",
        "## When to use it",
        kind.when,
        "## The algorithm, and where it differs from the paper",
        *rest,
        "## Options",
        "| option | default | what it does |\n| --- | --- | --- |\n"
        + "\n".join(
            f"| `--{option.name.replace('_', '-')}` | {option.default!r} | {' '.join(option.help.split())} |"
            for option in read_options(method_file(name))
        ),
        "Recipe: "
        + ", ".join(f"{f.name} {getattr(kind.recipe, f.name)!r}" for f in fields(kind.recipe))
        + ".",
    ]
    switched = ", ".join(f"`{key}` = {value!r}" for key, value in (kind.undefended | kind.defended).items())
    parts += [
        f"`nolabel check-pretext {word} DATA` trains it as it is and with its defences "
        f"{'on' if kind.defended else 'off'} ({switched}) and says whether the task fits your images.",
        "## Results",
        *results(name),
        "More tables, and how they were measured: [docs/results](../results/). Published numbers: "
        f"`nolabel methods {word}`.",
    ]
    return "\n\n".join(parts) + "\n"


def picture(figure: "Figure") -> bytes:
    """PNG of at most `LARGEST` bytes, at the finest resolution that gives one."""
    from PIL import Image

    for dpi in (110, 100, 90, 80, 70, 60, 50):
        held, small = io.BytesIO(), io.BytesIO()
        figure.savefig(held, format="png", dpi=dpi)
        Image.open(held).convert("RGB").quantize(192).save(small, "png", optimize=True)
        if small.tell() <= LARGEST:
            return small.getvalue()
    raise ValueError(f"A picture is larger than {LARGEST:,} bytes: draw fewer images.")


def draw_all(data: str, runs: list[Path]) -> None:
    """Write a picture for each method, drawn from the images at `data`, with the answers of `runs`."""
    from nolabel.cli.gallery import draw, parts
    from nolabel.data.store import ImageStore
    from nolabel.runs import read_description

    trained = {read_description(run)["method"]: run for run in runs}
    store = ImageStore.open(data, size=96)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in catalog.names("methods"):
        run = trained.get(name)
        figure = draw(name, *parts(data, store, run, 0), run, None, 0)
        (PICTURES / f"{name}.png").write_bytes(picture(figure))


def main(words: list[str]) -> None:
    """What was measured, headers and pages, after the pictures where images are named."""
    if words:
        draw_all(words[0], [Path(word) for word in words[1:]])
    PAGES.mkdir(parents=True, exist_ok=True)
    published.MEASURED.write_text(measured_file(recorded()), encoding="utf-8")
    for name in catalog.names("methods"):
        (RECIPES / f"{name}.py").write_text(recipe_file(name), encoding="utf-8")
        (PAGES / f"{name}.md").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
