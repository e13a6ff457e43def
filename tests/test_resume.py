"""A run that was killed and one that never stopped end with the same bits; two runs of one seed do too."""

import json
import os
import shlex
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from cli_helpers import Say
from nolabel import api
from nolabel.api import pretrain
from nolabel.catalog import PACKAGE
from nolabel.encoders import _io
from nolabel.errors import DataError, FileFormatError, UsageError
from nolabel.methods.base import Recipe
from nolabel.runs import DESCRIPTION, Run
from nolabel.training import checkpoint, work
from nolabel.training.loop import Settings
from nolabel.training.optim import build_optimizer
from toys import Toy, fit_toy, toy_method, toy_store

TOYS = str(Path(__file__).parent / "toys.py")


def encoder_bytes(folder: Path) -> bytes:
    return (folder / "encoder.safetensors").read_bytes()


def stop_at(step: int) -> Any:
    """A monitor that stops the run dead, as a kill does: nothing is written any more."""

    def monitor(encoder: torch.nn.Module, now: int) -> dict[str, float]:
        if now == step:
            raise ZeroDivisionError
        return {}

    return monitor


def stopped(folder: Path, steps: int, at: int, **changes: Any) -> Run:
    with pytest.raises(ZeroDivisionError):
        fit_toy(folder, steps, monitors=[stop_at(at)], **changes)
    return Run.resume(folder)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_a_resumed_run_equals_one_that_never_stopped(tmp_path: Path, optimizer: str) -> None:
    recipe = Recipe(batch_size=8, optimizer=optimizer, lr=0.02, batchnorm="reestimated")  # type: ignore[arg-type]
    whole, _ = fit_toy(tmp_path / "whole", 9, recipe=recipe)
    run = stopped(tmp_path / "parts", 9, at=8, recipe=recipe)  # 5 steps an epoch: within the second
    assert checkpoint.listed(run.checkpoints)[0].stem == "step-000000007"
    parts, outcome = fit_toy(tmp_path / "parts", 9, run=run, recipe=recipe)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    assert encoder_bytes(tmp_path / "whole") == encoder_bytes(tmp_path / "parts")
    assert [row["step"] for row in run.metrics()] == list(range(10))
    losses = [[row.get("loss") for row in Run.open(tmp_path / name).metrics()] for name in ("whole", "parts")]
    assert losses[0] == losses[1]
    assert outcome.steps == 9


def test_a_run_killed_after_its_last_step_keeps_its_last_row(tmp_path: Path) -> None:
    _, whole = fit_toy(tmp_path / "run", 5, held_out=toy_store(8, seed=5))
    _, again = fit_toy(tmp_path / "run", 5, run=Run.resume(tmp_path / "run"), held_out=toy_store(8, seed=5))
    assert again.steps == 5
    assert again.final["held_out/loss"] == whole.final["held_out/loss"]
    assert not again.interrupted


@pytest.mark.parametrize(("module", "name"), [(_io, "save_encoder"), (checkpoint, "save")])
def test_a_run_killed_while_it_writes_its_last_step_ends_with_the_same_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    fit_toy(tmp_path / "whole", 5)
    write, calls = getattr(module, name), []

    def killed(*words: Any) -> None:
        calls.append(words)
        if len(calls) == 6:  # step 0 is written too
            raise ZeroDivisionError
        write(*words)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, killed)
        with pytest.raises(ZeroDivisionError):
            fit_toy(tmp_path / "parts", 5)
    fit_toy(tmp_path / "parts", 5, run=Run.resume(tmp_path / "parts"))
    assert encoder_bytes(tmp_path / "whole") == encoder_bytes(tmp_path / "parts")


def test_channels_last_is_resumed_bit_for_bit(tmp_path: Path) -> None:
    numerics = work.Numerics("32-true", channels_last=True, compile=False)
    whole, _ = fit_toy(tmp_path / "whole", 8, numerics=numerics)
    run = stopped(tmp_path / "parts", 8, at=4, numerics=numerics)
    parts, _ = fit_toy(tmp_path / "parts", 8, run=run, numerics=numerics)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    assert parts.encoder.stem.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_kill_9_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    whole, _ = fit_toy(tmp_path / "whole", 30)
    program = (
        f"from pathlib import Path; from toys import fit_toy; fit_toy(Path({str(tmp_path / 'killed')!r}), 30)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", program], env=environment)
    log = tmp_path / "killed/metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and log.read_text().count("\n") > 7) and time.monotonic() < deadline:
        assert child.poll() is None, "the run ended before it was killed"
        time.sleep(0.005)
    child.kill()
    child.wait()
    run = Run.resume(tmp_path / "killed")
    assert run.status == "running"
    killed, _ = fit_toy(tmp_path / "killed", 30, run=run)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, killed.state_dict()[name]), name
    assert encoder_bytes(tmp_path / "whole") == encoder_bytes(tmp_path / "killed")
    assert not list((tmp_path / "killed/checkpoints").glob("*.tmp"))


@pytest.mark.parametrize("ahead", [0, 2])
def test_one_seed_gives_one_result_however_far_views_run_ahead(tmp_path: Path, ahead: int) -> None:
    first, _ = fit_toy(tmp_path / "first", 7)
    again, _ = fit_toy(tmp_path / "again", 7, ahead=ahead)
    other, _ = fit_toy(tmp_path / "other", 7, ahead=ahead, seed=4)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(first.encoder.stem.weight, other.encoder.stem.weight)
    assert encoder_bytes(tmp_path / "first") == encoder_bytes(tmp_path / "again")


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "half a json"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    whole, _ = fit_toy(tmp_path / "whole", 6)
    run = stopped(tmp_path / "parts", 6, at=5)
    newest = checkpoint.listed(run.checkpoints)[0]
    tensors = newest.with_suffix(".safetensors")
    content = tensors.read_bytes()
    if damage == "truncated":
        tensors.write_bytes(content[:-100])
    elif damage == "changed":
        tensors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "missing":
        tensors.unlink()
    else:
        newest.write_text(newest.read_text()[:40])
    parts, _ = fit_toy(tmp_path / "parts", 6, run=run)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_no_whole_checkpoint_is_an_error_and_none_at_all_is_a_new_start(tmp_path: Path) -> None:
    run = stopped(tmp_path / "run", 6, at=5)
    method = toy_method(toy_store())
    optimizer = build_optimizer(method, Toy.recipe)
    assert checkpoint.restore(tmp_path / "none", method, optimizer) is None
    for path in run.checkpoints.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(FileFormatError, match="Every checkpoint .* damaged"):
        fit_toy(tmp_path / "run", 6, run=run)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    run = stopped(tmp_path / "run", 6, at=5)
    newest = checkpoint.listed(run.checkpoints)[0]
    newest.write_text(newest.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(FileFormatError, match="format 2"):
        fit_toy(tmp_path / "run", 6, run=run)


def test_a_checkpoint_that_does_not_fit_the_method_is_refused(tmp_path: Path) -> None:
    run = stopped(tmp_path / "run", 6, at=5)
    method = toy_method(toy_store())
    method.head = torch.nn.Linear(12, 3)
    optimizer = build_optimizer(method, Toy.recipe)
    with pytest.raises(FileFormatError, match="does not fit the Toy"):
        checkpoint.restore(run.checkpoints, method, optimizer)
    with pytest.raises(FileFormatError, match="does not fit the Toy"):
        checkpoint.restore_method(run.checkpoints, method)


def test_a_checkpoint_holds_no_pickle(tmp_path: Path) -> None:
    fit_toy(tmp_path / "run", 2)
    newest = checkpoint.listed(tmp_path / "run/checkpoints")[0]
    tensors = safetensors.torch.load_file(newest.with_suffix(".safetensors"))
    assert {"method.seen", "method.encoder.one.0.weight"} <= set(tensors)
    assert {name.rsplit(".", 1)[1] for name in tensors if name.startswith("optimizer.")} == {
        *("exp_avg", "exp_avg_sq", "step")
    }


def learn(out: Path, **changes: Any) -> Run:
    """`pretrain` of the toy with a small ResNet on random images, in a number format that every processor has."""
    torch.set_num_threads(1)
    values: dict[str, Any] = {"data": toy_store(), "out": out, "steps": 4, "size": 16, "progress": False}
    return pretrain(TOYS, **values | {"precision": "32-true", "channels_last": False} | changes)


def named(out: Path, data: Path, **changes: Any) -> Run:
    """`learn` of images that are named, so that a command can name them too."""
    return learn(out, data=str(data), **changes)


def test_pretrain_records_what_repeats_it(tmp_path: Path, small_images: Path) -> None:
    run = named(tmp_path / "first", small_images, seed=2)
    info = Run.open(tmp_path / "first").info
    assert info["status"] == "finished"
    assert info["budget"] == {"asked": {"steps": 4}, "watches": 5, "steps": 4, "epochs": 2.0}
    assert (info["precision"], info["channels_last"], info["compile"]) == ("32-true", False, False)
    for word in (
        "--steps 4",
        "--size 16",
        "--seed 2",
        "--no-channels-last",
        "--batch-size 8",
        "--precision 32-true",
    ):
        assert word in info["repeat"]
    assert {
        "method",
        "options",
        "recipe",
        "encoder",
        "data",
        "machine",
        "versions",
        "started",
        "final",
    } <= set(info)
    named(tmp_path / "second", small_images, seed=2)
    assert encoder_bytes(run.folder) == encoder_bytes(tmp_path / "second")
    with pytest.raises(UsageError, match="is not empty"):
        learn(tmp_path / "first")


def test_no_command_is_called_a_repeat_that_is_none(tmp_path: Path, small_images: Path) -> None:
    assert "repeat" not in learn(tmp_path / "store", steps=1).info
    assert "repeat" not in named(tmp_path / "recipe", small_images, steps=1, recipe={"momentum": 0.5}).info
    assert "repeat" in named(tmp_path / "rate", small_images, steps=1, recipe={"lr": 0.5, "epochs": 9.0}).info
    assert "repeat" in named(tmp_path / "run", small_images, steps=1).info
    named(tmp_path / "run", small_images, steps=1, extend=True)
    assert "repeat" not in Run.open(tmp_path / "run").info


def test_the_repeat_of_a_method_in_a_file_gives_the_same_encoder(
    tmp_path: Path, small_images: Path, say: Say
) -> None:
    method = tmp_path / "my_method.py"
    method.write_text((PACKAGE / "methods" / "rotation.py").read_text(encoding="utf-8"), encoding="utf-8")
    run = pretrain(
        str(method), str(small_images), out=tmp_path / "first", steps=2, batch_size=8, seed=5, progress=False
    )
    _, program, *words = shlex.split(run.info["repeat"])
    assert program == "nolabel"
    code, _, err = say(*words, "--out", tmp_path / "second")
    assert code == 0, err
    assert encoder_bytes(tmp_path / "first") == encoder_bytes(tmp_path / "second")


def test_a_run_goes_on_with_the_labels_it_began_with(tmp_path: Path, small_images: Path) -> None:
    paths = sorted(path.relative_to(small_images) for path in small_images.rglob("*.png"))
    labels = tmp_path / "labels.csv"
    labels.write_text("\n".join(["path,label", *(f"{path},{i % 3}" for i, path in enumerate(paths))]))
    named(tmp_path / "run", small_images, labels=labels, steps=1)
    run = named(tmp_path / "run", small_images, steps=1, extend=True)
    assert run.info["budget"]["steps"] == 2


def test_pretrain_goes_on_where_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn(tmp_path / "whole", seed=1, options={"dropout": 0.2})
    with monkeypatch.context() as patch:
        patch.setattr(work, "Settings", partial(Settings, checkpoint_seconds=0.0))
        patch.setattr("nolabel.api._monitors", lambda images, **_: [stop_at(3)])
        with pytest.raises(ZeroDivisionError):
            learn(tmp_path / "run", seed=1, options={"dropout": 0.2})
    assert Run.open(tmp_path / "run").status == "failed"
    with pytest.raises(UsageError, match="began with --seed 1, not 5"):
        learn(tmp_path / "run", resume=True, seed=5)
    with pytest.raises(UsageError, match="began with --steps 4, not 9"):
        learn(tmp_path / "run", resume=True, steps=9)
    with pytest.raises(UsageError, match="began with --encoder resnet10, not resnet18"):
        learn(tmp_path / "run", resume=True, encoder="resnet18")
    with pytest.raises(UsageError, match=r"began with --dropout 0\.2, not 0\.3"):
        learn(tmp_path / "run", resume=True, options={"dropout": 0.3})
    with pytest.raises(DataError, match="changed since the run"):
        learn(tmp_path / "run", resume=True, data=toy_store(seed=9))
    with pytest.raises(UsageError, match="has not finished"):
        learn(tmp_path / "run", extend=True)
    learn(tmp_path / "run", resume=True)
    assert encoder_bytes(tmp_path / "whole") == encoder_bytes(tmp_path / "run")
    before = encoder_bytes(tmp_path / "run")
    learn(tmp_path / "run", resume=True)
    assert encoder_bytes(tmp_path / "run") == before


def test_a_run_goes_on_with_as_many_processes_as_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = learn(tmp_path / "run")
    info = json.loads((run.folder / DESCRIPTION).read_text()) | {"devices": 2, "status": "interrupted"}
    (run.folder / DESCRIPTION).write_text(json.dumps(info))
    began: list[int] = []
    monkeypatch.setattr(api, "launch", lambda work, args, devices: began.append(devices))
    learn(tmp_path / "run", resume=True)
    assert began == [2]


def test_extend_goes_on_from_a_finished_run(tmp_path: Path) -> None:
    learn(tmp_path / "run")
    before = encoder_bytes(tmp_path / "run")
    with pytest.raises(UsageError, match="How much longer"):
        learn(tmp_path / "run", extend=True, steps=None)
    run = learn(tmp_path / "run", extend=True, steps=3)
    assert run.info["budget"]["steps"] == 7
    assert run.info["budget"]["start"] == 4
    assert [row["step"] for row in run.metrics()] == list(range(8))
    assert encoder_bytes(tmp_path / "run") != before


def test_wrong_use_leaves_no_folder(tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"minutes": 1}, "--steps and --minutes"),
        ({"encoder": "resnet11"}, "did you mean"),
        ({"options": {"drop": 1}}, "no option 'drop'"),
        ({"precision": "8-bit"}, "no precision"),
        ({"devices": 0}, "--devices"),
    ]
    for changes, words in wrong:
        with pytest.raises(UsageError, match=words):
            learn(tmp_path / "run", **changes)
        assert not (tmp_path / "run").exists(), changes
    with pytest.raises(UsageError, match="Name its folder"):
        pretrain(TOYS, toy_store(), resume=True, progress=False)


def test_a_batch_larger_than_the_data_is_reduced_with_a_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = learn(tmp_path / "run", batch_size=64, steps=1, progress=True)
    assert run.info["recipe"]["batch_size"] == 40
    assert "The batch of 64 is reduced to 40, because there are 40 images." in capsys.readouterr().err
