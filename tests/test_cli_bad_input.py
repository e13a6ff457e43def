"""Bad input to every command that takes it: one sentence, exit code 2, nothing left behind."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cli_helpers import Say, one_line, picture, write_images
from nolabel.data.store import ImageStore
from nolabel.encoders._io import save_encoder
from nolabel.encoders.base import build

MAKING = {
    "pretrain": ["pretrain", "rotation", "{data}", "--steps", "1", "--out", "{out}"],
    "transfer": ["transfer", "{encoder}", "{data}", "--out", "{out}"],
    "compare": ["compare", "{data}", "--minutes", "1", "--methods", "rotation", "--out", "{out}"],
    "check-pretext": ["check-pretext", "rotation", "{data}", "--minutes", "1", "--out", "{out}"],
    "study": ["study", "heads", "{data}", "--minutes", "1", "--out", "{out}"],
    "demo": ["demo", "--data", "{data}", "--minutes", "1", "--out", "{out}"],
    "reproduce": ["reproduce", "rotation-paper", "{data}", "--steps", "1", "--out", "{out}"],
    "gallery": ["gallery", "{data}", "--out", "{out}.html"],
    "embed": ["embed", "{encoder}", "{data}", "--out", "{out}.npy"],
}
FOLDERS = tuple(name for name, words in MAKING.items() if words[-1] == "{out}")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an untrained resnet10."""
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, build("resnet10", 32), {})
    return folder


def refused(say: Say, name: str, part: str, **places: object) -> None:
    code, _, err = say(*(word.format(**places) for word in MAKING[name]))
    assert code == 2, err
    one_line(err, part)
    assert "details are in" not in err


def no_folder(folder: Path) -> None:
    assert not folder.exists()


def empty(folder: Path) -> None:
    folder.mkdir()


def list_of_nothing(folder: Path) -> None:
    folder.with_suffix(".csv").write_text("path,label\nno.jpg,a\n")


@pytest.mark.parametrize(
    ("make", "suffix", "part"),
    [(no_folder, "", "no folder or file"), (empty, "", "no image"), (list_of_nothing, ".csv", "no.jpg")],
)
@pytest.mark.parametrize("name", MAKING)
def test_images_that_are_not_there(
    say: Say, encoder: Path, tmp_path: Path, name: str, make: Callable[[Path], None], suffix: str, part: str
) -> None:
    data = tmp_path / "data"
    make(data)
    before = sorted(tmp_path.iterdir())
    refused(say, name, part, encoder=encoder, data=f"{data}{suffix}", out=tmp_path / "made" / "out"
            if name in FOLDERS else tmp_path / "out")  # fmt: skip
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_where_the_output_s_folder_should_be(
    say: Say, small_images: Path, encoder: Path, tmp_path: Path, name: str, below: bool
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    out = file / "below" if below else file
    refused(say, name, "is a file", encoder=encoder, data=small_images, out=out)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", ["gallery", "embed"])
def test_an_output_file_below_a_file(
    say: Say, small_images: Path, encoder: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("mine")
    refused(say, name, "folder", encoder=encoder, data=small_images, out=tmp_path / "file" / "out")


def unlabelled(folder: Path) -> None:
    folder.mkdir()
    for i in range(12):
        picture(i).save(folder / f"{i}.png")


def one_class(folder: Path) -> None:
    unlabelled(folder)
    (folder / "only").mkdir()
    for file in folder.glob("*.png"):
        file.rename(folder / "only" / file.name)


def one_image(folder: Path) -> None:
    one_class(folder)
    (folder / "second").mkdir()
    picture(99).save(folder / "second" / "99.png")


def unseen(folder: Path) -> None:
    write_images(folder)
    (folder / "test" / "new").mkdir()
    picture(99).save(folder / "test" / "new" / "99.png")


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (unlabelled, "has no labels"),
        (one_class, "of one class"),
        (one_image, "Class second"),
        (unseen, "Class new"),
    ],
)
@pytest.mark.parametrize("name", ["transfer", "compare", "study", "reproduce"])
def test_labels_that_allow_no_measure_are_told_before_anything_is_trained(
    say: Say, encoder: Path, tmp_path: Path, name: str, make: Callable[[Path], None], part: str
) -> None:
    make(tmp_path / "data")
    refused(say, name, part, encoder=encoder, data=tmp_path / "data", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--protocols", "few_labels", "--set", "few_labels.per_class=11"], "class class0 has 10 training"),
        (["--protocols", "svm", "--set", "svm.per_class=11"], "class class0 has 10 training"),
        (["--protocols", "svm", "--set", "svm.folds=true"], "brings no folds"),
        (["--protocols", "label_efficiency", "--set", "label_efficiency.per_class=11"], "11 labels a class"),
        (["--protocols", "discovery"], "at least 25 test images"),
        (["--protocols", "knn", "--set", "knn.stage=stage9"], "stage9"),
        (["--values", "0"], "At most 0 values"),
    ],
)
def test_what_a_protocol_cannot_be_given_is_told_before_a_comparison_trains(
    say: Say, small_images: Path, tmp_path: Path, words: list[str], part: str
) -> None:
    out = tmp_path / "out"
    code, _, err = say("compare", small_images, "--minutes", "0.001", "--out", out, *words)
    assert code == 2
    one_line(err, part)
    assert not out.exists()


@pytest.mark.parametrize("words", [["report", "{file}"], ["gallery", "{images}", "--runs", "{file}"]])
def test_a_file_is_no_run(say: Say, small_images: Path, encoder: Path, words: list[str]) -> None:
    file = encoder / "encoder.safetensors"
    code, _, err = say(*(word.format(file=file, images=small_images) for word in words))
    assert code == 2
    one_line(err, "holds no run")


def damage(folder: Path) -> None:
    """An encoder in `folder` with a weight that is not a number."""
    broken = build("resnet10", 32)
    with torch.no_grad():
        broken.stem.weight[0] = float("nan")
    save_encoder(folder, broken, {})


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "--protocols", "linear"],
        ["evaluate", "--protocols", "diagnostics"],
        ["transfer", "--out", "{out}"],
    ],
)
def test_features_that_are_not_finite_end_a_measurement(
    say: Say, small_images: Path, tmp_path: Path, words: list[str]
) -> None:
    damage(tmp_path)
    command, *options = (word.format(out=tmp_path / "out") for word in words)
    code, _, err = say(command, tmp_path, small_images, *options)
    assert code == 1, err
    one_line(err, "not finite", "weights are damaged or its training diverged")


@pytest.mark.slow
def test_features_that_are_not_finite_end_a_comparison(say: Say, small_images: Path, tmp_path: Path) -> None:
    words = ["compare", small_images, "--methods", "rotation", "--minutes", "0.001", "--out", tmp_path]
    words += ["--baselines", "pixels", "--protocols"]
    code, _, err = say(*words, "knn")
    assert code == 0, err
    damage(tmp_path / "rotation")
    code, _, err = say(*words, "knn,linear")
    assert code == 1, err
    one_line(err, "not finite", "weights are damaged or its training diverged")


def test_vectors_that_are_not_finite_are_not_written(say: Say, small_images: Path, tmp_path: Path) -> None:
    damage(tmp_path)
    before = sorted(tmp_path.iterdir())
    query = small_images / "train/class0/000.png"
    for words in (
        ["embed", tmp_path, small_images, "--out", tmp_path / "v.npy"],
        ["search", tmp_path, small_images, query, "--out", tmp_path / "m.png"],
    ):
        code, _, err = say(*words)
        assert code == 1
        one_line(err, "not finite")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["evaluate", "transfer"])
def test_an_encoder_file_for_grey_images(say: Say, small_images: Path, tmp_path: Path, name: str) -> None:
    grey = build("resnet10", 32)
    grey.conv1 = torch.nn.Conv2d(1, 64, 3, bias=False)
    save_encoder(tmp_path, grey, {})
    code, _, err = say(name, tmp_path, small_images)
    assert code == 2
    one_line(err, "takes images of 1 channel and resnet10 is built for 3")


def test_an_empty_label_is_none(tmp_path: Path) -> None:
    unlabelled(tmp_path / "data")
    lines = [f"data/{i}.png,{'' if i < 6 else 'ab'[i % 2]}" for i in range(12)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]))
    store = ImageStore.open(tmp_path / "labels.csv", size=32)
    assert store.class_names == ("a", "b")
    assert (store.labels < 0).sum() == 6


def test_a_comparison_with_other_labels_does_not_go_on(say: Say, small_images: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    settings = f'{{"data": "{small_images}", "minutes": 1.0, "encoder": "resnet10", "size": null, "seed": 0}}'
    (tmp_path / "out" / "compare.json").write_text(settings)
    rows = [
        f"{path.relative_to(small_images)},{i % 2}"
        for i, path in enumerate(sorted(small_images.rglob("*.png")))
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    words = [
        "compare",
        small_images,
        "--minutes",
        1,
        "--methods",
        "rotation",
        "--labels",
        tmp_path / "labels.csv",
    ]
    code, _, err = say(*words, "--out", tmp_path / "out")
    assert code == 2
    one_line(err, "other settings")
