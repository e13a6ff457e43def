"""The colour classes of Zhang, Isola and Efros (ECCV 2016): targets, weights, and colours back from them."""

from functools import lru_cache

import torch
from torch import Tensor

from nolabel.views.lab import rgb_to_lab

RELEASED = 10
"""spacing in ab of the released classes"""
RANGES = (
    (-90, 50, 90), (-80, 20, 90), (-70, 0, 90), (-60, -20, 90), (-50, -30, 100), (-40, -40, 100), (-30, -50, 100),
    (-20, -50, 100), (-10, -60, 100), (0, -70, 100), (10, -80, 90), (20, -80, 90), (30, -90, 90), (40, -100, 90),
    (50, -100, 80), (60, -110, 80), (70, -110, 80), (80, -110, 70), (90, -110, 70), (100, -90, 0),
)  # fmt: skip
"""a, and the first and last b, in steps of 10, of the released set of 313 classes (section 2.1)"""
SPREAD = 0.5
"""standard deviation of the soft targets, as a share of the spacing (section 2.2: 5)"""
LARGEST = 150.0
"""error in ab at which the cumulative curves of table 1 end"""


def colour_classes(spacing: int = RELEASED) -> Tensor:
    """Centres of the classes in ab, float32 (Q, 2), a ascending, then b: the released 313 (section 2.1) at 10.

    At other spacings those centres that are nearest to a colour of sRGB (at 20: 77).
    """
    if spacing == RELEASED:
        found = [[a, b] for a, low, high in RANGES for b in range(low, high + 1, RELEASED)]
        return torch.tensor(found, dtype=torch.float32)
    return (outermost() / spacing).round().unique(dim=0) * spacing


@lru_cache(maxsize=1)
def outermost() -> Tensor:
    """ab (N, 2) of the 8-bit colours on the six faces of RGB's cube: no ab lies outside, as L alone leads to a face."""
    level = torch.arange(256, device="cpu") / 255
    two = torch.cartesian_prod(level, level).T
    ends = [torch.cat([torch.full_like(two[:1], end), two]) for end in (0.0, 1.0)]
    faces = torch.cat([face.roll(axis, 0) for face in ends for axis in range(3)], 1)
    return rgb_to_lab(faces.view(1, 3, 1, -1))[0, 1:, 0].T


def soft_targets(
    ab: Tensor, classes: Tensor, neighbours: int, spacing: int = RELEASED
) -> tuple[Tensor, Tensor]:
    """The nearest classes of colours ab (N, 2), nearest first: indices and weights that add to 1, both (N, K)."""
    squared, index = torch.cdist(ab, classes).square().topk(neighbours, largest=False)
    return index, (-squared / (2 * (SPREAD * spacing) ** 2)).softmax(1)


def masses(index: Tensor, share: Tensor, classes: int) -> Tensor:
    """How much soft targets (N, K) give to each class in all: (classes,)."""
    return torch.zeros(classes, device=share.device).scatter_add_(0, index.flatten(), share.flatten())


def best_constant(index: Tensor, share: Tensor, weight: Tensor, classes: int) -> Tensor:
    """The same logits in every place, (N, classes), that lose least on soft targets (N, K) of weights (N,)."""
    mass = masses(index, share * weight[:, None], classes)
    return (mass / mass.sum().clamp_min(1e-12)).clamp_min(1e-12).log().expand(len(index), -1)


def least_loss(share: Tensor, weight: Tensor) -> Tensor:
    """What cross-entropy keeps when the answer is the soft target (N, K): its entropy, weighted (N,); a mean."""
    return (weight * torch.special.entr(share).sum(1)).mean()


def places(maps: Tensor) -> Tensor:
    """(B, C, h, w) as (B h w, C)."""
    return maps.movedim(1, -1).flatten(0, 2)


def class_weights(prior: Tensor, uniform: float) -> Tensor:
    """Weights w of the classes (section 2.2, equation 4): 1 / ((1 - λ) p + λ / Q), scaled so that Σ p w = 1."""
    weights = 1 / ((1 - uniform) * prior + uniform / len(prior))
    return weights / (prior * weights).sum()


def annealed_mean(logits: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """Expected ab (N, 2) of the distribution sharpened by `temperature` (section 2.3, equation 5); 0: its mode."""
    return (logits.to(classes.dtype) / max(temperature, 1e-6)).softmax(1) @ classes


def errors(ab: Tensor, truth: Tensor, classes: Tensor) -> dict[str, float]:
    """How far colours ab (N, 2) lie from `truth` (N, 2), and the areas under the cumulative curve of that distance.

    The share of places with an error below t, averaged over t from 0 to 150 (section 4, table 1, there in per cent):
    `auc`; `auc_rebalanced`, the mean over the classes that occur; `auc_grey`, of ab = 0.
    The classes are those of these N places (of a batch, in `held_out`), where the paper weighs places by the inverse
    of the frequency of their class in all images.
    """
    nearest = torch.cdist(truth, classes).argmin(1)
    share = 1 - (ab - truth).norm(dim=1).clamp_max(LARGEST) / LARGEST
    count = torch.bincount(nearest, minlength=len(classes))
    each = torch.zeros(len(classes), device=share.device, dtype=share.dtype).scatter_add_(0, nearest, share)
    return {
        "ab_error": (ab - truth).norm(dim=1).mean().item(),
        "auc": share.mean().item(),
        "auc_rebalanced": (each[count > 0] / count[count > 0]).mean().item(),
        "auc_grey": (1 - truth.norm(dim=1).clamp_max(LARGEST) / LARGEST).mean().item(),
    }
