"""Images without their colour: what an encoder is worth that was trained on grey ones.

Colorization's networks see lightness alone, so the specification (4.8) reports their frozen probe twice, on colour
and on grey images.
"""

import hashlib
from dataclasses import replace

import torch

from nolabel.data.store import ImageStore
from nolabel.views.colour import LUMA


def greyed(store: ImageStore) -> ImageStore:
    """`store` with each pixel's grey value, rounded, in all three channels; its name says so."""
    weights = torch.tensor(LUMA)
    sizes = 3 * store.heights * store.widths
    offsets = sizes.cumsum(0) - sizes
    pixels = torch.empty(int(sizes.sum()), dtype=torch.uint8)
    for start, there, size in zip(store.offsets.tolist(), offsets.tolist(), sizes.tolist(), strict=True):
        image = store.pixels[start : start + size].view(-1, 3)
        pixels[there : there + size].view(-1, 3)[:] = (image.float() @ weights).round().byte()[:, None]
    return replace(
        store, pixels=pixels, offsets=offsets, source=f"{store.source}, grey", entry=None,
        fingerprint=hashlib.sha256(f"{store.fingerprint} grey".encode()).hexdigest(),
    )  # fmt: skip
