"""Exemplar's two forms whose head does not grow with the number of seeds: triplets, and a memory bank.

| form | what a copy must be | from |
| --- | --- | --- |
| `triplet` | nearer to the copies of its own seed than to others, by a margin | FaceNet; Kolesnikov et al., CVPR 2019 |
| `instance` | most similar to the vector that is remembered of its seed | Wu, Xiong, Yu, Lin, CVPR 2018 |

Both compare vectors of length 1 with `DIM` values, of which a linear head makes d * 128 + 128 parameters, whatever N.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel import distributed

DIM = 128
"""values of an embedding (Wu et al.; Kolesnikov et al. take 1000 for their triplets)"""
SHARPNESS = 16.0
"""of `CosineHead`: the largest difference of two logits is twice that"""
TEMPERATURE = 0.07
MOMENTUM = 0.5
"""share of the remembered vector that stays in an update"""
EXACT = 65_536
"""most seeds for which the softmax is summed over the whole bank"""
NOISE = 4096
"""m, seeds drawn for each copy to stand for the others where there are more"""


def unit(embedded: Tensor) -> Tensor:
    """Rows of (B, d) with length 1, in float32 at least; rows of zeros stay."""
    return F.normalize(embedded.to(torch.promote_types(embedded.dtype, torch.float32)), dim=1)


class CosineHead(nn.Module):
    """Cosines between features (B, dim) and one vector for each of `classes`, times `SHARPNESS`: (B, classes)."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, dim))

    def forward(self, features: Tensor) -> Tensor:
        return SHARPNESS * unit(features) @ unit(self.weight).T


def triplet_loss(embedded: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Semi-hard triplet loss on squared distances of unit vectors, a mean over pairs of copies of one seed.

    Each pair meets the nearest foreign copy that is further away than the pair is wide, or the furthest where none is.
    Pairs and foreign copies come from all processes.

    Args:
        embedded: (B, d) of this process. labels: int64 (B,), their seeds.

    Returns:
        The loss, and the share of all triplets in which the copy of the same seed is the nearer one.
    """
    with torch.autocast(embedded.device.type, enabled=False):
        v = unit(embedded)
        everyone, seeds = distributed.gather(v), distributed.gather(labels)
        apart = v.square().sum(1, keepdim=True) + everyone.square().sum(1) - 2 * v @ everyone.T
    own = torch.arange(len(v), device=v.device) + distributed.rank() * len(v)
    same = labels[:, None] == seeds
    foreign = (~same).sum(1, keepdim=True)
    pairs = same & (foreign > 0) & (own[:, None] != torch.arange(len(seeds), device=v.device))
    ordered, index = apart.detach().masked_fill(same, math.inf).sort(1)
    nearer = torch.searchsorted(ordered, apart.detach(), right=True)
    chosen = index.gather(1, torch.minimum(nearer, (foreign - 1).clamp(min=0)))
    each = F.relu(apart - apart.gather(1, chosen) + margin)
    count = distributed.mean(pairs.sum().to(each.dtype)).clamp(min=1)
    right = 1 - nearer.to(each.dtype) / foreign.clamp(min=1)
    return each.masked_fill(~pairs, 0).sum() / count, right.masked_fill(~pairs, 0).sum() / count


def instance_loss(v: Tensor, labels: Tensor, bank: Tensor) -> tuple[Tensor, Tensor]:
    """-log P(i | v) with P a softmax of v · v_j / tau over all of the bank (N, d), a mean over rows of v (B, d).

    Returns the loss, and the share of rows whose own vector is the most similar one.
    """
    scores = v @ bank.T / TEMPERATURE
    return F.cross_entropy(scores, labels), (scores.detach().argmax(1) == labels).float().mean()


def nce_loss(own: Tensor, noise: Tensor, seeds: int, normaliser: Tensor) -> Tensor:
    """Noise-contrastive estimate of `instance_loss` (Wu et al., section 3.2), a mean over copies.

    With P = exp(score) / Z and h = P / (P + m / N), it is -log h(own) - sum of log(1 - h(noise)).

    Args:
        own: scores v · v_i / tau of the right seeds, (B,). noise: those of m uniformly drawn seeds, (B, m).
        seeds: N. normaliser: Z, 0-d.
    """
    level = torch.log(normaliser * noise.shape[1] / seeds)
    return -(F.logsigmoid(own - level) + F.logsigmoid(level - noise).sum(1)).mean()


class MemoryBank(nn.Module):
    """One remembered unit vector for each seed; no gradient reaches them.

    They start at random, and move towards the copies that were seen, after the loss has been taken from them.
    """

    vectors: Tensor
    """(N, DIM)"""
    normaliser: Tensor
    """Z of `nce_loss`, from the first batch that was trained on; 0 before"""

    def __init__(self, seeds: int) -> None:
        super().__init__()
        self.register_buffer("vectors", unit(torch.randn(seeds, DIM)))
        self.register_buffer("normaliser", torch.zeros(()))

    def forward(self, embedded: Tensor, labels: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """Loss and share of right answers for (B, DIM) of seeds `labels` (B,); in training the bank then moves.

        `noise`, int64 (B, m), are the seeds that stand for all others; None: the sum is taken over all of them.
        """
        with torch.autocast(embedded.device.type, enabled=False):
            v = unit(embedded)
            if noise is None:
                found = instance_loss(v, labels, self.vectors.clone())
            else:
                found = self._estimated(v, labels, noise)
            if self.training:
                self._move(distributed.gather(v.detach()), distributed.gather(labels))
        return found

    def _estimated(self, v: Tensor, labels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        own = (v * self.vectors[labels]).sum(1) / TEMPERATURE
        others = torch.einsum("bd,bmd->bm", v, self.vectors[noise]) / TEMPERATURE
        guess = len(self.vectors) * distributed.mean(others.exp().mean())
        z = torch.where(self.normaliser > 0, self.normaliser, guess)
        if self.training:
            self.normaliser.copy_(z)
        right = (own > others.amax(1)).float().mean()
        return nce_loss(own, others, len(self.vectors), z), right

    @torch.no_grad()
    def _move(self, v: Tensor, labels: Tensor) -> None:
        """v_i <- what `MOMENTUM` v_i + (1 - `MOMENTUM`) v becomes at length 1; v a mean where i was seen repeatedly."""
        same = (labels[:, None] == labels).to(v.dtype)
        mean = same @ v / same.sum(1, keepdim=True)
        moved = unit(MOMENTUM * self.vectors[labels] + (1 - MOMENTUM) * mean)
        self.vectors[labels] = moved[same.argmax(1)]
