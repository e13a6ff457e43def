"""What a run's folder holds after several evaluations: nothing that contradicts, and all that a stop found done."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nolabel
from nolabel import recipes
from nolabel.cli.reproduce import _numbers
from nolabel.data.store import ImageStore
from nolabel.encoders._io import save_encoder
from nolabel.encoders.base import build
from nolabel.evaluation import _written, compare
from nolabel.evaluation.knn import KNN, KNNOptions
from nolabel.evaluation.linear import Linear
from nolabel.evaluation.run import unmeasured
from nolabel.runs import write_rows
from test_compare_measured import compared, rows_of, run_of
from test_features import store_of

RANDOM = "random:resnet10"


@pytest.fixture
def store() -> ImageStore:
    return store_of(60)


@pytest.fixture
def folder(tmp_path: Path, store: ImageStore) -> Path:
    return run_of(tmp_path / "rotation", "rotation", store)


def evaluate(folder: Path, store: ImageStore, baseline: str, **other: Any) -> None:
    nolabel.evaluate(folder, store, protocols=("knn",), baselines=(baseline,), **other)


def retrained(folder: Path) -> None:
    torch.manual_seed(99)
    save_encoder(folder, build("resnet10", 16), {})


def test_baselines_measured_one_after_another_stand_together(folder: Path, store: ImageStore) -> None:
    for baseline in ("random", "pixels"):
        evaluate(folder, store, baseline)
    assert {against for _, _, against in compared(folder)} == {"", RANDOM, "pixels"}


@pytest.mark.parametrize(
    "change",
    [
        lambda folder, store: evaluate(folder, store, "pixels", size=12),
        lambda folder, store: evaluate(folder, store, "pixels", seed=1),
        lambda folder, store: (retrained(folder), evaluate(folder, store, "pixels")),
        lambda folder, store: evaluate(folder, replace(store, labels=store.labels.flip(0)), "pixels"),
        lambda folder, store: nolabel.evaluate(
            folder, store, protocols=(KNN(KNNOptions(k=(3,))),), baselines=("pixels",)
        ),
    ],
    ids=["size", "seed", "weights", "labels", "options"],
)
def test_baselines_of_other_circumstances_go(
    folder: Path, store: ImageStore, change: Callable[[Path, ImageStore], object]
) -> None:
    nolabel.evaluate(folder, store, protocols=("knn", "linear"), baselines=("random",))
    change(folder, store)
    assert compared(folder) == {
        *(("rotation", "knn", against) for against in ("", "pixels")),
        *(("rotation", "linear", against) for against in ("", RANDOM)),
        ("pixels", "knn", ""),
        (RANDOM, "linear", ""),
    }


def test_an_evaluation_of_its_own_makes_a_comparison_measure_again(folder: Path, store: ImageStore) -> None:
    asked: dict[str, Any] = {"protocols": ("knn", "linear"), "baselines": ("random",), "seed": 0}
    compare.measure(folder, store, **asked)
    evaluate(folder, store, "pixels")
    assert set(_written.read_measured(folder)) == set(_written.read_predictions(folder)) == {"knn", "linear"}
    evaluate(folder, store, "pixels", size=12)
    assert set(_written.read_measured(folder)) == set(_written.read_predictions(folder)) == {"linear"}
    compare.measure(folder, store, **asked)
    assert {against for _, protocol, against in compared(folder) if protocol == "knn"} == {"", RANDOM}
    (row,) = (
        row
        for row in rows_of(folder)
        if (row["subject"], row["protocol"], row["metric"]) == ("rotation", "knn", "top1")
    )
    right = _written.read_predictions(folder)["knn"] == store.labels[store.splits == 1].numpy()
    assert row["setting"]["size"] == 16
    assert row["value"] == pytest.approx(np.mean(right))


def test_runs_are_paired_on_the_images_of_the_comparison_alone(
    folder: Path, store: ImageStore, tmp_path: Path
) -> None:
    folders = [folder, run_of(tmp_path / "simclr", "simclr", store)]
    for one in folders:
        compare.measure(one, store, protocols=("knn",), baselines=(), seed=0)
        nolabel.evaluate(one, replace(store_of(90), source="others"), protocols=("knn",), baselines=())
    compare.pair_up(folders, store, 0)
    paired = [row for row in rows_of(folder) if row["setting"].get("against") == "simclr"]
    assert {row["setting"]["data"] for row in paired} == {store.source}


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("by", ["evaluate", "compare"])
def test_what_was_measured_before_a_stop_is_kept(
    folder: Path, store: ImageStore, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    asked: dict[str, Any] = {"protocols": ("knn", "linear"), "baselines": ("pixels",), "seed": 0}
    with monkeypatch.context() as patch:
        patch.setattr(Linear, "run", stopped)
        with pytest.raises(KeyboardInterrupt):
            (compare.measure if by == "compare" else nolabel.evaluate)(folder, store, **asked)
    assert compared(folder) == {("rotation", "knn", ""), ("rotation", "knn", "pixels"), ("pixels", "knn", "")}
    assert [row["metric"] for row in rows_of(folder) if row["protocol"] == "leakage"] == ["in_training"]
    assert [one.protocol for one in unmeasured(folder, ("knn", "linear"))] == ["linear"]
    if by == "compare":
        assert set(_written.read_measured(folder)) == {"knn"}
        monkeypatch.setattr(KNN, "run", stopped)
        compare.measure(folder, store, **asked)
        assert set(_written.read_measured(folder)) == {"knn", "linear"}


def test_a_leak_is_told_beside_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "All 8 test images are also among the pretraining images."
    leak = {"subject": "rotation", "protocol": "leakage", "metric": "in_pretraining", "value": 1.0}
    write_rows(tmp_path / "evaluation.jsonl", [leak | {"setting": {"sentence": sentence}}])
    (tmp_path / "run.json").write_text('{"format": 1, "encoder": "resnet10", "data": {"source": "x"}}')
    _numbers(tmp_path, recipes.find("rotation-scaled"))
    assert sentence in capsys.readouterr().out
