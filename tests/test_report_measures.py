"""The report on measures that are no accuracy, and several runs' matches of one query in columns."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nolabel.cli.evaluate import show
from nolabel.evaluation.base import Result
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
    assert columns(records[:1]) == ""
    other = replace(pictures.load_retrieval(records[1].folder), queries=queries[::-1])
    pictures.save_retrieval(records[1].folder, other)
    assert columns(records) == ""


def entropies(**setting: Any) -> dict[str, Any]:
    return {"data": "a", "clusters": 10, "nmi_norm": "arithmetic mean of both entropies"} | setting


MEASURED = [
    Row("simclr", "clustering", "nmi", 0.213, 0.2, 0.226, 500, setting=entropies()),
    Row("simclr", "clustering", "purity", 0.4, 0.38, 0.42, 500, setting={"data": "a", "clusters": 50}),
    Row("random:resnet10", "clustering", "nmi", 0.1, 0.08, 0.12, 500, setting=entropies(of_seeds=[0.1, 0.12, 0.08])),
    Row("simclr", "diagnostics", "view_recall", 0.5, 0.4, 0.6, 200, setting={"data": "a", "views": 2}),
    Row("simclr", "diagnostics", "rankme", 118.0, n=2000, setting={"data": "a", "verdict": "Healthy."}),
]  # fmt: skip


def test_measures_have_their_images_intervals_and_settings_on_the_page(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path / "run", rows=MEASURED))).text.replace(SPACE, " ")
    assert (
        "clusters: 10 for NMI, 50 for purity; NMI normalised by: arithmetic mean of both entropies. Small type: 95 % "
        "interval."
    ) in page
    assert "0.08 to 0.12; standard deviation 0.02 of 0.1, 0.12, 0.08" in page
    assert "view recall 200, RankMe 2,000" in page
    assert "views: 2. Small type" in page


def discovered(subject: str, purity: Sequence[float], coverage: Sequence[float]) -> Row:
    curve = {"purity": list(purity), "coverage": list(coverage)}
    setting = {"data": "a", "clusters": len(purity), "curve": curve}
    return Row(subject, "discovery", "area", 0.5, 0.4, 0.6, 500, setting=setting)


def test_purity_is_drawn_against_coverage_where_clusters_were_found(tmp_path: Path) -> None:
    curve = [1.0, 0.9, 0.8], [0.1, 0.2, 0.35]
    rows = [discovered("simclr", *curve), discovered("random:resnet10", (), ())]
    page = write_report(write_run(tmp_path / "one", rows=rows)).read_text()
    assert page.count("purity against coverage of the discovered clusters") == 1
    assert "coverage in % of the images" in page
    assert "found without labels" in page
    assert "curve:" not in page
    rows = [replace(rows[0], setting=rows[0].setting | {"curve": {"purity": [], "coverage": []}}), rows[1]]
    page = write_report(write_run(tmp_path / "none", rows=rows)).read_text()
    assert "discovered clusters" not in page


def results(rows: Sequence[Row]) -> list[Result]:
    return [Result(**{name: getattr(row, name) for name in Row.__dataclass_fields__}) for row in rows]


def test_measures_have_their_images_and_intervals_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    show(results(MEASURED), "simclr")
    told = capsys.readouterr().out.replace(SPACE, " ")
    assert re.search(r"view recall +0\.5 +0\.4 to 0\.6 +200\n", told)
    assert re.search(r"RankMe +118 +2,000\n", told)
    assert re.search(r"simclr +0\.213 \(0\.2 to 0\.226\) +40\.0 % \(38\.0 to 42\.0\) +500\n", told)


def test_folds_are_told_with_their_values_and_their_standard_deviation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row("simclr", "top1", 0.7, protocol="svm", setting={"of_seeds": [0.68, 0.7, 0.72], "data": "a"})]
    said = "standard deviation 2.0 points of 68.0, 70.0, 72.0"
    assert said in Page(write_report(write_run(tmp_path / "run", rows=rows))).text.replace(SPACE, " ")
    show(results(rows), "simclr")
    assert f"linear SVM: {said}." in capsys.readouterr().out.replace(SPACE, " ")


@pytest.mark.parametrize(("best", "end"), [("10", True), ("1", False), ("0.1", True)])
@pytest.mark.parametrize("converged", [True, False])
def test_the_end_of_the_grid_and_a_fit_that_did_not_converge_are_told(
    best: str, end: bool, converged: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    curve = {l2: 0.5 + 0.1 * (l2 == best) for l2 in ("10", "1", "0.1")}
    chosen = {"stage": "stage2", "l2": float(best), "l2_curve": curve}
    rows = [row("simclr", "top1", 0.7, chosen=chosen, setting={"converged": converged, "data": "a"})]
    show(results(rows), "simclr")
    page = Page(write_report(write_run(tmp_path / "run", rows=rows))).text
    for told in (page, capsys.readouterr().out):
        assert (f"stage2, L2 {best} (end of the grid)" in told) == end
        assert f"stage2, L2 {best}" in told
        sentence = "Broken off before the fit reached its minimum, so read with care: linear probe of simclr."
        assert (sentence in told) == (not converged)


def test_what_a_loss_has_above_its_least_is_drawn_where_it_was_logged(tmp_path: Path) -> None:
    rows = [{"step": t, "loss": 4.0, "held_out/loss": 4.0, "held_out/kl": 2.7} for t in range(3)]
    for name, logged in (("with", rows), ("without", [{"step": t, "loss": 4.0} for t in range(3)])):
        folder = write_run(tmp_path / name, "colorization")
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in logged))
        assert ("Loss above its least" in Page(write_report(folder)).text) == (name == "with")
