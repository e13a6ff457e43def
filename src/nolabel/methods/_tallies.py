"""What is watched while counting is learnt, and how it looks when nothing is counted any more."""

import torch
from torch import Tensor

from nolabel import distributed

ACTIVE = 1e-3
"""mean count above which a unit counts at all"""
CONSTANT = 1e-3
"""spread of the counts over the images, as a share of their mean, below which they are all the same"""
PLATEAU = 0.2
"""share of the run up to which they may be: it starts on a plateau"""


@torch.no_grad()
def tallies(whole: Tensor, parts: Tensor, negative: Tensor) -> dict[str, Tensor]:
    """What to watch (0-d): a collapsed net has no active units, or a `spread` near 0.

    `close`: share of images whose other image is too close; `ratio`: mean |φ(D∘x)| over mean |Σφ(T∘x)|, 1 when they
    add up; `error`: the first term over the mean of |φ(D∘x)|²; `active`: units that count; `spread`: standard
    deviation of the counts over the images of all processes as a share of their mean.
    """
    everyone = distributed.gather(whole)
    tiny = torch.finfo(whole.dtype).tiny
    size = whole.square().sum(1).mean().clamp_min(tiny)
    return {
        "close": (negative > 0).float().mean(),
        "ratio": whole.norm(dim=1).mean() / parts.norm(dim=1).mean().clamp_min(tiny),
        "error": (whole - parts).square().sum(1).mean() / size,
        "active": (whole.mean(0) > ACTIVE).float().sum(),
        "spread": everyone.std(0, correction=0).mean() / everyone.mean().clamp_min(tiny),
    }


def collapsed(row: dict[str, float], progress: float) -> str | None:
    """The sentence for counts that are the same for all images at `progress` (specification 6.8), or None."""
    if progress < PLATEAU or row["spread"] >= CONSTANT:
        return None
    return (
        f"The counts are the same for all images after {progress:.0%} of the run, so nothing is learnt: keep "
        "--contrastive on, and try a longer warm-up, another --lr or a larger --count-bias."
    )
