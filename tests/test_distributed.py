"""Two processes with half the batch each are one process with all of it; a killed one ends the run."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from lightning_fabric import Fabric

from nolabel import catalog, distributed, seeds
from nolabel.api import pretrain
from nolabel.encoders import base
from nolabel.errors import DataError, RunError, UsageError
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.training.asked import fitted
from nolabel.training.launch import launch, make_fabric
from nolabel.training.loop import fit
from nolabel.training.optim import build_optimizer
from nolabel.training.progress import Progress
from nolabel.training.step import ViewSource, train_step
from nolabel.training.sync_batchnorm import synchronise
from toys import Toy, ToyEncoder, fit_toy, toy_method, toy_run, toy_settings, toy_store

RECIPE = Recipe(batch_size=8, optimizer="sgd", lr=0.05, momentum=0.9, weight_decay=1e-3)
BATCH = 8


NAMES = ("toy", *catalog.names("methods"))


def method_called(name: str) -> Method:
    """A method in float64 on images of 16 px, without dropout, prepared; the toy's encoder but for one."""
    store = toy_store()
    if name == "toy":
        return toy_method(store, dropout=0.0).double()
    torch.manual_seed(0)
    kind = catalog.load("methods", name, Method)
    options, data = kind.Options(), DataInfo(len(store), 16)
    encoder = base.build("resnet10", 16) if name == "simclr" else ToyEncoder()
    method = kind(encoder, options, data)
    method.prepare(store, seeds.generator(0, "prepare"))
    return method.double()


def steps_of_each(folder: Path) -> None:
    """`three_steps` of every method, one after another."""
    torch.set_num_threads(1)
    fabric = make_fabric("64-true")
    for name in NAMES:
        three_steps(fabric, name, folder / name)


def three_steps(fabric: Fabric, name: str, out: Path) -> None:
    """Loss and gradients of the first of three steps, and the state after them, written by the first process."""
    method = method_called(name)
    if fabric.world_size > 1:
        synchronise(method, fabric.device)
    optimizer = build_optimizer(method, RECIPE)
    model, optimizer = fabric.setup(method, optimizer)
    model.train()
    source = ViewSource(method, toy_store(), BATCH, 3, False, fabric.global_rank, fabric.world_size)
    found: dict[str, torch.Tensor] = {}
    losses: list[torch.Tensor] = []  # before Fabric rounds them to float32
    method.register_forward_hook(lambda _method, _views, output: losses.append(output["loss"].detach()))
    for step in range(3):
        train_step(fabric, model, optimizer, source.views(step, 0.9), 0.05, 3, step)
        found[f"loss.{step}"] = distributed.mean(losses[-1])
        if step == 0:
            found |= {f"grad.{n}": p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
    found |= {f"state.{key}": value.clone() for key, value in method.state_dict().items()}
    if fabric.is_global_zero:
        safetensors.torch.save_file({k: v.contiguous() for k, v in found.items()}, out)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What one process wrote of every method, and what two did."""
    found = [tmp_path_factory.mktemp(f"processes-{count}-") for count in (1, 2)]
    for count, folder in enumerate(found, 1):
        launch(steps_of_each, (folder,), count)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_are_one(folders: list[Path], name: str) -> None:
    one, two = (safetensors.torch.load_file(folder / name) for folder in folders)
    assert one.keys() == two.keys()
    assert any(key.startswith("grad.") for key in one)
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=1e-10, rtol=0), (
            f"{key}: {(value - two[key]).abs().max():.3g}"
        )


def fit_in_every_process(folder: Path, steps: int, killed_at: int | None) -> None:
    """`fit` of the toy; process 1 kills itself at a step."""
    torch.set_num_threads(1)
    fabric = make_fabric("32-true")
    run = toy_run(folder, steps) if fabric.is_global_zero else None
    fabric.barrier()
    from nolabel.runs import Run

    run = run or Run.open(folder)

    class Doomed(Toy):
        def draw(self, n: int, generator: torch.Generator, progress: float) -> dict[str, torch.Tensor]:
            if killed_at is not None and progress >= killed_at / steps and fabric.global_rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().draw(n, generator, progress)

    method = toy_method(toy_store(), dropout=0.0)
    method.__class__ = Doomed
    settings, held_out = toy_settings(steps, recipe=RECIPE), toy_store(20, seed=5)
    fit(
        method,
        toy_store(),
        fabric=fabric,
        settings=settings,
        run=run,
        held_out=held_out,
        progress=Progress(False),
    )


def test_the_loop_on_two_processes(tmp_path: Path) -> None:
    launch(fit_in_every_process, (tmp_path / "two", 6, None), 2)
    one, _ = fit_toy(
        tmp_path / "one", 6, options={"dropout": 0.0}, held_out=toy_store(20, seed=5), recipe=RECIPE
    )
    weights = safetensors.torch.load_file(tmp_path / "two/encoder.safetensors")
    assert torch.allclose(weights["one.0.weight"], one.encoder.one[0].weight, atol=1e-5)
    rows = [
        [eval(line, {"NaN": 0}) for line in (tmp_path / f"{n}/metrics.jsonl").open()] for n in ("one", "two")
    ]
    assert [row["step"] for row in rows[1]] == list(range(7))
    for first, second in zip(*rows, strict=True):
        for key in ("loss", "held_out/loss", "rankme"):
            assert (key in first) == (key in second), (key, first["step"])
            if key in first:
                assert first[key] == pytest.approx(second[key], rel=1e-3), (key, first["step"])


def test_a_killed_process_ends_the_run_with_one_sentence(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(RunError, match="Process 1 of 2 was ended by SIGKILL.*--resume") as raised:
        launch(fit_in_every_process, (tmp_path / "run", 50, 4), 2)
    assert "\n" not in str(raised.value)
    assert time.monotonic() - start < 300
    assert (tmp_path / "run/checkpoints").is_dir()


def fail(error: Exception) -> None:
    if make_fabric("32-true").global_rank == 1:
        raise error


@pytest.mark.slow
def test_an_error_of_one_process_is_told_as_it_is() -> None:
    with pytest.raises(DataError, match="the words of process 1"):
        launch(fail, (DataError("the words of process 1"),), 2)
    with pytest.raises(RuntimeError, match="ValueError: something else"):
        launch(fail, (ValueError("something else"),), 2)


def test_a_batch_is_shared_evenly_or_reduced_with_a_word() -> None:
    assert fitted(RECIPE, 100, 2) == (RECIPE, None)
    recipe, sentence = fitted(RECIPE, 100, 3)
    assert recipe.batch_size == 6
    assert sentence == "The batch of 8 is reduced to 6, because 3 processes share it evenly."
    with pytest.raises(UsageError, match="too small for 16 processes"):
        fitted(RECIPE, 100, 16)


def test_the_synchronised_batchnorm_is_torchs_on_one_process() -> None:
    plain: Any = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    other.load_state_dict(plain.state_dict())
    synchronise(other, torch.device("cpu"))
    assert list(other.state_dict()) == list(plain.state_dict())
    images = torch.rand(5, 3, 8, 8)
    assert torch.equal(plain(images), other(images))
    assert torch.equal(plain[1].running_var, other[1].running_var)  # type: ignore[arg-type]


def test_a_batchnorm_of_another_make_is_refused() -> None:
    class Other(torch.nn.BatchNorm2d):
        pass

    with pytest.raises(UsageError, match="--devices 1"):
        synchronise(torch.nn.Sequential(Other(3)), torch.device("cpu"))


@pytest.mark.slow
def test_pretrain_on_two_processes(tmp_path: Path) -> None:
    toys = str(Path(__file__).parent / "toys.py")
    store, shared = toy_store(), {"size": 16, "steps": 3, "precision": "64-true", "progress": False}
    options = {"dropout": 0.0}
    pretrain(toys, store, out=tmp_path / "one", options=options, channels_last=False, **shared)
    run = pretrain(
        toys, store, out=tmp_path / "two", options=options, devices=2, **shared
    )  # measures the layout
    assert run.status == "finished"
    one, two = (safetensors.torch.load_file(tmp_path / f"{n}/encoder.safetensors") for n in ("one", "two"))
    for key, value in one.items():
        assert torch.allclose(value, two[key], atol=1e-6, rtol=0), key
