"""Paths and sizes in the wrong place: one sentence, exit code 2, and every file stays as it was."""

from pathlib import Path

import pytest

from cli_helpers import Say, one_line, picture
from nolabel.data import cache
from nolabel.errors import UsageError
from nolabel.views.compiled import compiler


def refused(say: Say, folder: Path, words: list[object], part: str) -> None:
    """`words` end with 2 and a sentence that has `part`; nothing in `folder` is written."""
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    code, _, err = say(*words)
    assert code == 2, err
    one_line(err, part)
    assert "details are in" not in err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("pretrain ./photos --minutes 10", "./photos is a path and no method"),
        ("pretrain photos --minutes 10", "photos is a path and no method"),
        ("pretrain ./none --minutes 10", "no method named './none'"),
        ("pretrain .. --minutes 10", ".. is a path and no method"),
        ("check-pretext ./photos photos", "./photos is a path and no method"),
        ("pretrain rotation photos --steps 1 --encoder ./runs/x", "no encoder named './runs/x'"),
        ("pretrain rotation photos --steps 1 --encoder empty.py", "empty.py builds no encoder"),
        ("compare photos --minutes 1 --methods ./x", "no method named './x'"),
        ("evaluate RUN photos --protocols ./x", "named './x'"),
    ],
)
def test_a_path_where_a_name_belongs(
    say: Say, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for i in range(12):
        picture(i).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "empty.py").write_text("")
    refused(say, tmp_path, [encoder if word == "RUN" else word for word in words.split()], part)


LARGE_ONLY = """from nolabel.encoders import resnet

def build(name, size):
    assert size >= 64
    return resnet.build("resnet10", size)
"""


def test_an_encoder_is_not_tried_at_a_size_that_nobody_asked_for(
    say: Say, small_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretrain(*_: object, **__: object) -> None:
        raise UsageError("It begins.")

    monkeypatch.setattr("nolabel.api.pretrain", pretrain)
    (tmp_path / "large.py").write_text(LARGE_ONLY)
    words: list[object] = ["pretrain", "rotation", small_images, "--encoder", tmp_path / "large.py"]
    refused(say, tmp_path, words, "It begins.")


@pytest.mark.parametrize(
    "words",
    [
        "embed RUN list.csv --out list.npy",
        "embed RUN IMAGES --labels list.csv --out list.npy",
        "search RUN IMAGES query.png --out query.png",
        "gallery list.csv --out list.csv",
        "export RUN --format torchvision --out RUN/encoder.safetensors",
        "export RUN/encoder.json --format torchvision --out RUN/encoder.safetensors",
    ],
)
def test_what_a_command_reads_it_does_not_write_over(
    say: Say, small_images: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    files = sorted(small_images.rglob("*.png"))
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *(f"{file},a" for file in files)]))
    picture(0).save(tmp_path / "query.png")
    (tmp_path / "run").mkdir()
    for file in encoder.iterdir():
        (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    places = words.replace("RUN", "run").replace("IMAGES", str(small_images)).split()
    refused(say, tmp_path, list(places), "would be written over")


@pytest.mark.parametrize("words", ["evaluate RUN IMAGES", "embed RUN IMAGES --out v.npy", "gallery IMAGES",
                                   "search RUN IMAGES QUERY --out m.png", "check-pretext rotation IMAGES",
                                   "pretrain rotation IMAGES --steps 1 --out r", "compare IMAGES --out c",
                                   "transfer RUN IMAGES --out t"])  # fmt: skip
@pytest.mark.parametrize("size", [-5, 0])
def test_a_size_below_one(
    say: Say,
    small_images: Path,
    encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    size: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    part = "1 or more" if words.startswith("transfer") else "at least 1"
    named = {"RUN": encoder, "IMAGES": small_images, "QUERY": small_images / "train/class0/000.png"}
    refused(say, tmp_path, [*(named.get(word, word) for word in words.split()), "--size", size], part)


def test_a_home_of_nobody(say: Say, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[object] = ["embed", encoder, "~nobody-of-this-name/x", "--out", tmp_path / "v.npy"]
    refused(say, tmp_path, words, "no folder or file ~nobody-of-this-name/x")
    monkeypatch.setenv("NOLABEL_CACHE", "~nobody-of-this-name/x")
    with pytest.raises(UsageError, match="no such user"):
        cache.folder()


@pytest.mark.parametrize("size", ["inf", "nan", "1e300", "-1"])
def test_a_limit_that_is_no_number_of_bytes(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOLABEL_CACHE_GB", size)
    with pytest.raises(UsageError, match="is no size"):
        cache.limit()


@pytest.mark.parametrize(
    ("named", "words"), [("", ["cc"]), (" ", ["cc"]), ("gcc -m64", ["gcc", "-m64"]), ("'", ["'"])]
)
def test_the_compiler_named_in_cc(
    say: Say, monkeypatch: pytest.MonkeyPatch, named: str, words: list[str]
) -> None:
    monkeypatch.setenv("CC", named)
    assert compiler() == words
    assert say("doctor")[0] == 0
