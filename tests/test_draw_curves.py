"""The picture of the losses of recorded runs."""

import json
from pathlib import Path

import pytest
from PIL import Image

from nolabel.runs import DESCRIPTION, FORMAT, METRICS, write_rows
from tool_scripts import load_tool

curves = load_tool("draw_curves")


def run(folder: Path, method: str, chance: float | None, **held: float) -> Path:
    """A run of 30 steps, measured on held-out images at two of them."""
    folder.mkdir()
    about = {
        "format": FORMAT,
        "method": method,
        "chance": {"loss": chance},
        "data": {"source": "/data/cifar10.zip"},
    }
    (folder / DESCRIPTION).write_text(json.dumps(about))
    rows = [{"step": step, "loss": 2 - step / 20} for step in (10, 20, 30)]
    for row in rows[1:]:
        row |= {f"held_out/{name}": value - row["step"] / 100 for name, value in held.items()}
    write_rows(folder / METRICS, rows)
    return folder


def test_each_run_has_a_panel_with_both_losses_and_the_constant_s(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / "a", "rotation", 1.39, loss=1.2),
        run(tmp_path / "b", "colorization", None, loss=1.5, constant_loss=1.9),
        run(tmp_path / "c", "context_encoder", None),
    ]
    figure = curves.draw(runs)
    drawn = {
        axis.get_title(): {line.get_label(): line.get_xydata().tolist() for line in axis.get_lines()}
        for axis in figure.axes
    }
    assert list(drawn) == ["Rotation", "Colorization", "Context encoder"]
    training, held, constant = (style["label"] for style in curves.LINES.values())
    assert drawn["Rotation"][training] == [[10, 1.5], [20, 1.0], [30, 0.5]]
    assert drawn["Rotation"][held] == [pytest.approx([20, 1.0]), pytest.approx([30, 0.9])]
    assert drawn["Rotation"][constant] == [[10, 1.39], [30, 1.39]]
    assert drawn["Colorization"][constant] == [pytest.approx([20, 1.7]), pytest.approx([30, 1.6])]
    assert list(drawn["Context encoder"]) == [training]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [training, held, constant]


def test_eight_runs_stand_in_two_rows(tmp_path: Path) -> None:
    picture = tmp_path / "curves.png"
    curves.main(picture, [run(tmp_path / str(n), "rotation", 1.39, loss=1.2) for n in range(8)])
    width, height = Image.open(picture).size
    assert width > 1.8 * height
    assert width >= 1000
