"""Views per second: SimCLR's pipeline against lightly's transform and kornia's, exact operations and random order."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from benchmarks import peers
from benchmarks.pairs import Row, compare
from nolabel.data.batch import ImageBatch
from nolabel.encoders.base import build
from nolabel.methods.base import DataInfo
from nolabel.methods.simclr import SimCLR, SimCLROptions
from nolabel.seeds import generator


def method(side: int, blur: bool) -> SimCLR:
    """The paper's pipeline: two views, crops from 0.08 of the area, strength .5, grey .2, blur as asked."""
    options = SimCLROptions(
        views=2, sizes=(1.0,), size_changes=(), crop_min=0.08, grey_p=0.2, blur_p=0.5 if blur else 0.0
    )
    return SimCLR(build("resnet10", side), options, DataInfo(images=1, size=side))


def nolabel_views(images: ImageBatch, side: int, blur: bool) -> Callable[[], int]:
    simclr, step = method(side, blur), iter(range(10**9))

    def work() -> int:
        drawn = simclr.draw(images.size, generator(0, "views", next(step)), 0.0)
        simclr.views(images, drawn)
        return 2 * images.size

    return work


def lightly_views(images: list, side: int, blur: bool, batch: int) -> tuple[str, Callable[[], int]]:
    workers = peers.best_workers(images, side, blur, batch)
    loader = peers.lightly_loader(images, side, blur, batch, workers)

    def work() -> int:
        return sum(2 * len(first) for first, _ in loader)

    return f"lightly, {workers} workers", work


def kornia_views(images: torch.Tensor, side: int, blur: bool) -> Callable[[], int]:
    pipeline = peers.kornia_views(side, blur)

    @torch.no_grad()
    def work() -> int:
        for _ in range(2):
            pipeline(images.float() / 255)
        return 2 * len(images)

    return work


def rows(pairs: int) -> Iterator[Row]:
    """The comparisons, each when it is done."""
    for side, count, blur in ((32, 2048, False), (128, 512, False), (128, 512, True)):
        stored = side if side == 32 else side * 5 // 4
        pictures = peers.pil_images(count, stored)
        tensor = (
            torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).contiguous()
        )
        batch = ImageBatch.of(tensor)
        what = f"views, {side} px{', blur' if blur else ''}"
        ours = ("nolabel", nolabel_views(batch, side, blur))
        yield compare(what, ours, lightly_views(pictures, side, blur, 256), pairs=pairs, unit="views/s")
        yield compare(what, ours, ("kornia", kornia_views(tensor, side, blur)), pairs=pairs, unit="views/s")
