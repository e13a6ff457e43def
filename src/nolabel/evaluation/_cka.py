"""Linear centred kernel alignment: how alike two sets of features of the same images are (Kornblith et al. 2019)."""

import math

from torch import Tensor


def kernel(x: Tensor) -> Tensor:
    """float64 (n, n): the products of the centred features (n, p) of n images."""
    centred = x.double() - x.double().mean(0)
    return centred @ centred.T


def cka(k: Tensor, l: Tensor) -> float:
    """1 where one's features are a rotation of the other's, scaled; about 0 where they are independent.

    From the kernels k and l (n, n) of n > 3 images, debiased (Song et al. 2012): without their diagonals. 0 where one's
    features are constant.
    """
    k, l = (one - one.diagonal().diag() for one in (k, l))
    scale = _alike(k, k) * _alike(l, l)
    return _alike(k, l) / math.sqrt(scale) if scale > 0 else 0.0


def _alike(k: Tensor, l: Tensor) -> float:
    """n(n − 3) times the unbiased estimate of the Hilbert-Schmidt criterion; diagonals are 0."""
    n, rows, others = len(k), k.sum(1), l.sum(1)
    ends = float(rows.sum() * others.sum()) / ((n - 1) * (n - 2))
    return float((k * l).sum()) + ends - 2 / (n - 2) * float(rows @ others)
