"""Writes docs/methods/, a page for each method, from its file alone: `python tools/method_pages.py`."""

import inspect
from dataclasses import fields
from pathlib import Path

from nolabel import catalog
from nolabel.cli._method_options import method_file, read_options
from nolabel.methods.base import Method

PAGES = Path(__file__).parents[1] / "docs" / "methods"


def page(name: str) -> str:
    """The page of one method in Markdown."""
    kind = catalog.load("methods", name, Method)
    module = inspect.getmodule(kind)
    first, *rest = inspect.cleandoc((module.__doc__ if module else "") or "").split("\n\n")
    word = name.replace("_", "-")
    parts = [
        f"# {first}",
        kind.explained,
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


def main() -> None:
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in catalog.names("methods"):
        (PAGES / f"{name}.md").write_text(page(name))


if __name__ == "__main__":
    main()
