"""Leakage: copies that must be found, noise that must not, and the sentence."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import nolabel
from cli_helpers import Say, picture, write_images
from nolabel.data.store import ImageStore
from nolabel.encoders._io import save_encoder
from nolabel.encoders.base import build
from nolabel.evaluation import _leaks, leakage
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Result
from nolabel.evaluation.run import evaluate_encoder
from nolabel.evaluation.statistics import wilson
from nolabel.runs import read_rows, write_rows
from small import TinyNet, smooth_images


def pictures(n: int, seed: int = 0, side: int = 32) -> list[Tensor]:
    batch = smooth_images(n, (side, side), seed)
    return [batch.image(b) for b in range(n)]


def jpeg(image: Tensor) -> Tensor:
    held = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(held, "JPEG", quality=75)
    return torch.from_numpy(np.array(Image.open(held))).permute(2, 0, 1).contiguous()


def brighter(image: Tensor, factor: float) -> Tensor:
    return (image.float() * factor).clamp(0, 255).byte()


CHANGES = {
    "copied": lambda image: image,
    "mirrored": lambda image: image.flip(2),
    "turned": lambda image: image.rot90(1, (1, 2)),
    "upside down": lambda image: image.rot90(2, (1, 2)),
    "saved again": jpeg,
    "mirrored and saved again": lambda image: jpeg(image.flip(2)),
    "brighter": lambda image: brighter(image, 1.1),
    "darker": lambda image: brighter(image, 0.9),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_found(name: str) -> None:
    train = pictures(40)
    test = [*pictures(10, seed=1), CHANGES[name](train[7])]
    found = leakage.find(ImageStore.of(test), ImageStore.of(train))
    assert found.pairs.tolist() == [[10, 7]]
    assert found.identical.tolist() == [name in ("copied", "mirrored")]
    assert found.flagged.tolist() == [10]
    assert found.correlation[0] > 0.95


def test_noise_gives_no_pair() -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (1000, 3, 16, 16), generator=random, dtype=torch.uint8)
    found = leakage.find(ImageStore.of(noise[:300]), ImageStore.of(noise[300:]))
    assert len(found.pairs) == 0
    assert found.sentence() == "No test image is identical, or nearly so, to one of the training images."


def test_images_of_one_colour_leak_only_where_they_are_equal() -> None:
    def plain(value: int) -> Tensor:
        return torch.full((3, 32, 32), value, dtype=torch.uint8)

    found = leakage.find(
        ImageStore.of([plain(10), plain(20), *pictures(9)]),
        ImageStore.of([plain(20), plain(30), *pictures(9, seed=1)]),
    )
    assert found.pairs.tolist() == [[1, 0]]
    assert found.identical.all()


def test_stores_of_different_sizes_are_compared() -> None:
    large = pictures(12, side=64)
    small = [
        torch.nn.functional.interpolate(i[None].float(), size=(32, 32), mode="area")[0].byte() for i in large
    ]
    found = leakage.find(ImageStore.of(small), ImageStore.of(large))
    assert found.pairs.tolist() == [[i, i] for i in range(12)]
    assert not found.identical.any()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = ImageStore.of(pictures(60)), ImageStore.of(pictures(60)[::-1])
    whole = leakage.find(test, train)
    monkeypatch.setattr(leakage, "ROWS", 7)
    monkeypatch.setattr(leakage, "COLUMNS", 11)
    monkeypatch.setattr(leakage, "IMAGES", 13)
    assert leakage.find(test, train).pairs.tolist() == whole.pairs.tolist()
    assert len(whole.flagged) == 60


def test_the_sentence_and_the_images_that_are_kept() -> None:
    train = pictures(30)
    test = [train[0], jpeg(train[1]), *pictures(18, seed=2)]
    found = leakage.find(ImageStore.of(test), ImageStore.of(train))
    assert found.sentence("test", "pretraining") == (
        "2 of 20 test images (10.0%) are also among the pretraining images (1 identical, 1 nearly so): "
        "read the accuracy without them too."
    )
    assert found.flagged.tolist() == [0, 1]
    assert found.kept.tolist() == list(range(2, 20))


def test_digests_see_sizes_and_pixels() -> None:
    a = pictures(10)
    store = ImageStore.of([*a, a[0].reshape(3, 16, 64)])
    found = leakage.digests(store)
    assert len(set(found.tolist())) == 11
    mirrored = ImageStore.of([image.flip(2) for image in a])
    assert (leakage.digests(mirrored, mirrored=True) == found[:10]).all()


def run_folder(folder: Path, source: Path) -> Path:
    """A folder with an untrained encoder and a run.json that says it trained on `source`."""
    store = ImageStore.open(source, size=16)
    data = {"source": str(source), "fingerprint": store.fingerprint, "opened_at": 16}
    folder.mkdir()
    torch.manual_seed(0)
    save_encoder(folder, build("resnet10", 16), {})
    described = {"format": 1, "method": "rotation", "size": 16, "data": data}
    (folder / "run.json").write_text(json.dumps(described))
    return folder


def test_evaluate_counts_test_images_among_training_and_pretraining_images(tmp_path: Path) -> None:
    evaluated, pretrained = write_images(tmp_path / "evaluated"), write_images(tmp_path / "other", train=12)
    for place, seed in (("train/class0", 900), ("train/class1", 901), ("test/class1", 901)):
        picture(seed).save(evaluated / place / "new.png")
    for number, image in enumerate((pretrained / "train").rglob("*.png")):
        picture(1000 + number).save(image)
    shutil.copy(evaluated / "test/class0/000.png", pretrained / "train/class0/copy.png")
    store = ImageStore.open(evaluated, size=16)
    results = evaluate_encoder(
        run_folder(tmp_path / "run", pretrained), store, protocols=("knn",), baselines=()
    )
    rows = {row.metric: row for row in results if row.protocol == "leakage"}
    assert {metric: row.value * row.n for metric, row in rows.items()} == {
        "in_training": 1,
        "in_pretraining": 1,
    }
    training = rows["in_training"].setting
    assert (training["identical"], training["near"]) == (1, 0)
    assert "1 of 9 test images" in training["sentence"]
    assert "top-1 without them, of 8 images: knn" in training["sentence"]
    (knn,) = (row for row in results if (row.protocol, row.metric) == ("knn", "top1"))
    hits = knn.predictions == store.labels[store.splits == 1].numpy()
    leaked = [store.paths[i] for i in (store.splits == 1).nonzero()[:, 0]].index("test/class1/new.png")
    right = int(np.delete(hits, leaked).sum())
    assert tuple(training["without"]["knn"].values()) == pytest.approx((*wilson(right, 8), 8))
    ends = training["without"]["knn"]
    assert f"({100 * ends['low']:.1f} to {100 * ends['high']:.1f})" in training["sentence"]


def pairs_listed(folder: Path) -> list[dict[str, str]]:
    with (folder / "leakage.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_images_that_leaked_are_listed_beside_the_rows(tmp_path: Path, say: Say) -> None:
    evaluated, pretrained = write_images(tmp_path / "evaluated"), write_images(tmp_path / "other", first=500)
    run = run_folder(tmp_path / "run", pretrained)
    asked = ("evaluate", run, evaluated, "--protocols", "knn", "--baselines", "pixels")
    code, out, _ = say(*asked)
    assert code == 0
    assert not (run / "leakage.csv").exists()
    assert "leakage.csv" not in out + (run / "report.html").read_text()
    shutil.copy(evaluated / "test/class0/000.png", pretrained / "train/class0/copy, 1.png")
    turned = Image.open(evaluated / "test/class1/001.png").rotate(90)
    turned.save(evaluated / "train/class1/turned.png")
    code, out, _ = say(*asked)
    assert code == 0
    assert out.count(f"listed in {run / 'leakage.csv'}.") == 1
    same, near = sorted(pairs_listed(run), key=lambda line: line["kind"])
    assert list(same) == ["encoder", "data", "set", "test_image", "image", "kind", "distance"]
    assert tuple(same.values()) == (
        "rotation", str(evaluated), "pretraining", "test/class0/000.png", "train/class0/copy, 1.png", "identical",
        "0.0000",
    )  # fmt: skip
    assert tuple(near.values())[2:6] == ("training", "test/class1/001.png", "train/class1/turned.png", "near")
    assert 0 <= float(near["distance"]) <= 0.05
    page = (run / "report.html").read_text()
    assert "They are listed in leakage.csv beside the results." in page
    assert all("pairs" not in row for row in read_rows(run / "evaluation.jsonl"))
    assert [path.name for path in run.glob(".*.tmp")] == []
    other = write_images(tmp_path / "third", first=700)
    shutil.copy(other / "test/class0/000.png", other / "train/class0/copy.png")
    assert say("evaluate", run, other, *asked[3:])[0] == 0
    assert {line["data"] for line in pairs_listed(run)} == {str(evaluated), str(other)}
    (evaluated / "train/class1/turned.png").unlink()
    (pretrained / "train/class0/copy, 1.png").unlink()
    assert say(*asked)[0] == 0
    assert {line["data"] for line in pairs_listed(run)} == {str(other)}


def test_pretraining_images_that_are_gone_are_told(tmp_path: Path) -> None:
    evaluated, pretrained = write_images(tmp_path / "evaluated"), write_images(tmp_path / "other", first=500)
    run = run_folder(tmp_path / "run", pretrained)
    shutil.rmtree(pretrained)
    store = ImageStore.open(evaluated, size=16)
    results = evaluate_encoder(run, store, protocols=("knn",), baselines=())
    (row,) = (row for row in results if row.metric == "in_pretraining")
    said = row.setting["sentence"]
    assert row.value == 1
    assert said.startswith("The test images could not be compared with the pretraining images of ")
    assert f"(There is no folder or file {pretrained}: " in said
    assert said.endswith("put those images back where the run found them and evaluate again.")
    (run / "run.json").write_text(json.dumps({"format": 1, "method": "rotation", "size": 16}))
    results = evaluate_encoder(run, store, protocols=("knn",), baselines=())
    (row,) = (row for row in results if row.metric == "in_pretraining")
    assert "(its run.json names none)" in row.setting["sentence"]


def test_the_encoder_s_file_of_a_run_is_checked_like_the_run(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", write_images(tmp_path / "other", first=500))
    asked = {"protocols": ("knn",), "baselines": ()}
    evaluated = str(write_images(tmp_path / "evaluated"))
    found = nolabel.evaluate(run / "encoder.safetensors", evaluated, **asked)
    assert {row.subject for row in found} == {"rotation"}
    assert "in_pretraining" in {row.metric for row in found}
    assert not (run / "evaluation.jsonl").exists()


def test_the_same_two_sets_are_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    find = leakage.find

    def counted(test: ImageStore, other: ImageStore) -> leakage.Leakage:
        searched.append(len(other))
        return find(test, other)

    monkeypatch.setattr(leakage, "find", counted)
    pretrained = write_images(tmp_path / "other", first=500, train=7)
    runs = [run_folder(tmp_path / name, pretrained) for name in ("one", "two")]
    store = ImageStore.open(write_images(tmp_path / "evaluated", first=900), size=16)
    first, second = (evaluate_encoder(run, store, protocols=("knn",), baselines=()) for run in runs)
    assert searched == [20, 14]
    assert [row.value for row in first if row.protocol == "leakage"] == [0, 0]
    assert first == second


def test_evaluate_says_that_all_test_images_were_pretrained_on(tmp_path: Path) -> None:
    source = write_images(tmp_path / "images")
    shutil.move(source / "train/class0", source / "class0")
    shutil.move(source / "train/class1", source / "class1")
    shutil.rmtree(source / "train")
    shutil.rmtree(source / "test")
    run = run_folder(tmp_path / "run", source)
    store = ImageStore.open(source, size=16)
    results = evaluate_encoder(run, store, protocols=("knn",), baselines=())
    (row,) = (row for row in results if row.metric == "in_pretraining")
    assert row.value == 1
    assert row.setting["sentence"].startswith(
        f"All {row.n} test images are also among the pretraining images"
    )


def leaking(labels: list[int], row: Result) -> Result:
    """What is said of 20 test images of these classes, the first of which is a training image, beside `row`."""
    train = pictures(10)
    store = ImageStore.of([*train, train[0], *pictures(19, seed=1)], [0, 1] * 5 + labels)
    (found,) = _leaks.check(
        TinyNet(), "x", store, Division(torch.arange(10), torch.arange(10, 30), ""), [row]
    )
    return found


def test_a_mean_over_classes_without_the_images_is_given_where_it_is_the_metric() -> None:
    labels = [0] * 10 + [1] * 10
    predicted = np.array(
        [0] * 4 + [1] * 16
    )  # of the first class the image that leaked is right, and 3 of 9 others
    row = Result("x", "transfer", "balanced", 0.7, 0.6, 0.8, 20, predictions=predicted)
    found = leaking(labels, row).setting
    kept = found["without"]["transfer (mean over classes)"]
    assert (kept["value"], kept["n"]) == (pytest.approx((3 / 9 + 1) / 2), 19)
    assert kept["low"] < kept["value"] < kept["high"]
    assert "accuracy without them, of 19 images: transfer (mean over classes) 66.7% (" in found["sentence"]
    assert "read the accuracy" not in found["sentence"]
    uneven = leaking([0] * 16 + [1] * 4, replace(row, metric="top1")).setting["without"]
    assert uneven["transfer"]["value"] == pytest.approx((3 + 4) / 19)
    assert uneven["transfer (mean over classes)"]["value"] == pytest.approx((3 / 15 + 1) / 2)


def test_where_no_accuracy_without_the_images_is_known_none_is_advised() -> None:
    found = leaking([0, 1] * 10, Result("x", "transfer", "map11", 0.7, 0.6, 0.8, 20)).setting
    assert found["without"] == {}
    assert found["sentence"].endswith("(1 identical): no number here was measured without them.")


def test_evaluations_one_after_another_tell_all_accuracies_without_the_images(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    for place in ("train/class0", "test/class0"):
        picture(900).save(images / place / "new.png")
    store = ImageStore.open(images, size=16)
    run = run_folder(tmp_path / "run", images)

    def told() -> dict[str, Any]:
        rows = read_rows(run / "evaluation.jsonl")
        return next(row["setting"] for row in rows if row["metric"] == "in_training")

    for protocols in (("knn",), ("linear",), ("knn",)):
        nolabel.evaluate(run, store, protocols=protocols, baselines=())
        if protocols == ("linear",):
            assert list(told()["without"]) == ["knn", "linear"]
            assert ", linear " in told()["sentence"]
    assert set(told()["without"]) == {"knn", "linear"}
    # what no longer stands is not told
    rows = [row for row in read_rows(run / "evaluation.jsonl") if row["protocol"] != "linear"]
    write_rows(run / "evaluation.jsonl", rows)
    nolabel.evaluate(run, store, protocols=("knn",), baselines=())
    assert list(told()["without"]) == ["knn"]
