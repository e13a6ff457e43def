"""Writes docs/methods/, a page for each method, from its file alone: `python tools/method_pages.py`.

With images, and perhaps trained runs, it draws the pictures on the pages first, as the gallery does:
`python tools/method_pages.py DATA [RUN ...]`.
"""

import inspect
import io
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from nolabel import catalog
from nolabel.cli._method_options import method_file, read_options
from nolabel.methods.base import Method

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"
PAGES = DOCS / "methods"
PICTURES = DOCS / "pictures" / "methods"
LARGEST = 120_000
"""bytes of a picture"""


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
    if kind.undefended:
        switched = ", ".join(f"`{key}` = {value!r}" for key, value in kind.undefended.items())
        parts.append(
            f"`nolabel check-pretext {word} DATA` trains it with its defences on and off ({switched}) and says whether "
            "the task fits your images."
        )
    parts.append("Measured results: [docs/results](../results/).")
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
    from nolabel.cli.gallery import draw
    from nolabel.data.store import ImageStore
    from nolabel.runs import read_description

    trained = {read_description(run)["method"]: run for run in runs}
    store = ImageStore.open(data, size=96)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in catalog.names("methods"):
        (PICTURES / f"{name}.png").write_bytes(picture(draw(name, store, trained.get(name), None, 0)))


def main(words: list[str]) -> None:
    """Pages, after the pictures where images are named."""
    if words:
        draw_all(words[0], [Path(word) for word in words[1:]])
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in catalog.names("methods"):
        (PAGES / f"{name}.md").write_text(page(name))


if __name__ == "__main__":
    main(sys.argv[1:])
