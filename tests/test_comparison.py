"""The verdict over several methods, from rows alone, and the pairing of runs on the same images."""

from pathlib import Path

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
    assert "rotation is within noise of it" in text
    assert "Behind it: context prediction by 10.0 points" in text.replace("\xa0", " ")
    assert "Not shown to help here: colorization" in text
    assert 'nolabel.load_encoder("runs/simclr")' in text


def test_when_nothing_helps_that_is_said_and_no_encoder_is_recommended() -> None:
    found = compared([record("rotation", 0.5, 0.01, 0.4)])
    assert found.tone == "unclear"
    assert "No method was shown to help" in found.title
    assert "load_encoder" not in " ".join(found.sentences)


def test_a_baseline_that_does_as_well_is_named() -> None:
    one = record("simclr", 0.40, 0.05, 1e-6)
    rows = (*one.rows, Row("histogram", "linear", "top1", 0.45, n=1000))
    found = compared([Record(one.folder, one.info, [], rows, ())])
    assert "a baseline does as well" in found.title
    assert "A colour histogram, which needs no training" in " ".join(found.sentences)


def test_runs_without_an_accuracy_give_no_verdict() -> None:
    assert compared([Record(Path("x"), {"method": "simclr"}, [], (), ())]).tone == "unknown"
