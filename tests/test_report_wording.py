"""What the report says of protocols other than the probe, and how: captions, order, cells, what is missing."""

import re
from pathlib import Path
from typing import Any

import pytest

from nolabel.report._text import interval, percent, signed
from nolabel.report.accuracy import OPTED, left_out
from nolabel.report.captions import value_in_words
from nolabel.report.comparison import compared
from nolabel.report.page import write_comparison, write_report
from nolabel.report.records import Record, Row, leaks
from nolabel.report.sections import TEMPLATES
from nolabel.report.verdict import judge
from test_report import Page, row, write_run

SCRATCH = Row("supervised:resnet10", "supervised", "top1", 0.75, 0.74, 0.76, 1000)
CLEAN = {
    name: Row("simclr", "leakage", f"in_{name}", 0.0, n=1000, setting={"sentence": f"None in {name}."})
    for name in ("training", "pretraining")
}


def verdicts(*rows: Row) -> list[str]:
    """Of one run, and of a comparison that has it alone."""
    one = judge(rows, "simclr"), compared([Record(Path("runs/simclr"), {"method": "simclr"}, [], rows, ())])
    return [f"{found.title}. {' '.join(found.sentences)}".replace("\u00a0", " ") for found in one]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row("simclr", "top1", 0.6, protocol="mlp")], "names 60.0 % (59.0 to 61.0)"),
        ([row("simclr", "top1", 0.6, protocol="finetune@10%")], "fine-tuning with 10 % of the labels"),
        ([row("simclr", "top1", 0.4, protocol="linear@1", setting={"labels": 4}),
          row("simclr", "top1", 0.6, protocol="linear@10", setting={"labels": 40})], "60.0 %"),
        ([SCRATCH, CLEAN["training"]],
         "Only baselines were measured. Training from scratch, top-1 on the test images: trained from scratch "
         "(resnet10) 75.0 % (74.0 to 76.0). Of "),
        ([Row("simclr", "discovery", "verified", 0.1, 0.08, 0.12, 500),
          Row("random:resnet10", "discovery", "verified", 0.05, 0.04, 0.06, 500)], "verified matches"),
        ([Row("simclr", "retrieval", "recall@1", 0.412)], "41.2 %"),
        ([Row("simclr", "clustering", "nmi", 0.213)], "Clustering"),
        ([Row("simclr", "diagnostics", "rankme", 118.0, setting={"verdict": "Healthy."})], "Healthy."),
    ],
)  # fmt: skip
def test_what_was_measured_is_told_by_whichever_protocol(rows: list[Row], words: str) -> None:
    for text in verdicts(*rows):
        assert words in text, text
        assert not re.search(
            "Not evaluated|[Nn]othing was measured\\.|None of the runs", text.partition(". ")[0]
        )


def test_a_run_of_which_nothing_was_measured_is_told_as_such() -> None:
    alone, among = verdicts(CLEAN["training"])
    assert alone.startswith("Not evaluated. ")
    assert among.startswith("Nothing was measured. ")


def test_measures_of_several_runs_stand_beside_each_other(tmp_path: Path) -> None:
    places = [
        write_run(tmp_path / name, name, [
            Row(name, "discovery", "verified", value, 0, 1, 500), Row("random:resnet10", "discovery", "verified", 0.05),
        ])
        for name, value in (("simclr", 0.1), ("rotation", 0.2))
    ]  # fmt: skip
    page = Page(write_comparison(places, tmp_path / "both.html")).text.replace("\u00a0", " ")
    told = "Object discovery, verified matches: SimCLR 10.0 %, rotation 20.0 % and random weights 5.0 %."
    assert "Measured, but not for accuracy" in page
    assert told in page


def test_a_collapse_is_in_the_verdict_and_so_is_what_training_from_labels_gives() -> None:
    rows = (row("simclr", "top1", 0.7), row("random:resnet10", "top1", 0.5), SCRATCH)
    info = {"method": "simclr", "collapse": {"step": 300, "sentence": "The features collapsed by step 300."}}
    found = compared([Record(Path("runs/simclr"), info, [], rows, ())])
    text = " ".join(found.sentences).replace("\u00a0", " ")
    assert "Collapsed in training, as the warnings in the report say: SimCLR." in text
    assert "The same network, trained from scratch with all the labels instead, reaches 75.0 %" in text
    assert len(found.sentences) <= 6


def test_a_leak_is_told_with_the_accuracy_that_the_verdict_is_of() -> None:
    without = {name: {"value": v, "low": v - 0.01, "high": v + 0.01, "n": 995}
               for name, v in (("linear", 0.69), ("knn", 0.4))}  # fmt: skip
    setting = {"sentence": "5 of 1,000: all protocols.", "without": without}
    rows = (
        row("simclr", "top1", 0.7),
        Row("simclr", "leakage", "in_training", 0.005, n=1000, setting=setting),
    )
    for text in verdicts(*rows):
        assert (
            "5 of the 1,000 test images are also among the training images; without them it is 69.0 % (68.0"
            in text
        )
        assert "all protocols" not in text
        assert "40.0 %" not in text


def test_sets_that_share_no_image_with_the_test_images_are_told_in_one_sentence() -> None:
    sentence = "No test image is identical, or nearly so, to one of the training or the pretraining images."
    assert leaks([*CLEAN.values()]) == [sentence]
    assert leaks([CLEAN["training"]]) == ["None in training."]


@pytest.mark.parametrize("value", [0.0002, -0.0002, 0.0])
def test_nothing_has_no_sign(value: float) -> None:
    assert signed(value) == "0.0"
    assert interval(value, value) == "0.0 to 0.0"
    assert percent(value) == "0.0\u00a0%"
    assert [signed(0.051), signed(-0.051)] == ["+5.1", "\u22125.1"]


def test_baselines_that_were_not_run_are_named_with_the_option_that_adds_them() -> None:
    own = row("simclr", "top1", 0.6)
    rows = [own, *(row(name, "top1", 0.5) for name in ("random:resnet10", "pixels", "whitened", "histogram"))]
    rows.append(row("supervised:resnet10", "top1", 0.5, protocol="label_efficiency@4"))
    (told,) = left_out(rows)
    assert told == (
        "Not measured beside it: patch k-means, the same network trained from scratch with the labels and weights that "
        "were pretrained on other images. To add what you want of them: --baselines patches,supervised,timm:resnet18 "
        "of nolabel evaluate, or of the same nolabel compare."
    )
    every = [
        row(name, "top1", 0.5) for name in ("patches", "supervised:resnet10", "pretrained:timm:resnet50")
    ]
    assert left_out([*rows, *every]) == []
    assert left_out([*rows[1:]]) == []
    assert left_out([Row("simclr", "retrieval", "recall@1", 0.4)]) == []


def test_the_option_names_baselines_that_there_are() -> None:
    from nolabel.evaluation.baselines import NAMES

    assert tuple(OPTED)[: len(NAMES)] == NAMES


def test_numbers_of_labels_and_stages_stand_in_order(tmp_path: Path) -> None:
    labels = {"linear@10": 100, "linear@1": 10, "linear@10%": 500, "linear@4": 40}
    rows = [
        row("simclr", "top1", 0.5, protocol=name, setting={"labels": n, "data": "a"})
        for name, n in labels.items()
    ]
    rows += [row("simclr", "top1", 0.5, protocol=f"linear@stage{n}", setting={"data": "a"}) for n in (10, 2)]
    page = Page(write_report(write_run(tmp_path / "run", rows=rows))).text.replace("\u00a0", " ")
    titles = [f"Linear probe {name}" for name in (
        "on stage2", "on stage10", "with 1 label per class", "with 4 labels per class", "with 10 labels per class",
        "with 10 % of the labels",
    )]  # fmt: skip
    places = [page.index(title) for title in titles]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("labels_a_class", [1, 1], "1"),
        ("test_images_a_class", [4, 36], "4 to 36"),
        ("precision", "bf16-mixed", "bfloat16 autocast"),
        ("standardise", "train_stats", "standardised by their mean and deviation over the training images"),
        ("chosen_by", "top1", "top-1 accuracy"),
        ("augment", "crop", "random crops and flips"),
        ("steps", 500, "500"),
        ("split", "none", "none"),
    ],
)
def test_captions_are_in_plain_words(name: str, value: Any, words: str) -> None:
    assert value_in_words(name, value) == words


def test_no_word_of_the_code_is_in_a_caption(tmp_path: Path) -> None:
    setting = {"data": "a", "labels": 10, "labels_a_class": [1, 1], "standardise": "train_stats", "chosen_by": "top1",
               "precision": "bf16-mixed", "augment": "crop", "range": "within"}  # fmt: skip
    folder = write_run(
        tmp_path / "run", rows=[row("simclr", "top1", 0.6, setting=setting)], precision="bf16-mixed"
    )
    page = Page(write_report(folder))
    captions = " ".join(
        re.findall(r"<caption>(.*?)</caption>", page.source.partition('id="published"')[0], re.S)
    )
    assert "labels per class: 1; features: standardised" in captions
    assert not re.search(r"train_stats|bf16|\w+_\w+|top1|1, 1", captions)
    assert "bfloat16 autocast" in page.text.partition("What ran")[2]


@pytest.mark.parametrize(
    ("value", "low", "high", "text", "cell"),
    [
        (12.4, 4.0, 30.0, "within the measured", ("about 12", "4 to 30")),
        (-2.32, -3.1, 0.4, "within the measured", ("none: costs about 2", "\u22123 to 0")),
        (0.2, -3.0, None, "within the measured", ("none", "from \u22123 up")),
        (
            56.0,
            20.0,
            None,
            "at least: with its 60 labels the other stays below",
            ("at least 56", "from 20 up"),
        ),
        (0.0, 0.0, None, "at least: with its 4", ("some: how many was not measured", "from 0 up")),
        (-3.0, None, -1.0, "at most: with 1", ("none: the other needs 1 or fewer", "up to \u22121")),
        (0.0, None, None, "at most: with 4", ("none: the other needs 4 or fewer", "")),
    ],
)
def test_labels_saved_are_in_words(
    value: float, low: float | None, high: float | None, text: str, cell: tuple[str, str]
) -> None:
    setting = {"labels": 4, "range": text, "against": "random:resnet10"}
    saved = Row("simclr", "label_efficiency@1", "labels_saved", value, low, high, 100, setting=setting)
    assert (saved.in_words, saved.ends) == cell


def test_intervals_wrap_in_tables_so_that_these_end_within_the_page() -> None:
    page = TEMPLATES.get_template("template.html").render(title="", subtitle="", sections=[])
    screen = page.partition("@media (max-width: 44rem)")[0]
    rules = [
        rule
        for rule in re.findall(r"([^{}]+)\{([^{}]*)\}", screen)
        if re.search(r"\b(td|th|table)\b", rule[0])
    ]
    assert any(selector.strip() == "td small" and "display: block" in body for selector, body in rules)
    assert all("nowrap" not in body for _, body in rules)
    assert any(selector.strip() == "table" and "width: 100%" in body for selector, body in rules)
