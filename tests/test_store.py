"""The packed store: the same images whatever the way in, decoded once, never half-read, bounded."""

import csv
import errno
import json
import os
import pickle
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nolabel.data import cache, packing
from nolabel.data.files import Skipped
from nolabel.data.store import FEWEST_IMAGES, ImageStore
from nolabel.errors import DataError, NolabelError, RunError

RANDOM = np.random.default_rng(0)


def picture(height: int, width: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve PNG images of mixed sizes in train/test, two classes."""
    for i in range(12):
        place = tmp_path / "data" / ("train" if i < 8 else "test") / "ab"[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(5 + i, 9)).save(place)
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(source: Path, **options: int) -> ImageStore:
    return ImageStore.open(source, size=32, workers=1, **options)


def sentence(kind: type[NolabelError], source: Path) -> str:
    with pytest.raises(kind) as caught:
        opened(source)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def never(*_: object, **__: object) -> None:
    raise AssertionError("decoded again")


def test_every_image_label_split_and_path_is_in_its_place(folder: Path) -> None:
    store = opened(folder)
    assert (len(store), store.class_names, store.split_names) == (12, ("a", "b"), ("train", "test"))
    for i, path in enumerate(store.paths):
        stored = np.asarray(Image.open(folder / path))
        np.testing.assert_array_equal(
            store.batch(torch.tensor([i])).image(0).permute(1, 2, 0).numpy(), stored
        )
        assert store.class_names[store.labels[i]] == path.split("/")[1]
        assert store.split_names[store.splits[i]] == path.split("/")[0]


def test_a_zip_gives_the_same_store_as_its_folder(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path))
    one, two = opened(folder), opened(tmp_path / "data.zip")
    assert torch.equal(one.pixels, two.pixels)
    assert torch.equal(one.labels, two.labels)
    assert [f"data/{path}" for path in one.paths] == list(two.paths)


def test_a_batch_shares_the_bytes_and_a_subset_keeps_its_rows(folder: Path) -> None:
    store = opened(folder)
    test = store.split("test")
    assert len(test) == 4
    assert test.pixels.data_ptr() == store.pixels.data_ptr()
    again = test.subset(torch.tensor([3, 1]))
    where = [store.paths.index(path) for path in again.paths]
    batch = again.batch(torch.tensor([1, 0, 1]))
    assert batch.indices.tolist() == [1, 0, 1]
    for row, of in enumerate([1, 0, 1]):
        assert torch.equal(batch.image(row), store.batch(torch.tensor(where)).image(of))
    assert (
        len({store.fingerprint, test.fingerprint, again.fingerprint, store.split("train").fingerprint}) == 4
    )
    with pytest.raises(DataError, match="no val split"):
        store.split("val")


def test_a_pickled_store_is_mapped_again(folder: Path) -> None:
    for store in (opened(folder), opened(folder).split("test").subset(torch.tensor([2, 0]))):
        text = pickle.dumps(store)
        again = pickle.loads(text)
        assert len(text) < 3000
        assert (list(again.paths), again.fingerprint) == (list(store.paths), store.fingerprint)
        assert torch.equal(again.offsets, store.offsets)
        assert torch.equal(again.labels, store.labels)


def test_a_device_that_the_store_does_not_fit_gets_packed_batches() -> None:
    images = [torch.from_numpy(picture(4 + i, 5)).permute(2, 0, 1) for i in range(3)]
    store = ImageStore.of(images)
    far = store.to("meta")
    assert far.pixels.device.type == "meta"
    assert far.batch(torch.tensor([0])).device.type == "meta"
    packed = replace(store, device=torch.device("meta")).batch(torch.tensor([2, 0, 2]))
    assert packed.pixels.shape == (3 * 5 * (6 + 4 + 6),)
    assert packed.device.type == "meta"


def test_a_store_in_memory_holds_what_it_was_given() -> None:
    images = [torch.from_numpy(picture(4 + i, 5)).permute(2, 0, 1) for i in range(3)]
    store = ImageStore.of(images, [1, 0, -1], [0, 0, 1])
    assert (store.class_names, store.split_names) == (("0", "1"), ("train", "test"))
    assert torch.equal(store.split("test").batch(torch.tensor([0])).image(0), images[2])
    assert ImageStore.of(images).split("train").split_names == ("all",)
    assert ImageStore.of(images, [1, 1, -1]).fingerprint != ImageStore.of(images, [1, 0, -1]).fingerprint


def test_large_images_are_stored_at_a_quarter_more_than_the_training_size(tmp_path: Path) -> None:
    for i in range(FEWEST_IMAGES):
        Image.fromarray(picture(150, 100 + i)).save(tmp_path / f"{i}.png")
    store = opened(tmp_path)
    assert store.storage_side == 40
    assert (int(store.widths[0]), int(store.heights[0])) == (40, 60)
    assert "at 40 px" in store.describe()


def test_it_says_what_it_found_and_what_it_skipped(folder: Path, tmp_path: Path) -> None:
    (folder / "train/a/text.jpg").write_text("no image")
    (folder / "train/a/README").write_text("no suffix and no image: not worth a word")
    (folder / "train/a/empty.jpg").touch()
    store = opened(folder)
    assert store.describe() == (
        "Found 12 images (9x5 to 9x16, RGB), 2 classes, train 8 / test 4.\n"
        "Skipped 2 files: 1 empty file, 1 not an image."
    )
    store.write_skipped(tmp_path / "skipped.csv")
    with (tmp_path / "skipped.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["path", "reason"],
        ["train/a/empty.jpg", "empty file"],
        ["train/a/text.jpg", "not an image"],
    ]


def test_one_class_and_no_class_are_said() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    assert "one class only (cat)" in ImageStore.of(images, [0, 0], class_names=["cat"]).describe()
    assert "no labels" in ImageStore.of(images).describe()
    assert "1 without a label" in ImageStore.of(images, [0, -1], class_names=["a", "b"]).describe()


def test_names_that_are_not_utf8_are_written_with_their_bytes(tmp_path: Path) -> None:
    store = ImageStore.of(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    replace(store, skipped=(Skipped("caf\udce9.jpg", "empty file"),)).write_skipped(tmp_path / "s.csv")
    assert b"caf\xe9.jpg,empty file" in (tmp_path / "s.csv").read_bytes()


def test_too_few_or_no_readable_image_is_one_sentence(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / f"{i}.jpg").write_text("text")
    assert "None of the 5 files" in sentence(DataError, tmp_path)
    for i in range(5):
        Image.fromarray(picture(4, 4)).save(tmp_path / f"{i}.jpg")
    assert f"5 readable images, too few: at least {FEWEST_IMAGES}" in sentence(DataError, tmp_path)
    assert len(opened(tmp_path, minimum=1)) == 5


def test_the_second_opening_decodes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(folder)
    monkeypatch.setattr(packing, "build", never)
    second = opened(folder)
    assert (second.fingerprint, second.paths, second.describe()) == (
        first.fingerprint,
        first.paths,
        first.describe(),
    )
    assert torch.equal(second.pixels, first.pixels)
    with pytest.raises(AssertionError, match="decoded again"):
        ImageStore.open(folder, size=64)
    os.utime(folder / "train/a/0.png", (1, 1))
    with pytest.raises(AssertionError, match="decoded again"):
        opened(folder)


def test_an_archive_is_known_by_its_bytes(folder: Path, tmp_path: Path) -> None:
    archives = []
    for name in ("one.zip", "two.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for file in sorted(folder.rglob("*.png")):
                archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes())
        archives.append(tmp_path / name)
    os.utime(archives[0], (1000, 1000))
    soon = time.time() + 3600  # however slow the machine is, this one was written a moment ago
    os.utime(archives[1], (soon, soon))
    assert opened(archives[0]).fingerprint == opened(archives[1]).fingerprint
    assert opened(archives[1]).source == str(archives[1])
    notes = json.loads((tmp_path / "cache/digests.json").read_text())
    assert len(notes) == 1, "the archive that was written a moment ago must not be remembered"
    archives[0].write_bytes(archives[0].read_bytes() + b"x")
    os.utime(archives[0], (1000, 1000))
    assert cache.remembered_digest()(archives[0]) != next(iter(notes.values()))[-1]


@pytest.mark.parametrize("name", ["pixels.bin", "paths.bin", "tables.npz", "store.json"])
def test_a_damaged_entry_is_built_again(folder: Path, name: str) -> None:
    first = opened(folder)
    assert first.entry is not None
    pixels = first.pixels.clone()
    data = (first.entry / name).read_bytes()
    (first.entry / name).unlink()
    (first.entry / name).write_bytes(data[: len(data) // 2])
    assert torch.equal(opened(folder).pixels, pixels)


def test_a_half_written_entry_is_never_read_and_goes(folder: Path, own_folder: Path) -> None:
    first = opened(folder)
    assert first.entry is not None
    partial = first.entry.with_name("0123.partial-99")
    partial.mkdir()
    (partial / "pixels.bin").write_bytes(b"half")
    (partial / "store.json").write_text(json.dumps({"source": "x", "images": 1}))
    assert [entry.folder for entry in cache.entries()] == [first.entry]
    ImageStore.open(folder, size=64)
    assert not partial.exists()


def test_a_build_in_progress_is_left_alone(own_folder: Path) -> None:
    stores = cache.writable()
    (stores / "k.partial-1").mkdir()
    with cache.locked(stores / "k.lock") as mine, cache.locked(stores / "k.lock", wait=False) as theirs:
        assert mine
        assert not theirs
        cache.clear()
        assert (stores / "k.partial-1").exists()
    cache.clear()
    assert not (stores / "k.partial-1").exists()


@pytest.mark.parametrize("failing", ["fsync", "rename"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    folder: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync", full) if failing == "fsync" else (Path, "rename", full)))
        text = sentence(RunError, folder)
    assert str(own_folder) in text
    assert "NOLABEL_CACHE" in text
    assert "No space left" in text
    assert [place.suffix for place in (own_folder / "stores").iterdir()] == [".lock"]
    assert len(opened(folder)) == 12


def test_a_cache_that_cannot_be_written_is_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "file"))
    assert "set NOLABEL_CACHE" in sentence(RunError, folder)


def test_interrupted_decoding_leaves_nothing(folder: Path, own_folder: Path) -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ImageStore.open(folder, size=32, workers=1, progress=interrupt)
    assert [place.suffix for place in (own_folder / "stores").iterdir()] == [".lock"]


def test_the_entry_used_longest_ago_goes_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = []
    for i, size in enumerate((32, 33, 34)):
        entry = ImageStore.open(folder, size=size, workers=1).entry
        assert entry is not None
        os.utime(entry / "store.json", (1000 + i, 1000 + i))
        entries.append(entry)
    ImageStore.open(folder, size=32)
    used = [entry.folder for entry in cache.entries()]
    assert used == [entries[0], entries[2], entries[1]]
    monkeypatch.setenv("NOLABEL_CACHE_GB", str(3.5 * cache.entries()[0].bytes / 1e9))
    last = ImageStore.open(folder, size=35).entry
    assert {entry.folder for entry in cache.entries()} == {entries[0], entries[2], last}
    assert cache.clear() > 0
    assert not cache.entries()


def test_images_beyond_the_limit_are_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOLABEL_CACHE_GB", "1e-7")
    assert "NOLABEL_CACHE_GB" in sentence(RunError, folder)
    monkeypatch.setenv("NOLABEL_CACHE_GB", "many")
    with pytest.raises(NolabelError, match="'many'"):
        opened(folder)


@pytest.mark.slow
def test_cifar10_is_whole(shared_data: Path) -> None:
    store = ImageStore.open(shared_data / "cifar10.zip", size=32)
    assert store.describe() == "Found 60,000 images (32x32, RGB), 10 classes, train 50,000 / test 10,000."
    train = store.split("train")
    mean = store.pixels.view(60_000, 1024, 3)[train.positions].double().mean((0, 1)) / 255
    torch.testing.assert_close(mean, torch.tensor([0.4914, 0.4822, 0.4465]).double(), atol=1e-4, rtol=0)
    start = time.perf_counter()
    ImageStore.open(shared_data / "cifar10.zip", size=32)
    print(f"second opening: {time.perf_counter() - start:.2f} s")
