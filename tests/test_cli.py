"""The command line as a person meets it: what it prints, exit codes, one clear line for each thing wrong."""

import csv
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nolabel.cli import _method_options, main
from nolabel.encoders._io import save_encoder
from nolabel.encoders.base import build
from nolabel.errors import FileFormatError, UsageError

Said = tuple[int, str, str]
"""exit code, standard output, standard error"""


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run one command in this process."""

    def run(*words: object) -> Said:
        capfd.readouterr()
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def one_line(err: str, *parts: str) -> None:
    """The last line on standard error is a sentence of nolabel's that has `parts`; there is no traceback."""
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("nolabel: "), err
    for part in parts:
        assert part in last, last


def picture(seed: int, side: int = 32) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def write_images(folder: Path, classes: int = 2, train: int = 10, test: int = 4) -> Path:
    """`folder`/train/<class> and test/<class> with small PNG files."""
    seed = 0
    for split, count in (("train", train), ("test", test)):
        for label in range(classes):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for i in range(count):
                picture(seed).save(place / f"{i:03d}.png")
                seed += 1
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained resnet10."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, build("resnet10", 32), {})
    return folder


# --- what is asked of the words themselves --------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["pretrian"], ["'pretrian'", "did you mean pretrain?"]),
        (["xyzzy"], ["choose one of demo, pretrain"]),
        (["pretrain"], ["nolabel pretrain METHOD DATA"]),
        (["pretrain", "simclear", "x"], ["'simclear'", "did you mean simclr?"]),
        (["pretrain", "no/such.py", "x"], ["no file no/such.py"]),
        (["pretrain", "no.such", "x"], ["no method named 'no.such'"]),
        (["pretrain", "simclr"], ["DATA", "nolabel pretrain simclr --help"]),
        (["pretrain", "simclr", "x", "--temprature", "1"], ["--temprature", "--temperature?"]),
        (["pretrain", "rotation", "x", "--temperature", "1"], ["--temperature"]),
        (["pretrain", "simclr", "x", "--epoch", "1"], ["--epochs?"]),
        (["pretrain", "simclr", "x", "epochs=1"], ["write --epochs 1"]),
        (["pretrain", "simclr", "x", "--views", "two"], ["--views", '"two"']),
        (["pretrain", "simclr", "x", "--sizes", "1,two"], ["--sizes", "two"]),
        (["pretrain", "simclr", "x", "--head", "mlp9"], ["mlp9", "mlp2_bn"]),
        (["cache", "claer"], ["clear"]),
        (["embed", "--out", "x.parquet"], ["nolabel embed --help"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_words_end_with_2_and_one_line(
    say: Callable[..., Said], words: list[str], parts: list[str]
) -> None:
    code, _, err = say(*words)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    one_line(err, *parts)


@pytest.mark.parametrize(
    "command", [[], ["--help"], ["pretrain", "--help"], ["--version"], ["methods"], ["cache"]]
)
def test_help_ends_with_0(say: Callable[..., Said], command: list[str]) -> None:
    code, out, err = say(*command)
    assert (code, err) == (0, "")
    assert out


def test_the_help_of_a_method_shows_its_options_with_defaults_and_texts(say: Callable[..., Said]) -> None:
    code, out, _ = say("pretrain", "simclr", "--help")
    assert code == 0
    for part in ("--temperature", "--crop-min", "--minutes", "--resume", "mlp2_bn", "[default: 0.2]"):
        assert part in out


@pytest.mark.parametrize("name", ["simclr", "rotation"])
def test_the_options_read_from_a_file_are_those_of_its_class(name: str) -> None:
    from dataclasses import fields

    from nolabel import catalog
    from nolabel.methods.base import Method

    read = _method_options.read_options(_method_options.method_file(name))
    real = catalog.load("methods", name, Method).Options  # type: ignore[attr-defined]
    assert [(o.name, o.default) for o in read] == [(f.name, f.default) for f in fields(real)]
    assert all(option.help for option in read)


def test_a_file_that_is_no_method(tmp_path: Path) -> None:
    (tmp_path / "text.py").write_text("this is no Python")
    (tmp_path / "other.py").write_text("x = 1")
    (tmp_path / "odd.py").write_text("class O:\n    a: int = f()\nclass M:\n    Options = O\n")
    for name, part in (("text", "not a Python file"), ("other", "defines no method"), ("odd", "option a")):
        with pytest.raises(FileFormatError, match=part):
            _method_options.read_options(tmp_path / f"{name}.py")
    with pytest.raises(UsageError, match="no file"):
        _method_options.method_file(str(tmp_path / "missing.py"))


# --- failures that nobody foresaw -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "parts"),
    [
        (ZeroDivisionError("x"), 1, ["ZeroDivisionError", "nolabel-", ".log"]),
        (MemoryError(), 1, ["Out of memory", "--batch-size"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, ["Out of memory"]),
        (OSError(28, "No space left on device", "/x"), 1, ["disk is full (/x)"]),
        (PermissionError(13, "Permission denied", "/x"), 1, ["/x", "Permission denied"]),
        (KeyboardInterrupt(), 130, ["Interrupted"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_unforeseen_failure_is_one_line_and_a_log(
    say: Callable[..., Said],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: BaseException,
    code: int,
    parts: list[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("nolabel.cli.methods.methods", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = say("methods")
    assert told[0] == code
    one_line(told[2], *parts)
    logs = list(tmp_path.glob("nolabel-*.log"))
    assert len(logs) == (code == 1)
    assert all("Traceback" in log.read_text() and "nolabel methods" in log.read_text() for log in logs)


def test_a_reader_that_has_gone_is_no_failure(
    say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise BrokenPipeError

    monkeypatch.setattr("nolabel.cli.methods.methods", fail)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert say("methods") == (141, "", "")


# --- looking around -------------------------------------------------------------------------------


def test_doctor_names_what_is_missing_with_its_remedy(
    say: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(
        "nolabel.cli.doctor.EXTRAS", {"demo": (("no-such-package",), "the demo's photographs")}
    )
    code, out, _ = say("doctor")
    assert code == 0
    assert "C compiler: install one" in out
    assert "pip install 'nolabel[demo]'" in out


def test_cache_lists_and_clears(
    say: Callable[..., Said], images: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOLABEL_CACHE", str(tmp_path / "cache"))
    assert say("embed", encoder, images, "--out", tmp_path / "v.npy")[0] == 0
    out = say("cache", "list")[1]
    assert "1 stores" in out
    assert str(images) in out
    assert "Freed" in say("cache", "clear")[1]
    assert "0 stores" in say("cache", "list")[1]


# --- using an encoder -----------------------------------------------------------------------------


def test_embed_writes_parquet_with_paths_and_labels_in_the_same_order(
    say: Callable[..., Said], images: Path, encoder: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet

    code, out, _ = say("embed", encoder, images, "--out", tmp_path / "v.parquet")
    assert code == 0
    assert out.startswith("Found 28 images")
    table = pyarrow.parquet.read_table(tmp_path / "v.parquet")
    assert table.column_names == ["path", "label", "vector"]
    held = {row["path"]: row for row in table.to_pylist()}
    assert held["train/class1/003.png"]["label"] == "class1"
    from nolabel.encoders._io import load_encoder

    pixels = (
        torch.from_numpy(np.array(Image.open(images / "train/class1/003.png"))).permute(2, 0, 1)[None] / 255
    )
    expected = load_encoder(encoder)(pixels)[0].detach()
    assert torch.allclose(torch.tensor(held["train/class1/003.png"]["vector"]), expected, atol=1e-4)


def test_embed_writes_numpy_beside_a_csv(
    say: Callable[..., Said], images: Path, encoder: Path, tmp_path: Path
) -> None:
    code, out, _ = say("embed", encoder, images, "--out", tmp_path / "v.npy", "--stage", "stage3")
    assert code == 0, out
    assert np.load(tmp_path / "v.npy", allow_pickle=False).shape == (28, 128)
    rows = list(csv.reader(io.StringIO((tmp_path / "v.csv").read_text())))
    assert rows[0] == ["path", "label"]
    assert len(rows) == 29


def test_search_finds_the_image_itself_first_and_draws_the_matches(
    say: Callable[..., Said], images: Path, encoder: Path, tmp_path: Path
) -> None:
    query = images / "test/class0/002.png"
    code, out, _ = say("search", encoder, images, query, "--k", 3, "--out", tmp_path / "m.png")
    assert code == 0
    assert "1   1.000  class0  test/class0/002.png" in out
    assert Image.open(tmp_path / "m.png").size[0] > 600


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
    say: Callable[..., Said],
    images: Path,
    encoder: Path,
    tmp_path: Path,
    words: list[str],
    parts: list[str],
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    before = sorted(tmp_path.iterdir())
    code, _, err = say(*(w.format(encoder=encoder, images=images, tmp=tmp_path, text=text) for w in words))
    assert code == 2, err
    one_line(err, *parts)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("content", [b"", b"text, not weights", b'\x10\0\0\0\0\0\0\0{"a":'])
def test_an_encoder_file_that_is_not_one(
    say: Callable[..., Said], images: Path, tmp_path: Path, content: bytes
) -> None:
    fake = tmp_path / "encoder.safetensors"
    fake.write_bytes(content)
    code, _, err = say("embed", fake, images, "--out", tmp_path / "v.npy")
    assert code == 1
    one_line(err, str(fake), "not a safetensors file")


def test_a_pickle_is_never_loaded(say: Callable[..., Said], images: Path, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "weights.pth")
    code, _, err = say("embed", tmp_path / "weights.pth", images, "--out", tmp_path / "v.npy")
    assert code == 2
    one_line(err, "pickle")


# --- images that cannot be used, or not all -------------------------------------------------------


def jpeg(seed: int) -> bytes:
    held = io.BytesIO()
    picture(seed, 64).save(held, "JPEG")
    return held.getvalue()


def test_bad_files_are_counted_and_named_and_do_not_stop_the_job(
    say: Callable[..., Said], encoder: Path, tmp_path: Path
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


def test_a_zip_with_a_bad_entry_and_a_zip_in_a_zip(
    say: Callable[..., Said], encoder: Path, tmp_path: Path
) -> None:
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
        (_text_only, "none"),
        (_zip_in_zip, "archive"),
        (_no_zip, "images.zip"),
        (_missing_files, "no.jpg"),
        (_five, "5"),
    ],
)
@pytest.mark.parametrize("method", ["simclr", "rotation"])
def test_images_that_cannot_be_used(
    say: Callable[..., Said], tmp_path: Path, method: str, make: Callable[[Path], Path], part: str
) -> None:
    out = tmp_path / "run"
    code, _, err = say("pretrain", method, make(tmp_path / "data"), "--steps", 1, "--out", out)
    assert code == 2
    one_line(err, part)
    assert not out.exists()
