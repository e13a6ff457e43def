"""Each paper's own net at the paper's size for 200 steps: does its loss fall?

`python -m benchmarks.paper_nets DATA --out runs/paper_nets` trains every recipe that is not scaled, with the paper's
options, optimizer and rate, in batches small enough for two cores (SGD's rate falls in proportion, but for jigsaw's).
Runs that are there already are left alone. It prints the mean loss of the first and of the last 20 steps, a row of a
table each.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nolabel import pretrain, recipes
from nolabel.runs import METRICS, read_description, read_rows, status_of

STEPS, SHOWN = 200, 20
BATCH = {
    "exemplar-paper": 64, "exemplar-small": 64, "exemplar-medium": 64, "jigsaw-paper": 16, "rotation-paper": 32,
    "context-encoder-pictures": 16, "simclr-paper": 16,
    "colorization-paper": 4, "simclr-imagenet": 8,
}  # fmt: skip
"""images a step; 8 for others"""
ORDERS = 8
"""of each image's tiles in jigsaw, whose 128 puzzles a step learn at the paper's rate: with 8 it does not move"""


def trained(name: str, data: str, folder: Path) -> None:
    """200 steps of the recipe in `folder`, unless they are done."""
    status, found = status_of(folder), recipes.find(name)
    if status == "finished":
        return
    if status:
        pretrain(found.method, data, out=folder, resume=True)
        return
    batch, options = BATCH.get(name, 8), found.options
    in_proportion = found.recipe.optimizer in ("sgd", "lars")
    rate = found.recipe.lr * (batch / found.recipe.batch_size if in_proportion else 1)
    if found.method == "jigsaw":
        options, rate = replace(options, puzzles=ORDERS), found.recipe.lr
    recipe = replace(found.recipe, batch_size=batch, lr=rate, lr_rule="fixed", warmup=0.1)
    pretrain(
        found.method, data, out=folder, encoder=found.encoder, size=found.size, steps=STEPS,
        options=options, recipe=vars(recipe), progress=False,
    )  # fmt: skip


def row(name: str, folder: Path) -> str:
    about = read_description(folder)
    losses = {row["step"]: row["loss"] for row in read_rows(folder / METRICS) if "loss" in row}
    first = [loss for step, loss in losses.items() if step <= SHOWN]
    last = [loss for step, loss in losses.items() if step > STEPS - SHOWN]
    cells = (
        name, about["encoder"], about["size"], BATCH.get(name, 8), f"{about['seconds'] / 60:.1f}",
        *(f"{sum(part) / len(part):.4g}" for part in (first, last)), f"{min(losses.values()):.4g}",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def measured(data: str, out: Path, names: list[str]) -> Iterator[str]:
    for name in names:
        trained(name, data, out / name)
        yield row(name, out / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("runs/paper_nets"))
    parser.add_argument("--recipes", nargs="+", default=recipes.of_papers())
    a = parser.parse_args()
    print("| recipe | net | side, px | images a step | minutes | loss, first 20 steps | last 20 | least |")
    for line in measured(a.data, a.out, a.recipes):
        print(line, flush=True)


if __name__ == "__main__":
    main()
