"""The peers' side of each comparison, built from their own parts as their documentation shows."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


def pil_images(count: int, side: int, seed: int = 0) -> list[Image.Image]:
    """Smooth random colour images: neither flat nor noise."""
    small = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(s).resize((side, side), Image.Resampling.BICUBIC) for s in small]


class Views(Dataset):
    """PIL images through lightly's transform: two views of each image."""

    def __init__(self, images: list[Image.Image], transform: Callable) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.images[index])


def lightly_transform(side: int, blur: bool) -> Callable:
    """lightly's SimCLR transform: its CIFAR-10 benchmark's settings (strength .5, no blur), or with blur."""
    from lightly.transforms import SimCLRTransform

    return SimCLRTransform(input_size=side, cj_strength=0.5, gaussian_blur=0.5 if blur else 0.0)


def lightly_loader(images: list[Image.Image], side: int, blur: bool, batch: int, workers: int) -> DataLoader:
    return DataLoader(
        Views(images, lightly_transform(side, blur)), batch_size=batch, shuffle=True, drop_last=True,
        num_workers=workers, persistent_workers=workers > 0,
    )  # fmt: skip


def best_workers(
    images: list[Image.Image], side: int, blur: bool, batch: int, choices: range = range(5)
) -> int:
    """The number of workers (0 to 4) with which lightly's loader is fastest on this machine."""
    import time

    rates = {}
    for workers in choices:
        loader = lightly_loader(images, side, blur, batch, workers)
        for _ in loader:
            pass
        start = time.perf_counter()
        for _ in loader:
            pass
        rates[workers] = 1 / (time.perf_counter() - start)
    return max(rates, key=rates.__getitem__)


def kornia_views(side: int, blur: bool) -> nn.Module:
    """The same pipeline from kornia's batched augmentations."""
    import kornia.augmentation as K

    parts: list[nn.Module] = [
        K.RandomResizedCrop((side, side), scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
    ]
    if blur:
        kernel = side // 10 // 2 * 2 + 1
        parts.append(K.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=0.5))
    return K.AugmentationSequential(*parts, data_keys=["input"])


def endless(loader: DataLoader) -> Iterator[list[Tensor]]:
    while True:
        yield from loader


class LightlySimCLR(nn.Module):
    """lightly's SimCLR module of its CIFAR-10 benchmark around any backbone."""

    def __init__(self, backbone: nn.Module, dim: int) -> None:
        super().__init__()
        from lightly.models.modules import SimCLRProjectionHead

        self.backbone = backbone
        self.head = SimCLRProjectionHead(dim, dim, 128)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x).flatten(1))


def lightly_step(
    model: LightlySimCLR, batch: int, *, tuned: bool, bfloat16: bool
) -> Callable[[list[Tensor]], None]:
    """One training step of lightly's benchmark: NT-Xent at 0.5, SGD .06 B/128, momentum .9, decay 5e-4.

    `tuned` adds channels_last and compilation, `bfloat16` autocast to it.
    """
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06 * batch / 128, momentum=0.9, weight_decay=5e-4)
    device = next(model.parameters()).device
    layout = torch.channels_last if tuned else torch.contiguous_format
    model.to(memory_format=layout)  # type: ignore[call-overload]
    net: Callable = torch.compile(model) if tuned else model

    def step(views: list[Tensor]) -> None:
        first, second = (v.to(device).contiguous(memory_format=layout) for v in views[:2])
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            value = loss(net(first), net(second))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step
