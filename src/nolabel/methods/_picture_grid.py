"""Images side by side: the picture of a method whose columns need no more than a heading."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LETTERS_PER_INCH = 8.5
"""of a title in 13 points, with room to spare: the titles of the methods have ten to eleven"""
NOTE = 0.5
"""inches of a note of two lines"""


def picture_grid(
    columns: dict[str, Tensor], title: str, side: float, notes: Sequence[str] = (), noted: str = ""
) -> "Figure":
    """A row for each image and a titled column for each entry (B, 3, s, s) in [0, 1], `side` inches each.

    `notes`, one an image, stand below the pictures of the column `noted`.
    """
    from matplotlib.figure import Figure

    rows = len(next(iter(columns.values())))
    height = side * rows + 0.8 + NOTE * len(notes)
    figure = Figure(figsize=(max(4.0, side * len(columns)), height), layout="constrained")
    axes = figure.subplots(rows, len(columns), squeeze=False)
    for column, (name, pictures) in enumerate(columns.items()):
        axes[0, column].set_title(name, fontsize=12)
        shown = pictures.clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
        for axis, picture in zip(axes[:, column], shown, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        if name == noted:
            for axis, note in zip(axes[:, column], notes, strict=True):
                axis.set_xlabel(note, fontsize=12)
    titled(figure, title)
    return figure


def heat(errors: Tensor) -> Tensor:
    """Errors (B, s, s) of at least 0 as colours (B, 3, s, s): black for none, pale yellow for the largest of all."""
    from matplotlib import colormaps

    shares = errors / errors.amax().clamp_min(torch.finfo(errors.dtype).tiny)
    colours = torch.from_numpy(colormaps["inferno"](shares.cpu().numpy()))
    return colours[..., :3].movedim(-1, 1).to(errors)


def titled(figure: "Figure", title: str) -> None:
    """A title over the whole picture, in as many lines as its width asks for."""
    figure.suptitle(textwrap.fill(title, int(LETTERS_PER_INCH * figure.get_figwidth())), fontsize=13)
