"""The published tables: the lecture's own rows, complete labels, and what `nolabel methods` shows of them."""

import csv
import re
from pathlib import Path

import pytest

from cli_helpers import Say
from nolabel import catalog
from nolabel.published import FILE, Published, grouped, measured, placed, tables
from nolabel.report.page import write_report
from test_report_comparison import pair, run_folder

LECTURE = {
    "Exemplar Table 1": 35,
    "RotNet CIFAR-10": 10,
    "SimCLR Table 6": 20,
    "SimCLR Table 7": 23,
    "SimCLR Table 8": 60,
}
OWN_NAMES = {
    "Food": "Food-101",
    "CIFAR10": "CIFAR-10",
    "CIFAR100": "CIFAR-100",
    "Cars": "Stanford Cars",
    "Aircraft": "FGVC Aircraft",
    "Pets": "Oxford-IIIT Pets",
    "Flowers": "Oxford 102 Flowers",
}
"""data set in the lecture's file -> here"""
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
        ("RotNet Table 7", "RotNet", "AlexNet", "VOC2012", "mean IoU", 39.1),
        ("SimCLR Table B.3", "Supervised, crop, 90 epochs", "ResNet-50", "ImageNet", "top-1", 76.5),
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


@pytest.mark.parametrize(
    ("table", "encoder", "dataset", "protocol", "values"),
    [
        ("lightly ImageNet-100", "", "ImageNet-100", "kNN, k = 20", [46.9, 56.0, 67.8]),
        ("solo-learn", "ResNet-18", "ImageNet-100", "linear classifier on frozen features (offline)",
         [80.32, 79.28, 80.16, 78.72, 74.92, 74.28]),
        ("mmselfsup ImageNet", "ResNet-50", "ImageNet", "linear classifier on the last of five layers", [40.96, 45.94]),
        ("mmselfsup VOC07", "ResNet-50", "VOC2007", "linear SVM on the best layer", [65.52, 67.7]),
        ("mmselfsup VOC07", "ResNet-50", "VOC2007", "linear SVM on the best layer, 1 image a class", [20.36, 20.6]),
        ("mmselfsup VOC07", "ResNet-50", "VOC2007", "linear SVM on the best layer, 96 images a class", [62.42]),
        ("OpenSelfSup", "", "ImageNet", "linear classifier on the best layer", [16.21, 76.17, 49.31, 54.99, 61.57]),
        ("OpenSelfSup", "", "VOC2007", "linear SVM", [30.54, 87.17, 64.78, 67.38, 78.95]),
        ("vissl ImageNet", "AlexNet", "ImageNet", "linear classifier on frozen features", [34.82, 30.39, 39.51]),
        ("RotNet rerun", "NIN, 4 blocks", "CIFAR-10", "non-linear head on frozen features of block 4", [54.04]),
        ("Lightning Bolts", "ResNet-50", "CIFAR-10", "as published by its authors", [88.5]),
    ],
)  # fmt: skip
def test_what_libraries_publish(
    table: str, encoder: str, dataset: str, protocol: str, values: list[float]
) -> None:
    rows = tables(
        lambda r: (r.table, r.encoder, r.dataset, r.protocol) == (table, encoder, dataset, protocol)
    )
    assert [row.value for row in rows] == values


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


def test_every_number_of_the_lecture_s_file_is_there_with_its_source_s_names(shared_data: Path) -> None:
    file = shared_data.parent / "specs" / "lecture_tables.csv"
    if not file.is_file():
        pytest.skip("specs/lecture_tables.csv is not on this machine")
    known = {
        (r.table, r.source, r.method, r.encoder, r.dataset, r.protocol, r.metric): (r.value, r.sd)
        for r in tables()
    }
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) > 100
    for row in rows:
        row["dataset"] = OWN_NAMES.get(row["dataset"], row["dataset"])
        names = ("table", "source", "method", "encoder", "dataset", "protocol", "metric")
        key = tuple(row[name] for name in names)
        assert known[key] == (float(row["value"]), float(row["sd"]) if row["sd"] else None), key


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


def lines(out: str) -> list[tuple[str, str, str]]:
    """(table, setting, line) of each number printed."""
    found, table, setting = [], "", ""
    for line in out[out.index("Numbers compare only") :].splitlines():
        if re.match(r"\S.*\)$", line):
            table = line
        elif re.match(r"  \S", line):
            setting = line.strip()
        elif line.startswith("    "):
            found.append((table, setting, line))
    return found


def told(row: Published) -> tuple[str, str]:
    return f"{row.table} ({row.source})", row.setting


def holds(line: str, row: Published) -> bool:
    return all(text in line for text in (f" {row.shown}  ", row.method, row.here, row.note))


def test_every_row_is_reached_by_a_command(say: Say) -> None:
    code, out, _ = say("methods", "--published", "all")
    assert code == 0
    shown = lines(out)
    assert len(shown) == len(tables())
    by_table = [row for groups in grouped(tables()).values() for rows in groups.values() for row in rows]
    for (table, setting, line), row in zip(shown, by_table, strict=True):
        assert (table, setting) == told(row)
        assert holds(line, row), row


def test_published_tables_are_chosen_by_a_part_of_their_name(say: Say) -> None:
    code, out, _ = say("methods", "--published", "simclr table b")
    assert code == 0
    assert {table.partition(" (")[0] for table, _, _ in lines(out)} == {
        f"SimCLR Table B.{number}" for number in (1, 2, 3, 4, 5)
    }
    code, _, err = say("methods", "--published", "SimCLR Tabel 8")
    assert code == 2
    assert "did you mean SimCLR Table 8?" in err
    code, _, err = say("methods", "rotation", "--published", "all")
    assert code == 2
    assert "leave out one of the two" in err


def test_a_group_holds_one_data_set_metric_network_and_protocol() -> None:
    groups = [rows for of_table in grouped(tables()).values() for rows in of_table.values()]
    assert sum(map(len, groups)) == len(tables())
    for rows in groups:
        assert len({(r.table, r.dataset, r.metric, r.encoder, r.protocol) for r in rows}) == 1


def test_rows_of_networks_that_are_not_built_here_are_published_only() -> None:
    rows = tables(lambda row: row.table == "SimCLR Table 6" and row.method in ("Rotation", "SimCLR", "MoCo"))
    assert {(row.method, row.here) for row in rows} == {
        ("Rotation", "published only"), ("SimCLR", "simclr"), ("MoCo", "published only"),
    }  # fmt: skip


def test_all_numbers_of_one_method_and_what_they_are_placed_by(say: Say) -> None:
    code, out, _ = say("methods", "rotation")
    assert code == 0
    own = tables(lambda row: row.implements == "rotation")
    shown = lines(out)
    assert len(shown) == len(placed(own)) > len(own)
    for row in own:
        assert any((table, setting) == told(row) and holds(line, row) for table, setting, line in shown), row
    supervised = [setting for _, setting, line in shown if "Supervised NIN  " in line]
    assert supervised == ["CIFAR-10, accuracy; NIN; trained with labels from random weights"]
    assert not any("Exemplar Table 1" in table or "CIFAR-100" in setting for table, setting, _ in shown)
    here, _, printed = out.partition("Measured here")[2].partition("\nPublished\n")
    assert "RotNet Table" in printed
    assert [line.split()[0] for line in here.splitlines()[2:] if line] == [
        "rotation" for _ in measured(lambda run: run.method == "rotation")
    ]
    code, _, err = say("methods", "rotatoin")
    assert code == 2
    assert "did you mean rotation?" in err


def test_published_numbers_stand_apart_each_under_its_setting(tmp_path: Path) -> None:
    rows = pair("rotation", "linear", 0.7, 0.1, 1e-9, 0.7)
    page = write_report(run_folder(tmp_path / "one", "rotation", rows)).read_text()
    section = page[page.index('<section id="published">') :].partition("</section>")[0]
    assert "none compares with a number under another heading" in section
    assert "<details><summary>rotation: " in section
    table = section.partition("RotNet CIFAR-10 (Gidaris, Singh, Komodakis, ICLR 2018)")[2].partition(
        "</table>"
    )[0]
    groups = {
        part.partition("</th>")[0]: part for part in table.split('<tr><th scope="rowgroup" colspan="3">')
    }
    own = groups["CIFAR-10, accuracy; NIN; non-linear head on frozen features of block 2"]
    assert '<tr class="own"><th scope="row">RotNet + non-linear</th><td>rotation</td>' in own
    assert "89.06" in own
    anchor = groups["CIFAR-10, accuracy; NIN; trained with labels from random weights"]
    assert '<tr><th scope="row">Supervised NIN</th><td>published only</td>' in anchor
    assert "92.8" in anchor
    assert "SimCLR:" not in section
    assert "89.06" not in page.replace(section, "")
    other = write_report(run_folder(tmp_path / "two", "my_method.py", rows)).read_text()
    assert 'id="published"' not in other
