"""What is found in a folder, an archive or a list, and what is said about the rest."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from nolabel.data import layout
from nolabel.data.files import Files, file_digest
from nolabel.data.sources import find
from nolabel.errors import DataError, NolabelError, UsageError


def png(value: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "PNG")
    return file.getvalue()


def tree(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(i))
    return root


def load(source: Path, **options: Path) -> Files:
    return find(source, **options).load()


def sentence(kind: type[NolabelError], source: Path, **options: Path) -> str:
    with pytest.raises(kind) as caught:
        load(source, **options)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def labels_of(files: Files) -> dict[str, str | None]:
    names = (*files.class_names, None)
    return {path: names[label] for path, label in zip(files.paths, files.labels, strict=True)}


def splits_of(files: Files) -> dict[str, str]:
    return {path: files.split_names[split] for path, split in zip(files.paths, files.splits, strict=True)}


def test_classes_are_in_natural_order() -> None:
    found = layout.layout(["10_b/x.png", "9_a/x.png", "1_c/x.png", "Z/x.png", "a/x.png"])
    assert found.class_names == ("1_c", "9_a", "10_b", "Z", "a")
    assert found.labels == (2, 1, 0, 3, 4)


@pytest.mark.parametrize("prefix", ["", "mydata/", "mydata/images/"])
def test_splits_and_classes_are_read_from_folders(prefix: str) -> None:
    paths = [
        f"{prefix}{name}"
        for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/deep/3.png", "train/4.png")
    ]
    found = layout.layout(paths)
    assert (found.split_names, found.splits) == (("train", "test"), (0, 0, 1, 0))
    assert (found.class_names, found.labels) == (("cat", "dog"), (0, 1, 0, -1))


def test_val_is_the_test_split_only_where_there_is_no_test() -> None:
    assert layout.layout(["train/a/1", "val/a/2"]).split_names == ("train", "test")
    assert layout.layout(["train/a/1", "Validation/a/2"]).splits == (0, 1)
    assert layout.layout(["train/a/1", "val/a/2", "test/a/3"]).split_names == ("train", "val", "test")


def test_a_lone_split_folder_is_no_class_and_a_class_may_be_called_train() -> None:
    assert layout.layout(["train/a/1", "train/b/2"]).class_names == ("a", "b")
    assert layout.layout(["train/1", "bus/2"]).class_names == ("bus", "train")
    assert layout.layout(["cats/1", "cats/2"]).class_names == ("cats",)
    assert layout.layout(["1", "2"]) == layout.Layout((-1, -1), (0, 0), (), ("all",))


def test_images_outside_the_splits_are_listed(tmp_path: Path) -> None:
    files = load(tree(tmp_path, "train/a/1.png", "test/a/2.png", "masks/3.png", "4.png"))
    assert files.paths == ("test/a/2.png", "train/a/1.png")
    assert len(list(files.blobs())) == 2
    assert {one.path for one in files.skipped} == {"masks/3.png", "4.png"}


def test_system_files_other_kinds_and_run_folders_are_left_out(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "a/2.png",
        "a/10.png",
        "a/.hidden.png",
        "__MACOSX/a/1.png",
        "a/._1.png",
        "@eaDir/1.png",
        "Thumbs.db",
    )
    tree(tmp_path, "run/sheet.png", "run/run.json", "notes.txt", "index.csv", "more.zip")
    files = load(tmp_path)
    assert files.paths == ("a/2.png", "a/10.png")
    assert {(one.path, one.reason.split(":")[0]) for one in files.skipped} == {
        ("run", "run folder of nolabel"),
        ("more.zip", "archive inside"),
    }


def test_links_are_followed_without_end_and_special_files_are_not_opened(tmp_path: Path) -> None:
    tree(tmp_path, "data/a/1.png")
    tree(tmp_path, "elsewhere/2.png")
    (tmp_path / "data/a/loop").symlink_to(tmp_path / "data")
    (tmp_path / "data/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/broken.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "data/pipe.png")
    files = load(tmp_path / "data")
    assert files.paths == ("a/1.png", "b/2.png")
    assert {one.path for one in files.skipped} == {"broken.png", "pipe.png"}


def test_names_that_are_not_utf8_survive(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(raw)).write_bytes(png())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    tree(tmp_path, "b.png")
    files = load(tmp_path)
    assert os.fsencode(files.paths[1]) == b"caf\xe9.png"
    assert list(files.blobs())[1] == png()


def test_the_key_follows_names_sizes_and_times(tmp_path: Path) -> None:
    tree(tmp_path, "a.png", "b.png")
    first = find(tmp_path).key
    assert find(tmp_path).key == first
    os.utime(tmp_path / "a.png", (1, 1))
    second = find(tmp_path).key
    (tmp_path / "a.png").rename(tmp_path / "c.png")
    assert len({first, second, find(tmp_path).key}) == 3


def test_nothing_to_find_is_one_sentence(tmp_path: Path) -> None:
    assert "no folder or file" in sentence(UsageError, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no image in" in sentence(DataError, tmp_path / "empty")
    (tmp_path / "one.png").write_bytes(png())
    assert "single file" in sentence(UsageError, tmp_path / "one.png")
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4 cut")
    assert "damaged" in sentence(DataError, tmp_path / "cut.zip")


def packed_zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def packed_tar(path: Path, entries: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


ENTRIES = {
    "set/train/b/1.png": png(1),
    "set/train/a/2.png": png(2),
    "set/test/a/3.png": png(3),
    "set/readme.txt": b"",
}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "no_suffix"])
def test_archives_are_read_in_place(tmp_path: Path, name: str) -> None:
    path = (packed_zip if "tar" not in name else packed_tar)(tmp_path / name, ENTRIES)
    files = load(path)
    assert dict(zip(files.paths, files.blobs(), strict=True)) == {
        k: v for k, v in ENTRIES.items() if "png" in k
    }
    assert labels_of(files) == {"set/train/b/1.png": "b", "set/train/a/2.png": "a", "set/test/a/3.png": "a"}
    assert splits_of(files)["set/test/a/3.png"] == "test"
    assert find(path).key == file_digest(path)
    assert os.listdir(tmp_path) == [name]


def test_names_that_lead_out_of_an_archive_are_only_names(tmp_path: Path) -> None:
    for path in (
        packed_zip(tmp_path / "x.zip", {"../../out.png": png(), "/abs.png": png(1)}),
        packed_tar(tmp_path / "x.tar", {"../../out.png": png(), "/abs.png": png(1)}),
    ):
        assert sorted(map(len, load(path).blobs())) == sorted([len(png()), len(png(1))])
    assert set(os.listdir(tmp_path)) == {"x.zip", "x.tar"}


def test_bad_entries_of_a_zip_cost_only_themselves(tmp_path: Path) -> None:
    path = packed_zip(
        tmp_path / "x.zip", {"a/1.png": png(1), "a/2.png": png(2), "a/3.png": png(3), "in.zip": b"PK"}
    )
    data = bytearray(path.read_bytes())
    data[data.find(png(1)) + 30] ^= 255
    with zipfile.ZipFile(path) as archive:
        central = archive.start_dir
    place = data.find(b"a/2.png", central) - 46
    assert data[place : place + 4] == b"PK\1\2"
    data[place + 8] |= 1  # encrypted
    path.write_bytes(data)
    files = load(path)
    bad, locked, good = files.blobs()
    assert isinstance(bad, str)
    assert bad.startswith("damaged in the archive")
    assert isinstance(locked, str)
    assert locked.startswith("encrypted")
    assert good == png(3)
    assert [one.path for one in files.skipped] == ["in.zip"]


def test_only_an_archive_inside_an_archive_says_what_to_do(tmp_path: Path) -> None:
    path = packed_zip(
        tmp_path / "x.zip", {"inner.zip": packed_zip(tmp_path / "i.zip", {"1.png": png()}).read_bytes()}
    )
    assert "unpack inner.zip" in sentence(DataError, path)


def test_a_cut_tar_is_one_sentence(tmp_path: Path) -> None:
    path = packed_tar(tmp_path / "x.tar.gz", {f"{i}.png": os.urandom(5000) for i in range(5)})
    path.write_bytes(path.read_bytes()[:9000])
    assert "x.tar.gz" in sentence(DataError, path)


def test_labels_from_a_csv_replace_folder_names(tmp_path: Path) -> None:
    tree(tmp_path / "d", "x/1.png", "x/2.png", "y/3.png")
    table = tmp_path / "labels.csv"
    table.write_text("\ufeffPath , Label\nx/1.png,dog\n./x/2.png,cat\n")
    files = load(tmp_path / "d", labels=table)
    assert labels_of(files) == {"x/1.png": "dog", "x/2.png": "cat", "y/3.png": None}
    key = find(tmp_path / "d", table).key
    table.write_text("path,label\nx/1.png,cat\n")
    assert key != find(tmp_path / "d", table).key != find(tmp_path / "d").key


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("1.png,dog\n", "header path,label"),
        ("", "header path,label"),
        ("path,label\n", "names no file"),
        ("path,label\n1.png\n", "Line 2"),
        ("path,label\n1.png,a\n1.png,b\n", "two labels"),
        ("path,label\n1.png,a\n7.png,b\n8.png,b\n", "names 2 files that are not there, first 7.png"),
        ("path,label\n9.png,a\n", "names 9.png, which is not there"),
    ],
)
def test_a_csv_that_does_not_fit_is_one_sentence(tmp_path: Path, text: str, part: str) -> None:
    tree(tmp_path, "1.png", "2.png")
    (tmp_path / "labels.csv").write_text(text)
    assert part in sentence(DataError, tmp_path, labels=tmp_path / "labels.csv")
    assert part in sentence(DataError, tmp_path / "labels.csv")


def test_lists_of_paths_name_the_images(tmp_path: Path) -> None:
    tree(tmp_path, "x/1.png", "x/2.png", "y/3.png")
    (tmp_path / "list.txt").write_text(f"y/3.png\n\n{tmp_path}/x/1.png\n")
    files = load(tmp_path / "list.txt")
    assert files.paths == ("y/3.png", f"{tmp_path}/x/1.png")
    assert list(files.blobs()) == [png(2), png(0)]
    assert files.class_names == ()
    assert set(files.labels) == {-1}
    (tmp_path / "list.csv").write_text("label,path\ndog,x/2.png\n")
    assert labels_of(load(tmp_path / "list.csv")) == {"x/2.png": "dog"}
