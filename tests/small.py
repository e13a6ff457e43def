"""Small images and a small net for tests."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel import seeds
from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import Encoder


def smooth_images(n: int, sides: tuple[int, int] = (32, 32), seed: int = 0) -> ImageBatch:
    """n images of `sides` (height, width) px: random 5×5 colours, enlarged smoothly."""
    coarse = torch.rand(n, 3, 5, 5, generator=seeds.generator(seed, "pictures"))
    fine = F.interpolate(coarse, sides, mode="bicubic", align_corners=True).clamp(0, 1)
    return ImageBatch.of((fine * 255).byte())


def seen_by_a_lens(n: int, side: int) -> Tensor:
    """n grey images (n, 3, side, side) in [0, 1] with green magnified by 0.97: it is shifted by its place."""
    steps = side // 4 + 1
    coarse = torch.rand(n, 1, steps, steps, generator=torch.Generator().manual_seed(0))
    grey = F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True).clamp(0, 1)
    zoom = torch.tensor([[[0.97, 0, 0], [0, 0.97, 0]]]).expand(n, 2, 3)
    grid = F.affine_grid(zoom, [n, 1, side, side], align_corners=False)
    green = F.grid_sample(grey, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return torch.cat([grey, green.clamp(0, 1), grey], 1)


def update(method: nn.Module, optimizer: torch.optim.Optimizer, views: dict[str, Tensor]) -> float:
    """One step on `views`; the loss before it."""
    optimizer.zero_grad()
    loss = method(views)["loss"]
    loss.backward()
    optimizer.step()
    return loss.item()


def adamw(method: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(method.parameters(), 1e-3)


class TinyNet(Encoder):
    """Two convolutions with BatchNorm: quick enough to train in a test."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.name, self.size, self.dim, self.stages = "tiny", 8, width, ("stage1", "stage2")
        self.one = nn.Sequential(nn.Conv2d(3, width, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.two = nn.Sequential(nn.Conv2d(width, width, 3, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU())

    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        one = self.one(self.normalised(images, standardised))
        return {"stage1": one, "stage2": self.two(one)}

    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        return self.maps(images, standardised)["stage2"].mean((2, 3))

    @property
    def stem(self) -> nn.Conv2d:
        return self.one[0]
