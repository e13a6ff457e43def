"""What a comparison keeps of each run: measured anew or not, paired, and compared by likeness."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nolabel.data.store import ImageStore
from nolabel.encoders._io import save_encoder
from nolabel.encoders.base import build
from nolabel.evaluation import compare
from nolabel.evaluation._written import read_predictions
from nolabel.evaluation.knn import KNN, KNNOptions
from nolabel.runs import read_rows
from test_features import store_of


def run_of(folder: Path, method: str, store: ImageStore) -> Path:
    """A run's folder with an untrained encoder that says it was trained on the training images of `store`."""
    folder.mkdir()
    torch.manual_seed(len(method))
    save_encoder(folder, build("resnet10", 16), {})
    data = {"source": store.source, "fingerprint": store.fingerprint, "opened_at": 16}
    (folder / "run.json").write_text(json.dumps({"format": 1, "method": method, "size": 16, "data": data}))
    return folder


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return read_rows(folder / "evaluation.jsonl")


@pytest.mark.parametrize("held", [2, 3])
def test_a_comparison_of_a_handful_of_images_has_no_likeness(tmp_path: Path, held: int) -> None:
    store = replace(store_of(10), splits=(torch.arange(10) >= 10 - held).long())
    folders = [run_of(tmp_path / method, method, store) for method in ("rotation", "simclr")]
    for folder in folders:
        compare.measure(folder, store, protocols=("knn", "diagnostics"), baselines=("random",), seed=0)
    compare.pair_up(folders, store, 0)
    compare.liken(folders, store, 0)
    assert all(np.isfinite(row["value"]) for folder in folders for row in rows_of(folder))
    assert not [row for row in rows_of(folders[0]) if row["protocol"] == "likeness"]


@pytest.mark.parametrize(
    ("images", "told"), [(150, "jackknife over images, in 20 blocks"), (90, "none: fewer than 50 images")]
)
def test_likeness_has_an_interval_where_the_images_are_enough(tmp_path: Path, images: int, told: str) -> None:
    store = store_of(images)
    folders = [run_of(tmp_path / method, method, store) for method in ("rotation", "simclr")]
    compare.liken(folders, store, 0)
    for folder, other in zip(folders, ("simclr", "rotation"), strict=True):
        (row,) = rows_of(folder)
        assert (row["metric"], row["setting"]["against"], row["n"]) == ("cka", other, images // 3)
        assert row["setting"]["interval"] == told
        if images == 150:
            assert row["low"] < row["value"] <= row["high"] <= 1
        else:
            assert row["low"] is row["high"] is None


def compared(folder: Path) -> set[tuple[str, str, str]]:
    """(subject, protocol, compared with) of a run's accuracies and differences."""
    return {
        (row["subject"], row["protocol"], row["setting"].get("against", ""))
        for row in rows_of(folder)
        if row["metric"].startswith("top1")
    }


def test_a_protocol_measured_with_other_options_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    store = store_of(60)
    folder = run_of(tmp_path / "rotation", "rotation", store)
    compare.measure(folder, store, protocols=("knn", "linear"), baselines=("random", "pixels"), seed=0)
    other = KNN(KNNOptions(k=(3,)))
    compare.measure(folder, store, protocols=(other,), baselines=("random",), seed=0)
    random = "random:resnet10"
    assert compared(folder) == {
        *(("rotation", "knn", against) for against in ("", random)),
        *(("rotation", "linear", against) for against in ("", random, "pixels")),
        *((random, protocol, "") for protocol in ("knn", "linear")),
        ("pixels", "linear", ""),
    }


def test_a_baseline_that_is_added_joins_those_that_were_there(tmp_path: Path) -> None:
    store = store_of(60)
    folder = run_of(tmp_path / "rotation", "rotation", store)
    for baseline in ("pixels", "histogram"):
        compare.measure(folder, store, protocols=("knn",), baselines=(baseline,), seed=0)
    assert {against for _, _, against in compared(folder)} == {"", "pixels", "histogram"}


def test_old_predictions_go_where_a_new_measurement_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(60)
    folder = run_of(tmp_path / "rotation", "rotation", store)
    compare.measure(folder, store, protocols=("knn", "linear"), baselines=(), seed=0)
    assert set(read_predictions(folder)) == {"knn", "linear"}
    measured = compare.evaluate_encoder

    def without(*words: Any, keep: Any, **named: Any) -> None:
        measured(
            *words,
            keep=lambda one, rows: keep(one, [replace(row, predictions=None) for row in rows]),
            **named,
        )

    monkeypatch.setattr(compare, "evaluate_encoder", without)
    compare.measure(folder, store, protocols=(KNN(KNNOptions(k=(3,))),), baselines=(), seed=0)
    assert set(read_predictions(folder)) == {"linear"}
