"""What the context encoder measures and shows: errors of hidden pixels, and the families of masks."""

from typing import NamedTuple

import torch
from torch import Tensor

from nolabel.methods._picture_grid import heat
from nolabel.views import masks

FAMILIES: dict[masks.Kind, str] = {
    "random_region": "a region",
    "random_block": "blocks",
    "central": "the centre",
}


class Task(NamedTuple):
    """What is to be painted in a window of s pixels a side."""

    truth: Tensor
    """(B, 3, s, s) in [0, 1]"""
    weights: Tensor
    """(B, 1, s, s), at least 0: how much each pixel counts in the loss"""
    centre: Tensor
    """colour, (1 or B, 3, 1, 1), that is 0 in what the net paints"""
    spread: Tensor
    """of which size colours differ from it by 1 there"""

    def target(self, colours: Tensor) -> Tensor:
        """Colours in [0, 1] in units of what the net paints."""
        return (colours - self.centre) / self.spread

    def colours(self, painted: Tensor) -> Tensor:
        """What the net paints as colours, in [0, 1] where it is right."""
        return painted * self.spread + self.centre


def families(
    images: Tensor, mean: Tensor, fraction: float, side: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """The images (B, 3, s, s) under each family of masks, hidden parts in `mean`, by its name and hidden share.

    `fraction` and `side` (of the central square) as in `masks.hidden`.
    """
    count, size = len(images), images.shape[-1]
    found = {}
    for kind, name in FAMILIES.items():
        drawn = masks.draw(kind, count, size, generator)
        hidden = masks.hidden(kind, drawn, count, size, fraction, side)[:, None].to(images.device)
        found[f"{name} ({hidden.float().mean():.0%})"] = torch.where(hidden, mean, images)
    return found


def errors_shown(
    painted: Tensor, truth: Tensor, hidden: Tensor, given: Tensor
) -> tuple[str, Tensor, list[str]]:
    """What was painted wrong: title, heat maps (B, 3, s, s), white where nothing was hidden, and a note for each image.

    All images (B, 3, s, s) in [0, 1], and `hidden` bool (B, 1, s, s), not all False in any; the note sets the mean
    error of the hidden pixels beside that of what the network was given.
    """
    wrong = ((painted - truth).abs() * hidden).mean(1)
    shown = torch.where(hidden, heat(wrong), 1.0)
    means = [
        ((image - truth).abs() * hidden).sum((1, 2, 3)) / (3 * hidden.sum((1, 2, 3)))
        for image in (painted, given)
    ]
    notes = [f"off by {own:.0%},\nthe grey by {grey:.0%}" for own, grey in torch.stack(means, 1).tolist()]
    return f"error\n(bright: {wrong.amax():.0%})", shown, notes


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Mean colour (B, 3, 1, 1) of `values` (B, 3, s, s) under `weights` (B, 1, s, s)."""
    return (values * weights).sum((2, 3), keepdim=True) / weights.sum((2, 3), keepdim=True)


def measures(painted: Tensor, truth: Tensor, hidden: Tensor) -> dict[str, float]:
    """`l1`, `l2` and `psnr` (dB, peak 1) over the hidden pixels: of each image, then the mean.

    Section 4.1 of the context encoder gives l1 and l2 in per cent.

    Args:
        painted, truth: (B, 3, s, s) in [0, 1]
        hidden: bool (B, 1, s, s), not all False in any image
    """
    error, count = (painted - truth) * hidden, 3 * hidden.sum((1, 2, 3))
    l1, l2 = error.abs().sum((1, 2, 3)) / count, error.square().sum((1, 2, 3)) / count
    psnr = -10 * l2.clamp_min(1e-10).log10()
    return {"l1": l1.mean().item(), "l2": l2.mean().item(), "psnr": psnr.mean().item()}
