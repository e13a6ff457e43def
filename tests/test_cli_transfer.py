"""`nolabel transfer`: the table, its tests, several labels an image, and going on where it stopped."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli_helpers import Say, one_line, picture, write_images
from nolabel import runs
from nolabel.data.store import ImageStore
from nolabel.encoders._io import encoder_digest, load_encoder, save_encoder
from nolabel.encoders.base import build
from nolabel.evaluation import finetune, supervised
from nolabel.evaluation.statistics import holm, permutation
from nolabel.evaluation.targets import Candidate, Wanted, missing, target_of
from nolabel.report.transfer import lines
from nolabel.seeds import derive
from small import smooth_images


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
    kinds = ["transfer", "leakage", "transfer", "transfer"]
    assert sorted(row["protocol"] for row in rows) == sorted(2 * kinds)
    assert len({row["subject"] for row in rows}) == 2
    paired = [row for row in rows if row["metric"].endswith("_difference")]
    assert [row["setting"]["holm"] for row in paired] == holm([row["setting"]["p"] for row in paired])
    random = next(row for row in rows if row["subject"].startswith("random:"))
    assert random["seeds"] == [0, 1, 2]
    assert all(row["seeds"] == [0] for row in rows if not row["subject"].startswith("random:"))
    target, network = target_of(ImageStore.open(first, size=16)), load_encoder(encoder)
    candidate, wanted = Candidate(encoder.name, network, encoder_digest(network), encoder), Wanted(16, 0)
    assert missing(out / "transfer.jsonl", target, [candidate], wanted) == []
    for other in ({"seed": 1}, {"size": 32}):
        assert len(missing(out / "transfer.jsonl", target, [candidate], replace(wanted, **other))) == 2
    changed = [replace(candidate, digest="another")]
    assert [job.subject for job in missing(out / "transfer.jsonl", target, changed, wanted)] == [encoder.name]
    (out / "transfer.npz").unlink()
    assert len(missing(out / "transfer.jsonl", target, [candidate], wanted)) == 2


def test_fine_tuning_beside_training_from_scratch(say: Say, encoder: Path, tmp_path: Path) -> None:
    first, second, out = write_images(tmp_path / "set"), several(tmp_path / "colours"), tmp_path / "out"
    words = ("transfer", encoder, first, second, "--finetune", "--steps", 2, "--batch-size", 8, "--out", out)
    code, told, err = say(*words)
    assert code == 0, err
    assert "no fine-tuning, because" in told
    (line,) = lines(out)["finetune"]
    assert line.encoder.setting["steps"] == 2
    assert line.encoder.metric == "top1"
    assert line.encoder.setting["batch_size"] == 8
    assert line.other.subject == "supervised:resnet10"
    assert {name: line.other.setting[name] for name in ("steps", "choice_steps", "batch_size")} == {
        "steps": 4, "choice_steps": 2, "batch_size": 8,
    }  # fmt: skip
    assert set(line.other.chosen["settings"]) == {str(one) for one in supervised.settings("small")}
    assert set(line.encoder.chosen["settings"]) == {str(one) for one in finetune.settings("small")}
    assert "training from scratch" in told
    assert len(lines(out)["transfer"]) == 2


def test_fine_tuning_is_chosen_by_the_metric_of_the_set(
    say: Say, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (finetune, supervised):
        two = module.settings("small")[:2]
        monkeypatch.setattr(module, "settings", lambda grid, two=two: two)
    data, out = write_images(tmp_path / "pets"), tmp_path / "out"
    words = ("transfer", encoder, data, "--finetune", "--steps", 1, "--batch-size", 4, "--out", out)
    assert say(*words)[0] == 0
    (line,) = lines(out)["finetune"]
    assert line.encoder.metric == "balanced"
    assert [row.setting["chosen_by"] for row in (line.encoder, line.other)] == ["balanced"] * 2
    rows = runs.read_rows(out / runs.TRANSFER)
    for row in rows:  # a table from before it was chosen so
        if row["protocol"] == "finetune":
            row["setting"].pop("chosen_by", None)
    runs.write_rows(out / runs.TRANSFER, rows)
    assert f"fine-tuning of {encoder.name}" in say(*words)[1]


def test_the_paper_s_recipe_can_be_asked_for() -> None:
    wanted = Wanted(224, 0, True, 20_000, 256, "paper")
    assert wanted.tuning == finetune.FinetuneOptions(steps=20_000, batch_size=256, grid="paper")
    assert wanted.scratch == supervised.SupervisedOptions(
        steps=40_000, choice_steps=40_000, batch_size=256, grid="paper"
    )


def test_several_encoders_share_a_table_and_a_test_decides_their_ties(
    say: Say, encoder: Path, tmp_path: Path
) -> None:
    others = []
    for number in (1, 2):
        torch.manual_seed(number)
        others.append(tmp_path / str(number) / encoder.name)
        others[-1].mkdir(parents=True)
        save_encoder(others[-1], build("resnet10", 16), {})
    data, out = write_images(tmp_path / "pets", test=10), tmp_path / "out"
    assert say("transfer", encoder, data, "--out", out)[0] == 0
    words = ("transfer", encoder, data, "--beside", ",".join(map(str, others)), "--out", out)
    code, told, err = say(*words)
    assert code == 0, err
    assert f"linear probe of {others[0]}" in told
    assert f"linear probe of {encoder.name}\n" not in told  # measured before
    assert "random:resnet10 beside it" not in told  # one architecture, one baseline
    assert "mean rank" in told
    assert "best of its set, or tied with the best" in told
    found = lines(out)["transfer"]
    pairs = [(line.encoder.subject, line.other.subject) for line in found if not line.beside_baseline]
    first, second, third = encoder.name, str(others[0]), str(others[1])
    assert pairs == [(first, second), (first, third), (second, third)]
    line = next(line for line in found if line.other.subject == third)
    with np.load(out / "transfer.npz") as held:
        assert len(held.files) == 4
        mine, other = (held[row.setting["correct"]] for row in (line.encoder, line.other))
    assert mine.shape == other.shape == (1, 20)
    labels = ImageStore.open(data, size=16).split("test").labels.numpy()
    for right, row in ((mine, line.encoder), (other, line.other)):
        assert np.mean([right[0][labels == c].mean() for c in (0, 1)]) == pytest.approx(row.value)
    expected = permutation(mine[0], other[0], derive(0, "transfer", str(data)), labels)
    assert line.difference.setting["p"] == pytest.approx(expected)
    before = (out / "transfer.jsonl").read_text()
    assert "measured already" in say(*words)[1]
    assert (out / "transfer.jsonl").read_text() == before
    code, _, err = say("transfer", encoder, data, "--beside", f"{encoder},{encoder}", "--out", out)
    assert code == 2
    one_line(err, "named twice")


def test_pretraining_images_among_a_set_s_test_images_are_told(
    say: Say, small_images: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = ("--steps", 2, "--batch-size", 8, "--precision", "32-true", "--out", run)
    assert say("pretrain", "rotation", small_images, *words)[0] == 0
    leaky = write_images(tmp_path / "leaky", first=1000)
    for label in ("class0", "class1"):
        shutil.copy(small_images / "train" / label / "000.png", leaky / "test" / label / "seen.png")
    clean = write_images(tmp_path / "clean", first=2000)
    code, told, err = say("transfer", run, leaky, clean, "--finetune", "--steps", 2, "--batch-size", 8)
    assert code == 0, err
    rows = map(json.loads, (run / "transfer.jsonl").read_text().splitlines())
    (row,) = [
        one for one in rows if (one["metric"], one["setting"]["data"]) == ("in_pretraining", str(leaky))
    ]
    assert set(row["setting"]["without"]) == {"transfer", "finetune"}
    said = "2 of 10 test images (20.0%) are also among the pretraining images (2 identical)"
    assert f"leaky, rotation: {said}" in told
    assert "No test image of clean is identical, or nearly so, to one of the pretraining images." in told
    assert (
        "No test image of leaky and clean is identical, or nearly so, to one of the training images." in told
    )
    assert said in (run / "report.html").read_text()


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
    assert target.store.fingerprint == store.fingerprint
    assert target.tags is not None
    assert target.tags.tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 1], [0, 1, 1], [-1, -1, -1], [1, 0, 1]]


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
