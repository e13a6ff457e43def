"""Images without a test split: the fifth that a comparison is measured on is kept out of pretraining too."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import nolabel
from cli_helpers import Say, write_images
from nolabel.cli._pictures import draw_untrained
from nolabel.data.store import ImageStore
from nolabel.encoders._io import save_encoder
from nolabel.encoders.base import build
from nolabel.errors import DataError, UsageError
from nolabel.evaluation._split import divide, hold_out
from nolabel.evaluation.run import evaluate_encoder
from nolabel.report import pictures
from nolabel.runs import Run
from nolabel.training.work import training_images


def unsplit(folder: Path) -> Path:
    """40 images of two classes, 32 px, without splits."""
    write_images(folder / "split", train=20)
    for number in (0, 1):
        shutil.move(folder / f"split/train/class{number}", folder / f"class{number}")
    shutil.rmtree(folder / "split")
    return folder


def test_what_is_held_out_is_what_is_measured_and_not_trained_on(tmp_path: Path) -> None:
    store = ImageStore.open(unsplit(tmp_path / "images"), size=32)
    held = hold_out(store, seed=3)
    whole, split = divide(store, 3), divide(held, 3)
    assert torch.equal(whole.test, split.test)
    assert torch.equal(whole.train, split.train)
    assert whole.text == split.text == "a stratified 20% held out for the test with seed 3"
    trained, unseen = training_images(held, 0)
    assert unseen is not None
    assert sorted([*trained.paths, *unseen.paths]) == sorted(store.paths)
    assert set(unseen.paths) == {store.paths[i] for i in whole.test.tolist()}
    assert held.fingerprint not in (store.fingerprint, hold_out(store, 4).fingerprint)
    assert hold_out(store, 3).fingerprint == held.fingerprint
    assert hold_out(held, 3) is held
    again = pickle.loads(pickle.dumps(held))
    assert torch.equal(again.splits, held.splits)
    assert again.split_names == ("train", "test")


def test_an_image_without_a_label_stays_in_training() -> None:
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8)
    held = hold_out(ImageStore.of(images, [0, 1] * 10 + [-1] * 20), seed=0)
    assert int((held.splits == 1).sum()) == 4
    assert bool((held.splits[20:] == 0).all())


def test_random_weights_look_the_test_images_up_once(tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    images = hold_out(ImageStore.of(pixels, [0, 1] * 10), seed=0)
    save_encoder(tmp_path, build("resnet10", 16), {})
    (tmp_path / "run.json").write_text(json.dumps({"format": 1, "method": "rotation", "size": 16, "seed": 0}))
    draw_untrained(tmp_path, images)
    found = pictures.load_retrieval(tmp_path, pictures.UNTRAINED)
    assert found is not None
    assert found.matches.shape == (4, 4, 16, 16, 3)
    assert pictures.load_retrieval(tmp_path) is None
    before = (tmp_path / "pictures" / pictures.UNTRAINED).stat().st_mtime_ns
    draw_untrained(tmp_path, images)
    assert (tmp_path / "pictures" / pictures.UNTRAINED).stat().st_mtime_ns == before


def few_steps(method: str, data: ImageStore, *, minutes: float | None = None, **settings: Any) -> Run:
    """A run of two steps that says it had been asked for minutes."""
    if minutes is None:
        return nolabel.pretrain(method, data, progress=False, **settings)
    run = nolabel.pretrain(method, data, progress=False, steps=2, **settings)
    run.update(budget=run.info["budget"] | {"asked": {"minutes": minutes}})
    return run


@pytest.mark.slow
def test_a_comparison_pretrains_without_its_test_images_and_goes_on(tmp_path: Path) -> None:
    source = unsplit(tmp_path / "images")
    asked = {"methods": ("rotation",), "protocols": ("knn",), "baselines": ("random",), "pretrain": few_steps}
    said: list[str] = []
    found = nolabel.compare(str(source), out=tmp_path / "out", say=said.append, **asked)
    assert "of the images a stratified 20% held out for the test with seed 0, of pretraining too" in said[0]
    run = found.runs[0]
    info = json.loads((run / "run.json").read_text())
    assert info["data"]["trained_on"] == 32
    assert info["data"]["splits"] == {"train": 32, "test": 8}
    assert info["data"]["opened_at"] == 96
    assert "repeat" not in info
    assert "No test image is identical, or nearly so, to one of the training images." in found.sentences
    rows = [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()]
    assert {row["metric"] for row in rows if row["protocol"] == "leakage"} == {"in_training"}

    (run / "run.json").write_text(json.dumps(info | {"status": "interrupted"}))
    weights = (run / "encoder.safetensors").read_bytes()
    nolabel.compare(str(source), out=tmp_path / "out", **asked)
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert (run / "encoder.safetensors").read_bytes() == weights
    nolabel.compare(str(source), out=tmp_path / "out", say=said.append, **asked)
    assert "trained already" in said

    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"seed": 1}))
    with pytest.raises(UsageError, match="began with seed 1, not 0"):
        nolabel.compare(str(source), out=tmp_path / "out", **asked)
    (run / "run.json").write_text(json.dumps(about))

    store = ImageStore.open(source, size=32)
    leaked = {
        seed: next(
            row.value
            for row in evaluate_encoder(run, store, protocols=("knn",), baselines=(), seed=seed)
            if row.metric == "in_pretraining"
        )
        for seed in (0, 1)
    }
    assert leaked[0] == 0
    assert leaked[1] > 0

    (run / "run.json").write_text(json.dumps(info | {"data": info["data"] | {"fingerprint": "other"}}))
    with pytest.raises(DataError, match="trained on other images"):
        nolabel.compare(str(source), out=tmp_path / "out", **asked)


def test_a_study_pretrains_without_its_test_images(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained: list[ImageStore] = []

    def pretrain(method: str, data: ImageStore, **_: Any) -> None:
        pretrained.append(data)
        raise KeyboardInterrupt

    monkeypatch.setattr("nolabel.studies.run.pretrain", pretrain)
    source = unsplit(tmp_path / "images")
    store = ImageStore.open(source, size=32)
    test = {store.paths[i] for i in divide(store, 3).test.tolist()}
    for name in ("augmentations", "heads", "seeds"):
        assert say("study", name, source, "--seed", 3, "--out", tmp_path / name)[0] == 130
        trained, unseen = training_images(pretrained.pop(), 3)
        assert unseen is not None
        assert set(unseen.paths) == test
        assert len(trained) == 32
