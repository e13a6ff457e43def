"""Data sets by name, through torchvision: `cifar10`, `cifar100`, `stl10`, downloaded once."""

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nolabel.data.files import Files, Listing
from nolabel.data.workers import Blob
from nolabel.errors import DataError

NAMES = ("cifar10", "cifar100", "stl10")


def find(name: str, downloads: Path) -> Listing:
    """The listing of one of `NAMES`; the files are checked by torchvision's digests when they are loaded.

    STL-10's unlabelled images come in the training split, without labels.

    Raises:
        DataError: it is not there and cannot be downloaded.
    """
    return Listing(f"torchvision {name}", lambda: _load(name, downloads))


def _load(name: str, downloads: Path) -> Files:
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "stl10": datasets.STL10}[name]
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        if name == "stl10":
            parts = [kind(downloads, split=split, download=True) for split in ("train+unlabeled", "test")]
        else:
            parts = [kind(downloads, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        cause = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise DataError(
            f"{name} cannot be downloaded to {downloads} ({cause}): "
            "give the path of a folder or .zip of its images."
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)
    classes = tuple(parts[0].classes)
    labels = [
        [int(label) for label in getattr(part, "targets", getattr(part, "labels", ()))] for part in parts
    ]
    paths = [
        f"{split}/{classes[label] if label >= 0 else 'unlabelled'}/{i:06d}"
        for split, of_split in zip(("train", "test"), labels, strict=True)
        for i, label in enumerate(of_split)
    ]

    def blobs() -> Iterator[Blob]:
        for part in parts:
            for pixels in part.data:
                image = np.moveaxis(pixels, 0, -1) if name == "stl10" else pixels
                yield (
                    b"P6 %d %d 255\n" % (image.shape[1], image.shape[0])
                    + np.ascontiguousarray(image).tobytes()
                )

    splits = (0,) * len(labels[0]) + (1,) * len(labels[1])
    return Files(tuple(paths), tuple(labels[0] + labels[1]), splits, classes, ("train", "test"), blobs)
