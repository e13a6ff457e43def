"""Recipes: each names what exists, trains its method, and `nolabel reproduce` runs it and stops in one sentence."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest
import torch

from cli_helpers import Say, one_line
from nolabel import catalog, recipes
from nolabel.cli import _screen
from nolabel.cli.reproduce import OF_TASKS, _numbers, _of_the_task
from nolabel.data.store import ImageStore
from nolabel.encoders.base import build
from nolabel.methods.base import DataInfo, Method, Recipe
from nolabel.runs import DESCRIPTION, EVALUATION, FORMAT, write_rows
from nolabel.seeds import generator
from small import smooth_images


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_names_what_exists(name: str) -> None:
    found = recipes.find(name)
    kind = catalog.load("methods", found.method, Method)
    assert isinstance(found.options, kind.Options)
    assert isinstance(found.recipe, Recipe)
    assert name.startswith(found.method.replace("_", "-"))
    with torch.device("meta"):
        build(found.encoder, kind.encoder_size(found.options, DataInfo(4, found.size)))
    assert found.protocols
    names = {one if isinstance(one, str) else one.protocol for one in found.protocols}  # type: ignore[attr-defined]
    assert names <= set(catalog.names("evaluation"))
    assert list(found.length) in (["epochs"], ["steps"], ["minutes"])
    rows = found.published()
    assert {row.table for row in rows} <= set(found.beside)
    own = {(row.table, row.dataset) for row in rows if row.implements == found.method}
    assert own == {(row.table, row.dataset) for row in rows}
    assert own


@pytest.mark.parametrize("name", recipes.names())
def test_the_header_has_command_length_hardware_and_result(name: str) -> None:
    found = recipes.find(name)
    header = " ".join(str(importlib.import_module(f"nolabel.recipes.{found.method}").__doc__).split())
    line = header.partition(f"`nolabel reproduce {name} ")[2].partition(" - `")[0]
    assert re.search(r"[0-9.]+ (minutes|hours|days)|two cores", found.hardware)
    assert found.hardware != "two cores of a processor" or "minutes" in found.length
    assert f"`: {found.asked}; {found.hardware}; {' '.join(found.result.split())}." in line
    assert "not run" in line or found.measured()
    assert found.deviations


PAPER_NETS = Path(__file__).parents[1] / "docs" / "results" / "paper_nets.md"
IMAGES = {"ImageNet": 1_281_167, "CIFAR-10": 50_000, "Paris StreetView": 14_900}


@pytest.mark.parametrize("name", recipes.of_papers())
def test_days_of_the_whole_follow_from_the_steps_that_were_timed(name: str) -> None:
    found = recipes.find(name)
    told = re.search(
        r"([0-9.]+) s a step of (\d+) images on one Zen 4 thread, so about ([0-9.]+) days", found.hardware
    )
    assert (told is None) != ("the paper gives no minutes" in found.hardware)
    if told is None:
        return
    seconds, batch, days = map(float, told.groups())
    (line,) = (row for row in PAPER_NETS.read_text().splitlines() if row.startswith(f"| {name} |"))
    cells = [cell.strip() for cell in line.split("|")]
    assert batch == float(cells[4])
    assert seconds == pytest.approx(float(cells[5]) * 60 / 200, rel=0.03)
    steps = found.length["epochs"] * IMAGES[found.dataset] / batch
    assert days == pytest.approx(steps * seconds / 86_400, rel=0.05)


def test_a_result_is_of_the_recipe_s_own_setting() -> None:
    scaled = recipes.find("simclr-scaled")
    runs = scaled.measured()
    assert runs
    assert {(run.method, run.encoder, run.size, run.data) for run in runs} == {
        ("simclr", "resnet10", 32, "cifar10")
    }
    last = max(runs, key=lambda run: run.date).machine
    assert {run.machine for run in runs if run.linear.split()[0] in scaled.result} == {last}
    assert (
        recipes.find("simclr-caltech101").result == "not run"
    )  # other options than the run with the defaults
    assert "accuracy" in recipes.find("context-prediction-scaled").result


def test_every_method_has_the_papers_setting_and_two_scaled_ones() -> None:
    settings = ("paper", "scaled", "caltech101")
    wanted = {f"{name.replace('_', '-')}-{s}" for name in catalog.names("methods") for s in settings}
    assert wanted <= set(recipes.names())


def test_each_of_exemplars_three_nets_has_a_recipe() -> None:
    found = [recipes.find(f"exemplar-{name}") for name in ("small", "medium", "paper")]
    assert [one.encoder for one in found] == ["exemplar_small", "exemplar_medium", "exemplar_large"]
    assert len({(one.options, one.recipe) for one in found}) == 1


@pytest.mark.parametrize("name", recipes.of_papers())
def test_the_length_is_that_of_the_papers_recipe(name: str) -> None:
    found = recipes.find(name)
    if "epochs" in found.length:
        assert found.length["epochs"] == found.recipe.epochs
    else:
        assert found.dataset == recipes.IMAGENET
        steps = found.recipe.epochs * 1_281_167 / found.recipe.batch_size
        assert found.length["steps"] == pytest.approx(steps, rel=0.02)


@pytest.mark.parametrize("method", catalog.names("methods"))
def test_the_setting_on_caltech_has_the_geometry_of_96_px(method: str) -> None:
    found = recipes.find(f"{method}-caltech101")
    assert (found.encoder, found.size, found.dataset) == ("resnet10", 96, "Caltech-101")
    assert found.length == {"minutes": 10}
    kind = catalog.load("methods", method, Method)
    seen = {"context_prediction": 16, "jigsaw": 24, "counting": 48, "exemplar": 32}.get(method, 96)
    assert kind.encoder_size(found.options, DataInfo(100, 96)) == seen
    assert f"nolabel reproduce {method.replace('_', '-')}-caltech101" in str(
        importlib.import_module(f"nolabel.recipes.{method}").__doc__
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in recipes.names() if not name.endswith("-scaled")])
def test_the_papers_setting_takes_a_step(name: str) -> None:
    found = recipes.find(name)
    kind = catalog.load("methods", found.method, Method)
    options = found.options
    if found.method == "exemplar":
        options = dataclasses.replace(options, seeds=4)
    if getattr(options, "permutations", 0) > 24:
        options = dataclasses.replace(options, permutations=8)
    batch = smooth_images(4, sides=(found.size, found.size))
    store = ImageStore.of([batch.image(i) for i in range(4)])
    method = kind(
        build(found.encoder, kind.encoder_size(options, DataInfo(4, found.size))),
        options,
        DataInfo(4, found.size),
    )
    method.prepare(store, generator(0, "prepare"))
    views = method.views(store.batch(torch.arange(2)), method.draw(2, generator(0, "views"), 0.0))
    loss = method(views)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.encoder.parameters())


def test_reproduce_lists_the_recipes(say: Say) -> None:
    code, out, _ = say("reproduce")
    assert code == 0
    assert "rotation-paper" in out
    assert "not run" in out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["rotation-papers", "x"], "rotation-paper"),
        (["rotation-paper"], "needs images"),
        (["rotation-paper", "x", "--steps", "1", "--minutes", "1"], "one of --minutes and --steps"),
    ],
)
def test_wrong_use_is_one_sentence(words: list[str], named: str, say: Say) -> None:
    code, _, err = say("reproduce", *words)
    assert code == 2
    one_line(err, named)


def test_measured_and_published_numbers_never_share_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = {"held_out/accuracy": 0.9, "held_out/images": 1024.0}
    about = {"format": FORMAT, "encoder": "nin4", "data": {"source": "cifar10.zip"}, "final": final}
    (tmp_path / DESCRIPTION).write_text(json.dumps(about))
    row = {"subject": "rotation", "protocol": "conv", "metric": "top1", "value": 0.5, "low": 0.4, "high": 0.6}
    purity = {"subject": "rotation", "protocol": "clustering", "metric": "purity", "value": 0.25}
    gain = row | {"metric": "top1_difference", "setting": {"against": "pixels"}}
    write_rows(tmp_path / EVALUATION, [row, purity, gain])
    shown: list[tuple[list[str], list[list[str]]]] = []
    monkeypatch.setattr(_screen, "table", lambda head, rows, right: shown.append((head, rows)))
    found = recipes.find("rotation-paper")
    _numbers(tmp_path, found)
    ((head, rows),) = shown
    cells = [dict(zip(head, cells, strict=True)) for cells in rows]
    here = [one for one in cells if one["measured here"]]
    assert not any(one["published"] or one["source"] for one in here)
    assert [one["measured here"] for one in here] == [
        "50.0\N{NO-BREAK SPACE}% (40.0 to 60.0)",
        "25.0\N{NO-BREAK SPACE}%",
    ]
    assert [one["metric"] for one in here] == ["top-1", "purity"]
    printed = [one for one in cells if one["published"]]
    assert len(printed) == sum(row.implements == "rotation" for row in found.published())
    assert len(cells) == len(here) + len(printed)
    assert all(one["protocol"] and one["source"] for one in printed)
    same = [one["data set"] == found.dataset for one in printed]
    assert same == sorted(same, reverse=True)


@pytest.mark.parametrize(
    ("recipe", "held", "wanted"),
    [
        ("context-prediction-scaled", {"loss": 1.8, "accuracy": 0.25}, {"accuracy": "25.0 %"}),
        (
            "colorization-caltech101",
            {"loss": 3.5, "ab_error": 17.0, "auc": 0.88, "auc_rebalanced": 0.74},
            {"AuC of the ab error, thresholds 0 to 150": "88.0 %"},
        ),
        (
            "context-encoder-pictures",
            {"l1": 0.11, "constant_l1": 0.18, "l2": 0.02, "psnr": 17.08},
            {"mean L1, %": "11.0 %", "mean L2, %": "2.0 %", "PSNR, dB": "17.1"},
        ),
        ("context-encoder-scaled", {"l1": 0.11, "psnr": 17.08}, {}),
        ("rotation-scaled", {"accuracy": 0.77}, {}),
        ("colorization-scaled", {}, {}),
    ],
)
def test_the_task_itself_stands_beside_what_the_papers_print_of_it(
    recipe: str, held: dict[str, float], wanted: dict[str, str]
) -> None:
    found = recipes.find(recipe)
    about = {
        "method": found.method, "encoder": "resnet10", "data": {"source": "/data/cifar10.zip"},
        "final": {f"held_out/{name}": value for name, value in held.items()} | {"held_out/images": 1024.0},
    }  # fmt: skip
    rows = _of_the_task(about, found)
    assert {row[4]: row[5].replace("\N{NO-BREAK SPACE}", " ") for row in rows} == wanted
    assert all(row[2:4] == ("cifar10.zip", "the task itself, 1,024 held-out images") for row in rows)
    assert not any(row[6] or row[7] for row in rows)


def test_what_the_papers_print_of_tasks_has_not_changed_its_name() -> None:
    printed = {(row.table, row.metric) for name in recipes.names() for row in recipes.find(name).published()}
    assert printed >= set(OF_TASKS)


@pytest.mark.slow
def test_reproduce_trains_measures_and_goes_on_where_it_stopped(
    small_images: Path, tmp_path: Path, say: Say
) -> None:
    run = tmp_path / "run"
    words = ("reproduce", "rotation-scaled", small_images, "--steps", 2, "--out", run)
    code, out, err = say(*words)
    assert code == 0, err
    assert out.index("Measured here") < out.index("What differs")
    assert "2 steps instead of 10 minutes" in out
    rows = (run / "evaluation.jsonl").read_text()
    assert {json.loads(line)["subject"] for line in rows.splitlines()} >= {"rotation"}
    assert "trained already" in say(*words)[1]
    assert (run / "evaluation.jsonl").read_text() == rows
