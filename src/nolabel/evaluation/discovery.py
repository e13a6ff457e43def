"""Discovery of objects: which groups of patches recur, in the same arrangement, across the images?

The visual data mining of Context Prediction (Doersch, Gupta, Efros 2015, section 4.4). A constellation is four
adjacent patches of one image, two by two. Each patch looks for its nearest neighbour in every other image; the
images with the strongest matches are kept, and one counts as verified if its four matches form a square again.
Constellations are ranked by their share of verified images, and one is left out where most of its images are
in a better one. Purity is the share of a cluster's images that have its commonest class, coverage the share of
all images that lie in a cluster; along the curve clusters come by purity. Labels are read for the purity only.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.evaluation._as_results import as_results
from nolabel.evaluation._ranges import COUNT, at_least, hold
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features, Network, Protocol, Result, not_finite
from nolabel.evaluation.statistics import Interval, bootstrap_mean
from nolabel.seeds import derive, generator
from nolabel.views import geometry

GRID = 5
"""patches along a side, half a patch apart, each a third of the image's side"""
CORNERS = torch.tensor([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])
"""(y, x) of a unit square's corners about its centre, in the order of a constellation's patches"""
SMALLEST, LARGEST = 2 / 3, 4 / 3
"""side of the fitted square over the patch's"""
SHORT_COVERAGE = 0.5
NEW_SHARE = 0.5
"""a cluster stays where at least this share of its images is in no better one"""
BATCH = 256
CONSTELLATIONS = 16
"""matched at once"""
FEWEST = 5
"""verified images that make a cluster"""
SHARE = 5
"""of so many images at most one is kept as a match"""
DRAWS = 500
CURVE = "curve"
"""key of the setting that holds purity and coverage"""


@dataclass(frozen=True)
class DiscoveryOptions:
    """How much is searched."""

    images: int = 1000
    """at most so many test images, drawn with the seed; 25 or more"""
    constellations: int = 300
    """groups of four patches that are tried, each from an image of its own while there are enough"""
    matches: int = 100
    """images with the strongest matches that are kept of each; at most a fifth of the images, and 5 or more"""

    def __post_init__(self) -> None:
        hold(self, images=at_least(SHARE * FEWEST), constellations=COUNT, matches=at_least(FEWEST))


class Discovery(Protocol):
    """See the module."""

    Options = DiscoveryOptions
    options: DiscoveryOptions
    protocol: ClassVar[str] = "discovery"
    needs = "encoder"
    baseline_seeds = 1

    def check(self, store: ImageStore, division: Division) -> None:
        """DataError: fewer than 25 test images."""
        n = len(division.test)
        if n < SHARE * FEWEST:
            raise DataError(
                f"Discovery needs at least {SHARE * FEWEST} test images and has {n}: a cluster is {FEWEST} of the "
                f"fifth that matches best, so give more images."
            )

    def run(self, subject: Features, seed: int) -> list[Result]:
        """Area under purity against coverage (whole, and up to one half), and the share that was verified.

        The intervals are a bootstrap over the constellations, the images as they are. The setting of `area` holds
        the curve: `purity` and `coverage` of the 1, 2 … K purest clusters.

        Raises:
            RunError: features that are not finite.
        """
        network, options = subject.network, self.options
        assert network is not None
        random = generator(seed, "evaluate", self.protocol)
        images = subject.test[torch.randperm(len(subject.test), generator=random)[: options.images]]
        n = len(images)
        patches = patch_features(network, images)
        if not bool(patches.isfinite().all()):
            raise not_finite(subject.name)
        found = constellations(n, options.constellations, random)
        matches = min(options.matches, n // SHARE)
        verified = mine(patches, *found, matches)
        kept = without_redundant(verified)
        purities, shares = purity_of(kept, subject.labels[images].numpy()), verified.sum(1) / matches
        draw = derive(seed, "evaluate", self.protocol, "bootstrap")
        values = {
            "area": _bootstrap_area(purities, kept, 1.0, draw),
            "area_half": _bootstrap_area(purities, kept, SHORT_COVERAGE, draw),
            "verified": bootstrap_mean(shares, draw),
        }
        setting = {
            "constellations": len(verified),
            "matches": matches,
            "clusters": len(kept),
            "coverage": float(kept.any(0).mean()),
            "patch": f"a third of the image, read at {network.encoder.size} px",
        }
        area_row, *others = as_results(subject, self.protocol, values, n, setting)
        purity, coverage = purity_coverage(purities, kept)
        curve = {"purity": purity.tolist(), "coverage": coverage.tolist()}
        return [replace(area_row, setting=area_row.setting | {CURVE: curve}), *others]


@torch.no_grad()
def patch_features(network: Network, images: Tensor) -> Tensor:
    """Unit vectors (n, 25, D) of the patches of the images at `images` (positions in the store), row by row."""
    encoder, store = network.encoder.eval(), network.store
    parts, step = [], max(1, BATCH // GRID**2)
    for done, rows in enumerate(images.split(step), 1):
        batch = store.batch(rows)
        side = torch.minimum(batch.heights, batch.widths)
        patch = (side // 3).clamp_min(1)
        at = torch.arange(GRID, device=side.device) * (side - patch)[:, None] // (GRID - 1)
        top = ((batch.heights - side) // 2)[:, None] + at
        left = ((batch.widths - side) // 2)[:, None] + at
        grid = torch.stack([top[:, :, None].expand(-1, -1, GRID), left[:, None].expand(-1, GRID, -1)], 3)
        sides = patch[:, None, None, None].expand_as(grid)
        boxes = torch.cat([grid, sides], 3).flatten(0, 2)
        which = torch.arange(len(rows), device=side.device).repeat_interleave(GRID**2)
        vectors = encoder(geometry.crop_resize(batch.take(which), boxes, encoder.size)).float()
        parts.append(F.normalize(vectors, dim=1).view(len(rows), GRID**2, -1))
        network.progress("patches", min(done * step, len(images)), len(images))
    return torch.cat(parts)


def constellations(n: int, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """(image (M,), patches (M, 4)) of `count` constellations: images in random order, places at random.

    The patches of one touch and do not overlap: they lie two grid steps, a patch's side, apart.
    """
    image = torch.randperm(n, generator=random).repeat(-(-count // n))[:count]
    corner = torch.randint(0, GRID - 2, (count, 2), generator=random)
    first = corner[:, 0] * GRID + corner[:, 1]
    return image, first[:, None] + torch.tensor([0, 2, 2 * GRID, 2 * GRID + 2])


def mine(patches: Tensor, image: Tensor, places: Tensor, matches: int) -> np.ndarray:
    """Bool (M, n): the images that hold each constellation, verified by geometry.

    Args:
        patches: unit vectors (n, 25, D).
        image, places: of `constellations`.
        matches: how many images, those with the largest sums of the four cosines, are verified.
    """
    n, flat = len(patches), patches.flatten(0, 1)
    found = torch.zeros(len(image), n, dtype=torch.bool)
    for part in torch.arange(len(image)).split(CONSTELLATIONS):
        asked = patches[image[part, None], places[part]].flatten(0, 1)
        cosine, place = (asked @ flat.T).view(len(part), 4, n, GRID**2).max(3)
        score = cosine.sum(1).scatter(1, image[part, None].to(cosine.device), -torch.inf)
        best = score.topk(matches, dim=1).indices
        at = place.gather(2, best[:, None].expand(-1, 4, -1)).transpose(1, 2)
        centres = torch.stack([at // GRID, at % GRID], 3) / 2
        accepted = square_error(centres) < 1
        found[part] = found[part].scatter(1, best.cpu(), accepted.cpu())
    return found.numpy()


def square_error(centres: Tensor) -> Tensor:
    """Squared error over squared side of the best upright square with corners `centres` (..., 4, 2).

    In patch sides; the square's side is kept between 2/3 and 4/3, so four matches in one place are far off.
    """
    corners = CORNERS.to(centres.device)
    centred = centres - centres.mean(-2, keepdim=True)
    side = (centred * corners).sum((-2, -1)) / corners.square().sum()
    side = side.clamp(SMALLEST, LARGEST)
    return (centred - side[..., None, None] * corners).square().sum((-2, -1)) / side.square()


def without_redundant(verified: np.ndarray) -> np.ndarray:
    """The clusters, best verified first, at least half of whose images are in none before: bool (K, n)."""
    covered, kept = np.zeros(verified.shape[1], bool), []
    for members in verified[np.argsort(-verified.sum(1), kind="stable")]:
        if members.sum() >= FEWEST and (members & ~covered).sum() >= NEW_SHARE * members.sum():
            kept.append(members)
            covered |= members
    return np.array(kept, bool).reshape(-1, verified.shape[1])


def purity_of(clusters: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Share of the commonest class in each cluster, bool (K, n), of images with `labels` (n,)."""
    counts = clusters.astype(float) @ np.eye(int(labels.max()) + 1)[labels]
    return counts.max(1) / clusters.sum(1)


def purity_coverage(purities: np.ndarray, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(purity, coverage), both (K,), of the 1, 2 … K purest clusters; purity is the mean over their images."""
    order = np.argsort(-purities, kind="stable")
    sizes = clusters[order].sum(1)
    purity = (purities[order] * sizes).cumsum() / sizes.cumsum()
    return purity, np.logical_or.accumulate(clusters[order], 0).mean(1)


def area(purity: np.ndarray, coverage: np.ndarray, most: float = 1.0) -> float:
    """Area under purity against coverage by the trapezoid rule, from coverage 0 (at the first purity) to `most`.

    What no cluster covers has no area.
    """
    if not len(purity):
        return 0.0
    x, y = np.concatenate([[0.0], coverage]), np.concatenate([purity[:1], purity])
    end = min(most, float(x[-1]))
    inside = x < end
    x, y = np.append(x[inside], end), np.append(y[inside], np.interp(end, x, y))
    return float(np.trapezoid(y, x))


def _bootstrap_area(purities: np.ndarray, clusters: np.ndarray, most: float, seed: int) -> Interval:
    """The area with resampled clusters; these cover less than all do, so their mean is moved onto the value."""
    value = area(*purity_coverage(purities, clusters), most)
    if not len(clusters):
        return Interval(value, value, value)
    picks = np.random.default_rng(seed).integers(0, len(clusters), (DRAWS, len(clusters)))
    drawn = [area(*purity_coverage(purities[pick], clusters[pick]), most) for pick in picks]
    low, high = np.clip(np.percentile(np.array(drawn) - np.mean(drawn) + value, [2.5, 97.5]), 0, most)
    return Interval(value, float(low), float(high))
