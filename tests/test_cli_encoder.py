"""Commands that use an encoder, and images that cannot be used, or not all."""

import csv
import importlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli_helpers import Say, one_line, picture, write_images
from nolabel.encoders._io import save_encoder
from nolabel.encoders.base import build
from nolabel.evaluation.supervised import SupervisedOptions


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained resnet10."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, build("resnet10", 32), {})
    return folder


def test_cache_lists_and_clears(
    say: Say, small_images: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "cache"))
    assert say("embed", encoder, small_images, "--out", tmp_path / "v.npy")[0] == 0
    out = say("cache", "list")[1]
    assert "1 stores" in out
    assert str(small_images) in out
    assert "Freed" in say("cache", "clear")[1]
    assert "0 stores" in say("cache", "list")[1]


# --- using an encoder -----------------------------------------------------------------------------


def test_embed_writes_parquet_with_paths_and_labels_in_the_same_order(
    say: Say, small_images: Path, encoder: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet

    code, out, _ = say("embed", encoder, small_images, "--out", tmp_path / "v.parquet")
    assert code == 0
    assert out.startswith("Found 28 images")
    table = pyarrow.parquet.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["path", "label", "vector"]
    held = {row["path"]: row for row in table.to_pylist()}
    assert held["train/class1/003.png"]["label"] == "class1"
    from nolabel.encoders._io import load_encoder

    pixels = (
        torch.from_numpy(np.array(Image.open(small_images / "train/class1/003.png"))).permute(2, 0, 1)[None]
        / 255
    )
    expected = load_encoder(encoder)(pixels)[0].detach()
    assert torch.allclose(torch.tensor(held["train/class1/003.png"]["vector"]), expected, atol=1e-4)


def test_embed_writes_numpy_beside_a_csv(say: Say, small_images: Path, encoder: Path, tmp_path: Path) -> None:
    code, out, _ = say("embed", encoder, small_images, "--out", tmp_path / "v.npy", "--stage", "stage3")
    assert code == 0, out
    assert np.load(tmp_path / "v.npy", allow_pickle=False).shape == (28, 128)
    rows = list(csv.reader(io.StringIO((tmp_path / "v.csv").read_text())))
    assert rows[0] == ["path", "label"]
    assert len(rows) == 29


def test_search_finds_the_image_itself_first_and_draws_the_matches(
    say: Say, small_images: Path, encoder: Path, tmp_path: Path
) -> None:
    query = small_images / "test/class0/002.png"
    code, out, _ = say("search", encoder, small_images, query, "--k", 3, "--out", tmp_path / "m.png")
    assert code == 0
    assert "1   1.000  class0  test/class0/002.png" in out
    assert Image.open(tmp_path / "m.png").size[0] > 600


def test_search_shows_several_encoders_in_columns(
    say: Say, small_images: Path, encoder: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    (tmp_path / "other").mkdir()
    save_encoder(tmp_path / "other", build("resnet10", 32), {})
    query = small_images / "test/class0/002.png"
    words = ("search", encoder, small_images, query, "--k", 4, "--out", tmp_path / "m.png")
    code, out, _ = say(*words, "--beside", f"{tmp_path / 'other'},random")
    assert code == 0
    assert out.index(encoder.name) < out.index("other") < out.index("random weights")
    assert out.count("1   1.000  class0  test/class0/002.png") == 3
    assert Image.open(tmp_path / "m.png").size[1] > 600
    code, _, err = say(*words, "--beside", tmp_path / "none")
    assert code == 2
    one_line(err, "none")


def test_search_has_a_column_of_a_network_trained_with_labels(
    say: Say, small_images: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = SupervisedOptions(steps=4, choice_steps=1, batch_size=8)
    monkeypatch.setattr(importlib.import_module("nolabel.cli.search"), "SupervisedOptions", lambda: short)
    query = small_images / "test/class0/002.png"
    words = ("--k", 2, "--out", tmp_path / "m.png", "--beside", "random,supervised")
    code, out, err = say("search", encoder, small_images, query, *words)
    assert code == 0, err
    assert (
        "Supervised on train: resnet10, trained from scratch for 4 steps with the labels of 20 training images "
        "(train and test as the data have them), which are among those searched."
    ) in out
    assert (
        out.index(f"\n{encoder.name}\n")
        < out.index("\nsupervised on train\n")
        < out.index("\nrandom weights\n")
    )
    assert out.count("1   1.000  class0  test/class0/002.png") == 3
    assert len({line for line in out.splitlines() if line.startswith("2 ")}) == 3  # no two networks are one
    (tmp_path / "loose").mkdir()
    (tmp_path / "m.png").unlink()
    for i, file in enumerate(sorted(small_images.rglob("*.png"))[:3]):
        (tmp_path / "loose" / f"{i}.png").write_bytes(file.read_bytes())
    code, _, err = say("search", encoder, tmp_path / "loose", query, *words)
    assert code == 2
    one_line(err, "has no labels to train --beside supervised with")
    assert not (tmp_path / "m.png").exists()


def test_encoders_in_folders_of_one_name_are_told_by_their_paths(
    say: Say, small_images: Path, encoder: Path, tmp_path: Path
) -> None:
    same = tmp_path / encoder.name
    same.mkdir()
    save_encoder(same, build("resnet10", 32), {})
    query = small_images / "test/class0/002.png"
    words = ("search", encoder, small_images, query, "--k", 2, "--out", tmp_path / "m.png", "--beside", same)
    code, out, _ = say(*words)
    assert code == 0
    assert out.count("1   1.000  class0  test/class0/002.png") == 2
    assert out.index(f"\n{encoder}\n") < out.index(f"\n{same}\n")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["embed", "{encoder}", "{images}", "--out", "v.txt"], [".parquet or .npy"]),
        (["embed", "{encoder}", "{images}", "--out", "no/such/v.npy"], ["no folder no/such"]),
        (
            ["embed", "{encoder}", "{images}", "--out", "{tmp}/v.npy", "--stage", "x"],
            ["no stage 'x'", "stage1"],
        ),
        (["embed", "{encoder}", "no/such", "--out", "{tmp}/v.npy"], ["no/such"]),
        (["embed", "no/such", "{images}", "--out", "{tmp}/v.npy"], ["no/such"]),
        (["search", "{encoder}", "{images}", "no.png", "--out", "{tmp}/m.png"], ["no.png"]),
        (["search", "{encoder}", "{images}", "{text}", "--out", "{tmp}/m.png"], ["not an image"]),
        (["search", "{encoder}", "{images}", "no.png", "--k", "0"], ["--k 0"]),
        (["report", "{tmp}"], ["holds no run"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_use_of_an_encoder(
    say: Say,
    small_images: Path,
    encoder: Path,
    tmp_path: Path,
    words: list[str],
    parts: list[str],
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    before = sorted(tmp_path.iterdir())
    code, _, err = say(
        *(w.format(encoder=encoder, images=small_images, tmp=tmp_path, text=text) for w in words)
    )
    assert code == 2, err
    one_line(err, *parts)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("content", [b"", b"text, not weights", b'\x10\0\0\0\0\0\0\0{"a":'])
def test_an_encoder_file_that_is_not_one(
    say: Say, small_images: Path, tmp_path: Path, content: bytes
) -> None:
    fake = tmp_path / "encoder.safetensors"
    fake.write_bytes(content)
    code, _, err = say("embed", fake, small_images, "--out", tmp_path / "v.npy")
    assert code == 1
    one_line(err, str(fake), "not a safetensors file")


def test_a_pickle_is_never_loaded(say: Say, small_images: Path, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pth")
    code, _, err = say("embed", tmp_path / "weights.pth", small_images, "--out", tmp_path / "v.npy")
    assert code == 2
    one_line(err, "pickle")


# --- images that cannot be used, or not all -------------------------------------------------------


def jpeg(seed: int) -> bytes:
    held = io.BytesIO()
    picture(seed, 64).save(held, "JPEG")
    return held.getvalue()


def test_bad_files_are_counted_and_named_and_do_not_stop_the_job(
    say: Say, encoder: Path, tmp_path: Path
) -> None:
    folder = write_images(tmp_path / "images")
    (folder / "train/class0/text.jpg").write_text("no image")
    (folder / "train/class0/cut.jpg").write_bytes(jpeg(1)[:-200])
    (folder / "train/class1/empty.png").write_bytes(b"")
    code, out, _ = say("embed", encoder, folder, "--out", tmp_path / "v.npy")
    assert code == 0
    assert "Found 28 images" in out
    skipped = next(line for line in out.splitlines() if line.startswith("Skipped"))
    for part in ("3 files", "1 not an image", "1 truncated", "1 empty file"):
        assert part in skipped


def test_a_zip_with_a_bad_entry_and_a_zip_in_a_zip(say: Say, encoder: Path, tmp_path: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as held:
        held.writestr("a.jpg", jpeg(0))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as held:
        for i in range(12):
            held.writestr(f"class{i % 2}/{i}.jpg", jpeg(i))
        held.writestr("class0/inner.zip", inner.getvalue())
    data = bytearray((tmp_path / "images.zip").read_bytes())
    start = data.index(jpeg(5))
    data[start + 100 : start + 120] = bytes(20)  # breaks the entry's checksum
    (tmp_path / "images.zip").write_bytes(data)
    code, out, _ = say("embed", encoder, tmp_path / "images.zip", "--out", tmp_path / "v.npy")
    assert code == 0
    assert "Found 11 images" in out
    assert "Skipped" in out


def _empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _text_only(folder: Path) -> Path:
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}.jpg").write_text("no image")
    return folder


def _zip_in_zip(folder: Path) -> Path:
    folder.mkdir()
    with zipfile.ZipFile(folder / "outer.zip", "w") as held:
        held.writestr("inner.zip", b"PK\x05\x06" + bytes(18))
    return folder / "outer.zip"


def _no_zip(folder: Path) -> Path:
    folder.mkdir()
    (folder / "images.zip").write_text("no archive")
    return folder / "images.zip"


def _missing_files(folder: Path) -> Path:
    folder.mkdir()
    (folder / "list.csv").write_text("path,label\nno.jpg,a\nnone.jpg,b\n")
    return folder / "list.csv"


def _five(folder: Path) -> Path:
    folder.mkdir()
    for i in range(5):
        picture(i).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (_empty, "no image"),
        (_text_only, "None of the 20"),
        (_zip_in_zip, "unpack inner.zip first"),
        (_no_zip, "images.zip"),
        (_missing_files, "no.jpg"),
        (_five, "5"),
    ],
)
def test_images_that_cannot_be_used(
    say: Say, tmp_path: Path, make: Callable[[Path], Path], part: str
) -> None:
    out = tmp_path / "run"
    code, _, err = say("pretrain", "simclr", make(tmp_path / "data"), "--steps", 1, "--out", out)
    assert code == 2
    one_line(err, part)
    assert not out.exists()
