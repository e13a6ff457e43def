"""Label-free diagnostics of features: spread, effective rank and spectrum, and what they say in one sentence.

Feature standard deviation as in SimSiam (Chen and He 2021, section 4.1), RankMe (Garrido et al. 2023),
participation ratio, α-ReQ (Agrawal et al. 2022), alignment and uniformity (Wang and Isola 2020). They rank
checkpoints of one method on one data set; RankMe of encoders of different widths does not compare.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.evaluation.base import Features, Protocol, Result
from nolabel.seeds import generator

EPSILON = 1e-7
ROWS = 500
COLLAPSED_SPREAD = 0.05
"""share of the spread of an isotropic cloud below which features are called collapsing (ours)"""
REDUNDANT_RANK = 0.1
"""share of the largest possible RankMe below which features are called redundant (ours)"""


@dataclass(frozen=True)
class DiagnosticsOptions:
    """Which images, which features."""

    images: int = 5000
    """at most so many images, drawn with the seed"""
    stage: str | None = None
    """None: the pooled vector"""


class Diagnostics(Protocol):
    """See the module."""

    Options = DiagnosticsOptions
    options: DiagnosticsOptions
    labelled: ClassVar[bool] = False
    protocol: ClassVar[str] = "diagnostics"

    def run(self, subject: Features, seed: int) -> list[Result]:
        """One row a measure on the test images, `setting["verdict"]` the sentence."""
        stage = self.options.stage or subject.whole
        order = torch.randperm(len(subject.test), generator=generator(seed, "evaluate", self.protocol))
        z = subject.stage(stage, subject.test[order[: self.options.images]]).float()
        found = {
            "feature_std": feature_std(z),
            "rankme": rankme(z),
            "participation_ratio": participation_ratio(z),
            "alpha_req": alpha_req(covariance_spectrum(z)),
            "uniformity": uniformity(z),
        }
        setting = subject.setting | {
            "stage": stage,
            "values": z.shape[1],
            "verdict": verdict(found["feature_std"], found["rankme"], *z.shape),
        }
        return [
            Result(
                subject=subject.name,
                protocol=self.protocol,
                metric=metric,
                value=value,
                low=None,
                high=None,
                n=len(z),
                seeds=subject.seeds,
                setting=setting,
            )
            for metric, value in found.items()
        ]


def feature_std(z: Tensor) -> float:
    """Standard deviation of each coordinate of z/‖z‖ (n, d), averaged; 1/√d for an isotropic cloud."""
    return float(F.normalize(z.double(), dim=1).std(0, correction=0).mean())


def rankme(z: Tensor) -> float:
    """exp of the entropy of the singular values of z (n, d), uncentred, as shares: 1 to min(n, d)."""
    singular = torch.linalg.svdvals(z.double())
    shares = singular / singular.sum() + EPSILON if float(singular.sum()) else torch.ones(1)
    return float((-(shares * shares.log()).sum()).exp())


def covariance_spectrum(z: Tensor) -> Tensor:
    """Eigenvalues of the covariance of z (n, d), largest first, (min(n, d),)."""
    z = z.double()
    return torch.linalg.svdvals(z - z.mean(0)).square() / len(z)


def participation_ratio(z: Tensor) -> float:
    """(Σλ)²/Σλ² of the covariance's eigenvalues: d for an isotropic cloud, 1 on a line, 0 for equal rows."""
    spectrum = covariance_spectrum(z)
    return float(spectrum.sum().square() / spectrum.square().sum()) if float(spectrum.sum()) else 0.0


def alpha_req(spectrum: Tensor) -> float:
    """α of λ_j ∝ j^−α: minus the least-squares slope of log λ on log j.

    Over all j up to the last eigenvalue above 1e-10 of the first; 0 where fewer than two are.
    """
    kept = spectrum[spectrum > 1e-10 * float(spectrum[0])]
    if len(kept) < 2:
        return 0.0
    x = torch.arange(1, len(kept) + 1, dtype=torch.float64).log()
    x = x - x.mean()
    return -float((x * kept.double().cpu().log()).sum() / x.square().sum())


def uniformity(z: Tensor, t: float = 2.0) -> float:
    """log of the mean over pairs of exp(−t‖u_i − u_j‖²), u = z/‖z‖ (n, d), n > 1; 0 when all are equal.

    Lower is more uniform: the uniform distribution on a sphere of many dimensions has about −2t.
    """
    u = F.normalize(z.double(), dim=1)
    sums = []
    for start in range(0, len(u), ROWS):
        exponent = 2 * t * (u[start : start + ROWS] @ u.T - 1)
        exponent.diagonal(start).fill_(-math.inf)
        sums.append(exponent.flatten().logsumexp(0))
    return float(torch.stack(sums).logsumexp(0)) - math.log(len(u) * (len(u) - 1))


def alignment(z: Tensor, other: Tensor) -> float:
    """Mean squared distance between the normalised features of two views of the same images, both (n, d)."""
    return float((F.normalize(z.double(), dim=1) - F.normalize(other.double(), dim=1)).square().sum(1).mean())


def verdict(std: float, rank: float, n: int, d: int) -> str:
    """One sentence: healthy, collapsing or redundant, by fixed thresholds of this project."""
    spread, share = std * math.sqrt(d), rank / min(n, d)
    numbers = f"spread {spread:.2f} of an isotropic cloud's, effective rank {rank:.0f} of {min(n, d)}"
    if spread < COLLAPSED_SPREAD or rank < 2:
        return (
            f"Collapsing: the features of different images are nearly the same ({numbers}); try a smaller "
            f"learning rate, a larger batch or stronger views."
        )
    if share < REDUNDANT_RANK:
        return (
            f"Redundant: the features vary, but along few directions ({numbers}); a longer run, or a smaller "
            f"encoder, may serve as well."
        )
    return f"Healthy: the features differ between images and use many directions ({numbers})."
