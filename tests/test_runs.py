"""The run folder: whole files or none, one owner, clear refusals."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nolabel.errors import FileFormatError, RunError, UsageError
from nolabel.runs import Run, append_row, read_rows, write_atomically


def refuse(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "ä")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
    before = os.umask(0o027)
    write_atomically(path, "x")
    os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    monkeypatch.setattr(os, function, refuse(errno.ENOSPC))
    with pytest.raises(
        RunError, match=r"file cannot be written \(no space left on device\): make room"
    ) as raised:
        write_atomically(path, "new")
    assert "\n" not in str(raised.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_read_only_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", refuse(errno.EROFS))
    with pytest.raises(RunError, match="read-only file system.*--out"):
        Run.create(tmp_path / "run", name="x")


def test_a_row_that_does_not_fit_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no space left"):
        append_row(Path("/dev/full"), {"step": 1})


def test_run_json_is_kept_and_read_back(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", name="x")
    run.update(status="running", seed=3)
    run.update(status="finished")
    assert Run.open(tmp_path / "run").info == run.info
    assert run.info["format"] == 1
    assert (run.status, run.info["seed"]) == ("finished", 3)


def test_default_names_are_numbered_and_stay_out_of_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [Run.create(None, name="simclr-resnet10-cats").folder for _ in range(2)]
    assert names == [Path("runs/simclr-resnet10-cats-01"), Path("runs/simclr-resnet10-cats-02")]
    with pytest.raises(UsageError, match="inside the images.*--out"):
        Run.create(None, name="x", source=tmp_path)
    assert Run.create(tmp_path / "asked", name="x", source=tmp_path).folder == tmp_path / "asked"


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").touch()
    with pytest.raises(UsageError, match=r"is not empty: .*--resume.*--out"):
        Run.create(tmp_path, name="x")
    assert [path.name for path in tmp_path.iterdir()] == ["cat.jpg"]
    with pytest.raises(UsageError, match="is a file"):
        Run.create(tmp_path / "cat.jpg", name="x")
    with pytest.raises(UsageError, match="holds no run"):
        Run.resume(tmp_path)
    with pytest.raises(UsageError, match="holds no run"):
        Run.open(tmp_path / "nowhere")


def test_a_folder_in_use_is_refused_until_its_owner_ends(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", name="x")
    run.update(status="running")
    program = f"from nolabel.runs import Run; Run.resume({str(tmp_path / 'run')!r})"
    again = [sys.executable, "-c", program]
    refused = subprocess.run(again, capture_output=True, text=True, check=False)
    assert "UsageError" in refused.stderr
    assert "is in use by another run" in refused.stderr
    with pytest.raises(UsageError, match="in use"):
        Run.create(tmp_path / "run", name="x")
    run.close()
    assert subprocess.run(again, check=False).returncode == 0


def test_a_run_that_could_not_begin_leaves_no_folder(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", name="x").discard()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format": 9, "versions": {"nolabel": "7.1"}}', "format 9, written by nolabel 7.1"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
    ],
)
def test_a_run_json_of_another_kind_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(FileFormatError, match=words):
        Run.open(tmp_path)


def test_a_last_row_cut_short_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert read_rows(path) == []
    for step in (1, 2, 3):
        append_row(path, {"step": step})
    path.write_text(path.read_text()[:-5])
    assert [row["step"] for row in read_rows(path)] == [1, 2]
    path.write_text('{"step": 1}\nbroken\n{"step": 2}\n')
    with pytest.raises(FileFormatError, match="line 2"):
        read_rows(path)


def test_rows_after_a_step_are_dropped(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", name="x")
    for step in range(5):
        run.append_metrics({"step": step})
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    run.drop_metrics_after(2)
    run.append_metrics({"step": 3})
    assert [json.loads(line)["step"] for line in (tmp_path / "run/metrics.jsonl").open()] == [0, 1, 2, 3]
