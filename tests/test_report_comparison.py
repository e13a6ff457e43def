"""What a comparison says: which images ranked it, several tests at once, what kNN says, leaks; its page."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nolabel.evaluation.statistics import holm
from nolabel.report import figures, pictures
from nolabel.report.columns import columns, columns_figure
from nolabel.report.comparison import compared
from nolabel.report.page import write_comparison
from nolabel.report.records import Record, Row, read_record, subject_in_words
from nolabel.report.verdict import Gain, judge, together

RANDOM = "random:resnet10+whitened"
SCRATCH = "supervised:resnet10"


def pair(
    method: str, protocol: str, value: float, gain: float, p: float, validation: float | None = None
) -> list[Row]:
    """An encoder's accuracy, that of random weights, and their paired difference."""
    chosen = {} if validation is None else {"validation": validation}
    return [
        Row(method, protocol, "top1", value, value - 0.01, value + 0.01, 1000, chosen=chosen),
        Row(RANDOM, protocol, "top1", value - gain, value - gain - 0.01, value - gain + 0.01, 1000),
        Row(method, protocol, "top1_difference", gain, gain - 0.013, gain + 0.013, 1000,
            setting={"against": RANDOM, "p": p}),
    ]  # fmt: skip


def against(method: str, other: str, difference: float, p: float) -> Row:
    return Row(method, "linear", "top1_difference", difference, setting={"against": other, "p": p})


def record(method: str, rows: Sequence[Row]) -> Record:
    return Record(Path(f"runs/{method}"), {"method": method}, [], tuple(rows), ())


def told(*records: Record) -> str:
    found = compared(records)
    return f"{found.title}. {' '.join(found.sentences)}".replace("\u00a0", " ").replace("\u2212", "-")


def noted(*records: Record) -> str:
    return " ".join(compared(records).notes).replace("\u00a0", " ")


def test_the_validation_part_ranks_and_the_test_images_do_not() -> None:
    better = [*pair("rotation", "linear", 0.72, 0.1, 1e-9, 0.60), against("rotation", "simclr", 0.02, 1e-6)]
    first = pair("simclr", "linear", 0.70, 0.1, 1e-9, 0.65)
    text = told(record("rotation", better), record("simclr", first))
    assert text.startswith("SimCLR is the encoder to take.")
    assert "ranked by a part of the training images" in noted(
        record("rotation", better), record("simclr", first)
    )
    assert "Ahead of it on the test images, which did not rank them: rotation by 2.0 points." in text
    unknown = replace(better[0], chosen={})
    text = told(record("rotation", [unknown, *better[1:]]), record("simclr", first))
    assert text.startswith("Rotation is the encoder to take.") or text.startswith("rotation is the encoder")
    runs = record("rotation", [unknown, *better[1:]]), record("simclr", first)
    assert "ranked by the test images themselves" in noted(*runs)


def test_gains_of_several_methods_are_judged_together() -> None:
    ps = [0.03, 0.001, 0.04, 0.2]
    gains = together([Gain(0.1, "random weights", "", p < 0.05, "", p) for p in ps])
    assert [gain.p for gain in gains] == pytest.approx(holm(ps))
    assert [gain.sure for gain in gains] == [False, True, False, False]
    assert "p = 0.004 after Holm's correction for 4 tests" in gains[1].evidence.replace("\u00a0", " ")
    methods = {"simclr": 0.03, "rotation": 0.04, "jigsaw": 0.2}
    alone = told(record("simclr", pair("simclr", "linear", 0.7, 0.02, 0.03, 0.7)))
    assert alone.startswith("SimCLR is the encoder to take")
    several = [record(m, pair(m, "linear", 0.7, 0.02, p, 0.7)) for m, p in methods.items()]
    assert told(*several).startswith("No method was shown to help")


def test_the_first_that_is_shown_to_help_is_taken() -> None:
    text = told(
        record("jigsaw", pair("jigsaw", "linear", 0.71, 0.001, 0.8, 0.70)),
        record(
            "simclr",
            [*pair("simclr", "linear", 0.70, 0.1, 1e-9, 0.69), against("simclr", "jigsaw", -0.01, 0.3)],
        ),
    )
    assert text.startswith("SimCLR is the encoder to take")
    assert "Not shown to help here: jigsaw (0.1 points above random weights)" in text


def test_uneven_classes_are_compared_by_the_mean_over_classes() -> None:
    def of_classes(method: str, gain: float, p: float) -> list[Row]:
        rows = pair(method, "linear", 0.90, 0.001, 0.7, validation=gain)
        balanced = [replace(row, metric=row.metric.replace("top1", "balanced")) for row in rows]
        balanced = [replace(row, value=0.5 + gain * (row.subject == method)) for row in balanced[:2]]
        difference = Row(method, "linear", "balanced_difference", gain, gain - 0.02, gain + 0.02, 1000,
                         setting={"against": RANDOM, "p": p})  # fmt: skip
        sizes = {"test_images_a_class": [50, 950]}
        return [*(replace(row, setting=row.setting | sizes) for row in rows + balanced), difference]

    text = told(
        record("simclr", of_classes("simclr", 0.1, 1e-6)), record("jigsaw", of_classes("jigsaw", 0.01, 0.5))
    )
    assert "SimCLR is the encoder to take. On these images SimCLR names 60.0 %" in text
    assert (
        "right, averaged over the classes with all labels, 10.0 points (8.0 to 12.0) more than random" in text
    )
    assert "The classes have from 50 to 950 test images, so the average over classes is judged" in text
    assert "Not shown to help here: jigsaw (1.0 point above random weights)" in text


def test_a_loss_that_is_more_than_chance_is_told_as_one() -> None:
    rotation = record("rotation", pair("rotation", "linear", 0.5, -0.08, 1e-9, 0.5))
    jigsaw = record("jigsaw", pair("jigsaw", "linear", 0.4, -0.18, 1e-9, 0.4))
    text = told(rotation, jigsaw)
    assert compared([rotation, jigsaw]).tone == "worse"
    assert text.startswith("Every method is worse than random weights on these images.")
    assert (
        "8.0 points less (difference -9.3 to -6.7) than random weights of the same network, more than chance "
        "explains (p < 0.001 after Holm's correction for 2 tests): the untrained network is the better choice."
    ) in text
    assert "Worse than random weights: jigsaw by 18.0 points." in text
    simclr = record("simclr", pair("simclr", "linear", 0.7, 0.001, 0.8, 0.7))
    text = told(rotation, simclr)
    assert compared([rotation, simclr]).tone == "unclear"
    assert text.startswith("No method was shown to help on these images.")
    assert "0.1 points (-1.2 to 1.4) more than random weights of the same network, no more" in text
    assert "Worse than random weights: rotation by 8.0 points." in text
    assert "Not shown to help" not in text


def test_numbers_without_a_test_or_an_interval_are_not_called_overlapping() -> None:
    bare = [Row("simclr", "linear", "top1", 0.9, n=1000), Row(RANDOM, "linear", "top1", 0.1, n=1000)]
    untested = "(not tested, and without the interval of one or both)"
    assert (
        f"80.0\u00a0points from random weights may be chance {untested}" in judge(bare, "simclr").sentences[1]
    )
    assert f"of the same network, which may be chance {untested}." in told(record("simclr", bare))


@pytest.mark.parametrize(
    ("linear", "near", "sentence"),
    [
        (0.001, -0.001, ""),
        (0.08, 0.06, ""),
        (0.08, -0.001, "there is no gain of SimCLR."),
        (0.08, -0.06, "there is a loss against random weights of SimCLR by 6.0 points."),
        (0.001, 0.06, "there is a gain over random weights of SimCLR by 6.0 points."),
    ],
)
def test_knn_is_told_where_it_says_something_else_than_the_probe(
    linear: float, near: float, sentence: str
) -> None:
    def p(gain: float) -> float:
        return 1e-9 if abs(gain) > 0.01 else 0.8

    rows = pair("simclr", "linear", 0.6, linear, p(linear)) + pair("simclr", "knn", 0.3, near, p(near))
    text = told(record("simclr", rows))
    assert sentence in text
    assert ("kNN vote" in text) == bool(sentence)


def test_runs_are_compared_by_a_protocol_that_all_have() -> None:
    both = pair("simclr", "linear", 0.8, 0.1, 1e-9, 0.8) + pair("simclr", "knn", 0.5, 0.1, 1e-9, 0.5)
    text = told(
        record("simclr", both),
        record("jigsaw", pair("jigsaw", "knn", 0.45, 0.05, 1e-9, 0.45)),
        record("rotation", pair("rotation", "finetune", 0.9, 0.2, 1e-9, 0.9)),
    )
    assert text.startswith("SimCLR is the encoder to take.")
    assert (
        "names 50.0 % (49.0 to 51.0) of the test images right by the kNN vote with all labels, 10.0 points"
        in text
    )
    assert "Behind it: jigsaw by 5.0 points." in text
    assert (
        "Compared by the kNN vote, because jigsaw and rotation were not measured by a linear probe. Left out, because "
        "not measured by the kNN vote: rotation."
    ) in text


def test_what_is_no_top_1_with_all_labels_is_not_told_as_one() -> None:
    few = told(record("simclr", pair("simclr", "linear@1%", 0.4, 0.1, 1e-9)))
    assert "right by linear probe with 1 % of the labels, 10.0 points (8.7 to 11.3) more" in few
    assert few.count("1 % of the labels") == 1
    assert "with all labels" not in few
    rows = [
        replace(row, metric=row.metric.replace("top1", "balanced"))
        for row in pair("simclr", "linear", 0.4, 0.1, 1e-9)
    ]
    assert "of the test images right, averaged over the classes with all labels, 10.0 points" in told(
        record("simclr", rows)
    )


def test_baselines_that_only_another_run_holds_count_for_the_best() -> None:
    rows = [*pair("rotation", "linear", 0.5, 0.1, 1e-9, 0.4), Row("histogram", "linear", "top1", 0.8, n=1000)]
    text = told(record("rotation", rows), record("simclr", pair("simclr", "linear", 0.7, 0.1, 1e-9, 0.6)))
    assert text.startswith("SimCLR is the encoder to take, but a baseline does as well")


def test_training_from_scratch_is_a_baseline_and_is_told() -> None:
    scratch = Row(SCRATCH, "linear", "top1", 0.75, 0.74, 0.76, 1000)
    rows = [*pair("simclr", "linear", 0.7, 0.1, 1e-9, 0.7), scratch, against("simclr", SCRATCH, -0.05, 1e-5)]
    assert scratch.is_baseline
    assert record("simclr", [scratch, *rows]).subject == "simclr"
    assert subject_in_words(SCRATCH) == "trained from scratch (resnet10)"
    sentence = (
        "The same network, trained from scratch with all the labels instead and read by a linear probe, reaches 75.0 % "
        "(74.0 to 76.0): 5.0 points more than this encoder (p < 0.001)."
    )
    assert sentence in told(record("simclr", rows))
    assert sentence in " ".join(judge(rows, "simclr").sentences).replace("\u00a0", " ")
    own = replace(scratch, protocol="supervised", value=0.6)
    assert "all the labels instead, reaches 60.0 % (74.0 to 76.0): 10.0 points less" in told(
        record("simclr", [*rows[:3], own])
    )


def test_leaks_are_in_the_verdict() -> None:
    sentence = "5 of 1,000 test images (0.5%) are also among the training images (5 identical): top-1 without: 69.9%."
    leak = Row("simclr", "leakage", "in_training", 0.005, n=1000, setting={"sentence": sentence})
    rows = [*pair("simclr", "linear", 0.7, 0.1, 1e-9, 0.7), leak]
    other = replace(leak, subject="rotation", setting={"sentence": sentence.replace("69.9", "60.0")})
    text = told(
        record("simclr", rows), record("rotation", [*pair("rotation", "linear", 0.6, 0.1, 1e-9, 0.6), other])
    )
    assert sentence in text
    assert "60.0%" not in text


def run_folder(folder: Path, method: str, rows: Sequence[Row]) -> Path:
    folder.mkdir(parents=True)
    described = {"format": 1, "method": method, "encoder": "resnet10", "status": "finished", "size": 32}
    (folder / "run.json").write_text(json.dumps(described))
    held = [{name: getattr(one, name) for name in Row.__dataclass_fields__} for one in rows]
    (folder / "evaluation.jsonl").write_text("".join(json.dumps(one) + "\n" for one in held))
    return folder


def test_the_page_of_a_comparison_begins_with_the_verdict_over_all(tmp_path: Path) -> None:
    scratch = Row(SCRATCH, "linear", "top1", 0.75, 0.74, 0.76, 1000)
    leak = {"sentence": "No test image is among the training images."}
    places = [
        run_folder(tmp_path / method, method, [
            *pair(method, "linear", value, 0.1, 1e-9, value), scratch,
            Row(method, "leakage", "in_training", 0.0, n=1000, setting=leak),
        ])
        for method, value in (("simclr", 0.7), ("rotation", 0.6))
    ]  # fmt: skip
    page = write_comparison(places, tmp_path / "report.html").read_text().replace("\u00a0", " ")
    assert page.index("SimCLR is the encoder to take") < page.index("Each method by itself")
    assert page.index("Each method by itself") < page.index("rotation: Training helped")
    assert page.index("Training helped") < page.index("Accuracy on held-out images")
    assert page.count('<th scope="row">trained from scratch (resnet10)') == 1
    assert page.count("No test image is among the training images.") == 2


def test_random_weights_are_a_column_of_what_is_found_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    queries = random.integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    drawn: list[tuple[str, ...]] = []

    def figure(query: np.ndarray, found: dict[str, list[np.ndarray]], *other: object, **named: str) -> object:
        drawn.append(tuple(found))
        return columns_figure(query, found)

    monkeypatch.setattr("nolabel.report.columns.columns_figure", figure)

    def found(label: str) -> pictures.Retrieval:
        tiles = random.integers(0, 255, (2, 4, 16, 16, 3), dtype=np.uint8)
        ones = np.ones((2, 4), np.float32)
        return pictures.Retrieval(queries, tiles, ones, ("cat", "cat"), ((label,) * 4,) * 2)

    places = [run_folder(tmp_path / method, method, ()) for method in ("simclr", "rotation")]
    for place, label in zip(places, ("cat", "dog"), strict=True):
        pictures.save_retrieval(place, found(label))
    records = [read_record(place) for place in places]
    columns(records)
    pictures.save_retrieval(places[0], found("dog"), pictures.UNTRAINED)
    assert "AlexNet trained with labels" in columns(records)
    other = replace(found("dog"), queries=queries[::-1])
    pictures.save_retrieval(places[0], other, pictures.UNTRAINED)
    columns(records)
    methods = ("SimCLR", "rotation")
    assert drawn == [methods, (*methods, "random weights"), methods]


def test_eight_curves_differ_and_keep_their_room() -> None:
    of_each = {f"method {i}": {"stage1": 0.1 * i, "stage2": 0.1 * i} for i in range(8)}
    svg = figures.stages(of_each, alt="")
    lines = re.findall(r'<path d="[^"]*" clip-path[^>]*style="(fill: none; [^"]*width: 1.6[^"]*)"', svg)
    assert len(lines) == len(set(lines)) == 8
    heights = [float(re.findall(r'viewBox="0 0 \S+ (\S+)"', figures.stages(dict(list(of_each.items())[:n]), alt=""))[0])
               for n in (2, 8)]  # fmt: skip
    assert heights[1] - heights[0] == pytest.approx(6 * 0.2 * 72)
