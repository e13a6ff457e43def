"""The report on measures that are no accuracy, and several runs' matches of one query in columns."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from nolabel.report import pictures
from nolabel.report._text import SPACE
from nolabel.report.columns import columns
from nolabel.report.page import write_comparison, write_report
from nolabel.report.records import Row, read_record
from nolabel.report.verdict import judge
from test_report import Page, row, write_run


def test_measures_of_retrieval_clustering_and_discovery_are_told() -> None:
    rows = [
        Row("simclr", "retrieval", "recall@1", 0.412, 0.39, 0.43, 500),
        Row("random:resnet10", "retrieval", "recall@1", 0.3, 0.28, 0.32, 500),
        Row("simclr", "clustering", "nmi", 0.213, 0.2, 0.226, 500),
        Row("simclr", "discovery", "verified", 0.1, 0.08, 0.12, 500),
        Row("simclr", "leakage", "in_training", 0.0, n=500, setting={"sentence": "No test image is."}),
    ]
    told = " ".join(judge(rows, "simclr").sentences)
    assert f"Retrieval: recall@1 41.2{SPACE}% (random weights: 30.0{SPACE}%)." in told
    assert "Clustering: NMI 0.213." in told
    assert f"Object discovery: verified matches 10.0{SPACE}%." in told
    assert "labels" not in judge(rows, "simclr").title
    assert [row.is_measure for row in rows] == [True, True, True, True, False]
    assert [row.ends for row in rows[1:3]] == ["28.0 to 32.0", "0.2 to 0.226"]


def test_a_table_s_caption_tells_whose_settings_differ(tmp_path: Path) -> None:
    places = [
        write_run(
            tmp_path / name,
            name,
            [row(name, "top1", 0.6, setting={"train_images": n, "size": 32, "data": "a"})],
        )
        for name, n in (("simclr", 50_000), ("rotation", 10_000))
    ]
    page = Page(write_comparison(places, tmp_path / "both.html"))
    assert "Linear probe (training images: 50,000 for simclr, 10,000 for rotation; size: 32)." in page.text
    assert "Linear probe (training images: 50,000; size: 32)." in Page(write_report(places[0])).text


def test_several_runs_on_one_query_stand_in_columns(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    queries = random.integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    records = []
    for method, labels in (("simclr", ("cat", "cat")), ("rotation", ("cat", "dog"))):
        folder = tmp_path / method
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"format": 1, "method": method}))
        found = pictures.Retrieval(
            queries,
            random.integers(0, 255, (2, 5, 32, 32, 3), dtype=np.uint8),
            np.ones((2, 5), np.float32),
            ("cat", "cat"),
            (("cat",) * 5, (labels[1],) * 5),
        )
        pictures.save_retrieval(folder, found)
        records.append(read_record(folder))
    assert "What each method finds alike" in columns(records)
    assert columns(records[:1]) == columns(records, thumbnails=False) == ""
    other = replace(pictures.load_retrieval(records[1].folder), queries=queries[::-1])
    pictures.save_retrieval(records[1].folder, other)
    assert columns(records) == ""


def test_what_a_loss_has_above_its_least_is_drawn_where_it_was_logged(tmp_path: Path) -> None:
    rows = [{"step": t, "loss": 4.0, "held_out/loss": 4.0, "held_out/kl": 2.7} for t in range(3)]
    for name, logged in (("with", rows), ("without", [{"step": t, "loss": 4.0} for t in range(3)])):
        folder = write_run(tmp_path / name, "colorization")
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in logged))
        assert ("Loss above its least" in Page(write_report(folder)).text) == (name == "with")
