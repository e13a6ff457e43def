"""Exemplar's picture: seeds, each beside two dozen of its copies, and of a trained net which copies it names."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nolabel.encoders.base import evaluating
from nolabel.methods import _exemplar_copies
from nolabel.methods import _exemplar_forms as forms
from nolabel.methods._picture_grid import titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nolabel.methods.exemplar import Exemplar

SEEDS, COPIES = 2, 24
"""drawn: seeds, and copies of each"""
COLUMNS = 8


def panel(method: "Exemplar", generator: torch.Generator, trained: bool) -> "Figure":
    """`SEEDS` seeds of `method` and `COPIES` of each; of a trained net also whether it names them."""
    device = method.windows.device
    labels = torch.randint(len(method.windows), (SEEDS,), generator=generator).to(device)
    drawn = _exemplar_copies.draw(method.options, SEEDS * COPIES, generator)
    flat = {k: v.to(device) for k, v in drawn.items()} | {"labels": labels.repeat_interleave(COPIES)}
    copies = method.copies(flat)
    right = None
    if trained:
        with evaluating(method):
            right = (named(method, copies) == flat["labels"]).unflatten(0, (SEEDS, COPIES))
    return draw(method.originals()[labels], copies.unflatten(0, (SEEDS, COPIES)), right)


def named(method: "Exemplar", copies: Tensor) -> Tensor:
    """The seed that is named for each copy, int64 (B,); by triplets, the one that is nearest as it was cut."""
    answers = method.answers(copies)
    if method.bank is not None:
        answers = forms.unit(answers) @ method.bank.vectors.T
    elif method.options.form == "triplet":
        seeds = torch.cat([method.answers(part) for part in method.originals().split(500)])
        answers = forms.unit(answers) @ forms.unit(seeds).T
    return answers.argmax(1)


def draw(seeds: Tensor, copies: Tensor, right: Tensor | None) -> "Figure":
    """`seeds` (R, 3, p, p) and their `copies` (R, C, 3, p, p) in [0, 1], C a multiple of `COLUMNS`.

    Of a trained net `right` (R, C), whether it names the seed of a copy; else None.
    """
    from matplotlib.figure import Figure

    lines = copies.shape[1] // COLUMNS
    figure = Figure(figsize=(1.1 * (COLUMNS + 1), 1.25 * lines * len(seeds) + 0.7), layout="constrained")
    axes = figure.subplots(lines * len(seeds), COLUMNS + 1, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis in axes[:, 0]:
        axis.set_axis_off()
    for axis, seed in zip(axes[::lines, 0], seeds, strict=True):
        axis.imshow(seed.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
    for axis, copy in zip(axes[:, 1:].flat, copies.flatten(0, 1), strict=True):
        axis.imshow(copy.permute(1, 2, 0).cpu().numpy(), interpolation="nearest")
    if right is not None:
        for axis, good in zip(axes[:, 1:].flat, right.flatten().tolist(), strict=True):
            axis.set_xlabel("✓" if good else "✗", fontsize=12, color="darkgreen" if good else "darkred")
        figure.supxlabel("✓ the network names this seed for the copy, ✗ another one", fontsize=12)
    axes[0, 0].set_title("seed", fontsize=12)
    axes[0, 1].set_title("its copies", fontsize=12, loc="left")
    titled(figure, "Exemplar: from which seed was the copy made?")
    return figure
