"""Label-free diagnostics of features: spread, effective rank and spectrum, and what they say in one sentence.

Feature standard deviation as in SimSiam (Chen and He 2021, section 4.1) times √d, which is 1 for an isotropic
cloud (the scale of `metrics.jsonl`), RankMe (Garrido et al. 2023),
participation ratio, α-ReQ (Agrawal et al. 2022), LiDAR (Thilak et al. 2024), alignment and uniformity (Wang
and Isola 2020), linear CKA (Kornblith et al. 2019) in its debiased form. They rank checkpoints of one method on
one data set; RankMe of encoders of different widths does not compare.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.evaluation._cka import cka, kernel
from nolabel.evaluation._ranges import COUNT, SEVERAL, hold
from nolabel.evaluation.base import POOLED, Features, Network, Protocol, Result
from nolabel.evaluation.statistics import BLOCKS, Interval, bootstrap_mean, jackknife, wilson
from nolabel.seeds import derive, generator
from nolabel.views import geometry

EPSILON = 1e-7
WITHIN = 1e-4
"""LiDAR's δ, added to the covariance within images"""
COMPARED = 1000
"""images whose stages are compared by CKA"""
ROWS = 500
BATCH = 128
COLLAPSING = "Collapsing"
LOW_STD, LOW_RANK = 0.05, 2.0
"""spread and RankMe below which features are called collapsing, those of training's own watch (ours)"""
REDUNDANT_RANK = 0.1
"""share of the largest possible RankMe below which features are called redundant (ours)"""
JUDGED = 10
"""images from which on features are called anything: of fewer the effective rank is low by itself (ours)"""
BORNE = 50
"""images from which on the jackknife over blocks covers: of 20 it held CKA in 84 of 100 simulations (ours)"""
LEAST = {
    "feature_std": 2,
    "rankme": 2,
    "participation_ratio": 3,
    "alpha_req": 3,
    "uniformity": 2,
    "alignment": 2,
    "view_recall": 2,
    "lidar": 3,
    "cka": 4,
}
"""images that a measure, or its interval, needs: of fewer it is undefined or the same whatever the features"""


@dataclass(frozen=True)
class DiagnosticsOptions:
    """Which images, which features."""

    images: int = 5000
    """at most so many images, drawn with the seed"""
    stage: str | None = None
    """None: the pooled vector"""
    viewed: int = 500
    """at most so many images are seen in several views, for alignment, view recall and LiDAR"""
    views: int = 10
    """random crops and flips of each of them; LiDAR's paper: 50"""

    def __post_init__(self) -> None:
        hold(self, images=COUNT, viewed=COUNT, views=SEVERAL)


class Measured(NamedTuple):
    """One measure, with its interval where it has one, of `n` images."""

    value: float | Interval
    n: int
    setting: dict[str, Any] = {}


class Diagnostics(Protocol):
    """See the module."""

    Options = DiagnosticsOptions
    options: DiagnosticsOptions
    labelled: ClassVar[bool] = False
    protocol: ClassVar[str] = "diagnostics"

    def run(self, subject: Features, seed: int) -> list[Result]:
        """One row a measure that the test images are enough for (`LEAST`), `setting["verdict"]` the sentence.

        Every interval is over the images, the views as they are: of means a bootstrap; of spread, ranks, spectra
        and CKA, which a resample distorts by its repeated images, a jackknife over blocks (`over_blocks`), which
        takes 50 images. `setting["interval"]` says which.
        """
        stage = subject.chosen(self.options.stage)
        order = torch.randperm(len(subject.test), generator=generator(seed, "evaluate", self.protocol))
        images = subject.test[order[: self.options.images]]
        z = subject.stage(stage, images).float()
        draw = derive(seed, "evaluate", self.protocol, "bootstrap")
        spread, rank, most = feature_std(z), rankme(z), min(z.shape)
        found = _defined(
            len(z),
            feature_std=lambda: over_blocks(lambda rows: feature_std(z[rows]), len(z), draw, 0),
            rankme=lambda: over_blocks(lambda rows: rankme(z[rows]), len(z), draw, 1, most),
            participation_ratio=lambda: over_blocks(
                lambda rows: participation_ratio(z[rows]), len(z), draw, 0, most
            ),
            alpha_req=lambda: over_blocks(lambda rows: alpha_req(covariance_spectrum(z[rows])), len(z), draw),
            uniformity=lambda: Measured(bootstrap_mean(uniformity_of_each(z), draw), len(z)),
        )
        if len(subject.values) > 1:
            found |= self._likeness(subject, stage, images[:COMPARED], draw)
        if subject.network is not None:
            found |= self._of_views(subject.network, images[: self.options.viewed], seed)
        setting = subject.setting | {
            "stage": stage,
            "values": z.shape[1],
            "verdict": verdict(spread, rank, *z.shape),
        }
        return [as_row(subject.name, self.protocol, *one, setting, subject.seeds) for one in found.items()]

    @staticmethod
    def _likeness(subject: Features, stage: str, images: Tensor, draw: int) -> dict[str, Measured]:
        """CKA of every other stage with `stage`, on the same images; nothing where they are too few."""
        if len(images) < LEAST["cka"]:
            return {}
        stages = subject.compute(tuple(subject.values), images)
        z = stages.pop(stage)
        own = kernel(z)
        return {
            f"cka_{name}": cka_over_blocks(kernel(x.to(z.device)), own, draw) for name, x in stages.items()
        }

    def _of_views(self, network: Network, images: Tensor, seed: int) -> dict[str, Measured]:
        """What needs several views of an image: of the pooled vector."""
        random = generator(seed, "evaluate", self.protocol, "views")
        z = torch.stack([_seen(network, images, random) for _ in range(self.options.views)], 1)
        first, second = z[:, 0], z[:, 1]
        draw = derive(seed, "evaluate", self.protocol, "views", "bootstrap")
        n, pair = len(z), {"stage": POOLED, "views": 2}
        distances, recall = _distances(first, second), view_recall(first, second)
        once = pair | {"interval": "Wilson's, an image once"}
        several = pair | {"views": self.options.views, "delta": WITHIN}
        return _defined(
            n,
            alignment=lambda: Measured(bootstrap_mean(distances.numpy(force=True), draw), n, pair),
            view_recall=lambda: Measured(wilson(recall * n, n), n, once),
            lidar=lambda: over_blocks(lambda rows: lidar(z[rows]), n, draw, 1, z.shape[2], **several),
        )


def over_blocks(
    measure: Callable[[Tensor], float],
    n: int,
    draw: int,
    least: float = -math.inf,
    most: float = math.inf,
    **told: Any,
) -> Measured:
    """`measure` of n images, given their places, with its `jackknife`; of fewer than `BORNE` it has no interval."""
    if n < BORNE:
        return Measured(measure(torch.arange(n)), n, {**told, "interval": f"none: fewer than {BORNE} images"})
    found = jackknife(lambda places: measure(torch.from_numpy(places)), n, draw, least, most)
    return Measured(found, n, {**told, "interval": f"jackknife over images, in {BLOCKS} blocks"})


def cka_over_blocks(k: Tensor, l: Tensor, draw: int) -> Measured:
    """`cka` of the kernels k and l (n, n) with its interval `over_blocks`."""
    return over_blocks(lambda places: cka(*(one[places][:, places] for one in (k, l))), len(k), draw, -1, 1)


def _defined(n: int, **measures: Callable[[], Measured]) -> dict[str, Measured]:
    """Those of the measures that n images are enough for."""
    return {name: measure() for name, measure in measures.items() if n >= LEAST[name]}


def as_row(
    subject: str,
    protocol: str,
    metric: str,
    found: Measured,
    setting: dict[str, Any],
    seeds: tuple[int, ...] = (),
) -> Result:
    """The result of one measure; its own setting says more than `setting` does."""
    value, low, high = found.value if isinstance(found.value, Interval) else (found.value, None, None)
    return Result(
        subject=subject,
        protocol=protocol,
        metric=metric,
        value=value,
        low=low,
        high=high,
        n=found.n,
        seeds=seeds,
        setting=setting | {"interval": "bootstrap over images"} | found.setting,
    )


@torch.no_grad()
def _seen(network: Network, images: Tensor, random: torch.Generator) -> Tensor:
    """Vectors (n, D) of one random crop (a fifth of the area or more), mirrored half the time, of each image."""
    encoder, parts = network.encoder.eval(), []
    for rows in images.split(BATCH):
        batch = network.store.batch(rows)
        boxes = geometry.boxes(geometry.draw_crop(len(rows), random), batch.heights, batch.widths)
        flip = geometry.draw_flip(len(rows), random)["flip"]
        parts.append(encoder(geometry.crop_resize(batch, boxes, network.size, flip)).float())
    return torch.cat(parts)


def feature_std(z: Tensor) -> float:
    """Standard deviation of each coordinate of z/‖z‖ (n, d), averaged, times √d.

    1 for an isotropic cloud, 0 for equal rows; SimSiam's own figure leaves out the factor √d.
    """
    unit = F.normalize(z.double(), dim=1)
    return float(unit.std(0, correction=0).mean()) * math.sqrt(z.shape[1])


def rankme(z: Tensor) -> float:
    """exp of the entropy of the singular values of z (n, d), uncentred, as shares: 1 to min(n, d)."""
    return _effective_number(torch.linalg.svdvals(z.double()))


def lidar(z: Tensor, delta: float = WITHIN) -> float:
    """Effective rank of what differs between images against what differs between views of one image.

    exp of the entropy of the eigenvalues of Σ_w^-½ Σ_b Σ_w^-½, from 1 to d.

    Args:
        z: (n, q, d), q views of each of n images.
        delta: added to the diagonal of Σ_w.
    """
    z = z.double()
    means = z.mean(1)
    within = (z - means[:, None]).flatten(0, 1)
    within = within.T @ within / len(within)
    within.diagonal().add_(delta)
    centred = means - means.mean(0)
    root = torch.linalg.solve_triangular(torch.linalg.cholesky(within), centred.T, upper=False)
    return _effective_number(torch.linalg.svdvals(root).square())


def _effective_number(values: Tensor) -> float:
    """exp of the entropy of `values` as shares; 1 where all are 0."""
    shares = values / values.sum() + EPSILON if float(values.sum()) else torch.ones(1)
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
    return _uniformity(_log_sums(z, t))


def uniformity_of_each(z: Tensor, t: float = 2.0) -> np.ndarray:
    """float64 (n,), whose mean is `uniformity`, and which varies as the images' parts in it do, to first order.

    An image is in 2/n of the pairs (Hájek's projection; Hoeffding 1948).
    """
    sums = _log_sums(z, t)
    shares = (sums - sums.logsumexp(0) + math.log(len(z))).exp()
    return (_uniformity(sums) + 2 * (shares - 1)).numpy(force=True)


def _uniformity(sums: Tensor) -> float:
    """`uniformity` from the `_log_sums` of its images."""
    return float(sums.logsumexp(0)) - math.log(len(sums) * (len(sums) - 1))


def _log_sums(z: Tensor, t: float) -> Tensor:
    """For each image the log of its sum over all others of exp(−t‖u_i − u_j‖²): float64 (n,)."""
    u = F.normalize(z.double(), dim=1)
    sums = []
    for start in range(0, len(u), ROWS):
        exponent = 2 * t * (u[start : start + ROWS] @ u.T - 1)
        exponent.diagonal(start).fill_(-math.inf)
        sums.append(exponent.logsumexp(1))
    return torch.cat(sums)


def alignment(z: Tensor, other: Tensor) -> float:
    """Mean squared distance between the normalised features of two views of the same images, both (n, d)."""
    return float(_distances(z, other).mean())


def _distances(z: Tensor, other: Tensor) -> Tensor:
    return (F.normalize(z.double(), dim=1) - F.normalize(other.double(), dim=1)).square().sum(1)


def view_recall(z: Tensor, other: Tensor) -> float:
    """Share of views whose nearest among the 2n - 1 others is the other view of the same image; z, other (n, d).

    1/(2n − 1) by chance. Of equal cosines the images of lower index count as nearer.
    """
    u = F.normalize(torch.cat([z, other]).double(), dim=1)
    n, hits = len(z), 0
    for rows in torch.arange(2 * n, device=u.device).split(ROWS):
        cosines = u[rows] @ u.T
        cosines.scatter_(1, rows[:, None], -math.inf)
        hits += int((cosines.argmax(1) == (rows + n) % (2 * n)).sum())
    return hits / (2 * n)


def since(metrics: Sequence[Mapping[str, Any]]) -> int | None:
    """The logged step from which on a run's features were collapsed to its end; None: they were not at its end.

    Args:
        metrics: rows of `metrics.jsonl`; those without health are passed over.
    """
    first = None
    for row in metrics:
        if "feature_std" in row and "rankme" in row:
            collapsed = row["feature_std"] < LOW_STD or row["rankme"] < LOW_RANK
            first = (row["step"] if first is None else first) if collapsed else None
    return first


def dated(results: Sequence[Result], metrics: Sequence[Mapping[str, Any]]) -> list[Result]:
    """`results` of a run's encoder, a collapse in their sentence dated by the run's own `metrics`."""
    step, found = since(metrics), []
    for result in results:
        said = str(result.setting.get("verdict", ""))
        if step is not None and said.startswith(f"{COLLAPSING}:"):
            said = said.replace(COLLAPSING, f"{COLLAPSING} since step {step:,}", 1)
            result = replace(result, setting=result.setting | {"verdict": said})
        found.append(result)
    return found


def verdict(spread: float, rank: float, n: int, d: int) -> str:
    """One sentence: healthy, collapsing, redundant, or too few images, by fixed thresholds of this project.

    Args:
        spread: `feature_std`.
        rank: RankMe of n features of d values.
    """
    if n < JUDGED:
        return f"Too few images ({n}) to say whether the features collapsed: give {JUDGED} or more."
    share = rank / min(n, d)
    numbers = f"spread {spread:.2f} of an isotropic cloud's, effective rank {rank:.0f} of {min(n, d)}"
    if spread < LOW_STD or rank < LOW_RANK:
        return (
            f"{COLLAPSING}: the features of different images are nearly the same ({numbers}); try a smaller "
            f"learning rate, a larger batch or stronger views."
        )
    if share < REDUNDANT_RANK:
        return (
            f"Redundant: the features vary, but along few directions ({numbers}); a longer run, or a smaller "
            f"encoder, may serve as well."
        )
    return f"Healthy: the features differ between images and use many directions ({numbers})."
