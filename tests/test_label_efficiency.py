"""Label efficiency: three curves, and the labels that an encoder saves."""

import numpy as np
import pytest
import torch

from nolabel.encoders.base import build
from nolabel.errors import DataError
from nolabel.evaluation import label_efficiency
from nolabel.evaluation._features import extract
from nolabel.evaluation._split import divide
from nolabel.evaluation.label_efficiency import LabelEfficiency, LabelEfficiencyOptions, needed, saved
from test_features import store_of
from test_few_labels import check, labelled


def test_labels_needed_in_closed_form() -> None:
    points, sizes = np.array([0.2, 0.6, 0.8]), [10, 1000, 4000]
    assert needed(0.4, points, sizes) == pytest.approx(100)
    assert needed(0.6, points, sizes) == pytest.approx(1000)
    assert needed(0.7, points, sizes) == pytest.approx(2000)
    assert needed(0.1, points, sizes) == 10
    assert needed(0.9, points, sizes) == 4000
    assert needed(0.5, np.array([0.2, 0.6, 0.55]), [10, 1000, 4000]) == pytest.approx(10 * 100**0.75)


def hits(shares: list[float], n: int = 2000) -> np.ndarray:
    """For each accuracy, in one draw, the same images in the same order: those below the share are right."""
    at = (np.arange(n) * 0.61803398875) % 1
    return np.stack([(at < share) for share in shares]).astype(np.float32)[:, None]


def test_labels_saved_and_their_interval() -> None:
    curve = hits([0.3, 0.5, 0.7])
    found = saved(hits([0.6])[0], 50, curve, [10, 100, 1000], 0)
    assert found.value == pytest.approx(100 * 10**0.5 - 50, rel=0.02)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert found.text.startswith("within")
    alike = saved(curve[1], 100, curve, [10, 100, 1000], 0)
    assert (alike.value, alike.low, alike.high) == pytest.approx((0, 0, 0), abs=1e-3)


def test_labels_saved_are_covered_with_noise_of_images_and_of_draws() -> None:
    """Accuracy 0.3 + 0.1 per doubling from 10 labels; the encoder has 0.55 with 10, so it saves 10 · 2^2.5 - 10."""
    random, sizes = np.random.default_rng(0), [10, 20, 40, 80, 160]
    covered = narrow = 0
    for trial in range(150):
        hard, of_draws = random.random(300), random.normal(0, 0.03, (6, 3, 1))
        own = (hard < 0.55 + of_draws[5]).astype(np.float32)
        curve = np.stack([hard < 0.3 + 0.1 * k + of_draws[k] for k in range(5)]).astype(np.float32)
        low, high = saved(own, 10, curve, sizes, trial)[1:3]
        covered += (-np.inf if low is None else low) <= 10 * 2**2.5 - 10 <= (np.inf if high is None else high)
        low, high = saved(own.mean(0)[None], 10, curve.mean(1)[:, None], sizes, trial)[1:3]
        narrow += (-np.inf if low is None else low) <= 10 * 2**2.5 - 10 <= (np.inf if high is None else high)
    assert covered / 150 >= 0.92
    assert narrow / 150 < 0.9  # images alone do not tell how far other draws lie


def test_the_starts_of_the_other_net_are_in_the_interval() -> None:
    own, middle, sizes = hits([0.5])[0], [0.2, 0.5, 0.8], [10, 100, 1000]
    alike = np.repeat(hits(middle), 3, axis=1)
    apart = np.concatenate([hits([share + other for share in middle]) for other in (-0.05, 0, 0.05)], 1)
    narrow, wide = (saved(own, 100, curve, sizes, 0, starts=3) for curve in (alike, apart))
    assert narrow[:3] == pytest.approx(saved(own, 100, alike[:, :1], sizes, 0)[:3], abs=0.01)
    assert narrow.value == pytest.approx(wide.value, abs=5)
    assert None not in (narrow.low, narrow.high, wide.low, wide.high)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)  # type: ignore[operator]


def test_beyond_the_curve_there_is_a_bound() -> None:
    curve = hits([0.3, 0.5])
    above = saved(hits([0.9])[0], 10, curve, [10, 100], 0)
    assert (above.value, above.high) == (90, None)
    assert above.text.startswith("at least")
    below = saved(hits([0.1])[0], 100, curve, [10, 100], 0)
    assert (below.value, below.low) == (-90, None)
    assert below.text.startswith("at most")


def test_only_accuracies_beyond_the_curve_give_a_bound() -> None:
    """With one number of labels, or equal to the top of the curve, neither side is taken for the other."""
    worse = saved(hits([0.3])[0], 40, hits([0.6]), [40], 0)
    assert worse == (0, None, 0, "at most: with 40 labels the other is as good or better")
    better = saved(hits([0.9])[0], 40, hits([0.3]), [40], 0)
    assert better == (0, 0, None, "at least: with its 40 labels the other stays below")
    equal = saved(hits([0.5])[0], 10, hits([0.3, 0.5]), [10, 100], 0)
    assert (equal.value, equal.text) == (90, "within the measured numbers of labels")
    fallen = saved(hits([0.45])[0], 10, hits([0.5, 0.4]), [10, 100], 0)
    assert fallen.text.startswith("at most")
    unsure = saved(1 - hits([0.5])[0], 10, hits([0.49]), [10], 0)
    assert (unsure.low, unsure.high) == (None, None)


def test_points_of_the_curve() -> None:
    sizes = LabelEfficiency(LabelEfficiencyOptions()).sizes
    assert sizes(labelled([40] * 3)) == {1: 3, 4: 12, 16: 48, 40: 120}
    assert sizes(labelled([20, 60])) == {1: 2, 4: 8, 16: 32}
    assert list(LabelEfficiency(LabelEfficiencyOptions(most=30)).sizes(labelled([40] * 3))) == [1, 4, 10]
    with pytest.raises(DataError, match="41 labels a class"):
        check(LabelEfficiency(LabelEfficiencyOptions(per_class=(41,))), [40] * 3)


def test_three_curves_and_the_labels_saved() -> None:
    torch.manual_seed(0)
    store = store_of(90, size=8)
    mine = extract(build("resnet10", 8).eval(), store, divide(store, 0), name="mine", size=8)
    options = LabelEfficiencyOptions(per_class=(1, 5), draws=2, steps=4, choice_steps=2, batch_size=8)
    rows = LabelEfficiency(options).run(mine, 0)
    accuracies = [(r.subject, r.protocol) for r in rows if r.metric == "top1"]
    assert accuracies == [
        (name, f"label_efficiency@{each}")
        for name in ("mine", "random:resnet10", "supervised:resnet10")
        for each in (1, 5)
    ]
    gains = [r for r in rows if r.metric == "top1_difference"]
    values = {(r.subject, r.protocol): r.value for r in rows if r.metric == "top1"}
    assert [gain.protocol for gain in gains] == ["label_efficiency@1", "label_efficiency@5"]
    for gain in gains:
        random = values["random:resnet10", gain.protocol]
        assert gain.value == pytest.approx(values["mine", gain.protocol] - random)
        assert gain.low <= gain.value <= gain.high  # type: ignore[operator]
        assert gain.setting["against"] == "random:resnet10"
        assert "data" not in gain.setting
    of = [r for r in rows if r.metric == "labels_saved"]
    assert [[r.setting[f"{what}_of_the_other"] for what in ("draws", "starts")] for r in of] == [
        *([2, 3], [2, 3]),
        *([1, 1], [1, 1]),
    ]
    assert {r.setting["draws"] for r in of} == {2}
    assert [r.seeds for r in rows if r.subject.startswith("random:") and r.metric == "top1"] == [
        (0, 1, 2)
    ] * 2
    tried = [r for r in rows if r.subject.startswith("supervised:") and r.metric == "top1"]
    assert [len(r.chosen["settings"]) for r in tried] == [
        0,
        3,
    ]  # one label a class leaves nothing to choose by
    assert [(r.subject, r.setting["against"], r.setting["labels"]) for r in of] == [
        ("mine", against, labels)
        for against in ("random:resnet10", "supervised:resnet10")
        for labels in (3, 15)
    ]
    assert [r.setting.get("steps") for r in of] == [None, None, 4, 4]
    for row in of:
        assert -12 <= row.value <= 12
        assert row.setting["range"]
        assert row.predictions is None
    assert label_efficiency.FACTOR == 4
