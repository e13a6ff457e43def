"""What a comparison says of few labels, and of the labels that the best encoder saves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nolabel.report.page import write_report
from nolabel.report.records import Row, protocol_in_words
from test_report_comparison import RANDOM, SCRATCH, against, noted, pair, record, run_folder, told


def saved(against: str, labels: int, value: float, low: float | None, high: float | None, text: str) -> Row:
    setting = {"against": against, "labels": labels, "range": text}
    return Row(
        "simclr", f"label_efficiency@{labels // 10}", "labels_saved", value, low, high, 1000, setting=setting
    )


WITHIN = "within the measured numbers of labels"
ABOVE = "at least: with its 6,000 labels the other stays below"
BELOW = "at most: with 10 labels the other is as good or better"


def with_labels(rows: Sequence[Row], labels: int, each: int) -> list[Row]:
    return [
        replace(row, setting=row.setting | {"labels": labels, "labels_a_class": [each, each]}) for row in rows
    ]


def test_the_gain_with_few_labels_is_told_beside_that_with_all_by_the_number_nearest_to_ten_a_class() -> None:
    rows = pair("simclr", "linear", 0.70, 0.121, 1e-9)
    rows += with_labels(pair("simclr", "linear@1%", 0.40, 0.01, 0.4), 10, 1)
    rows += with_labels(pair("simclr", "linear@10", 0.52, 0.17, 1e-9), 100, 10)
    rows += with_labels(pair("simclr", "linear@50%", 0.6, 0.02, 1e-9), 5000, 500)
    rows += pair("simclr", "finetune@10", 0.5, -0.02, 1e-4)
    assert (
        "On these images SimCLR names 70.0 % (69.0 to 71.0) of the test images right with all labels, 12.1 points "
        "(10.8 to 13.4) more than random weights of the same network, and 17.0 points (15.7 to 18.3) more with 10 "
        "labels per class. Use it:"
    ) in told(record("simclr", rows))
    assert "The gain with all labels: p < 0.001." in noted(record("simclr", rows))


@pytest.mark.parametrize(
    ("all_labels", "few", "sentence"),
    [
        (0.1, 0.001, "and 0.1 points (-1.2 to 1.4) more with 10 labels per class, no more than chance explains."),
        (0.1, -0.06, "6.0 points less (difference -7.3 to -4.7) with 10 labels per class, more than chance explains."),
        (0.001, 0.06, "and 6.0 points (4.7 to 7.3) more with 10 labels per class, more than chance explains."),
        (0.001, 0.0001, "and as many (-1.3 to 1.3) with 10 labels per class: neither is more than chance explains."),
    ],
)  # fmt: skip
def test_a_gain_with_few_labels_alone_or_none_is_told_as_one(
    all_labels: float, few: float, sentence: str
) -> None:
    def p(gain: float) -> float:
        return 1e-9 if abs(gain) > 0.01 else 0.8

    rows = pair("simclr", "linear", 0.7, all_labels, p(all_labels))
    assert sentence in told(record("simclr", [*rows, *pair("simclr", "linear@10", 0.5, few, p(few))]))


def test_fine_tuning_with_few_labels_is_told_where_no_probe_was_and_one_draw_is_noted() -> None:
    tuned = [
        replace(row, setting=row.setting | {"drawn": "one draw of labels"})
        for row in pair("simclr", "finetune@10", 0.5, 0.02, 1e-4)
    ]
    one = record("simclr", [*pair("simclr", "linear", 0.70, 0.121, 1e-9), *tuned])
    assert "2.0 points (0.7 to 3.3) more with 10 labels per class by fine-tuning." in told(one)
    assert "The gain with few labels rests on one draw of labels." in noted(one)


def test_a_method_that_is_better_with_few_labels_is_named() -> None:
    simclr = pair("simclr", "linear", 0.7, 0.1, 1e-9, 0.7) + pair("simclr", "linear@10", 0.5, 0.1, 1e-9)
    other = pair("rotation", "linear", 0.6, 0.1, 1e-9, 0.6) + pair("rotation", "linear@10", 0.56, 0.16, 1e-9)
    ahead = replace(against("rotation", "simclr", 0.06, 1e-9), protocol="linear@10", low=0.05, high=0.07)
    text = told(record("simclr", simclr), record("rotation", [*other, ahead]))
    assert (
        "Behind it: rotation by 10.0 points; ahead of it with 10 labels per class: rotation by 6.0 points."
        in text
    )


def test_as_many_labels_under_two_names_are_one(tmp_path: Path) -> None:
    rows = pair("simclr", "linear", 0.7, 0.1, 1e-9)
    rows += with_labels(pair("simclr", "linear@1%", 0.4, 0.1, 1e-9), 40, 10)
    rows += with_labels(pair("simclr", "linear@10", 0.4, 0.1, 1e-9), 40, 10)
    rows += with_labels(pair("simclr", "linear@10%", 0.5, 0.1, 1e-9), 400, 100)
    page = write_report(run_folder(tmp_path / "run", "simclr", rows)).read_text().replace("\u00a0", " ")
    assert "with 10 labels per class" in page
    assert "labels per class: 10;" in page or "labels per class: 10)" in page
    assert "with 10 % of the labels" in page
    assert "with 1 % of the labels" not in page


def test_a_probe_of_one_stage_is_not_one_with_few_labels() -> None:
    rows = pair("simclr", "linear", 0.70, 0.121, 1e-9) + pair("simclr", "linear@stage2", 0.6, 0.1, 1e-9)
    assert "of the same network. Use it" in told(record("simclr", rows))
    assert protocol_in_words("linear@stage2") == "linear probe on stage2"
    assert protocol_in_words("linear@10") == "linear probe with 10 labels per class"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([saved(RANDOM, 10, 40, 20, 60, WITHIN), saved(RANDOM, 640, 99, 50, 150, WITHIN),
          saved(SCRATCH, 160, 300, 200, 400, WITHIN), saved(SCRATCH, 640, 801, 612, 990, WITHIN)],
         "With 640 labels it is as good as the same network trained from scratch with about 1,441: it saves about "
         "801 labels (95 % interval 612 to 990)."),
        ([saved(RANDOM, 40, 99, 50, None, WITHIN)],
         "as good as random weights of the same network with about 139: it saves about 99 labels (95 % interval from "
         "50 up)."),
        ([saved(SCRATCH, 640, -200, -300, 50, WITHIN)],
         "costs about 200 labels (95 % interval -50 to 300), no more than chance explains."),
        ([saved(SCRATCH, 40, 99, None, 150, WITHIN)],
         "saves about 99 labels (95 % interval up to 150), no more than chance explains."),
        ([saved(SCRATCH, 10, 5990, -5, None, ABOVE), saved(SCRATCH, 40, 5960, 1078, None, ABOVE)],
         "With 40 labels it is as good as the same network trained from scratch with more than 6,000, the most that "
         "were tried: it saves at least 1,078 labels, the low end of the 95 % interval."),
        ([saved(SCRATCH, 40, 5960, -200, None, ABOVE)],
         "the most that were tried: that it saves labels was not shown (95 % interval from -200 up)."),
        ([saved(SCRATCH, 40, 5960, None, None, ABOVE)],
         "the most that were tried: that it saves labels was not shown (the 95 % interval has no low end)."),
        ([saved(SCRATCH, 6000, 0, 0, None, ABOVE)],
         "the most that were tried: it saves labels, and how many was not measured."),
        ([saved(SCRATCH, 10, 0, None, 0, BELOW)],
         "with 10 or fewer, the fewest that were tried: it saves no labels."),
        ([saved(SCRATCH, 100, -90, None, -60, BELOW)],
         "the fewest that were tried: it costs at least 60 labels, the near end of the 95 % interval."),
        ([saved(SCRATCH, 10, 0, None, 5, BELOW)],
         "the fewest that were tried: that it saves none was not shown (95 % interval up to 5)."),
        ([saved(SCRATCH, 40, 0.3, -3.2, 5.4, WITHIN)],
         "With 40 labels it is as good as the same network trained from scratch with about as many: it saves no labels "
         "(95 % interval -3 to 5)."),
        ([saved(SCRATCH, 40, -1.2, -0.4, None, WITHIN)], "it costs about 1 label (95 % interval up to 0), no more"),
        ([saved(SCRATCH, 10, 0, None, None, BELOW)], "none was not shown (the 95 % interval has no high end)."),
    ],
)  # fmt: skip
def test_the_labels_saved_are_those_against_training_from_scratch_with_the_most_labels(
    rows: list[Row], sentence: str
) -> None:
    assert sentence in told(record("simclr", pair("simclr", "linear", 0.7, 0.1, 1e-9) + rows))


def test_what_was_not_measured_is_named_with_the_command_that_does() -> None:
    rows = pair("simclr", "linear", 0.7, 0.1, 1e-9)
    command = "nolabel compare with --protocols linear,knn,few_labels,label_efficiency"
    assert f"To learn the gain with few labels and how many labels it saves as well: {command}" in noted(
        record("simclr", rows)
    )
    rows += pair("simclr", "linear@1%", 0.4, 0.1, 1e-9)
    assert f"To learn how many labels it saves as well: {command}" in noted(record("simclr", rows))
    rows.append(saved(RANDOM, 10, 40, 20, 60, WITHIN))
    assert "--protocols" not in noted(record("simclr", rows))
