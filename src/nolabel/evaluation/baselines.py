"""What an encoder is compared with: random weights, pixels as they are or whitened, a colour histogram, patch k-means,
labels, timm's weights.

All are frozen features under the same protocols, so stage, L2, k and temperature are chosen in the same way.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nolabel import catalog
from nolabel.data.store import ImageStore
from nolabel.encoders._io import initialise
from nolabel.encoders.base import Encoder, build
from nolabel.errors import UsageError
from nolabel.evaluation import _features, _patches, supervised
from nolabel.evaluation._features import extract, pool, pool_side, silent, storage_type
from nolabel.evaluation._split import Division
from nolabel.evaluation._untrained import untrained
from nolabel.evaluation.base import Features, Progress
from nolabel.seeds import generator
from nolabel.views import plain

NAMES = ("random", "pixels", "whitened", "histogram", "patches", "supervised")
HELP = f"of {', '.join(NAMES)}, or timm:NAME for its trained weights; separated by commas"
DEFAULT = ("random", "pixels", "histogram")
"""`patches` and `supervised` take minutes, `whitened` a quarter of one, so they are asked for"""
PRETRAINED = "pretrained:"
"""begins the subject of its results"""
TIMM = "timm:"
"""begins the name of a baseline that is timm's trained encoder of that name"""
PRETRAINED_SIDE = 128
"""side in pixels at least at which those see the images: they were trained on 224"""
RANDOM_SEEDS = 3
BATCH = 256
WHITENED_FROM = 10_000
"""at most so many training images tell the principal components of the pixels"""
VARIANCE = 0.99
"""share of the pixels' variance in the components that are kept"""
NO_VARIANCE = 1e-12
JOINT, MARGINAL = 8, 32
"""bins a channel: of the joint histogram, and of each channel's own"""


def check(name: str) -> None:
    """Raise UsageError unless there is a baseline of that name; of timm's, unless its weights can be had."""
    if name.startswith(TIMM):
        pretrained(name, PRETRAINED_SIDE)
    elif name not in NAMES:
        raise UsageError(catalog.unknown("baseline", name, NAMES))


def least_side(names: Sequence[str]) -> int:
    """Side in pixels at least at which images must be opened for these baselines; 0: any."""
    return max((PRETRAINED_SIDE for name in names if name.startswith(TIMM)), default=0)


def pretrained(name: str, size: int) -> Encoder:
    """timm's encoder `name` (`timm:resnet18`) with its trained weights, from the cache or downloaded."""
    encoder = build(name, size)
    initialise(encoder, "timm", otherwise=f"leave the baseline {name} out")
    return encoder


def features(
    name: str,
    encoder: Encoder,
    store: ImageStore,
    division: Division,
    *,
    size: int,
    values: int = _features.VALUES,
    seed: int = 0,
    progress: Progress = silent,
) -> Iterator[Features]:
    """The features of the baseline called `name`, one for each of its seeds (three for `random`, else one).

    Args:
        encoder: what is compared; `random` has its architecture and initialisation.
        size: side at which the encoder sees the images.
        values: at most so many values a stage.

    Raises:
        UsageError: no such baseline, or weights that cannot be had.
    """
    if name.startswith(TIMM):
        side = max(size, PRETRAINED_SIDE)
        net = pretrained(name, side).to(encoder.mean.device)
        subject = f"{PRETRAINED}{name}"
        found = extract(net, store, division, name=subject, size=side, values=values, progress=progress)
        yield replace(found, network=None)
        return
    check(name)
    if name == "random":
        for number in range(RANDOM_SEEDS):
            yield random_features(
                encoder, store, division, size=size, values=values, seed=seed + number, progress=progress
            )
    elif name in ("pixels", "whitened"):
        side = pool_side(3, size, size, values)
        found = _image_features(
            "pixels", store, division, size, side, lambda images: pool(images, side), progress
        )
        if name == "whitened":
            order = torch.randperm(len(division.train), generator=generator(seed, "evaluate", name))
            mean, matrix = whitening(found.stage("pixels", division.train[order[:WHITENED_FROM]]))
            found = _image_features(
                name, store, division, size, 1, lambda images: (pool(images, side) - mean) @ matrix, progress
            )
        yield found
    elif name == "histogram":
        yield _image_features(name, store, division, size, 1, histogram, progress)
    elif name == "supervised":
        own = extract(encoder, store, division, name=encoder.name, size=size, progress=progress)
        trained, subject = supervised.Supervised(supervised.SupervisedOptions()).train(own, seed)
        found = extract(
            trained, store, division, name=subject.name, size=size, values=values, progress=progress
        )
        yield replace(found, seeds=subject.seeds, network=None, setting=subject.setting | found.setting)
    else:
        patches = _patches.fit(
            store.subset(division.train), generator(seed, "evaluate", "patches"), progress=progress
        )
        yield _image_features(name, store, division, _patches.SIDE, 2, patches, progress)


def random_features(
    encoder: Encoder,
    store: ImageStore,
    division: Division,
    *,
    size: int,
    values: int = _features.VALUES,
    seed: int,
    progress: Progress = silent,
) -> Features:
    """Features of `encoder`'s architecture before training; the subject is `random_name`.

    Initialised as a run begins (a whitened stem where `encoder` has one, the images' mean and deviation), its
    BatchNorm statistics set on training images at `size` px. With the seed of a run it is that run's own
    start.
    """
    other = untrained(encoder, store, division.train, size, seed)
    name = random_name(encoder, size)
    found = extract(other, store, division, name=name, size=size, values=values, progress=progress)
    stem = "whitened" if encoder.whitened else "random"
    said = f"as a run begins, {stem} stem, BatchNorm statistics set on training images"
    return replace(found, seeds=(seed,), setting=found.setting | {"initialisation": said})


def random_name(encoder: Encoder, size: int) -> str:
    """What random features are called: nets that start differently have different names.

    `random:resnet10`; `+whitened` where the stem is; `@12` where it was built for tiles of 12 px.
    """
    tile = f"@{encoder.size}" if encoder.size != size else ""
    return f"random:{encoder.name}{'+whitened' if encoder.whitened else ''}{tile}"


def whitening(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """(mean (D,), matrix (D, K)) by which rows x of `vectors` (N, D) have unit covariance: (x - mean) @ matrix.

    Its columns are the principal components, largest first, over their standard deviations: as many as hold 99 % of
    the variance, since the rest is noise that whitening would make as large as the picture.
    """
    values, components = torch.linalg.eigh(torch.cov(vectors.T.double(), correction=0))
    values, components = values.flip(0), components.flip(1)
    kept = int((values.cumsum(0) < VARIANCE * values.sum()).sum()) + 1
    scales = values[:kept].clamp_min(NO_VARIANCE).sqrt()
    return vectors.float().mean(0), (components[:, :kept] / scales).float()


def histogram(images: Tensor) -> Tensor:
    """Square roots of colour shares of images (B, 3, H, W) in [0, 1]: (B, 608).

    Shares of the pixels in 8 × 8 × 8 joint bins of RGB, then in 32 bins of each channel; the root makes
    Euclidean distance Hellinger's.
    """
    pixels = images.flatten(2)
    coarse = (pixels * JOINT).long().clamp_(max=JOINT - 1)
    joint = (coarse[:, 0] * JOINT + coarse[:, 1]) * JOINT + coarse[:, 2]
    fine = (pixels * MARGINAL).long().clamp_(max=MARGINAL - 1)
    fine += MARGINAL * torch.arange(3, device=fine.device)[:, None]
    bins = torch.cat([joint, JOINT**3 + fine.flatten(1)], 1)
    counts = images.new_zeros(len(images), JOINT**3 + 3 * MARGINAL)
    counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=images.dtype))
    return (counts / pixels.shape[2]).sqrt()


def _image_features(
    name: str,
    store: ImageStore,
    division: Division,
    size: int,
    side: int,
    function: Callable[[Tensor], Tensor],
    progress: Progress,
) -> Features:
    """Features with one stage: `function` of the images (B, 3, size, size), a batch at a time."""

    def compute(stages: object, indices: Tensor) -> dict[str, Tensor]:
        found = first.new_empty((len(indices), width), dtype=storage_type(len(indices), width))
        for start in range(0, len(indices), BATCH):
            rows = slice(start, start + BATCH)
            found[rows] = function(plain.whole(store.batch(indices[rows]), size))
            progress(name, min(rows.stop, len(indices)), len(indices))
        return {name: found}

    first = function(plain.whole(store.batch(division.train[:1]), size))
    width = first.shape[1]
    return Features(
        name=name,
        values={name: width},
        grid={name: side},
        labels=store.labels,
        train=division.train,
        test=division.test,
        validation=division.validation,
        class_names=store.class_names,
        compute=compute,
        setting={"split": division.text, "size": size},
    )
