"""The loop: what a run leaves behind, and how it ends when something goes wrong."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric

from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder
from nolabel.errors import RunError, UsageError
from nolabel.training import budget, health
from nolabel.training.budget import Budget
from nolabel.training.progress import describe
from nolabel.training.step import ViewSource
from nolabel.training.watch import Watch
from toys import Toy, fit_toy, toy_method, toy_run, toy_store


def test_a_run_leaves_its_log_two_checkpoints_and_an_encoder(tmp_path: Path) -> None:
    seen = []

    def monitor(encoder: Encoder, step: int) -> dict[str, float]:
        seen.append((step, encoder.training))
        return {"knn": 0.5}

    _, outcome = fit_toy(tmp_path / "run", 10, held_out=toy_store(20, seed=5), monitors=[monitor])
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(11))
    assert {"loss", "lr", "views_per_second", "wait", "agreement", "epoch", "progress", "seconds"} <= set(
        rows[1]
    )
    assert [row["step"] for row in rows if "rankme" in row] == [0, 2, 4, 6, 8, 10]
    assert {"feature_std", "rankme", "knn", "held_out/loss"} <= set(rows[10])
    assert seen == [(step, False) for step in (0, 2, 4, 6, 8, 10)]
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == [f"step-{step:09d}.{kind}" for step in (9, 10) for kind in ("json", "safetensors")]
    assert json.loads((tmp_path / "run/encoder.json").read_text())["training"]["step"] == 10
    assert outcome.steps == 10
    assert not outcome.interrupted
    assert not list(tmp_path.rglob("*.tmp"))


def test_held_out_images_are_of_the_whole_split_not_of_its_first_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "held_out", lambda self, views: {"light": views["first"].mean().item()})
    black_then_white = torch.arange(2).repeat_interleave(300).mul(255).to(torch.uint8)
    images = ImageStore.of(list(black_then_white.view(-1, 1, 1, 1).expand(-1, 3, 16, 16)))
    fit_toy(tmp_path / "run", 2, held_out=images)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    light = [row["held_out/light"] for row in rows if "held_out/light" in row]
    assert light
    assert all(0.4 < value < 0.8 for value in light)


def test_rows_are_logged_at_their_interval(tmp_path: Path) -> None:
    fit_toy(tmp_path / "run", 10, log_every=4)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("every", [1, 10])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_what_was_good(tmp_path: Path, every: int) -> None:
    with pytest.raises(RunError, match=r"not finite at step 7 .*lower --lr.*step [67] and") as raised:
        fit_toy(tmp_path / "run", 10, log_every=every, options={"bad_from": 0.7})
    assert "\n" not in str(raised.value)
    kept = sorted((tmp_path / "run/checkpoints").glob("*.safetensors"))[-1].name
    assert kept == ("step-000000007.safetensors" if every == 1 else "step-000000006.safetensors")


def test_an_interruption_finishes_the_step_and_writes_everything(tmp_path: Path) -> None:
    def interrupt(encoder: Encoder, step: int) -> dict[str, float]:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    before = signal.getsignal(signal.SIGINT)
    _, outcome = fit_toy(tmp_path / "run", 10, monitors=[interrupt], checkpoint_seconds=1e9)
    assert outcome.interrupted
    assert outcome.steps in (4, 5)
    assert (tmp_path / f"run/checkpoints/step-{outcome.steps:09d}.json").is_file()
    assert json.loads((tmp_path / "run/encoder.json").read_text())["training"]["step"] == outcome.steps
    assert signal.getsignal(signal.SIGINT) is before


def test_a_collapse_is_named_with_its_step(tmp_path: Path) -> None:
    assert "by step 40" in (health.collapse({"feature_std": 0.01, "rankme": 9.0}, 40) or "")
    assert "--lr" in (health.collapse({"feature_std": 0.5, "rankme": 1.1}, 40) or "")
    assert health.collapse({"feature_std": 0.5, "rankme": 9.0}, 40) is None
    run = toy_run(tmp_path / "run", 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(health, "LOW_RANK", 1e9)
        fit_toy(tmp_path / "run", 2, run=run)
    assert run.info["collapse"]["step"] == 1


def test_a_method_names_a_collapse_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged and how far the run is, from the first measurement on; the first sentence stays."""
    asked = []

    def collapsed(self: Toy, row: dict[str, float], progress: float) -> str | None:
        asked.append((progress, "agreement" in row))
        return f"Flat at {progress}." if progress >= 0.5 else None

    monkeypatch.setattr(Toy, "collapsed", collapsed)
    run = toy_run(tmp_path / "run", 10)
    fit_toy(tmp_path / "run", 10, run=run)
    assert asked == [(0.2, True), (0.4, True), (0.6, True)]
    assert run.info["collapse"] == {"step": 6, "sentence": "Flat at 0.6."}


@pytest.mark.parametrize(("least", "world", "images"), [(2, 1, 1), (1, 2, 1), (2, 2, 0)])
def test_a_task_that_too_few_images_are_held_out_for_is_not_asked(
    monkeypatch: pytest.MonkeyPatch, least: int, world: int, images: int
) -> None:
    monkeypatch.setattr(Toy, "least_images", classmethod(lambda cls, options: least))
    fabric, store = Fabric(accelerator="cpu", devices=1), toy_store()
    method = toy_method(store)
    source = ViewSource(method, store, 8, 3, False, 0, world)
    watch = Watch(fabric, source, toy_store(3).subset(torch.arange(images)), [], 16)
    assert set(watch.measure(method.encoder, 0, 1)) == {"feature_std", "rankme"}


def test_one_view_alone_is_refused_in_a_sentence_that_says_what_to_change(tmp_path: Path) -> None:
    recipe = replace(Toy.recipe, batch_size=1)
    with pytest.raises(UsageError, match="BatchNorm sees one value .* give a larger --batch-size"):
        fit_toy(tmp_path / "run", 2, recipe=recipe)


def test_the_spread_of_features() -> None:
    same = torch.ones(8, 4)
    assert health.feature_std(same) == pytest.approx(0, abs=1e-6)
    assert health.rank_me(same) == pytest.approx(1, abs=1e-4)
    assert health.rank_me(torch.zeros(8, 4)) == 1
    both = torch.cat([torch.eye(4), -torch.eye(4)])
    assert health.feature_std(both) == pytest.approx(1)
    assert health.rank_me(both) == pytest.approx(4)


def test_health_leaves_the_encoder_as_it_was(tmp_path: Path) -> None:
    method, _ = fit_toy(tmp_path / "run", 1)
    before = {key: value.clone() for key, value in method.encoder.state_dict().items()}
    health.health(method.encoder.train(), torch.rand(4, 3, 16, 16))
    assert method.encoder.training
    assert all(torch.equal(before[key], value) for key, value in method.encoder.state_dict().items())


def test_minutes_become_a_number_of_steps_that_fits_and_is_recorded(tmp_path: Path) -> None:
    run = toy_run(tmp_path / "run", 1)
    _, outcome = fit_toy(
        tmp_path / "run", 1, run=run, budget=Budget(minutes=0.05), log_every=None, checkpoint_seconds=60
    )
    planned = run.info["budget"]
    assert planned["steps"] == outcome.steps >= 1
    assert planned["seconds_a_step"] * planned["steps"] <= 3
    assert 2 <= planned["watches"] <= 10


def test_measuring_the_rate_changes_nothing(tmp_path: Path) -> None:
    run = toy_run(tmp_path / "minutes", 1)
    measured, outcome = fit_toy(
        tmp_path / "minutes", 1, run=run, budget=Budget(minutes=0.01), checkpoint_seconds=60
    )
    plain, _ = fit_toy(tmp_path / "steps", outcome.steps)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, measured.state_dict()[name]), name


def test_kinds_of_step_follow_what_draw_says(tmp_path: Path) -> None:
    method, _ = fit_toy(tmp_path / "run", 1, options={"small_until": 0.3})
    kinds = budget.kinds_of_step(method, 0)
    assert [share for _, share in kinds] == pytest.approx([0.3, 0.7])
    assert kinds[0][0] < 30 <= kinds[1][0]
    cost = {kinds[0][0]: 1.0, kinds[1][0]: 2.0}
    clock = iter([0.0, 1.0, 10.0, 11.0, 20.0, 22.0, 30.0, 32.0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget.time, "perf_counter", lambda: next(clock))
        assert budget.seconds_a_step(kinds, cost.__getitem__, 0.0) == pytest.approx(0.3 * 1 + 0.7 * 2)
    assert budget.steps_in_seconds(100, 0.5, 0.1, 20) == 144


def test_the_line_that_a_person_sees() -> None:
    row = {"step": 1200, "loss": 2.5, "views_per_second": 1534.2, "wait": 0.031}
    line = describe(row, 4000, 75.0, {"feature_std": 0.61, "rankme": 88.2, "knn": 0.412})
    assert (
        line
        == "step 1,200/4,000  loss 2.500  1,534 views/s  waiting 3%  1:15 left  spread 0.61  RankMe 88  kNN 41.2%"
    )
