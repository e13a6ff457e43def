"""The network before training: what random features, and training from scratch, start from."""

import torch
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.encoders._initial import IMAGES, initial_encoder
from nolabel.encoders._statistics import reestimate_batchnorm
from nolabel.encoders.base import Encoder
from nolabel.seeds import generator
from nolabel.views import plain

BATCHNORM_BATCHES = 20
BATCH = 256


def untrained(encoder: Encoder, store: ImageStore, train: Tensor, size: int, seed: int) -> Encoder:
    """A net of `encoder`'s architecture as a run begins, on its device: a whitened stem where `encoder` has one.

    Mean, deviation and BatchNorm statistics (at `size` px) come from the images `train` (indices) of `store`.
    With the seed of a run on these images it is that run's own start.
    """
    images = store.subset(train)
    first = torch.randperm(len(images), generator=generator(seed, "init"))[:IMAGES]
    seen = plain.whole(images.batch(first), encoder.size)
    stem = "whitened" if encoder.whitened else "random"
    other = initial_encoder(encoder.name, encoder.size, seen, stem=stem, seed=seed).to(encoder.mean.device)
    order = torch.randperm(len(images), generator=generator(seed, "evaluate", "batchnorm"))
    here = images.to(encoder.mean.device)
    with torch.no_grad():
        reestimate_batchnorm(
            other, (plain.whole(here.batch(rows), size) for rows in order.split(BATCH)[:BATCHNORM_BATCHES])
        )
    return other
