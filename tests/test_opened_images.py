"""At which size images are opened for a measurement, that a run's own are known again, and where encoders are put."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import nolabel
from cli_helpers import write_images
from nolabel.cli.transfer import _candidates
from nolabel.comparison import _enough_for
from nolabel.data.store import ImageStore
from nolabel.encoders._io import load_encoder
from nolabel.evaluation import compare, run
from nolabel.evaluation._split import divide, hold_out
from nolabel.evaluation.run import evaluate_encoder, side_of
from test_compare_measured import run_of
from test_features import store_of
from test_leakage import run_folder


def unsplit(folder: Path) -> Path:
    """20 images of two classes, 32 px, without splits."""
    source = write_images(folder)
    shutil.rmtree(source / "test")
    for number in (0, 1):
        shutil.move(source / f"train/class{number}", source / f"class{number}")
    (source / "train").rmdir()
    return source


def test_images_are_opened_as_large_as_the_encoder_the_baselines_and_the_run_need(tmp_path: Path) -> None:
    source = write_images(tmp_path / "images")
    folder = run_folder(tmp_path / "run", source)
    assert side_of(folder, str(source), None) == 16
    assert side_of(folder, str(source), 12) == 16
    assert side_of(folder, "others", 12) == 12
    assert side_of(folder, str(source), 224) == 224
    assert side_of(folder, str(source), None, ("pixels", "timm:resnet18")) == 128
    assert side_of(load_encoder(folder), str(source), None) == 16
    assert side_of(load_encoder(folder), str(source), None, ("timm:resnet18",)) == 128


def test_a_larger_size_is_read_from_images_opened_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_images(tmp_path / "images")
    opened: list[int] = []
    monkeypatch.setattr(
        run, "evaluate_encoder", lambda _, store, **__: opened.append(int(store.heights.max()))
    )
    for size in (None, 32):
        nolabel.evaluate(run_folder(tmp_path / f"run {size}", source), str(source), size=size)
    assert opened == [20, 32]


@pytest.mark.parametrize("split", [True, False])
def test_pretraining_images_opened_at_another_size_are_known_as_the_same(tmp_path: Path, split: bool) -> None:
    source = (write_images if split else unsplit)(tmp_path / "images")
    folder = run_folder(tmp_path / "run", source)
    store = ImageStore.open(source, size=32)
    found = evaluate_encoder(folder, store, protocols=("knn",), baselines=())
    leaked = {row.metric: row for row in found if row.protocol == "leakage"}
    assert set(leaked) == {"in_training"} | (set() if split else {"in_pretraining"})
    if not split:
        row = leaked["in_pretraining"]
        assert (row.value, row.setting["identical"]) == (1, row.n)


def test_a_comparison_opens_images_larger_where_a_baseline_needs_it(tmp_path: Path) -> None:
    source = unsplit(tmp_path / "images")
    images = hold_out(ImageStore.open(source, size=24), 0)
    assert _enough_for(("random", "pixels"), images, source, None, 0) is images
    larger = _enough_for(("random", "timm:resnet18"), images, source, None, 0)
    assert larger.opened_at == 128
    assert int(larger.heights.max()) == 32
    assert torch.equal(divide(larger, 0).test, divide(images, 0).test)
    assert larger.paths == images.paths


def test_encoders_are_measured_on_the_device_of_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(60)
    folders = [run_of(tmp_path / name, name, store) for name in ("rotation", "simclr")]
    placed: list[Any] = []
    move = torch.nn.Module.to

    def moved(module: torch.nn.Module, *words: Any, **named: Any) -> torch.nn.Module:
        placed.extend(word for word in words if isinstance(word, torch.device))
        return move(module, *words, **named)

    chosen = torch.device("cpu")
    monkeypatch.setattr(run, "device_of_choice", lambda: chosen)
    monkeypatch.setattr(torch.nn.Module, "to", moved)
    asked: dict[str, Any] = {"protocols": ("knn",), "baselines": ()}
    for measured in (
        lambda: evaluate_encoder(folders[0], store, **asked),
        lambda: compare.liken(folders, store, 0),
        lambda: _candidates(folders),
    ):
        placed.clear()
        measured()
        assert any(device is chosen for device in placed)
    placed.clear()
    evaluate_encoder(load_encoder(folders[0]), store, **asked)
    assert not any(device is chosen for device in placed), "an encoder stays where it lies"


def test_a_device_without_float64_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for choice, used in (("cuda", "cuda"), ("mps", "cpu"), ("cpu", "cpu")):
        monkeypatch.setattr(run, "device_of_choice", lambda choice=choice: torch.device(choice))
        assert run.evaluation_device().type == used
