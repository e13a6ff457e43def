"""`ImageStore`: N images as one packed uint8 RGB array, memory-mapped, with sizes, labels and paths."""

import csv
import hashlib
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nolabel.data import cache as cache_files
from nolabel.data import named, packing, sources
from nolabel.data.batch import ImageBatch, check_size
from nolabel.data.files import Skipped
from nolabel.data.read import READER_VERSION
from nolabel.errors import DataError, UsageError
from nolabel.runs import write_atomically

CPU = torch.device("cpu")

FEWEST_IMAGES = 10
"""fewer say nothing to a self-supervised method"""

STORAGE_MARGIN = 1.25
"""the shorter side is stored at most at this multiple of the training size"""


@dataclass(frozen=True, eq=False)
class ImageStore:
    """N images of mixed sizes; a sub-store shares the bytes. Make one with `open` or `of`."""

    pixels: Tensor
    """uint8 (P,): RGB bytes of all images, rows first, channels last"""
    offsets: Tensor
    """int64 (N,), first byte of each image in `pixels`"""
    heights: Tensor
    """int64 (N,)"""
    widths: Tensor
    """int64 (N,)"""
    labels: Tensor
    """int64 (N,), index into `class_names`; -1: none"""
    splits: Tensor
    """int64 (N,), index into `split_names`"""
    split_names: tuple[str, ...]
    """("all",), or "train" and "test" (and "val" where the source has all three)"""
    paths: Sequence[str]
    """as in the source: relative to the folder, or inside the archive"""
    class_names: tuple[str, ...]
    """in natural order: "img2" before "img10" """
    fingerprint: str
    """hex digest of the source's content, the reader's version, the storage size and the choice of images"""
    source: str
    """as the user named it"""
    skipped: tuple[Skipped, ...]
    """files that gave no image"""
    storage_side: int
    """shorter sides beyond this were shrunk to it"""
    found: str = ""
    """sizes and modes of the files, in words; empty for a sub-store"""
    divided: str = ""
    """how a test split was made where the source has none, in words"""
    entry: Path | None = None
    """the cache entry that all the rest can be read from again; None: there is none"""
    positions: Tensor | None = None
    """int64 (N,), place of each image in the entry; None: all, in order"""
    device: torch.device = CPU
    """where `batch` puts the images"""

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def opened_at(self) -> int:
        """Side in pixels of the training images that it keeps pixels enough for."""
        return int(self.storage_side / STORAGE_MARGIN)

    def batch(self, indices: Tensor) -> ImageBatch:
        """The images at `indices` (int64 (B,), repeats allowed) on `device`.

        The bytes are shared with the store where the store lies on that device, else packed and sent.
        """
        indices = indices.to(self.offsets.device)
        offsets, heights, widths = self.offsets[indices], self.heights[indices], self.widths[indices]
        if self.pixels.device == self.device:
            return ImageBatch(self.pixels, offsets, heights, widths, indices)
        sizes = 3 * heights * widths
        bytes_of = zip(offsets.tolist(), sizes.tolist(), strict=True)
        packed = torch.cat([self.pixels[start : start + size] for start, size in bytes_of])
        parts = (packed, sizes.cumsum(0) - sizes, heights, widths, indices)
        return ImageBatch(*(part.to(self.device, non_blocking=True) for part in parts))

    def split(self, name: str) -> "ImageStore":
        """The images of one split, sharing the bytes; without splits, "train" is the store itself.

        Raises:
            DataError: there is no such split.
        """
        if name == "all" or (name == "train" and self.split_names == ("all",)):
            return self
        if name not in self.split_names:
            raise DataError(
                f"{self.source} has no {name} split: put its images into train/<class> and test/<class>."
            )
        return self.subset((self.splits == self.split_names.index(name)).nonzero().flatten())

    def subset(self, indices: Tensor) -> "ImageStore":
        """The images at `indices` (int64 (n,)), in that order, sharing the bytes."""
        host, indices = indices.cpu(), indices.to(self.offsets.device)
        positions = host if self.positions is None else self.positions[host]
        chosen = hashlib.sha256(f"{self.fingerprint} of {len(self)}".encode() + host.numpy().tobytes())
        return replace(
            self,
            offsets=self.offsets[indices],
            heights=self.heights[indices],
            widths=self.widths[indices],
            labels=self.labels[host],
            splits=self.splits[host],
            paths=[self.paths[i] for i in host.tolist()],
            fingerprint=chosen.hexdigest(),
            found="",
            positions=positions,
        )

    def to(self, device: torch.device | str) -> "ImageStore":
        """The store whose batches lie on `device`; it moves there as a whole when it fits.

        It fits a GPU when it takes at most half of the free memory, another device up to 2 GiB.
        """
        target = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
        room = torch.cuda.mem_get_info(target)[0] // 2 if target.type == "cuda" else 2 << 30
        if target == self.pixels.device or self.pixels.numel() > room:
            return replace(self, device=target)
        names = ("pixels", "offsets", "heights", "widths")
        return replace(self, device=target, **{name: getattr(self, name).to(target) for name in names})

    def describe(self) -> str:
        """What was found, in one line, and what was skipped, in a second."""
        text = f"Found {_number(len(self), 'image')}"
        text += f" ({self.found})" if self.found else ""
        if not self.class_names:
            text += ", no labels"
        elif len(self.class_names) == 1:
            text += f", one class only ({self.class_names[0]})"
        else:
            text += f", {len(self.class_names):,} classes"
        unlabelled = int((self.labels < 0).sum())
        text += f", {unlabelled:,} without a label" if self.class_names and unlabelled else ""
        if len(self.split_names) > 1:
            counts = torch.bincount(self.splits, minlength=len(self.split_names)).tolist()
            text += ", " + " / ".join(f"{n} {c:,}" for n, c in zip(self.split_names, counts, strict=True))
        if int(torch.minimum(self.heights, self.widths).max()) == self.storage_side and self.found:
            text += f"; shorter sides kept at {self.storage_side} px at most"
        if not self.skipped:
            return f"{text}."
        kinds = Counter(one.reason.split(":")[0] for one in self.skipped)
        reasons = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        return f"{text}.\nSkipped {_number(len(self.skipped), 'file')}: {reasons}."

    def write_skipped(self, path: Path) -> None:
        """Write `skipped` as a CSV (path, reason), atomically; names that are no UTF-8 keep their bytes."""
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerows([("path", "reason"), *((one.path, one.reason) for one in self.skipped)])
        write_atomically(path, text.getvalue().encode("utf-8", "surrogateescape"))

    def __reduce__(self) -> Any:
        if self.entry is None:
            return super().__reduce__()
        return _reopen, (self.entry, self.fingerprint, self.source, self.storage_side, self.positions)

    @staticmethod
    def open(
        source: str | Path,
        *,
        size: int,
        labels: Path | None = None,
        workers: int = 0,
        progress: packing.Progress | None = None,
        cache: Path | None = None,
        minimum: int = FEWEST_IMAGES,
    ) -> "ImageStore":
        """The images that `source` names, decoded at the first opening and mapped from the cache afterwards.

        Args:
            source: a folder, a .zip or .tar, a CSV or text list of paths, or a name of `nolabel.data.named`.
            size: side of the training view in pixels; shorter sides are stored at most at 1.25 times that.
            labels: a CSV with the header `path,label`.
            workers: processes that decode; 0: one per core. The result does not depend on it.
            progress: called with (files done, files in all) while images are decoded.
            cache: folder of the cache instead of the user's own.
            minimum: fewest images that make sense to the caller.

        Raises:
            UsageError: no such path, a file of another kind, or a size below 1.
            DataError: no image, none readable, fewer than `minimum`, or labels that do not fit.
            RunError: the cache cannot be written.
        """
        check_size(size)
        side = math.ceil(STORAGE_MARGIN * size)
        if str(source) in named.NAMES and not Path(source).exists():
            if labels is not None:
                raise UsageError(f"{source} brings its own labels: leave the labels file out.")
            listing = named.find(str(source), cache_files.folder(cache) / "downloads")
        else:
            listing = sources.find(source, labels, cache_files.remembered_digest(cache))
        key = f"{listing.key} reader {READER_VERSION} format {packing.FORMAT} side {side}"
        fingerprint = hashlib.sha256(key.encode()).hexdigest()
        place = cache_files.folder(cache) / "stores" / fingerprint[:32]
        packed = packing.load(place)
        if packed is None:
            stores = cache_files.writable(cache)
            with cache_files.locked(stores / f"{place.name}.lock"):
                packed = packing.load(place)  # another process may have built it while this one waited
                if packed is None:
                    cache_files.remove_partial(cache)
                    files = listing.load()
                    packing.build(
                        place, files, source=str(source), side=side, processes=workers, progress=progress
                    )
                    packed = packing.load(place)
            assert packed is not None
            used = 3 * int((packed.heights * packed.widths).sum())
            cache_files.evict(cache_files.limit() - used, place, cache)
        store = _of_packed(packed, fingerprint, str(source), side)
        if len(store) < minimum:
            found = _number(len(store), "readable image")
            raise DataError(f"{source} has {found}, too few: at least {minimum} are needed.")
        return store

    @staticmethod
    def of(
        images: list[Tensor] | Tensor,
        labels: Sequence[int] | Tensor | None = None,
        splits: Sequence[int] | Tensor | None = None,
        *,
        class_names: Sequence[str] | None = None,
        split_names: Sequence[str] | None = None,
        source: str = "memory",
    ) -> "ImageStore":
        """A store in memory of uint8 images, each (3, H, W), of any sizes.

        Without `split_names` they are "train" and "test" if `splits` is given; classes are numbers.
        """
        packed = ImageBatch.of(images)
        n = packed.size
        of_label = torch.full((n,), -1) if labels is None else torch.as_tensor(labels, dtype=torch.int64)
        of_split = (
            torch.zeros(n, dtype=torch.int64)
            if splits is None
            else torch.as_tensor(splits, dtype=torch.int64)
        )
        digest = hashlib.sha256(packed.pixels.numpy().tobytes())
        for table in (packed.heights, packed.widths, of_label, of_split):
            digest.update(table.numpy().tobytes())
        if len(of_label) != n or len(of_split) != n:
            raise UsageError(f"There are {n} images but {len(of_label)} labels and {len(of_split)} splits.")
        return ImageStore(
            pixels=packed.pixels,
            offsets=packed.offsets,
            heights=packed.heights,
            widths=packed.widths,
            labels=of_label,
            splits=of_split,
            split_names=tuple(split_names or (("all",) if splits is None else ("train", "test"))),
            paths=[f"{i:06d}" for i in range(n)],
            class_names=tuple(class_names or map(str, range(int(of_label.max()) + 1))),
            fingerprint=digest.hexdigest(),
            source=source,
            skipped=(),
            storage_side=int(torch.minimum(packed.heights, packed.widths).max()),
        )


def _of_packed(packed: packing.Packed, fingerprint: str, source: str, side: int) -> ImageStore:
    heights, widths = torch.from_numpy(packed.heights), torch.from_numpy(packed.widths)
    sizes = 3 * heights * widths
    pixels = torch.from_file(
        str(packed.folder / "pixels.bin"), shared=False, size=int(sizes.sum()), dtype=torch.uint8
    )
    return ImageStore(
        pixels=pixels,
        offsets=sizes.cumsum(0) - sizes,
        heights=heights,
        widths=widths,
        labels=torch.from_numpy(packed.labels),
        splits=torch.from_numpy(packed.splits),
        split_names=packed.split_names,
        paths=packed.paths,
        class_names=packed.class_names,
        fingerprint=fingerprint,
        source=source,
        skipped=packed.skipped,
        storage_side=side,
        found=packed.found,
        entry=packed.folder,
    )


def _reopen(entry: Path, fingerprint: str, source: str, side: int, positions: Tensor | None) -> ImageStore:
    """A pickled store, mapped again."""
    packed = packing.load(entry)
    if packed is None:
        raise DataError(f"The packed images of {source} are gone from {entry}: start the command again.")
    store = _of_packed(packed, fingerprint, source, side)
    return store if positions is None else replace(store.subset(positions), fingerprint=fingerprint)


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
