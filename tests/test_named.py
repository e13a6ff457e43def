"""Data sets by name, on small trees laid out as torchvision leaves them; torchvision's own reading is the oracle."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cli_helpers import picture
from nolabel.data import named
from nolabel.data.files import Files
from nolabel.data.store import ImageStore
from nolabel.errors import DataError, UsageError
from nolabel.evaluation._split import divide
from nolabel.evaluation.targets import target_of
from nolabel.evaluation.transfer import METRICS, metric_of

Laid = dict[str, str]
"""path below the set's folder -> "<class> <split>" """


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def food101(root: Path) -> Laid:
    of = {
        "train": {"ramen": ["ramen/3", "ramen/12"], "pho": ["pho/2"]},
        "test": {"ramen": ["ramen/4"], "pho": ["pho/9"]},
    }
    write(root, {f"meta/{split}.json": json.dumps(names) for split, names in of.items()})
    return {
        f"images/{name}.jpg": f"{label} {split}"
        for split, classes in of.items()
        for label, names in classes.items()
        for name in names
    }


def sun397(root: Path) -> Laid:
    write(root, {
        "ClassName.txt": "/a/abbey\n/a/apse/indoor\n",
        "Training_01.txt": "/a/abbey/sun_ab.jpg\n/a/apse/indoor/sun_ad.jpg\n",
        "Testing_01.txt": "/a/abbey/sun_aa.jpg\n/a/apse/indoor/sun_ac.jpg\n",
    })  # fmt: skip
    return {
        "a/abbey/sun_ab.jpg": "abbey train",
        "a/apse/indoor/sun_ad.jpg": "apse/indoor train",
        "a/abbey/sun_aa.jpg": "abbey test",
        "a/apse/indoor/sun_ac.jpg": "apse/indoor test",
    }


def cars(root: Path) -> Laid:
    from scipy.io import savemat

    def rows(*found: tuple[str, int]) -> dict[str, np.ndarray]:
        return {"annotations": np.array(list(found), dtype=[("fname", object), ("class", object)])}

    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array(["BMW X5", "Audi R8"], dtype=object)})
    savemat(root / "devkit" / "cars_train_annos.mat", rows(("00001.jpg", 2), ("00002.jpg", 1)))
    savemat(root / "cars_test_annos_withlabels.mat", rows(("00001.jpg", 1), ("00002.jpg", 2)))
    return {
        "cars_train/00001.jpg": "Audi R8 train",
        "cars_train/00002.jpg": "BMW X5 train",
        "cars_test/00001.jpg": "BMW X5 test",
        "cars_test/00002.jpg": "Audi R8 test",
    }


def aircraft(root: Path) -> Laid:
    write(root, {
        "data/variants.txt": "707-320\nMD-11 heavy\n",
        "data/images_variant_trainval.txt": "0001 MD-11 heavy\n0002 707-320\n",
        "data/images_variant_test.txt": "0003 707-320\n0004 MD-11 heavy\n",
    })  # fmt: skip
    of = {
        "0001": "MD-11 heavy train",
        "0002": "707-320 train",
        "0003": "707-320 test",
        "0004": "MD-11 heavy test",
    }
    return {f"data/images/{name}.jpg": where for name, where in of.items()}


def voc2007(root: Path) -> Laid:
    lists = {
        "trainval": "000005\n000007\n", "cat_trainval": "000005  1\n000007 -1\n",
        "dog_trainval": "000005  0\n000007  1\n",
        "test": "000001\n000002\n", "cat_test": "000001 -1\n000002  1\n", "dog_test": "000001  1\n000002  1\n",
    }  # fmt: skip
    write(root, {f"ImageSets/Main/{name}.txt": text for name, text in lists.items()})
    of = {"000005": "cat;?dog train", "000007": "dog train", "000001": "dog test", "000002": "cat;dog test"}
    return {f"JPEGImages/{name}.jpg": where for name, where in of.items()}


def dtd(root: Path) -> Laid:
    of = {"train1": "knit/a.jpg\nlacy/a.jpg\n", "val1": "knit/b.jpg\n", "test1": "knit/c.jpg\nlacy/c.jpg\n"}
    write(root, {f"labels/{name}.txt": text for name, text in of.items()})
    write(root, {"labels/train2.txt": "knit/c.jpg\n"})
    return {
        f"images/{name}": f"{name.split('/')[0]} {'test' if part == 'test1' else 'train'}"
        for part, text in of.items()
        for name in text.split()
    }


def pets(root: Path) -> Laid:
    write(root, {
        "annotations/trainval.txt": "Abyssinian_10 1 1 1\namerican_bulldog_2 2 2 1\n",
        "annotations/test.txt": "Abyssinian_3 1 1 1\namerican_bulldog_1 2 2 1\n",
    })  # fmt: skip
    return {
        "images/Abyssinian_10.jpg": "Abyssinian train",
        "images/american_bulldog_2.jpg": "american_bulldog train",
        "images/Abyssinian_3.jpg": "Abyssinian test",
        "images/american_bulldog_1.jpg": "american_bulldog test",
    }


def flowers102(root: Path) -> Laid:
    from scipy.io import savemat

    root.mkdir(parents=True)
    savemat(root / "imagelabels.mat", {"labels": np.array([[1, 2, 1, 2, 1, 2]])})
    savemat(
        root / "setid.mat",
        {"trnid": np.array([[1, 4]]), "valid": np.array([[5, 6]]), "tstid": np.array([[2, 3]])},
    )
    of = {
        1: "pink primrose train",
        4: "hard-leaved pocket orchid train",
        5: "pink primrose train",
        6: "hard-leaved pocket orchid train",
        2: "hard-leaved pocket orchid test",
        3: "pink primrose test",
    }
    return {f"jpg/image_{number:05d}.jpg": where for number, where in of.items()}


LAYERS: dict[str, Callable[[Path], Laid]] = {
    layer.__name__: layer for layer in (food101, sun397, cars, aircraft, voc2007, dtd, pets, flowers102)
}


def lay(name: str, downloads: Path) -> Laid:
    """The set `name` under `downloads` with an image of its own at every path."""
    kind = named.SETS[name]
    assert isinstance(kind, named.Unpacked)
    root = downloads / kind.folder
    laid = LAYERS[name](root)
    for number, path in enumerate(laid):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        picture(number, 8).save(root / path)
    return laid


def told(files: Files) -> Laid:
    return {
        path: f"{files.class_names[label]} {files.split_names[split]}"
        for path, label, split in zip(files.paths, files.labels, files.splits, strict=True)
    }


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("something is fetched")

    monkeypatch.setattr(named, "_fetch", never)


def test_the_names_are_those_of_the_table_and_stl10() -> None:
    assert set(named.NAMES) == {*METRICS, "stl10"}
    for name in METRICS:
        assert metric_of(name) == METRICS[name]
    for name, kind in named.SETS.items():
        if isinstance(kind, named.Unpacked) and name != "voc2007":
            assert metric_of(f"/data/{kind.folder}/") == METRICS.get(name, "top1"), kind.folder


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", LAYERS)
def test_a_set_in_the_downloads_is_read_by_its_official_lists(name: str, tmp_path: Path) -> None:
    laid = lay(name, tmp_path)
    files = named.find(name, tmp_path).load()
    assert told(files) == laid
    assert files.split_names == ("train", "test")
    assert all(isinstance(blob, bytes) and blob for blob in files.blobs())


@pytest.mark.slow  # importing torchvision takes seconds
@pytest.mark.parametrize("name", LAYERS)
def test_torchvision_finds_the_same_images_in_that_tree(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    monkeypatch.setattr("torchvision.datasets.flowers102.check_integrity", lambda *_: True)
    laid = lay(name, tmp_path)
    kind = named.SETS[name]
    assert isinstance(kind, named.Unpacked)
    splits = {
        "food101": ("train", "test"), "cars": ("train", "test"), "aircraft": ("trainval", "test"),
        "dtd": ("train", "val", "test"), "pets": ("trainval", "test"), "flowers102": ("train", "val", "test"),
    }.get(name, ())  # fmt: skip
    calls = [{"split": split} for split in splits] or list(kind.calls)
    found: Counter[tuple[str, str]] = Counter()
    for call in calls:
        part = getattr(datasets, kind.kind)(tmp_path, **call)
        where = "test" if "test" in call.values() else "train"
        paths = (
            getattr(part, "_image_files", None)
            or getattr(part, "_images", None)
            or getattr(part, "images", None)
        )
        for path in paths or [path for path, _ in part._samples]:
            found[Path(path).relative_to(tmp_path / kind.folder).as_posix(), where] += 1
    if name == "sun397":  # torchvision knows no split of it
        assert {path for path, _ in found} == set(laid)
    else:
        assert found == Counter((path, where.split()[-1]) for path, where in laid.items())


@pytest.mark.usefixtures("no_network")
def test_caltech_has_thirty_training_images_a_class_and_always_the_same(tmp_path: Path) -> None:
    root = tmp_path / "caltech101" / "101_ObjectCategories"
    for label, count in (("BACKGROUND_Google", 33), ("ant", 42)):
        write(root, {f"{label}/image_{i:04d}.jpg": "" for i in range(1, count + 1)})
    files = named.find("caltech101", tmp_path).load()
    counts = Counter(told(files).values())
    assert counts == {
        "BACKGROUND_Google train": 30, "BACKGROUND_Google test": 3, "ant train": 30, "ant test": 12,
    }  # fmt: skip
    assert told(files) == told(named.find("caltech101", tmp_path).load())
    first = [path for path, where in told(files).items() if where == "ant train"]
    assert first != [f"ant/image_{i:04d}.jpg" for i in range(1, 31)]  # drawn, not the first thirty


@pytest.mark.usefixtures("no_network")
def test_sun397_without_its_lists_is_drawn_and_says_so(tmp_path: Path) -> None:
    write(tmp_path / "SUN397", {f"a/abbey/sun_{i:03d}.jpg": "" for i in range(103)})
    listing = named.find("sun397", tmp_path)
    with pytest.warns(UserWarning, match=r"Training_01\.txt"):
        files = listing.load()
    assert Counter(told(files).values()) == {"abbey train": 50, "abbey test": 50}
    write(tmp_path / "SUN397", {"Training_01.txt": "", "Testing_01.txt": ""})
    assert named.find("sun397", tmp_path).key != listing.key  # the lists decide the split


@pytest.mark.usefixtures("no_network")
def test_difficult_objects_count_neither_way(tmp_path: Path) -> None:
    lay("voc2007", tmp_path / "downloads")
    target = target_of(ImageStore.open("voc2007", size=8, cache=tmp_path, minimum=1))
    assert target.metric == "map11"
    assert target.store.class_names == ("cat", "dog")
    assert target.tags is not None
    by_path = dict(zip(target.store.paths, target.tags.tolist(), strict=True))
    assert by_path == {
        "JPEGImages/000005.jpg": [1, -1],
        "JPEGImages/000007.jpg": [0, 1],
        "JPEGImages/000001.jpg": [0, 1],
        "JPEGImages/000002.jpg": [1, 1],
    }


def test_birdsnap_is_a_folder_only(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="list of links.*give the path of a folder birdsnap"):
        ImageStore.open("birdsnap", size=8, cache=tmp_path)


def test_a_damaged_list_is_one_sentence(tmp_path: Path) -> None:
    lay("food101", tmp_path)
    (tmp_path / "food-101" / "meta" / "test.json").write_text("{")
    with pytest.raises(DataError, match="The lists of food101 in .* cannot be read"):
        named.find("food101", tmp_path).load()


@pytest.mark.slow  # importing torchvision takes seconds
@pytest.mark.parametrize("name", named.SETS)
def test_a_set_that_cannot_be_fetched_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(datasets, named.SETS[name].kind, unreachable)
    with pytest.raises(DataError, match="cannot be downloaded .*no route to host.*: unpack it there"):
        named.find(name, tmp_path).load()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # importing torchvision takes seconds
def test_a_set_that_was_only_partly_unpacked_is_not_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    def full_disk(root: Path, **_: object) -> None:
        lay("food101", root)
        raise OSError("no space left")

    monkeypatch.setattr(datasets, "Food101", full_disk)
    with pytest.raises(DataError, match="no space left"):
        named.find("food101", tmp_path).load()
    with pytest.raises(DataError, match=r"food-101 was only partly unpacked: .*food101\.unfinished"):
        named.find("food101", tmp_path).load()
    (tmp_path / "food101.unfinished").unlink()
    assert len(named.find("food101", tmp_path).load().paths) == 5


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean the data set cifar10"):
        ImageStore.open("cifar-10", size=8)


def test_images_without_a_label_are_left_out_of_every_division() -> None:
    images = torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8)
    labels = [0, 1, -1, 0, 1, -1, -1, -1, 0, 1, 0, 1]
    store = ImageStore.of(images, labels, [0] * 8 + [1] * 4)
    division = divide(store, 0)
    assert division.train.tolist() == [0, 1, 3, 4]
    assert division.test.tolist() == [8, 9, 10, 11]
