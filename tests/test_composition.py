"""SimCLR's study: one branch stays as it is, the other changes by what was asked, and the heat-map shows it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from cli_helpers import Say
from nolabel.data.batch import ImageBatch
from nolabel.data.store import ImageStore
from nolabel.encoders.base import build
from nolabel.evaluation.base import Result, row_of
from nolabel.methods.base import DataInfo
from nolabel.runs import DESCRIPTION, EVALUATION, FORMAT, read_rows, write_rows
from nolabel.studies import run
from nolabel.studies.composition import OPERATIONS, Composition, CompositionOptions
from nolabel.studies.picture import heat_map
from nolabel.studies.run import augmentations


def made(first: str, second: str) -> Composition:
    torch.manual_seed(0)
    options = CompositionOptions(first, second)  # type: ignore[arg-type]
    return Composition(build("resnet10", 32), options, DataInfo(32, 32))


def some(n: int) -> ImageBatch:
    return ImageBatch.of(torch.randint(256, (n, 3, 40, 48), dtype=torch.uint8))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_only_one_branch_is_changed(operation: str) -> None:
    method, images = made(operation, operation), some(6)
    drawn = method.draw(6, torch.Generator().manual_seed(0), 0.0)
    views = method.views(images, drawn)["views"].unflatten(0, (6, 2))
    plain = made("noise", "noise").views(images, drawn)["views"].unflatten(0, (6, 2))[:, 0]
    assert torch.equal(views[:, 0], plain)
    assert not torch.allclose(views[:, 1], plain, atol=1e-3)
    assert views.min() >= 0
    assert views.max() <= 1 + 1e-6


def test_crops_and_blur_are_drawn_as_in_the_papers_policy() -> None:
    drawn = made("crop", "blur").draw(1000, torch.Generator().manual_seed(0), 0.0)
    for area in (drawn["crop_area"], drawn["again_crop_area"]):
        assert area.min().item() == pytest.approx(0.08, abs=0.01)
        assert area.max().item() == pytest.approx(1.0, abs=0.01)
    assert drawn["blur"].float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_the_grid_is_the_papers_and_starts_with_single_operations() -> None:
    cells = list(augmentations())
    assert len(cells) == 49
    assert all(cell.row == cell.column for cell in cells[:7])
    assert len({cell.name for cell in cells}) == 49


def test_the_loss_of_equal_outputs_is_the_closed_form() -> None:
    method = made("crop", "colour")
    for parameter in method.head.parameters():
        torch.nn.init.zeros_(parameter)
    views = method.views(some(8), method.draw(8, torch.Generator().manual_seed(0), 0.0))
    assert method(views)["loss"].item() == pytest.approx(method.chance_loss(8), rel=1e-3)
    assert method.chance_loss(8) == pytest.approx(math.log(15))


def test_the_study_goes_on_where_it_was_stopped_and_keeps_n_and_intervals(
    say: Say, small_images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[str, bool]] = []

    def pretrain(method: str, data: ImageStore, *, out: Path, resume: bool, **settings: Any) -> None:
        assert method == "nolabel.studies.composition"
        begun.append((out.name, resume))
        stopped = len(begun) == 4
        out.mkdir(parents=True, exist_ok=True)
        about = {
            "format": FORMAT, "status": "interrupted" if stopped else "finished", "method": method, "recipe": {},
            "encoder": "resnet10", "seed": 0, "budget": {"asked": {"minutes": 0.01}},
            "data": {"opened_at": data.opened_at, "fingerprint": data.fingerprint},
            "options": dict(zip(("first", "second"), out.name.split("-"), strict=True)),
        }  # fmt: skip
        (out / DESCRIPTION).write_text(json.dumps(about))
        if stopped:
            raise KeyboardInterrupt

    def evaluate(folder: Path, data: ImageStore, **_: object) -> None:
        row = Result("composition", "linear", "top1", 0.5, 0.4, 0.6, 8, (0,))
        write_rows(folder / EVALUATION, [row_of(row)])

    monkeypatch.setattr(run, "pretrain", pretrain)
    monkeypatch.setattr(run, "evaluate", evaluate)
    words = ("study", "augmentations", small_images, "--minutes", 0.01, "--out", tmp_path)
    assert say(*words)[0] == 130
    names = [cell.name for cell in augmentations()]
    assert begun == [(name, False) for name in names[:4]]
    assert [row["row"] for row in read_rows(tmp_path / run.TABLE)] == list(OPERATIONS[:3])
    code, out, err = say(*words)
    assert code == 0, err
    assert begun[4:] == [(names[3], True), *((name, False) for name in names[4:])]
    assert f"{names[3]}: 50.0 % (40.0 to 60.0, 8 images)" in out.replace("\u00a0", " ")
    rows = read_rows(tmp_path / run.TABLE)
    assert [f"{row['row']}-{row['column']}" for row in rows] == names
    assert all((row["low"], row["high"], row["n"], row["seeds"]) == (0.4, 0.6, 8, [0]) for row in rows)
    assert (tmp_path / "augmentations.svg").is_file()


def test_a_heat_map_may_have_holes() -> None:
    picture = heat_map({("crop", "crop"): 0.5, ("crop", "colour"): 0.6}, OPERATIONS, "study")
    assert picture.lstrip().startswith(b"<?xml")
