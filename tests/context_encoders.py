"""Small context encoders and their views for tests."""

from typing import Any

import torch
from torch import Tensor, nn

from nolabel import seeds
from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import Encoder
from nolabel.methods.base import DataInfo
from nolabel.methods.context_encoder import ContextEncoder, ContextEncoderOptions
from small import TinyNet, smooth_images

ADVERSARIAL = {"adversarial": True, "mask": "central"}


def context_encoder(size: int = 32, encoder: Encoder | None = None, **options: Any) -> ContextEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ContextEncoder(encoder or TinyNet(8), ContextEncoderOptions(**options), DataInfo(64, size))


def views_of(
    method: ContextEncoder, images: ImageBatch | None = None, n: int = 3, seed: int = 0
) -> dict[str, Tensor]:
    images = images or smooth_images(n, (method.data.size, method.data.size))
    return method.views(images, method.draw(images.size, seeds.generator(seed, "views"), 0.0))


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())
