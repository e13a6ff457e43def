"""The verdict on one run: uneven test classes, training from scratch, one draw of labels."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nolabel.cli.evaluate import show
from nolabel.data.store import ImageStore
from nolabel.encoders.base import build
from nolabel.evaluation._repeats import differences
from nolabel.evaluation._written import write_results
from nolabel.evaluation.base import Result
from nolabel.evaluation.few_labels import FewLabels, FewLabelsOptions
from nolabel.evaluation.run import evaluate_encoder
from nolabel.evaluation.statistics import uneven
from nolabel.report.page import write_report
from nolabel.report.records import Row, read_record
from nolabel.report.verdict import judge
from test_features import store_of
from test_heads_protocols import tiny


def row(subject: str, metric: str, value: float, protocol: str = "linear", **setting: object) -> Row:
    return Row(subject, protocol, metric, value, value - 0.01, value + 0.01, 1000, setting=dict(setting))


def said(rows: list[Row]) -> str:
    found = judge(rows, "simclr")
    return f"{found.title}. {' '.join(found.sentences)}".replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("counts", "found"), [([50, 75], None), ([50, 76], (50, 76)), ([5, 95, 9], (5, 95)), ([3], None)]
)
def test_classes_are_uneven_from_half_as_many_more_on(
    counts: list[int], found: tuple[int, int] | None
) -> None:
    assert uneven(np.repeat(np.arange(len(counts)) * 2, counts)) == found


def test_uneven_classes_are_judged_by_the_mean_over_classes() -> None:
    sizes: dict[str, Any] = {"test_images_a_class": [50, 950]}
    against: dict[str, Any] = {"against": "random:resnet10"}
    rows = [
        row("simclr", "top1", 0.96, **sizes),
        row("simclr", "balanced", 0.60, **sizes, classes_without_test_images=["lynx"]),
        row("random:resnet10", "top1", 0.95, **sizes),
        row("random:resnet10", "balanced", 0.50, **sizes),
        row("simclr", "top1_difference", 0.01, **against, p=0.4),
        row("simclr", "balanced_difference", 0.10, **against, p=1e-6),
        row("simclr", "top1", 0.97, "knn", **sizes),
        row("simclr", "balanced", 0.7, "knn", **sizes),
        row("random:resnet10", "balanced", 0.6, "knn", **sizes),
    ]
    text = said(rows)
    assert text.startswith(
        "Training helped. On held-out images a linear probe on this encoder names 60.0 % (59.0 to 61.0)"
    )
    assert (
        "of 1,000 images right, averaged over the classes; random weights of the same network: 50.0 %" in text
    )
    assert (
        "The classes have from 50 to 950 test images, so the average over classes is judged; of all images"
        in text
    )
    assert "10.0 points more than random weights" in text
    assert "names 70.0 % (69.0 to 71.0) right, averaged over the classes: 10.0 points more" in text
    missing = [replace(one, setting=one.setting | {"classes_without_test_images": ["lynx"]}) for one in rows]
    assert "is judged, without lynx, of which there is no test image; of all" in said(missing)


def uneven_store() -> ImageStore:
    """21 images of each of three classes for training; for the test 36 of the first, 4 of the second, no other."""
    store = store_of(103, classes=3)
    labels = torch.cat(
        [torch.arange(63) % 3, torch.zeros(36, dtype=torch.int64), torch.ones(4, dtype=torch.int64)]
    )
    return replace(store, labels=labels, splits=(torch.arange(103) >= 63).long(), fingerprint="uneven")


def test_evaluate_tests_and_judges_the_mean_over_uneven_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    found = evaluate_encoder(build("resnet10", 16), uneven_store(), protocols=("knn",), name="simclr")
    (own,) = (one for one in found if (one.subject, one.metric) == ("simclr", "balanced"))
    assert own.setting["test_images_a_class"] == [4, 36]
    assert own.setting["classes_without_test_images"] == ["2"]
    for against in ("random:resnet10", "pixels", "histogram"):
        (difference,) = (
            one
            for one in found
            if (one.metric, one.setting.get("against")) == ("balanced_difference", against)
        )
        (other,) = (one for one in found if (one.subject, one.metric) == (against, "balanced"))
        assert difference.value == pytest.approx(own.value - other.value)
        assert difference.low <= difference.value <= difference.high  # type: ignore[operator]
        assert difference.setting["test"].startswith("paired permutation")
    show(found, "simclr")
    told = capsys.readouterr().out
    assert re.search(r"points of simclr over +top-1", told)
    assert re.search(r"points of simclr over +balanced", told)
    assert "no test image of 2, left out of balanced." in told
    (tmp_path / "run.json").write_text('{"format": 1, "method": "simclr"}')
    write_results(tmp_path, found)
    assert "from 4 to 36 test images" in " ".join(judge(read_record(tmp_path).rows, "simclr").sentences)
    page = write_report(tmp_path).read_text()
    assert "test images per class: 4 to 36; classes without test images: 2" in page


def test_draws_of_uneven_classes_are_compared_class_by_class() -> None:
    truth = np.repeat([0, 1], [90, 10])
    mine, other = np.tile(truth, (3, 1)), np.tile(truth, (3, 1))
    other[:, 95:] = 0
    other[0, 94] = 0
    pair = [
        Result(s, "linear@1", "top1", 0, 0, 0, 100, predictions=p) for s, p in (("a", mine), ("b", other))
    ]
    top1, balanced = differences(pair[:1], [pair[1:]], truth, 0)
    assert (top1.metric, balanced.metric) == ("top1_difference", "balanced_difference")
    assert top1.value == pytest.approx(0.16 / 3)
    assert balanced.value == pytest.approx(1.6 / 6)
    assert balanced.low is not None
    assert balanced.high is not None
    assert 0 < balanced.low < balanced.value < balanced.high
    assert balanced.setting["p"] < 0.1


def test_a_network_trained_from_scratch_is_told_with_its_steps() -> None:
    rows = [row("simclr", "top1", 0.6), row("supervised:resnet10", "top1", 0.7, steps=1000)]
    assert (
        "trained from scratch with all the labels instead (1,000 steps) and read by a linear probe, reaches"
        in said(rows)
    )


def test_one_draw_of_labels_is_told() -> None:
    options = FewLabelsOptions(shares=(0.2,), per_class=(), draws=2, steps=2, batch_size=8)
    of = {one.protocol: one for one in FewLabels(options).run(tiny(store_of(90, size=8)), 0)}
    drawn = {name: one.setting.get("drawn") for name, one in of.items()}
    assert drawn == {"linear@20%": None, "finetune@20%": "one draw of labels, whose noise is in no interval"}
    tuned = row("simclr", "top1", 0.6, "finetune@20%", drawn=drawn["finetune@20%"])
    assert "It rests on one draw of labels, whose noise is in no interval." in said([tuned])
    assert "one draw" not in said([row("simclr", "top1", 0.6)])


@pytest.mark.parametrize(("share", "where"), [(1.0, "On test images"), (0.4, "On held-out images")])
def test_leaks_are_in_the_verdict_on_a_run(share: float, where: str) -> None:
    rows = [row("simclr", "top1", 0.6)]
    sentence = "Some of the 1,000 test images are also among the pretraining images."
    leak = Row("simclr", "leakage", "in_pretraining", share, n=1000, setting={"sentence": sentence})
    none = Row(
        "simclr", "leakage", "in_training", 0.0, n=1000, setting={"sentence": "No test image is known."}
    )
    text = said([*rows, leak, none])
    assert where in text
    assert text.endswith(sentence)
    assert "No test image is known." not in text
