"""Data sets by name: the twelve of SimCLR's transfer table and STL-10, fetched once by torchvision.

A set whose files lie in the cache's folder `downloads` as torchvision lays them out is read from there: nothing
is fetched then. `docs/data_sets.md` says how each lies.
"""

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nolabel.data import _official, cache, layout
from nolabel.data._official import TEST, TRAIN, Entry
from nolabel.data.files import Files, Listing, on_disk
from nolabel.data.workers import Blob
from nolabel.errors import DataError

RULES = 1
"""part of a store's key: raise it when a change here or in `_official` moves images between splits or classes"""


@dataclass(frozen=True)
class Unpacked:
    """A set that torchvision leaves as image files."""

    folder: str
    """below the downloads"""
    entries: Callable[[Path], Iterable[Entry]]
    kind: str
    """torchvision's class"""
    needs: tuple[str, ...] = (".",)
    """what must be in the folder"""
    calls: tuple[dict[str, str], ...] = ({},)
    """arguments of the class, once for each part that is fetched by itself"""
    chooses: tuple[str, ...] = ()
    """files that change the split where they are there"""


@dataclass(frozen=True)
class Arrays:
    """A set that torchvision reads from files of raw pixels."""

    kind: str
    """torchvision's class"""
    calls: tuple[dict[str, Any], dict[str, Any]]
    """its arguments for the training and for the test images"""
    channels_first: bool = False


UNLABELLED = "unlabelled"
"""in the place of a class in the path of an image without one"""
_BY_TRAIN = ({"train": True}, {"train": False})

SETS: dict[str, Unpacked | Arrays] = {
    "food101": Unpacked(
        "food-101", _official.food101, "Food101", ("images", "meta/train.json", "meta/test.json")
    ),
    "cifar10": Arrays("CIFAR10", _BY_TRAIN),
    "cifar100": Arrays("CIFAR100", _BY_TRAIN),
    "sun397": Unpacked("SUN397", _official.sun397, "SUN397", chooses=("Training_01.txt", "Testing_01.txt")),
    "cars": Unpacked(
        "stanford_cars",
        _official.cars,
        "StanfordCars",
        ("cars_train", "cars_test", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"),
    ),
    "aircraft": Unpacked(
        "fgvc-aircraft-2013b",
        _official.aircraft,
        "FGVCAircraft",
        ("data/images", "data/images_variant_trainval.txt", "data/images_variant_test.txt"),
    ),
    "voc2007": Unpacked(
        "VOCdevkit/VOC2007",
        _official.voc2007,
        "VOCDetection",
        ("JPEGImages", "ImageSets/Main/trainval.txt", "ImageSets/Main/test.txt"),
        ({"year": "2007", "image_set": "trainval"}, {"year": "2007", "image_set": "test"}),
    ),
    "dtd": Unpacked("dtd/dtd", _official.dtd, "DTD", ("images", "labels/train1.txt", "labels/test1.txt")),
    "pets": Unpacked(
        "oxford-iiit-pet",
        _official.pets,
        "OxfordIIITPet",
        ("images", "annotations/trainval.txt", "annotations/test.txt"),
    ),
    "caltech101": Unpacked("caltech101/101_ObjectCategories", _official.caltech101, "Caltech101"),
    "flowers102": Unpacked(
        "flowers-102", _official.flowers102, "Flowers102", ("jpg", "imagelabels.mat", "setid.mat")
    ),
    "stl10": Arrays("STL10", ({"split": "train+unlabeled"}, {"split": "test"}), channels_first=True),
}
FOLDS = {"stl10": "stl10_binary/fold_indices.txt"}
"""the file below the downloads that names the training images of each predefined fold, one fold a line"""
FOLDER_ONLY = ("birdsnap",)
"""in the table too, but its images are a list of links"""
NAMES = (*SETS, *FOLDER_ONLY)


def find(name: str, downloads: Path) -> Listing:
    """The listing of one of `NAMES`; what is fetched is checked by torchvision's digests.

    STL-10's unlabelled images come in the training split, without labels. The labels of VOC 2007 are joined by
    semicolons, `?` before those that count neither way.

    Raises:
        DataError: it is not there and cannot be fetched.
    """
    if name in FOLDER_ONLY:
        raise DataError(
            f"{name} is published as a list of links, which nothing fetches here: give the path of a folder "
            f"{name} with train/<class> and test/<class>."
        )
    kind = SETS[name]
    if isinstance(kind, Arrays):
        return Listing(f"torchvision {name}", lambda: _from_arrays(name, kind, downloads))
    choosing = [file for file in kind.chooses if (downloads / kind.folder / file).is_file()]
    return Listing(f"torchvision {name} {choosing} {RULES}", lambda: _from_files(name, kind, downloads))


def folds(source: str, paths: Sequence[str], downloads: Path | None = None) -> list[list[int]]:
    """The predefined folds of the data set named `source`: the positions in `paths` of the training images of each.

    Args:
        paths: of the images, as its listing gives them.
        downloads: None: the folder of the user's cache.

    Raises:
        DataError: a source that brings no folds, or a file of folds that is not there, damaged, or of other images.
    """
    if source not in FOLDS:
        raise DataError(
            f"{source} brings no folds of training images, as {' and '.join(FOLDS)} does: draw them by a number "
            "of images per class."
        )
    file = (downloads or cache.folder() / "downloads") / FOLDS[source]
    place = {
        int(path.rpartition("/")[2]): i
        for i, path in enumerate(paths)
        if path.startswith(f"{TRAIN}/") and not path.startswith(f"{TRAIN}/{UNLABELLED}/")
    }
    try:
        numbers = [
            [int(word) for word in line.split()]
            for line in file.read_text(encoding="utf-8").splitlines()
            if line.strip()
        ]
        if not numbers:
            raise ValueError("no fold in it")
        return [[place[number] for number in fold] for fold in numbers]
    except (OSError, ValueError, KeyError) as error:
        cause = f"no training image {error}" if isinstance(error, KeyError) else error
        raise DataError(
            f"The folds of {source} in {file} cannot be read ({cause}): fetch the set again."
        ) from None


def validation(source: str, paths: Sequence[str], downloads: Path | None = None) -> list[int]:
    """Positions in `paths` of the official validation images of the data set named `source`; none where it has none.

    Args:
        paths: of the images, as its listing gives them.
        downloads: None: the folder of the user's cache.
    """
    kind, listed = SETS.get(source), _official.VALIDATION.get(source)
    if listed is None or not isinstance(kind, Unpacked):
        return []
    try:
        official = set(listed((downloads or cache.folder() / "downloads") / kind.folder))
    except OSError:
        return []
    return [place for place, path in enumerate(paths) if path in official]


def _from_files(name: str, kind: Unpacked, downloads: Path) -> Files:
    root, unfinished = downloads / kind.folder, downloads / f"{name}.unfinished"
    if root.exists() and unfinished.exists():  # torchvision would take the folder for the whole set
        raise DataError(
            f"{name} in {root} was only partly unpacked: remove the folder and the file {unfinished}."
        )
    if not all((root / file).exists() for file in kind.needs):
        _fetch(name, kind, downloads, unfinished)
    try:
        entries = sorted(
            kind.entries(root), key=lambda entry: (entry.split == TEST, layout.natural(entry.path))
        )
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"The lists of {name} in {root} cannot be read ({error}): remove the folder and fetch or unpack it again."
        ) from None
    classes = tuple(sorted({entry.label for entry in entries}, key=layout.natural))
    number = {label: i for i, label in enumerate(classes)}
    paths = tuple(entry.path for entry in entries)
    labels = tuple(number[entry.label] for entry in entries)
    splits = tuple(int(entry.split == TEST) for entry in entries)
    return Files(paths, labels, splits, classes, (TRAIN, TEST), lambda: on_disk(root, paths), (), root)


def _fetch(name: str, kind: Unpacked | Arrays, downloads: Path, unfinished: Path | None = None) -> list[Any]:
    """The parts of a set as torchvision's objects; what the downloads hold already is not fetched again.

    The file `unfinished` is there from before anything is unpacked until all is.
    """
    from torchvision import datasets

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        if unfinished:
            unfinished.touch()
        parts = [getattr(datasets, kind.kind)(downloads, download=True, **call) for call in kind.calls]
        if unfinished:
            unfinished.unlink()
        return parts
    except (OSError, RuntimeError, ValueError) as error:
        cause = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        place = downloads / kind.folder if isinstance(kind, Unpacked) else downloads
        if unfinished and not place.exists():  # nothing was unpacked, and somebody may do it by hand
            unfinished.unlink(missing_ok=True)
        raise DataError(
            f"{name} cannot be downloaded to {place} ({cause}): unpack it there, or give the path of a folder or "
            ".zip of its images."
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def _from_arrays(name: str, kind: Arrays, downloads: Path) -> Files:
    parts = _fetch(name, kind, downloads)
    classes = tuple(parts[0].classes)
    labels = [
        [int(label) for label in getattr(part, "targets", getattr(part, "labels", ()))] for part in parts
    ]
    paths = [
        f"{split}/{classes[label] if label >= 0 else UNLABELLED}/{i:06d}"
        for split, of_split in zip((TRAIN, TEST), labels, strict=True)
        for i, label in enumerate(of_split)
    ]

    def blobs() -> Iterator[Blob]:
        for part in parts:
            for pixels in part.data:
                image = np.moveaxis(pixels, 0, -1) if kind.channels_first else pixels
                yield (
                    b"P6 %d %d 255\n" % (image.shape[1], image.shape[0])
                    + np.ascontiguousarray(image).tobytes()
                )

    splits = (0,) * len(labels[0]) + (1,) * len(labels[1])
    return Files(tuple(paths), tuple(labels[0] + labels[1]), splits, classes, (TRAIN, TEST), blobs)
