"""What the context encoder measures and shows: errors of hidden pixels, and a grid of pictures."""

from torch import Tensor


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
