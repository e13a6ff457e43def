"""Leakage: images of one set that lie in another, as they are, mirrored, turned, or nearly the same.

Exact: SHA-256 of the pixels, also of the mirror image. Near: a 64-bit difference hash (Krawetz 2013: the signs
of the horizontal differences of 8 × 9 grey means) proposes pairs, the correlation of 32 × 32 grey thumbnails
decides (specs 9.15). A mirrored or turned copy counts as near.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.views import geometry

BITS = 6
"""bits of 64 in which the hashes of a proposed pair may differ"""
CORRELATION = 0.95
SIDE = 32
GREY = torch.tensor([0.299, 0.587, 0.114])
IMAGES = 1024
"""thumbnails made at once"""
ROWS, COLUMNS = 64, 8192
"""of a block of hash distances: it stays in the cache"""
TURNS = 4
FLAT = 0.1
"""a thumbnail of smaller length about its mean has no picture to compare"""


@dataclass(frozen=True)
class Leakage:
    """Images of a test set that another set holds."""

    pairs: np.ndarray
    """int64 (P, 2): position in the test set, and in the other set"""
    correlation: np.ndarray
    """float32 (P,): of the grey thumbnails; 1 where the pixels are the same"""
    identical: np.ndarray
    """bool (P,): the same pixels, or their mirror image"""
    n: int
    """number of test images"""

    @property
    def flagged(self) -> np.ndarray:
        """int64: the test images that the other set holds, identical or nearly so."""
        return np.unique(self.pairs[:, 0])

    def sentence(self, test: str = "test", other: str = "training") -> str:
        """What to print: how many of the test images are known from the other set."""
        same = len(np.unique(self.pairs[self.identical, 0]))
        near = len(self.flagged) - same
        if not same and not near:
            return f"No {test} image is identical, or nearly so, to one of the {other} images."
        counts = f"{same:,} identical" + (f", {near:,} nearly so" if near else "")
        return (
            f"{same + near:,} of {self.n:,} {test} images ({(same + near) / self.n:.1%}) are also among the "
            f"{other} images ({counts}): read the accuracy without them too."
        )

    @property
    def kept(self) -> np.ndarray:
        """int64: the other test images."""
        return np.delete(np.arange(self.n), self.flagged)


def find(test: ImageStore, other: ImageStore) -> Leakage:
    """The images of `test` that `other` holds; two stores may keep their images at different sizes.

    60,000 images of 32 px against 10,000 take seconds.
    """
    exact = _exact(test, other)
    near, correlation = _near(test, other)
    pairs = np.concatenate([exact, near])
    values = np.concatenate([np.ones(len(exact), np.float32), correlation])
    _, first = np.unique(pairs, axis=0, return_index=True)
    return Leakage(pairs[first], values[first], first < len(exact), len(test))


def digests(store: ImageStore, mirrored: bool = False) -> np.ndarray:
    """SHA-256 of each image's size and pixels (or of its mirror image's), bytes (N,)."""
    pixels = store.pixels.cpu().numpy()
    shapes = torch.stack([store.offsets, store.heights, store.widths], 1).cpu().tolist()
    found = []
    for start, height, width in shapes:
        image = pixels[start : start + 3 * height * width]
        if mirrored:
            image = np.ascontiguousarray(image.reshape(height, width, 3)[:, ::-1])
        found.append(hashlib.sha256(b"%d %d " % (height, width) + image.tobytes()).digest())
    return np.array(found, dtype="S32")


def _exact(test: ImageStore, other: ImageStore) -> np.ndarray:
    """Pairs (P, 2) with the same digest; of several images alike in `other`, the first."""
    known, at = np.unique(digests(other), return_index=True)
    pairs = []
    for mirrored in (False, True):
        asked = digests(test, mirrored)
        place = np.searchsorted(known, asked).clip(max=len(known) - 1)
        hit = (known[place] == asked).nonzero()[0]
        pairs.append(np.stack([hit, at[place[hit]]], 1))
    return np.unique(np.concatenate(pairs), axis=0)


def _near(test: ImageStore, other: ImageStore) -> tuple[np.ndarray, np.ndarray]:
    """(pairs (P, 2), correlations (P,)) whose thumbnails correlate, as they are, mirrored or turned."""
    asked, known = thumbnails(test), thumbnails(other)
    hashes = difference_hash(known)
    pairs: list[np.ndarray] = [np.empty((0, 2), np.int64)]
    values: list[np.ndarray] = [np.empty(0, np.float32)]
    for variant in (asked, asked.flip(2), *(asked.rot90(k, (1, 2)) for k in range(1, TURNS))):
        of_variant = difference_hash(variant)
        for start in range(0, len(of_variant), ROWS):
            close = _close(of_variant[start : start + ROWS], hashes)
            if len(close):
                rows, columns = np.unique(close[:, 0]), np.unique(close[:, 1])
                correlation = _standard(variant[start + rows]) @ _standard(known[columns]).T
                of_pair = correlation.numpy()[
                    np.searchsorted(rows, close[:, 0]), np.searchsorted(columns, close[:, 1])
                ]
                kept = of_pair >= CORRELATION
                pairs.append(close[kept] + [start, 0])
                values.append(of_pair[kept])
    return np.concatenate(pairs), np.concatenate(values)


def thumbnails(store: ImageStore) -> Tensor:
    """Whole images squeezed to a grey square of 32 px: float16 (N, 32, 32) in [0, 1]."""
    parts = []
    for rows in torch.arange(len(store)).split(IMAGES):
        batch = store.batch(rows)
        zero = torch.zeros_like(batch.heights)
        boxes = torch.stack([zero, zero, batch.heights, batch.widths], 1)
        images = geometry.crop_resize(batch, boxes, SIDE)
        parts.append(torch.einsum("bchw,c->bhw", images, GREY.to(images.device)).half().cpu())
    return torch.cat(parts)


def difference_hash(grey: Tensor) -> np.ndarray:
    """uint64 (N,): a bit of the 8 × 9 means of (N, 32, 32) is set where the mean to the right is brighter."""
    means = torch.cat([F.adaptive_avg_pool2d(part.float(), (8, 9)) for part in grey.split(IMAGES)])
    bits = (means[:, :, 1:] > means[:, :, :-1]).flatten(1).numpy()
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def _close(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """int64 (P, 2): pairs of hashes that differ in few bits."""
    shape = (len(first), min(COLUMNS, len(second)))
    different, count = np.empty(shape, np.uint64), np.empty(shape, np.uint8)
    found = []
    for start in range(0, len(second), COLUMNS):
        block = second[start : start + COLUMNS]
        width = len(block)
        np.bitwise_xor(first[:, None], block, out=different[:, :width])
        np.bitwise_count(different[:, :width], out=count[:, :width])
        at = np.flatnonzero(count[:, :width] <= BITS)
        found.append(np.stack([at // width, at % width + start], 1))
    return np.concatenate(found)


def _standard(grey: Tensor) -> Tensor:
    """Thumbnails as rows of mean 0 and length 1, so that products are correlations; 0 where all is one grey."""
    rows = grey.flatten(1).float()
    rows = rows - rows.mean(1, keepdim=True)
    length = rows.norm(dim=1, keepdim=True)
    return torch.where(length > FLAT, rows / length.clamp_min(FLAT), 0.0)
