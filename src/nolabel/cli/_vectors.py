"""An encoder over the images of a store: one vector an image."""

from collections.abc import Callable

import numpy as np
import torch

from nolabel.data.store import ImageStore
from nolabel.encoders._io import device_of_choice
from nolabel.encoders.base import Encoder, map_shapes
from nolabel.errors import UsageError
from nolabel.evaluation.base import not_finite
from nolabel.evaluation.run import check_channels
from nolabel.views import plain

BATCH = 128


@torch.inference_mode()
def vectors(
    encoder: Encoder,
    store: ImageStore,
    *,
    stage: str | None = None,
    size: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """float32 (N, D) in the order of the store: the pooled vector, or the mean over the map of `stage`.

    Args:
        size: side in pixels of each image's central square, which is seen; None: the encoder's own.

    Raises:
        UsageError: the encoder has no such stage, takes no RGB, or the images are too small for it.
        RunError: vectors that are not finite.
    """
    check_channels(encoder)
    if stage is not None and stage not in encoder.stages:
        raise UsageError(f"{encoder.name} has no stage {stage!r}: choose one of {', '.join(encoder.stages)}.")
    size = encoder.size if size is None else size
    map_shapes(encoder, size)
    device = device_of_choice()
    encoder, store, parts = encoder.to(device).eval(), store.to(device), []
    for start in range(0, len(store), BATCH):
        images = store.batch(torch.arange(start, min(start + BATCH, len(store))))
        seen = plain.whole(images, size, torch.channels_last)
        found = encoder(seen) if stage is None else encoder.maps(seen)[stage].mean((2, 3))
        parts.append(found.float().cpu())
        progress(min(start + BATCH, len(store)), len(store))
    found = torch.cat(parts)
    if not found.isfinite().all():
        raise not_finite(encoder.name)
    return found.numpy()
