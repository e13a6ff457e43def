"""Signs of a collapse: how far the features of a fixed probe batch spread, and over how many directions."""

import torch
from torch import Tensor

from nolabel.encoders.base import Encoder, evaluating

LOW_STD = 0.05
LOW_RANK = 2.0


def feature_std(features: Tensor) -> float:
    """Standard deviation of L2-normalised features (n, d) over the batch, mean over d, times the root of d.

    1 where features spread evenly over all directions of the sphere, 0 where all are equal (Chen and He, "Exploring
    simple Siamese representation learning", 2021, figure 2, up to the factor).
    """
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    return float(unit.std(0, correction=0).mean() * features.shape[1] ** 0.5)


def rank_me(features: Tensor) -> float:
    """RankMe (Garrido, Balestriero, Najman, LeCun, 2023, equation 1) of features (n, d), in [1, min(n, d)].

    exp of the entropy of the singular values, each over their sum; 1 for features that are all equal or zero.
    """
    values = torch.linalg.svdvals(features.double())
    if not float(values.sum()) > 0:
        return 1.0
    share = values / values.sum()
    return float(torch.exp(torch.special.entr(share).sum()))


@torch.no_grad()
def health(encoder: Encoder, probe: Tensor) -> dict[str, float]:
    """`feature_std` and `rankme` of pooled features of `probe` (n, 3, s, s) in [0, 1]; the encoder is left as it was.

    Evaluation mode: BatchNorm uses its statistics and does not change them.
    """
    with evaluating(encoder):
        features = encoder(probe)
    return {"feature_std": feature_std(features), "rankme": rank_me(features)}


def collapse(row: dict[str, float], step: int) -> str | None:
    """The sentence that names a collapse at `step`, or None: what `health` gave is far too low."""
    if row["feature_std"] >= LOW_STD and row["rankme"] >= LOW_RANK:
        return None
    return (
        f"The features collapsed by step {step} (standard deviation {row['feature_std']:.3f}, RankMe "
        f"{row['rankme']:.1f}): try a lower --lr, a longer warm-up or a larger --batch-size."
    )
