"""SimCLR's whole view in one call: crop, flip, jitter, grey and blur of each image while it lies in cache."""

import torch
from torch import Tensor

from nolabel.data.batch import ImageBatch
from nolabel.views import _kernels, colour, filters, geometry
from nolabel.views._resample import Axis


def simclr_view(
    images: ImageBatch,
    drawn: dict[str, Tensor],
    size: int,
    memory_format: torch.memory_format = torch.contiguous_format,
    cubic: bool = False,
) -> Tensor:
    """One view of each image: float32 (B, 3, size, size) in [0, 1] (SimCLR, section 3 and appendix A).

    `drawn` merges `draw_crop` with any of `draw_flip`, `draw_jitter`, `draw_grey` and `draw_blur`; an
    operation that was not drawn is left out. Equal to these operations one after another. Crops are resized
    bilinearly, or where `cubic` bicubically.
    """
    boxes = geometry.boxes(drawn, images.heights, images.widths)
    if _kernels.usable(images.pixels):
        stages = {key: drawn[key] for key in ("flip", *colour.JITTER, "grey", "blur") if key in drawn}
        if "blur" in drawn:
            stages["taps"] = filters.gaussian(drawn["sigma"], filters.blur_radius(size))
        top, left, height, width = boxes.unbind(1)
        rows, columns = Axis.onto(top, height, size, cubic), Axis.onto(left, width, size, cubic)
        return _kernels.read(images, rows, columns, (size, size), stages, memory_format)
    views = geometry.crop_resize(images, boxes, size, drawn.get("flip"), cubic=cubic)
    if "jitter" in drawn:
        views = colour.jitter(views, drawn)
    if "grey" in drawn:
        views = colour.grey(views, drawn)
    if "blur" in drawn:
        views = filters.blur(views, drawn)
    return views.contiguous(memory_format=memory_format)
