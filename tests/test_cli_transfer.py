"""`nolabel transfer`: the table, its tests, several labels an image, and going on where it stopped."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli_helpers import Say, one_line, picture, write_images
from nolabel.data.store import ImageStore
from nolabel.encoders._io import save_encoder
from nolabel.encoders.base import build
from nolabel.evaluation.statistics import holm
from nolabel.evaluation.targets import Wanted, missing, target_of
from nolabel.report.transfer import lines
from small import smooth_images


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, build("resnet10", 16), {})
    return folder


@pytest.fixture(autouse=True)
def few_l2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three values of λ rather than 45, which `test_transfer.py` counts."""
    for module in ("linear", "transfer"):
        monkeypatch.setattr(f"nolabel.evaluation.{module}.l2_values", lambda grid: (1.0, 0.1, 0.01))


def several(folder: Path) -> Path:
    """A CSV of 36 images, of one colour or two."""
    rows = []
    for i in range(36):
        split = "train" if i < 24 else "test"
        pixels = np.array(picture(i, 16))
        labels = [name for c, name in enumerate(("red", "green", "blue")) if (i + 1) >> c & 1]
        for c, name in enumerate(("red", "green", "blue")):
            pixels[..., c] = 230 if name in labels else 20
        path = f"{split}/{i:02d}.png"
        (folder / split).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / path)
        if labels:
            rows.append((path, ";".join(labels)))
    with (folder / "tags.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    return folder / "tags.csv"


def test_a_table_of_two_sets_that_goes_on(say: Say, encoder: Path, tmp_path: Path) -> None:
    first, second = write_images(tmp_path / "pets"), several(tmp_path / "colours")
    out = tmp_path / "out"
    code, told, err = say("transfer", encoder, first, "--out", out)
    assert code == 0, err
    code, told, err = say("transfer", encoder, first, second, "--out", out)
    assert code == 0, err
    assert f"{first}: measured already" in told
    assert "mean per class" in told
    assert "11-point mAP" in told
    found = lines(out)["transfer"]
    assert [line.name for line in found] == ["pets", "tags"]
    rows = [json.loads(line) for line in (out / "transfer.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert len({row["subject"] for row in rows}) == 2
    paired = [row for row in rows if row["metric"].endswith("_difference")]
    assert [row["setting"]["holm"] for row in paired] == holm([row["setting"]["p"] for row in paired])
    random = next(row for row in rows if row["subject"].startswith("random:"))
    assert random["seeds"] == [0, 1, 2]
    target = target_of(ImageStore.open(first, size=16))
    held = random["setting"]
    wanted = Wanted("encoder", held["encoder"], held["size"], held["seed"])
    assert missing(out / "transfer.jsonl", target, wanted) == []
    for other in ({"seed": 1}, {"size": 32}, {"digest": "another"}):
        assert missing(out / "transfer.jsonl", target, replace(wanted, **other)) == ["transfer"]


def test_fine_tuning_beside_training_from_scratch(say: Say, encoder: Path, tmp_path: Path) -> None:
    first, second, out = write_images(tmp_path / "set"), several(tmp_path / "colours"), tmp_path / "out"
    words = ("transfer", encoder, first, second, "--finetune", "--steps", 2, "--out", out)
    code, told, err = say(*words)
    assert code == 0, err
    assert "no fine-tuning, because" in told
    (line,) = lines(out)["finetune"]
    assert line.encoder.setting["steps"] == 2
    assert line.encoder.metric == "top1"
    assert line.random.is_baseline
    assert len(lines(out)["transfer"]) == 2


def test_the_run_s_report_holds_the_table(say: Say, tmp_path: Path, small_images: Path) -> None:
    run = tmp_path / "run"
    words = ("--steps", 2, "--batch-size", 8, "--precision", "32-true", "--out", run)
    assert say("pretrain", "rotation", small_images, *words)[0] == 0
    code, _, err = say("transfer", run, write_images(tmp_path / "set"))
    assert code == 0, err
    assert "Transfer to other data sets" in (run / "report.html").read_text()


def test_several_labels_become_tags() -> None:
    images = [smooth_images(6, (12, 12)).image(b) for b in range(6)]
    store = ImageStore.of(images, [0, 1, 2, 0, -1, 2], class_names=["dog; cat", "cat", "bird;dog"])
    target = target_of(store)
    assert target.metric == "map11"
    assert target.store.class_names == ("bird", "cat", "dog")
    assert target.tags is not None
    assert target.tags.tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 1], [0, 1, 1], [1, 0, 1]]


def test_bad_input_is_one_line(say: Say, encoder: Path, tmp_path: Path) -> None:
    code, _, err = say("transfer", encoder)
    assert code == 2
    one_line(err, "No data set is named")
    code, _, err = say("transfer", encoder, write_images(tmp_path / "voc2007"), "--out", tmp_path / "out")
    assert code == 2
    one_line(err, "mean average precision", "cat;dog")
    one_class = write_images(tmp_path / "one", classes=1)
    code, _, err = say(
        "transfer", encoder, write_images(tmp_path / "two"), one_class, "--out", tmp_path / "out"
    )
    assert code == 2
    one_line(err, "of one class")
    assert not (tmp_path / "out" / "transfer.jsonl").exists()
