"""Commands that make and measure runs, and what can be wrong with them."""

import errno
import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from cli_helpers import Say, one_line, picture, write_images
from nolabel.cli import main
from nolabel.runs import Run


@pytest.fixture(scope="module")
def told(small_images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A finished run of two steps, and what it said on standard output and standard error."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    words = ["--steps", "2", "--batch-size", "8", "--precision", "32-true", "--out", str(folder)]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        assert main(["pretrain", "rotation", str(small_images), *words]) == 0, err.getvalue()
    return folder, out.getvalue(), err.getvalue()


@pytest.fixture
def run(told: tuple[Path, str, str]) -> Path:
    """The folder of that run."""
    return told[0]


def test_a_run_has_an_encoder_pictures_and_a_report(run: Path) -> None:
    made = {str(path.relative_to(run)) for path in run.rglob("*")}
    assert made >= {
        *("run.json", "metrics.jsonl", "encoder.safetensors", "encoder.json", "report.html"),
        *("pictures/views.npz", "pictures/retrieval.npz", "pictures/filters.npz", "pictures/panel.svg"),
    }
    assert not [name for name in made if name.endswith(".tmp")]


def test_a_run_says_first_what_it_found_and_last_how_to_go_on(told: tuple[Path, str, str]) -> None:
    folder, out, err = told
    assert err.startswith("Found 28 images")
    report, loads, first, second = out.splitlines()
    assert str(folder / "report.html") in report
    assert "loads with" in loads
    namespace: dict[str, Any] = {}
    exec(f"{first.strip()}\n{second.strip()}", namespace)
    assert namespace["encoder"](torch.rand(1, 3, 32, 32)).shape == (1, 256)


def test_evaluate_prints_the_encoder_beside_baselines_and_writes_the_report(
    say: Say, small_images: Path, run: Path
) -> None:
    before = (run / "report.html").read_text()
    code, out, err = say("evaluate", run, small_images, "--protocols", "knn", "--baselines", "pixels")
    assert code == 0, err
    assert "rotation" in out
    assert "raw pixels" in out
    heading, own, *_ = out.splitlines()[1:]
    assert heading.split("  ")[0] == "protocol"
    assert "top-1 (95 % interval)" in heading
    assert "balanced (95 % interval)" in heading
    assert own.count(" to ") == 2
    (chosen,) = [line for line in out.splitlines() if line.startswith("kNN: ")]
    assert "k " in chosen
    assert "T 0." in chosen
    assert "validation accuracy " in chosen
    assert "train and test as the data have them" in chosen
    rows = [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()]
    assert {row["subject"] for row in rows} == {"rotation", "pixels"}
    assert (run / "report.html").read_text() != before


def test_evaluate_of_unlabelled_images_gives_the_diagnostics(say: Say, run: Path, tmp_path: Path) -> None:
    for i in range(12):
        picture(i).save(tmp_path / f"{i}.png")
    code, out, err = say("evaluate", run, tmp_path)
    assert code == 0, err
    assert "rankme" in out.lower()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--protocols", "knm"], ["'knm'", "did you mean knn?"]),
        (["--baselines", "pixel"], ["'pixel'", "did you mean pixels?"]),
    ],
)
def test_unknown_protocols_and_baselines(
    say: Say, small_images: Path, run: Path, words: list[str], parts: list[str]
) -> None:
    code, _, err = say("evaluate", run, small_images, *words)
    assert code == 2
    one_line(err, *parts)


def test_an_unknown_encoder(say: Say, small_images: Path, tmp_path: Path) -> None:
    words = ["--encoder", "resnet19", "--steps", 1, "--out", tmp_path / "run"]
    code, _, err = say("pretrain", "simclr", small_images, *words)
    assert code == 2
    one_line(err, "'resnet19'", "did you mean resnet18?")
    assert not (tmp_path / "run").exists()


def test_an_output_folder_that_is_full_or_in_use(
    say: Say, small_images: Path, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    for folder in (run, tmp_path):
        before = sorted(folder.rglob("*"))
        code, _, err = say("pretrain", "simclr", small_images, "--steps", 1, "--out", folder)
        assert code == 2
        one_line(err, "not empty", "--out")
        assert sorted(folder.rglob("*")) == before
    held = Run.resume(run)
    code, _, err = say("pretrain", "rotation", small_images, "--resume", "--out", run)
    held.close()
    assert code == 2
    one_line(err, "in use")


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_an_output_that_cannot_be_written(
    say: Say, small_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("nolabel.runs.tempfile.mkstemp", refuse)
    code, _, err = say("pretrain", "simclr", small_images, "--steps", 1, "--out", tmp_path / "run")
    assert code == 1
    one_line(err, "cannot be written", "--out")
    assert not (tmp_path / "run").exists()


def test_resume_with_other_settings(say: Say, small_images: Path, run: Path) -> None:
    code, _, err = say("pretrain", "rotation", small_images, "--resume", "--out", run, "--seed", 3)
    assert code == 2
    one_line(err, "--seed")
    code, _, err = say("pretrain", "simclr", small_images, "--resume", "--out", run)
    assert code == 2
    one_line(err, "rotation")


def test_resume_on_images_that_changed(say: Say, run: Path, tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images")
    words = ["pretrain", "rotation", folder, "--batch-size", 8, "--out", tmp_path / "run"]
    assert say(*words, "--steps", 1)[0] == 0
    picture(999).save(folder / "train/class0/new.png")
    code, _, err = say(*words, "--extend", "--steps", 1)
    assert code == 2
    one_line(err, "changed")


def test_resume_without_a_run(say: Say, small_images: Path, tmp_path: Path) -> None:
    for words in (["--resume"], ["--resume", "--out", tmp_path / "none"]):
        code, _, err = say("pretrain", "simclr", small_images, *words)
        assert code == 2
        one_line(err, "--out" if len(words) == 1 else "none")


@pytest.mark.slow
def test_demo_on_own_images_ends_with_one_report(say: Say, small_images: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    code, said, err = say("demo", "--data", small_images, "--minutes", 0.05, "--out", out)
    assert code == 0, err
    assert str(out / "report.html") in said
    assert (out / "report.html").read_text().count("Run ") >= 2


@pytest.mark.slow
def test_demo_says_before_training_that_labels_allow_no_measure(
    say: Say, small_images: Path, tmp_path: Path
) -> None:
    data = tmp_path / "one class" / "only"
    data.mkdir(parents=True)
    for i, file in enumerate(sorted((small_images / "train").rglob("*.png"))):
        (data / f"{i}.png").write_bytes(file.read_bytes())
    code, said, err = say("demo", "--data", data.parent, "--minutes", 0.03, "--out", tmp_path / "demo")
    assert code == 0, err
    assert said.index("will be trained, but not measured: All labelled") < said.index("--- simclr")
    assert (tmp_path / "demo" / "report.html").is_file()
