"""The published tables: the lecture's own rows, complete labels, and what `nolabel methods` shows of them."""

import csv
from pathlib import Path

import pytest

from cli_helpers import Say
from nolabel import catalog
from nolabel.published import FILE, measured, tables

LECTURE = {
    "Exemplar Table 1": 35,
    "RotNet CIFAR-10": 10,
    "SimCLR Table 6": 20,
    "SimCLR Table 7": 23,
    "SimCLR Table 8": 60,
}
PAPERS = (
    "simclr",
    "rotation",
    "exemplar",
    "jigsaw",
    "colorization",
    "counting",
    "context_encoder",
    "context_prediction",
)


def test_the_lecture_s_tables_are_there() -> None:
    for name, count in LECTURE.items():
        assert len(tables(lambda row, name=name: row.table == name)) == count, name


@pytest.mark.parametrize(
    ("table", "method", "encoder", "dataset", "metric", "value"),
    [
        ("SimCLR Table 6", "SimCLR", "ResNet-50", "ImageNet", "top-1", 69.3),
        ("RotNet CIFAR-10", "RotNet + conv", "NIN", "CIFAR-10", "accuracy", 91.16),
        ("Exemplar Table 1", "Exemplar-CNN (92c5-256c5-512c5-1024f)", None, "STL-10", "accuracy", 74.2),
        ("SimCLR Table 8", "Random init", "ResNet-50 (4x)", "VOC2007", "11-point mAP", 69.4),
        ("SimCLR Appendix B.9", "SimCLR", "ResNet-50, 3x3 stem", "CIFAR-10", "top-1", 94.0),
        ("RotNet Table 1", "RotNet, 4 blocks", None, "CIFAR-10", "accuracy", 89.06),
    ],
)
def test_single_values(
    table: str, method: str, encoder: str | None, dataset: str, metric: str, value: float
) -> None:
    rows = tables(
        lambda row: (
            (row.table, row.method, row.dataset, row.metric) == (table, method, dataset, metric)
            and encoder in (None, row.encoder)
        )
    )
    assert [row.value for row in rows] == [value]


def test_every_number_says_what_it_was_measured_on() -> None:
    rows = tables()
    assert all(
        row.table and row.source and row.method and row.dataset and row.protocol and row.metric
        for row in rows
    )
    assert all(row.implements in ("", *PAPERS) for row in rows)
    assert {row.implements for row in rows if row.headline} == set(PAPERS)
    keys = [(r.table, r.method, r.encoder, r.dataset, r.protocol, r.metric) for r in rows]
    assert len(set(keys)) == len(keys)
    percent = [r for r in rows if r.metric in ("top-1", "top-5", "accuracy", "mAP", "11-point mAP")]
    assert all(0 < row.value < 100 for row in percent)


def test_sources_names_are_those_of_the_lecture_s_file(shared_data: Path) -> None:
    file = shared_data.parent / "specs" / "lecture_tables.csv"
    if not file.is_file():
        pytest.skip("specs/lecture_tables.csv is not on this machine")
    known = {(row.table, row.method, row.encoder, row.protocol, row.metric, row.value) for row in tables()}
    with file.open(newline="") as opened:
        for row in csv.DictReader(opened):
            key = (row["table"], row["method"], row["encoder"], row["protocol"], row["metric"])
            assert (*key, float(row["value"])) in known, key


def test_the_file_lies_in_the_package() -> None:
    assert FILE.parent.name == "published"
    assert FILE.parents[1].name == "nolabel"


def test_methods_are_listed_with_published_numbers(say: Say) -> None:
    code, out, _ = say("methods")
    assert code == 0
    for name in catalog.names("methods"):
        assert name.replace("_", "-") in out
    line = next(line for line in out.splitlines() if "RotNet + conv" in line)
    assert all(word in line for word in ("NIN", "CIFAR-10", "convolutional head", "91.16"))
    here = out.partition("Measured here")[2].splitlines()
    for run in measured():
        assert any(
            run.linear in line and run.task in line and line.startswith(run.method.replace("_", "-"))
            for line in here
        )


def test_all_numbers_of_one_method(say: Say) -> None:
    code, out, _ = say("methods", "rotation")
    assert code == 0
    assert "RotNet, 3 blocks" in out
    assert "SimCLR," not in out
    assert [line.split()[0] for line in out.partition("Measured here")[2].splitlines()[2:] if line] == [
        "rotation" for _ in measured(lambda run: run.method == "rotation")
    ]
    code, _, err = say("methods", "rotatoin")
    assert code == 2
    assert "did you mean rotation?" in err
