"""Writes docs/matrix.md, which encoder each method trains at which size, by trying it: `python tools/matrix.py`."""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F

from nolabel import catalog, recipes
from nolabel.data.store import ImageStore
from nolabel.errors import NolabelError
from nolabel.seeds import generator
from nolabel.training.budget import kinds_of_step, progress_of
from nolabel.training.optim import build_optimizer
from nolabel.training.step import ViewSource, total_loss
from nolabel.training.work import default_method

PAGE = Path(__file__).parents[1] / "docs" / "matrix.md"
ENCODERS = (
    "resnet10",
    "resnet18",
    "resnet34",
    "resnet50",
    "nin3",
    "nin4",
    "nin5",
    "alexnet",
    "timm:resnet10t",
    "timm:mobilenetv3_small_050",
)
SIZES = (32, 96, 128)
IMAGES = 2


def refusal(name: str, encoder: str, size: int) -> str | None:
    """Why method `name` does not train `encoder` on images of `size` px; None where it does.

    It does where a step of each kind of a run (the smallest and the largest views) has a finite loss and moves the
    encoder.

    Raises:
        AssertionError: the loss is not finite, or the encoder did not change.
    """
    store = images(size)
    try:
        method, recipe = default_method(name, encoder, store, size)
    except NolabelError as error:
        return str(error)
    source, optimizer = ViewSource(method, store, IMAGES, 0, False), build_optimizer(method, recipe)
    before = [value.detach().clone() for value in method.encoder.parameters()]
    for step, _ in kinds_of_step(method, source.seed):
        found = method(source.views(step, progress_of(step)))
        assert all(value.isfinite().all() for value in found.values()), f"not finite: {found}"
        optimizer.zero_grad()
        total_loss(found).backward()
        optimizer.step()
    after = method.encoder.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)), (
        "the encoder stayed as it was"
    )
    return None


@cache
def images(size: int) -> ImageStore:
    """Four smooth random images, each a little larger than `size`."""
    coarse = torch.rand(4, 3, 6, 6, generator=generator(0, "matrix", size))
    fine = F.interpolate(coarse, (size + 8, size + 4), mode="bicubic", align_corners=True).clamp(0, 1)
    return ImageStore.of(list((fine * 255).byte()))


def page(answers: dict[tuple[str, str, int], str | None]) -> str:
    """The page from (method, encoder, size) -> refusal: a table for each size, then the reasons."""
    methods = catalog.names("methods")
    reasons: dict[str, int] = {}
    parts = [
        "# Which method trains which encoder, at which size\n\n"
        "Written by `python tools/matrix.py`, which takes training steps of every combination on two images, at the "
        "sides of the views that a run begins and ends with: yes, or refused with the reason below. Tiles and patches "
        "are each method's defaults at that size. `tests/test_matrix.py` tries every method on every encoder again, at "
        "one of the sizes, and some at the others.\n"
    ]
    for size in SIZES:
        lines = [
            f"## {size} px\n",
            "| encoder | " + " | ".join(name.replace("_", " ") for name in methods) + " |",
            "| --- " * (len(methods) + 1) + "|",
        ]
        for encoder in ENCODERS:
            given = [answers[name, encoder, size] for name in methods]
            cells = ["yes" if a is None else f"no ({reasons.setdefault(a, len(reasons) + 1)})" for a in given]
            lines.append(f"| `{encoder}` | {' | '.join(cells)} |")
        parts.append("\n".join(lines) + "\n")
    if reasons:
        parts.append("## Reasons\n\n" + "\n".join(f"{i}. {reason}" for reason, i in reasons.items()) + "\n")
    return "\n".join([*parts, papers()])


def papers() -> str:
    """The part of the page on the papers' own nets."""
    found = {name: recipes.find(name) for name in recipes.of_papers()}
    rows = [
        f"| `{name}` | {one.method.replace('_', ' ')} | `{one.encoder}` | {one.size} px |"
        for name, one in found.items()
    ]
    return "\n".join([
        "## Each paper's own net at the paper's size\n",
        "A training step of each is taken in `tests/test_recipes.py`, [200 steps](results/paper_nets.md) by a "
        "benchmark; the options are the paper's. These nets are made for their task: other methods may refuse them, "
        "with the reason.\n",
        "| recipe | method | encoder | images |",
        "| --- | --- | --- | --- |",
        *rows,
    ]) + "\n"  # fmt: skip


def every() -> dict[tuple[str, str, int], str | None]:
    """The answer for every combination."""
    methods = catalog.names("methods")
    return {(m, e, s): refusal(m, e, s) for s in SIZES for e in ENCODERS for m in methods}


if __name__ == "__main__":
    PAGE.write_text(page(every()), encoding="utf-8")
