"""The verdict over several methods, from rows alone; and a whole comparison, which goes on where it stopped."""

import json
from pathlib import Path

import pytest

import nolabel
from cli_helpers import Say, one_line
from nolabel.errors import UsageError
from nolabel.report.comparison import compared
from nolabel.report.records import Record, Row


def record(
    method: str, value: float, gain: float, p: float, against: dict[str, float] | None = None
) -> Record:
    rows = [
        Row(method, "linear", "top1", value, value - 0.01, value + 0.01, 1000),
        Row("random:resnet10", "linear", "top1", value - gain, n=1000),
        Row(method, "linear", "top1_difference", gain, gain - 0.01, gain + 0.01, 1000,
            setting={"against": "random:resnet10", "p": p}),
        *(Row(method, "linear", "top1_difference", -0.01, setting={"against": other, "p": q})
          for other, q in (against or {}).items()),
    ]  # fmt: skip
    return Record(Path(f"runs/{method}"), {"method": method}, [], tuple(rows), ())


def test_the_best_is_named_the_equal_and_the_useless_too() -> None:
    found = compared([
        record("colorization", 0.55, -0.01, 0.6, {"simclr": 1e-9}),
        record("simclr", 0.70, 0.12, 1e-9),
        record("rotation", 0.69, 0.11, 1e-8, {"simclr": 0.4}),
        record("context_prediction", 0.60, 0.05, 1e-4, {"simclr": 1e-9}),
    ])  # fmt: skip
    text = " ".join(found.sentences)
    assert found.tone == "better"
    assert found.title == "SimCLR is the encoder to take"
    assert "Rotation is within noise of it" in text
    assert "behind it: context prediction by 1.0 point" in text.replace("\xa0", " ")
    assert "not shown to help here: colorization (1.0 point below random weights)" in text.replace(
        "\xa0", " "
    )
    assert 'nolabel.load_encoder("runs/simclr")' in text


def test_when_nothing_helps_that_is_said_and_no_encoder_is_recommended() -> None:
    found = compared([record("rotation", 0.5, 0.01, 0.4)])
    assert found.tone == "unclear"
    assert "No method was shown to help" in found.title
    assert "load_encoder" not in " ".join(found.sentences)


@pytest.mark.parametrize(
    ("p", "title", "sentence"),
    [
        (1e-9, "No method was shown to help on these images by a linear probe; by kNN rotation did",
         "there is a gain over random weights of rotation by 10.0 points."),
        (0.3, "No method was shown to help on these images", "Train longer"),
    ],
)  # fmt: skip
def test_a_gain_by_knn_alone_is_told(p: float, title: str, sentence: str) -> None:
    one = record("rotation", 0.5, 0.01, 0.4)
    near = [
        Row("rotation", "knn", "top1", 0.4, n=1000),
        Row("random:resnet10", "knn", "top1", 0.3, n=1000),
        Row("rotation", "knn", "top1_difference", 0.1, setting={"against": "random:resnet10", "p": p}),
    ]
    found = compared([Record(one.folder, one.info, [], (*one.rows, *near), ())])
    assert found.title == title
    assert sentence in " ".join(found.sentences).replace("\u00a0", " ")


def test_a_baseline_that_does_as_well_is_named() -> None:
    one = record("simclr", 0.40, 0.05, 1e-6)
    rows = (*one.rows, Row("histogram", "linear", "top1", 0.45, n=1000))
    found = compared([Record(one.folder, one.info, [], rows, ())])
    assert "a baseline does as well" in found.title
    assert "At least as good without any training: a colour histogram (45.0" in " ".join(found.sentences)


def test_runs_without_an_accuracy_give_no_verdict() -> None:
    assert compared([Record(Path("x"), {"method": "simclr"}, [], (), ())]).tone == "unknown"


@pytest.mark.slow
def test_a_comparison_goes_on_where_it_stopped_and_takes_one_method_more(
    small_images: Path, tmp_path: Path
) -> None:
    asked = {
        "minutes": 0.03,
        "protocols": ("knn",),
        "baselines": ("random", "pixels"),
        "out": tmp_path / "all",
    }
    first = nolabel.compare(str(small_images), methods=("rotation",), **asked)
    weights = (first.runs[0] / "encoder.safetensors").read_bytes()
    told: list[str] = []
    both = nolabel.compare(str(small_images), methods=("rotation", "simclr"), say=told.append, **asked)
    assert [run.name for run in both.runs] == ["rotation", "simclr"]
    assert "trained already" in told
    assert (both.runs[0] / "encoder.safetensors").read_bytes() == weights
    assert both.report.is_file()
    assert both.title
    assert both.sentences
    assert told[0].startswith("To train: 1 of 2 methods, 0.03 minutes each (0.03 in all)")
    rows = (both.runs[0] / "evaluation.jsonl").read_text()
    assert '"against": "simclr"' in rows
    likeness = [json.loads(line) for line in rows.splitlines() if '"likeness"' in line]
    assert [(row["metric"], row["setting"]["against"], row["n"]) for row in likeness] == [
        ("cka", "simclr", 8)
    ]
    assert "CKA with simclr" in both.report.read_text()
    assert '"linear"' not in rows
    nolabel.compare(str(small_images), methods=("rotation",), **(asked | {"protocols": ("knn", "linear")}))
    assert '"linear"' in (both.runs[0] / "evaluation.jsonl").read_text()
    with pytest.raises(UsageError, match="other settings"):
        nolabel.compare(str(small_images), methods=("rotation",), **(asked | {"minutes": 1.0}))


def test_an_unknown_method_of_a_comparison_is_one_sentence(
    small_images: Path, tmp_path: Path, say: Say
) -> None:
    code, _, err = say("compare", small_images, "--methods", "rotatoin", "--out", tmp_path / "none")
    assert code == 2
    one_line(err, "rotation")
    assert not (tmp_path / "none").exists()
