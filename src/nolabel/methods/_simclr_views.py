"""Operations on SimCLR's views beside crop, flip and colour (section 3.1, appendices A and B.2)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nolabel.views import filters, geometry, jpeg
from nolabel.views.base import coin, per_image

if TYPE_CHECKING:
    from nolabel.methods.simclr import SimCLROptions

EXTRA = ("cutout", "sobel", "noise", "rotate", "solarise")


def draw(o: "SimCLROptions", n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Of n views: blur, JPEG file, a fixed order of colours; `extra`, bool (n, 5), which of `EXTRA` each is given."""
    drawn = {"order": torch.arange(4).repeat(n, 1)} if o.jitter_order == "fixed" else {}
    if o.blur_p:
        drawn |= filters.draw_blur(n, generator, o.blur_sigma, o.blur_p)
    if o.jpeg_p:
        drawn |= jpeg.draw_jpeg(n, generator, o.jpeg_p)
    if not o.extra_ops:
        return drawn
    return drawn | {
        "extra": coin(n * len(EXTRA), 0.5, generator).view(n, -1),
        **filters.draw_cutout(n, generator),
        **filters.draw_noise(n, generator),
        **geometry.draw_turn(n, generator, (1, 2, 3)),
    }


def arranged(o: "SimCLROptions", drawn: dict[str, Tensor]) -> dict[str, Tensor]:
    """What was drawn, (n, V, ...) each, with one blur for all images, or nothing but crop and flip for first views."""
    if o.blur_scope == "batch" and "sigma" in drawn:
        drawn["sigma"] = drawn["sigma"][:1].expand_as(drawn["sigma"]).clone()
    if o.asymmetric:
        for name in ("jitter", "grey", "blur", "jpeg", "extra"):
            if name in drawn:
                drawn[name][:, 0] = False
    return drawn


def changed(o: "SimCLROptions", views: Tensor, drawn: dict[str, Tensor]) -> Tensor:
    """The views (N, 3, s, s) in [0, 1] after the extra operations, in their order, and compression, where drawn."""
    kinds = {
        "cutout": lambda x: filters.cutout(x, drawn),
        "sobel": filters.sobel,
        "noise": lambda x: filters.noise(x, drawn),
        "rotate": lambda x: geometry.turn(x, drawn["turn"]),
        "solarise": lambda x: torch.where(x < 0.5, x, 1 - x),
    }
    for name in o.extra_ops:
        given = per_image(drawn["extra"][:, EXTRA.index(name)], views)
        views = torch.where(given, kinds[name](views), views)
    return jpeg.jpeg(views, drawn) if o.jpeg_p else views
