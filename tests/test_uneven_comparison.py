"""A comparison on uneven classes: ranked, and told with few labels, by the mean over classes; labels saved by top-1."""

from dataclasses import replace

import pytest
import torch

from nolabel.evaluation.base import Features
from nolabel.evaluation.knn import KNN, KNNOptions
from nolabel.evaluation.linear import Linear, LinearOptions
from nolabel.report.records import Row
from test_comparison_labels import WITHIN, saved
from test_report_comparison import RANDOM, SCRATCH, noted, pair, record, told

SIZES = {"test_images_a_class": [50, 950]}


def uneven(method: str, protocol: str = "linear", gain: float = 0.1, **chosen: object) -> list[Row]:
    """Top-1 that shows nothing, and means over classes that show `gain`, of uneven test classes."""
    rows = pair(method, protocol, 0.9, 0.001, 0.7)
    rows += [
        replace(row, metric=row.metric.replace("top1", "balanced"))
        for row in pair(method, protocol, 0.6, gain, 1e-6)
    ]
    return [
        replace(row, setting=row.setting | SIZES, chosen=chosen if row.subject == method else {})
        for row in rows
    ]


def test_runs_are_ranked_by_what_they_are_judged_by() -> None:
    """jigsaw has the better share of validation images, SimCLR the better mean over classes."""
    runs = (
        record("jigsaw", uneven("jigsaw", validation=0.95, validation_balanced=0.4)),
        record("simclr", uneven("simclr", validation=0.92, validation_balanced=0.6)),
    )
    assert told(*runs).startswith("SimCLR is the encoder to take.")
    assert "ranked by a part of the training images that was held back" in noted(*runs)
    older = record("jigsaw", uneven("jigsaw", validation=0.95))
    assert "ranked by the test images themselves" in noted(older, record("simclr", uneven("simclr")))


def test_draws_of_labels_rank_by_the_mean_of_their_validation() -> None:
    def few(method: str, *validation: float) -> list[Row]:
        rows = pair(method, "linear@1%", 0.4, 0.1, 1e-9)
        return [replace(rows[0], chosen={"validation": list(validation)}), *rows[1:]]

    text = told(record("simclr", few("simclr", 0.9, 0.1)), record("jigsaw", few("jigsaw", 0.5, 0.7)))
    assert text.startswith("jigsaw is the encoder to take.")


def test_few_labels_and_labels_saved_say_of_which_accuracy_they_are() -> None:
    rows = uneven("simclr") + uneven("simclr", "linear@1%", 0.08) + [saved(SCRATCH, 40, 99, 50, 150, WITHIN)]
    text = told(record("simclr", rows))
    assert "averaged over the classes with all labels, 10.0 points" in text
    assert "and 8.0 points (6.7 to 9.3) more with 1 % of the labels" in text
    assert "With 40 labels it is, by the share of all test images, as good as the same network" in text
    even = pair("simclr", "linear", 0.7, 0.1, 1e-9) + pair("simclr", "linear@1%", 0.4, 0.1, 1e-9)
    text = told(record("simclr", [*even, saved(RANDOM, 40, 99, 50, 150, WITHIN)]))
    assert "averaged" not in text
    assert "With 40 labels it is as good as random weights" in text


def test_a_net_from_scratch_is_told_with_its_steps() -> None:
    one = saved(SCRATCH, 40, 99, 50, 150, WITHIN)
    rows = [*pair("simclr", "linear", 0.7, 0.1, 1e-9), replace(one, setting=one.setting | {"steps": 500})]
    assert "as good as the same network trained from scratch for 500 steps with about 139" in told(
        record("simclr", rows)
    )


@pytest.mark.parametrize("protocol", [Linear(LinearOptions()), KNN(KNNOptions(k=(200,)))])
def test_the_validation_part_is_measured_by_classes_too(protocol: Linear | KNN) -> None:
    """Features that know nothing: nine in ten are right by saying the large class, which is half of the classes."""
    random = torch.Generator().manual_seed(0)
    labels = (torch.arange(600) % 10 == 0).long()
    x = torch.randn(600, 2, generator=random)
    subject = Features.of("toy", {"pooled": x}, labels, torch.arange(400), torch.arange(400, 600))
    chosen = protocol.run(subject, 0)[0].chosen
    assert chosen["validation"] == pytest.approx(0.9, abs=0.02)
    assert chosen["validation_balanced"] == pytest.approx(0.5, abs=0.05)
