"""A first convolution that whitens: set from the images' own patches and frozen.

Known from record codes for supervised CIFAR-10 (Keller Jordan, "94% on CIFAR-10 in 3.29 seconds on a single
GPU", 2024, section 3.2); here it lets a self-supervised run of minutes start from useful filters.
"""

import torch
from torch import Tensor

from nolabel.encoders.base import Encoder
from nolabel.errors import UsageError

EPSILON = 0.01
MOST_PATCHES = 100_000


@torch.no_grad()
def whiten_stem(encoder: Encoder, images: Tensor) -> None:
    """Set the stem's filters to whitened patches and freeze it, in place.

    With e the eigenvectors of the covariance of the k×k patches of the normalised `images` (n, 3, H, W) in
    [0, 1], and λ their eigenvalues, largest first, the filters are e / √(λ + 0.01), then their negatives.
    Each e has its largest component positive. A stem of C channels takes min(C // 2, 3·k·k) eigenvectors;
    channels left over keep their initial filters and are frozen too. A bias becomes zero. At most 100,000
    patches are read, on a grid, so the result is a function of the images alone.

    Raises:
        UsageError: the images are smaller than the stem's kernel.
    """
    stem = encoder.stem
    height, width = stem.kernel_size
    if images.shape[-2] < height or images.shape[-1] < width:
        raise UsageError(
            f"The stem of {encoder.name} ({height}×{width}) cannot be whitened from images of "
            f"{images.shape[-2]}×{images.shape[-1]} px: give larger images."
        )
    patches = _patches(encoder.normalised(images), height, width).double()
    values, vectors = torch.linalg.eigh(torch.cov(patches.T, correction=0))
    vectors = vectors.T.flip(0)
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    filters = vectors * largest.sign() / (values.flip(0).clamp_min(0) + EPSILON).sqrt()[:, None]
    pairs = min(stem.out_channels // 2, len(filters))
    filters = filters[:pairs].view(pairs, 3, height, width).to(stem.weight)
    stem.weight[: 2 * pairs] = torch.cat([filters, -filters])
    if stem.bias is not None:
        stem.bias.zero_()
    freeze_stem(encoder)


def freeze_stem(encoder: Encoder) -> None:
    """Mark a stem that holds whitening filters, as after a load: `encoder.whitened`, and no gradient."""
    encoder.stem.requires_grad_(False)
    encoder.whitened = True


def _patches(images: Tensor, height: int, width: int) -> Tensor:
    """At most `MOST_PATCHES` patches of (n, 3, H, W) images, on an even grid, as rows (N, 3·height·width)."""
    images = images[:: -(-len(images) // MOST_PATCHES)]
    step = 1
    while True:
        grid = images.unfold(2, height, step).unfold(3, width, step)
        if grid.shape[0] * grid.shape[2] * grid.shape[3] <= MOST_PATCHES:
            return grid.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3 * height * width)
        step += 1
