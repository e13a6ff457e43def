"""Which images a step sees: a pure function of the seed and the step."""

from functools import lru_cache

import torch
from torch import Tensor

from nolabel.errors import UsageError
from nolabel.seeds import generator


@lru_cache(maxsize=4)
def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """A permutation of n images, int64 (n,), from `generator(seed, "order", epoch)`.

    The tensor is remembered and shared: do not write to it.
    """
    return torch.randperm(n, generator=generator(seed, "order", epoch))


def batch_indices(n: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The images of step `step`, int64 (batch_size,); an epoch's incomplete last batch is dropped.

    Raises:
        UsageError: the batch is larger than the data.
    """
    if not 0 < batch_size <= n:
        raise UsageError(f"A batch of {batch_size} cannot be drawn from {n} images: choose at most {n}.")
    epoch, place = divmod(step, n // batch_size)
    return epoch_order(n, seed, epoch)[place * batch_size : (place + 1) * batch_size]
