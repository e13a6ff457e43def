"""How the data sets of SimCLR's transfer table lie on disk, and which of their images are for training and testing.

Each function takes the folder that torchvision unpacks a set into and gives its images by the set's official
lists. Training and validation images are joined, as the paper does after it has chosen λ (Chen et al. 2020, B.8);
`VALIDATION` tells which are for choosing.
"""

import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from nolabel.data import layout
from nolabel.seeds import derive

TRAIN, TEST = "train", "test"
CALTECH_TRAIN = 30
"""training images a class of Caltech-101, drawn; all others are tested on"""
SUN_PART = 50
"""training and test images a class of SUN397"""
IGNORED = "?"
"""before a label of several: the object is shown, but so that it counts neither way"""
SEVERAL = ";"
"""between the labels of an image that shows several classes"""


class Entry(NamedTuple):
    """One image."""

    path: str
    """below the set's folder, with "/" """
    label: str
    """its class; several are separated by semicolons"""
    split: str


def food101(root: Path) -> Iterator[Entry]:
    """750 training and 250 test images of each of 101 dishes, by `meta/train.json` and `meta/test.json`."""
    for split in (TRAIN, TEST):
        for label, names in json.loads((root / "meta" / f"{split}.json").read_text(encoding="utf-8")).items():
            yield from (Entry(f"images/{name}.jpg", label, split) for name in names)


def sun397(root: Path) -> Iterator[Entry]:
    """The first of the ten official splits, by `Training_01.txt` and `Testing_01.txt`.

    They come in an archive of their own; without them as many images are drawn, always the same ones.
    """
    lists = {TRAIN: root / "Training_01.txt", TEST: root / "Testing_01.txt"}
    if all(path.is_file() for path in lists.values()):
        for split, path in lists.items():
            for line in path.read_text(encoding="utf-8").split():
                yield Entry(line.lstrip("/"), _scene(line.lstrip("/")), split)
        return
    warnings.warn(
        f"{root} holds no Training_01.txt and Testing_01.txt, the official split: {SUN_PART} training and {SUN_PART} "
        "test images of each class are drawn instead.",
        stacklevel=2,
    )
    for label, paths in _drawn(root, "*/**/sun_*.jpg", _scene).items():
        for place, path in enumerate(paths[: 2 * SUN_PART]):
            yield Entry(path, label, TRAIN if place < SUN_PART else TEST)


def _scene(path: str) -> str:
    """`a/apse/indoor/sun_x.jpg` is of the class apse/indoor."""
    return "/".join(path.split("/")[1:-1])


def cars(root: Path) -> Iterator[Entry]:
    """8,144 training and 8,041 test images of 196 cars, by the files of the set's devkit."""
    from scipy.io import loadmat

    names = loadmat(root / "devkit" / "cars_meta.mat", squeeze_me=True)["class_names"].tolist()
    lists = {TRAIN: "devkit/cars_train_annos.mat", TEST: "cars_test_annos_withlabels.mat"}
    for split, file in lists.items():
        for row in loadmat(root / file, squeeze_me=True)["annotations"]:
            yield Entry(f"cars_{split}/{row['fname']}", names[int(row["class"]) - 1], split)


def aircraft(root: Path) -> Iterator[Entry]:
    """100 variants of aircraft, by `images_variant_trainval.txt` and `images_variant_test.txt`."""
    for split, file in ((TRAIN, "trainval"), (TEST, "test")):
        for line in (root / "data" / f"images_variant_{file}.txt").read_text(encoding="utf-8").splitlines():
            name, label = line.split(" ", 1)
            yield Entry(f"data/images/{name}.jpg", label.strip(), split)


def voc2007(root: Path) -> Iterator[Entry]:
    """20 classes, several an image: `labels` such as `cat;dog`; `?dog` where each dog is marked as difficult."""
    lists = root / "ImageSets" / "Main"
    for split, part in ((TRAIN, "trainval"), (TEST, "test")):
        shown: dict[str, list[str]] = {
            name: [] for name in (lists / f"{part}.txt").read_text(encoding="utf-8").split()
        }
        for file in sorted(lists.glob(f"*_{part}.txt")):
            label = file.stem.removesuffix(f"_{part}")
            for line in file.read_text(encoding="utf-8").splitlines():
                name, flag = line.split()
                if flag != "-1":
                    shown[name].append(label if flag == "1" else IGNORED + label)
        for name, labels in shown.items():
            yield Entry(f"JPEGImages/{name}.jpg", SEVERAL.join(labels), split)


def dtd(root: Path) -> Iterator[Entry]:
    """47 textures, the first of the ten official splits."""
    for split, part in ((TRAIN, "train"), (TRAIN, "val"), (TEST, "test")):
        for name in (root / "labels" / f"{part}1.txt").read_text(encoding="utf-8").split():
            yield Entry(f"images/{name}", name.split("/")[0], split)


def pets(root: Path) -> Iterator[Entry]:
    """37 breeds of cats and dogs, by `annotations/trainval.txt` and `test.txt`."""
    for split, part in ((TRAIN, "trainval"), (TEST, "test")):
        for line in (root / "annotations" / f"{part}.txt").read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                name = line.split()[0]
                yield Entry(f"images/{name}.jpg", name.rsplit("_", 1)[0], split)


def caltech101(root: Path) -> Iterator[Entry]:
    """101 things and the background: 30 training images a class, always the same ones, all others for the test."""
    for label, paths in _drawn(root, "*/*.jpg", lambda path: path.split("/")[0]).items():
        for place, path in enumerate(paths):
            yield Entry(path, label, TRAIN if place < CALTECH_TRAIN else TEST)


def flowers102(root: Path) -> Iterator[Entry]:
    """102 flowers, 10 training, 10 validation and at least 20 test images each, by `setid.mat`."""
    from scipy.io import loadmat
    from torchvision.datasets import Flowers102

    numbers = loadmat(root / "imagelabels.mat", squeeze_me=True)["labels"]
    parts = loadmat(root / "setid.mat", squeeze_me=True)
    for split, part in ((TRAIN, "trnid"), (TRAIN, "valid"), (TEST, "tstid")):
        for image in parts[part].tolist():
            yield Entry(f"jpg/image_{image:05d}.jpg", Flowers102.classes[numbers[image - 1] - 1], split)


def _validation_of_aircraft(root: Path) -> list[str]:
    lines = (root / "data" / "images_variant_val.txt").read_text(encoding="utf-8").splitlines()
    return [f"data/images/{line.split(' ', 1)[0]}.jpg" for line in lines]


def _validation_of_voc2007(root: Path) -> list[str]:
    names = (root / "ImageSets" / "Main" / "val.txt").read_text(encoding="utf-8").split()
    return [f"JPEGImages/{name}.jpg" for name in names]


def _validation_of_dtd(root: Path) -> list[str]:
    return [f"images/{name}" for name in (root / "labels" / "val1.txt").read_text(encoding="utf-8").split()]


def _validation_of_flowers102(root: Path) -> list[str]:
    from scipy.io import loadmat

    numbers = loadmat(root / "setid.mat", squeeze_me=True)["valid"].tolist()
    return [f"jpg/image_{image:05d}.jpg" for image in numbers]


VALIDATION: dict[str, Callable[[Path], list[str]]] = {
    "aircraft": _validation_of_aircraft,
    "voc2007": _validation_of_voc2007,
    "dtd": _validation_of_dtd,
    "flowers102": _validation_of_flowers102,
}
"""set -> the paths of its official validation images, which are among its training images; OSError: no list is there"""


def _drawn(root: Path, pattern: str, label_of: Callable[[str], str]) -> dict[str, list[str]]:
    """The images of each class in an order that is drawn, and the same on every machine."""
    of_class: defaultdict[str, list[str]] = defaultdict(list)
    for file in root.glob(pattern):
        if not layout.is_hidden(file.name):
            path = file.relative_to(root).as_posix()
            of_class[label_of(path)].append(path)
    return {
        label: sorted(paths, key=lambda path: derive(0, "split", path)) for label, paths in of_class.items()
    }
