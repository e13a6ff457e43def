"""Similarities of views, and the losses that SimCLR's paper sets beside NT-Xent.

Every loss here takes the similarity of each view v with each other view w of its image, `positive` (n, V, V), and
the similarities that stand against that pair, `negative` (n, V, V or 1, K), `MASKED` where the other view is of
the same image; it gives one value for each ordered pair (v, w), (n, V, V). Sources: SimCLR, table 2, for
NT-Logistic and the margin; Schroff, Kalenichenko, Philbin, "FaceNet", CVPR 2015, section 3.2, for semi-hard
negatives; Yeh and others, "Decoupled contrastive learning", ECCV 2022, equations 5 and 6.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nolabel import distributed
from nolabel.errors import UsageError

MASKED = -1e9
"""stands for minus infinity; finite, so that nothing subtracts infinities where an image has no negatives"""
SIGMA = 0.5
"""width of the weights of `dcl_weights`, as in its paper"""

Negatives = Literal["both_views", "other_view"]
Mining = Literal["all", "semi_hard"]
Rival = Literal["dcl", "dclw", "nt_logistic", "margin"]


def in_chunks(
    embed: Callable[[Tensor], tuple[Tensor, Tensor]], views: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """`embed(views)`, `size` views at a time, to save memory.

    Each chunk is computed again, with its graph, when its gradient is known (section 8.4 of the specification).
    """
    found = [checkpoint(embed, chunk, use_reentrant=False) for chunk in views.split(size)]
    first, second = zip(*found, strict=True)
    return torch.cat(first), torch.cat(second)


def similarities(z: Tensor, temperature: float, normalise: bool = True) -> tuple[Tensor, Tensor]:
    """Cosines over the temperature of each view with its own image's views, and with those of other images.

    z is (n, V, d), V views of each image of this process; without `normalise` dot products take the cosines'
    place. Returns `positive` (n, V, V) and (n, V, M, V) with M the images of all processes, in which the image's
    own views are `MASKED`; both are at least float32, whatever z is.
    """
    n, views, _ = z.shape
    with torch.autocast(z.device.type, enabled=False):
        u = z.to(torch.promote_types(z.dtype, torch.float32))
        u = F.normalize(u, dim=-1) if normalise else u
        everyone = distributed.gather(u)
        positive = u @ u.mT / temperature
        negative = (u.flatten(0, 1) @ everyone.flatten(0, 1).T / temperature).view(n, views, -1, views)
    images = torch.arange(len(everyone), device=z.device)
    own = images[distributed.rank() * n + images[:n], None] == images
    return positive, negative.masked_fill(own[:, None, :, None], MASKED)


def against(similarity: Tensor, negatives: Negatives) -> Tensor:
    """What stands against the pair (v, w): from (n, V, M, V), the views of other images, all or only their w-th.

    (n, V, 1, M V), the same for every w, or (n, V, V, M). The paper's comparison of losses takes the latter.
    """
    return similarity.flatten(2)[:, :, None] if negatives == "both_views" else similarity.transpose(2, 3)


def mean_over_pairs(values: Tensor) -> Tensor:
    """Mean of (n, V, V) over the ordered pairs of two different views of one image."""
    n, views, _ = values.shape
    same = torch.eye(views, dtype=torch.bool, device=values.device)
    return values.masked_fill(same, 0).sum() / (n * views * (views - 1))


@torch.no_grad()
def retrieval(z: Tensor, normalise: bool = True) -> dict[str, Tensor]:
    """How often a view's partner is nearer than the views of all other images (0-d tensors in [0, 1]).

    `acc_all` counts every view of theirs, as the loss does; `acc_cross` only the one in the partner's place,
    as the released code's log does.
    """
    positive, negative = similarities(z, 1.0, normalise)
    hardest = negative.amax(2)
    return {
        "acc_cross": mean_over_pairs((positive > hardest).float()),
        "acc_all": mean_over_pairs((positive > hardest.amax(-1, keepdim=True)).float()),
    }


def rival(
    name: Rival,
    z: Tensor,
    temperature: float,
    normalise: bool,
    negatives: Negatives,
    mining: Mining,
    margin: float,
) -> Tensor:
    """One of the losses below (0-d) of z (n, V, d); the margin's knows no temperature.

    Raises:
        UsageError: a decoupled loss of one image alone, which stands against nothing.
    """
    temperature = 1.0 if name == "margin" else temperature
    positive, similarity = similarities(z, temperature, normalise)
    negative = against(similarity, negatives)
    if name == "nt_logistic":
        return mean_over_pairs(nt_logistic(positive, negative, mining))
    if name == "margin":
        return mean_over_pairs(margin_triplet(positive, negative, margin, mining))
    if similarity.shape[2] < 2:
        raise UsageError(f"The loss {name} needs other images in the batch: raise --batch-size to 2 or more.")
    weights = dcl_weights(positive, temperature) if name == "dclw" else 1.0
    return mean_over_pairs(dcl(weights * positive, negative))


def rival_chance(name: Rival, others: int, margin: float) -> float:
    """`rival` where all z are 0 and `others` similarities stand against each pair."""
    if name == "margin":
        return margin
    return 2 * math.log(2) if name == "nt_logistic" else math.log(max(others, 1))


def dcl(positive: Tensor, negative: Tensor) -> Tensor:
    """Decoupled: NT-Xent whose denominator lacks the positive, -s_vw + log Σ exp(s⁻)."""
    return negative.logsumexp(-1) - positive


def dcl_weights(positive: Tensor, temperature: float) -> Tensor:
    """Weights of the decoupled loss's positives, without gradient: 2 - exp(c/σ) over its mean over the images.

    c are the cosines, `positive` times `temperature`: pairs that are alike already count less.
    """
    alike = (positive.detach() * (temperature / SIGMA)).exp()
    return 2 - alike / distributed.mean(alike.mean(0))


def nt_logistic(positive: Tensor, negative: Tensor, mining: Mining = "all") -> Tensor:
    """-log σ(s⁺) - log σ(-s⁻), the second term averaged over the negatives.

    With `semi_hard` the nearest negative that is not nearer than the positive stands for all; where there is
    none the second term is left out.
    """
    if mining == "semi_hard":
        return F.softplus(-positive) + F.softplus(_nearest_behind(positive, negative))
    return F.softplus(-positive) + _mean_over_negatives(F.softplus(negative), negative)


def margin_triplet(positive: Tensor, negative: Tensor, margin: float, mining: Mining = "all") -> Tensor:
    """max(s⁻ - s⁺ + margin, 0), averaged over the negatives; `semi_hard` as in `nt_logistic`."""
    if mining == "semi_hard":
        return F.relu(_nearest_behind(positive, negative) - positive + margin)
    return _mean_over_negatives(F.relu(negative - positive[..., None] + margin), negative)


def _nearest_behind(positive: Tensor, negative: Tensor) -> Tensor:
    """The largest negative similarity that does not exceed the positive one; `MASKED` where all exceed it."""
    return negative.masked_fill(negative > positive[..., None], MASKED).amax(-1)


def _mean_over_negatives(values: Tensor, negative: Tensor) -> Tensor:
    """Mean over the last axis, to which the image's own views (whose values are 0) do not count."""
    return values.sum(-1) / (negative > MASKED / 2).sum(-1).clamp(min=1)
