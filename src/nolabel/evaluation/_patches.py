"""Patch k-means: the line to beat without a network.

Coates, Lee, Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning" (AISTATS 2011):
whitened 6×6 patches, k-means, "triangle" activation, sums over four quadrants. It costs minutes on a CPU:
about 0.15 gigaflop an image at 800 centres.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.evaluation._features import Progress, silent
from nolabel.views import plain

SIDE = 32
"""images are read at this side"""
WINDOW = 6
CENTRES = 800
PATCHES = 400_000
PASSES = 10
NORMALISING = 10 / 255**2
"""added to a patch's variance, for pixels in [0, 1]"""
WHITENING = 0.1
"""added to the eigenvalues of the covariance"""
BATCH = 256
IMAGES = 4
"""images whose maps are held at once: they should stay in the cache"""


@dataclass(frozen=True, eq=False)
class Patches:
    """Whitening and centres, folded into filters."""

    whitening: Tensor
    """(d, d), d = 3 · 36, symmetric"""
    mean: Tensor
    """(d,), of the normalised patches"""
    centres: Tensor
    """(K, d), in whitened coordinates"""

    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, 4 K) of images (B, 3, H, W) in [0, 1]: activations summed over quadrants (K, 2, 2)."""
        return torch.cat([self._quadrants(part) for part in images.split(IMAGES)])

    def activations(self, images: Tensor) -> Tensor:
        """max(0, mean of the distances − distance to centre k) at every window: (B, H − 5, W − 5, K).

        A window p with mean μ and deviation s is x = W((p − μ)/s − m), so x·c_k = f_k·p/s − c_k·Wm, where f_k
        is W c_k less its mean: one convolution for all centres. A second one, by W itself, gives ‖x‖².
        """
        folded = self.centres @ self.whitening
        filters = torch.cat([folded, self.whitening])
        filters = filters - filters.mean(1, keepdim=True)
        windows = F.unfold(images - 0.5, WINDOW)
        variance, average = torch.var_mean(windows, 1, correction=0)
        # The filters take the mean off; taking it off first as well keeps the digits of smooth windows.
        products = (windows - average[:, None]).transpose(1, 2) @ filters.T
        products /= (variance + NORMALISING).sqrt()[:, :, None]
        products -= torch.cat([folded, self.whitening]) @ self.mean
        inner, whitened = products.split([len(self.centres), len(self.mean)], 2)
        squares = whitened.square().sum(2, keepdim=True) + self.centres.square().sum(1)
        distances = squares.sub_(inner, alpha=2).clamp_min_(0).sqrt_()
        active = distances.mean(2, keepdim=True).sub(distances).clamp_min_(0)
        return active.unflatten(1, (images.shape[2] - WINDOW + 1, images.shape[3] - WINDOW + 1))

    def _quadrants(self, images: Tensor) -> Tensor:
        maps = self.activations(images)
        y, x = maps.shape[1] // 2, maps.shape[2] // 2
        parts = [
            maps[:, rows, columns].sum((1, 2))
            for rows in (slice(y), slice(y, None))
            for columns in (slice(x), slice(x, None))
        ]
        return torch.stack(parts, 2).flatten(1)


def fit(
    train: ImageStore,
    random: torch.Generator,
    *,
    centres: int = CENTRES,
    patches: int = PATCHES,
    progress: Progress = silent,
) -> Patches:
    """Whitening and `centres` k-means centres of `patches` random patches of the training images at 32 px."""
    sample = normalised(_sample(train, patches, random))
    mean = sample.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(sample.T, correction=0))
    whitening = (vectors * (values.clamp_min(0) + WHITENING).rsqrt()) @ vectors.T
    found = k_means((sample - mean) @ whitening, min(centres, len(sample)), random, progress=progress)
    return Patches(whitening, mean, found)


def normalised(patches: Tensor) -> Tensor:
    """Each row (one patch) less its mean, over √(variance + 10/255²)."""
    variance, mean = torch.var_mean(patches, 1, correction=0, keepdim=True)
    return (patches - mean) / (variance + NORMALISING).sqrt()


def k_means(
    x: Tensor, k: int, random: torch.Generator, *, passes: int = PASSES, progress: Progress = silent
) -> Tensor:
    """Centres (k, d) of x (n, d), k ≤ n, from random rows; a centre that no row is nearest to is redrawn."""
    centres = x[torch.randperm(len(x), generator=random)[:k]]
    for done in range(passes):
        sums, counts = torch.zeros_like(centres), torch.zeros(k)
        for rows in x.split(8192):
            nearest = torch.addmm(centres.square().sum(1), rows, centres.T, alpha=-2).argmin(1)
            sums.index_add_(0, nearest, rows)
            counts += torch.bincount(nearest, minlength=k)
        empty = (counts == 0).nonzero()[:, 0]
        centres = sums / counts.clamp_min(1)[:, None]
        centres[empty] = x[torch.randint(len(x), (len(empty),), generator=random)]
        progress("patches: k-means", done + 1, passes)
    return centres


def _sample(train: ImageStore, patches: int, random: torch.Generator) -> Tensor:
    """`patches` random windows, (patches, 108), equally many of each of at most as many images."""
    images = torch.randperm(len(train), generator=random)[:patches]
    each = -(-patches // len(images))
    parts = []
    for rows in images.split(BATCH):
        windows = F.unfold(plain.whole(train.batch(rows), SIDE), WINDOW)
        at = torch.randint(windows.shape[2], (len(rows), each), generator=random)
        parts.append(
            windows.gather(2, at[:, None].expand(-1, windows.shape[1], -1)).transpose(1, 2).flatten(0, 1)
        )
    return torch.cat(parts)[:patches]
