"""What an encoder takes from the images without learning: its normalisation and its BatchNorm statistics."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nolabel.encoders.base import Encoder
from nolabel.errors import UsageError


def set_normalisation(
    encoder: Encoder, mean: Sequence[float] | Tensor, std: Sequence[float] | Tensor
) -> None:
    """Set the mean and standard deviation, three values each for RGB in [0, 1], in place.

    Raises:
        UsageError: a standard deviation is zero or a value is not finite, as for images of one colour.
    """
    wanted = [torch.as_tensor(values, dtype=encoder.mean.dtype).view(3, 1, 1) for values in (mean, std)]
    if not all(values.isfinite().all() for values in wanted) or not (wanted[1] > 0).all():
        raise UsageError(
            "The images do not vary in some colour channel: give images that are not all of one colour."
        )
    encoder.mean.copy_(wanted[0])
    encoder.std.copy_(wanted[1])


@torch.no_grad()
def reestimate_batchnorm(encoder: Encoder, batches: Iterable[Tensor]) -> None:
    """Set every BatchNorm's running mean and variance to the average over `batches`, in place.

    Each batch (B, 3, H, W) in [0, 1] counts equally; weights, and modules of other kinds, stay as they are.
    A random encoder and one trained at other image sizes need this before their features mean anything.

    Raises:
        UsageError: `batches` is empty.
    """
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.training) for norm in norms]
    seen = 0
    try:
        for images in batches:
            if not seen:
                _accumulate(norms)
            encoder(images)
            seen += 1
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.train(training)
    if not seen:
        raise UsageError("BatchNorm statistics cannot be set from no images: give at least one batch.")


def _accumulate(norms: Sequence[nn.Module]) -> None:
    """Start cumulative statistics, which torch does where a BatchNorm's momentum is None."""
    for norm in norms:
        assert isinstance(norm, _BatchNorm)
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
