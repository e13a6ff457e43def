"""Intervals and tests of difference against scipy, printed values and simulation."""

import numpy as np
import pytest
from scipy import stats

from nolabel.evaluation import _repeats, statistics
from nolabel.evaluation.statistics import Interval

WILSON = {
    (9100, 10_000): (0.904232, 0.915453),
    (90, 100): (0.825634, 0.944771),
    (0, 10): (0.0, 0.277533),
    (10, 10): (0.722467, 1.0),
}
MCNEMAR = {(10, 2): 0.038574, (6, 0): 0.031250, (30, 50): 0.032993, (5, 5): 1.0}


@pytest.mark.parametrize(("k", "n"), WILSON)
def test_wilson_gives_the_printed_intervals(k: int, n: int) -> None:
    interval = statistics.wilson(k, n)
    assert interval.value == k / n
    assert interval[1:] == pytest.approx(WILSON[k, n], abs=1e-6)
    assert interval[1:] == pytest.approx(
        tuple(stats.binomtest(k, n).proportion_ci(method="wilson")), abs=1e-6
    )


@pytest.mark.parametrize(("b", "c"), MCNEMAR)
def test_mcnemar_gives_the_printed_values_and_is_symmetric(b: int, c: int) -> None:
    assert statistics.mcnemar(b, c) == pytest.approx(MCNEMAR[b, c], abs=1e-6)
    assert statistics.mcnemar(c, b) == statistics.mcnemar(b, c)
    assert statistics.mcnemar(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue, abs=1e-9)


def test_mcnemar_of_equal_models_is_one() -> None:
    hits = np.array([True, False, True])
    assert statistics.mcnemar_of(hits, hits) == 1.0


def test_permutation_equals_exact_mcnemar_on_200_tables() -> None:
    random = np.random.default_rng(0)
    for table in range(200):
        both, neither, b, c = random.integers([50, 10, 0, 0], [200, 80, 40, 40])
        first = np.repeat([True, False, True, False], [both, neither, b, c])
        second = np.repeat([True, False, False, True], [both, neither, b, c])
        found = statistics.permutation(first, second, seed=table)
        assert found == pytest.approx(statistics.mcnemar_of(first, second), abs=0.005)


def test_permutation_within_classes_equals_the_image_by_image_test() -> None:
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [10, 40, 25])
    first, second = random.random(75) < 0.7, random.random(75) < 0.5
    weight = 1 / np.bincount(labels)[labels] / 3
    difference = (first.astype(float) - second) * weight
    signs = random.choice([-1.0, 1.0], (20_000, 75))
    naive = (np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12).mean()
    assert statistics.permutation(first, second, seed=0, labels=labels) == pytest.approx(naive, abs=0.015)


def test_permutation_never_gives_zero() -> None:
    first = np.ones(100, bool)
    assert statistics.permutation(first, ~first, seed=0) == pytest.approx(1 / 100_001)


def test_wilson_covers_as_it_should() -> None:
    random = np.random.default_rng(2)
    for p, n in ((0.5, 100), (0.9, 200)):
        intervals = [statistics.wilson(int(k), n) for k in random.binomial(n, p, 2000)]
        assert 0.93 <= np.mean([low <= p <= high for _, low, high in intervals]) <= 0.97


def test_balanced_accuracy_and_its_bootstrap() -> None:
    labels = np.repeat([0, 1], [900, 100])
    correct = np.concatenate([np.ones(900, bool), np.arange(100) < 50])
    interval = statistics.bootstrap_balanced(correct, labels, seed=0)
    assert interval.value == pytest.approx(0.75)
    half = 1.96 * np.sqrt(0.25 / 100) / 2
    assert interval[1:] == pytest.approx((0.75 - half, 0.75 + half), abs=0.006)


def test_balanced_intervals_cover_as_they_should() -> None:
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], [60, 200, 120])
    chance = np.array([0.6, 0.8, 0.7])
    covered = 0
    for trial in range(400):
        correct = random.random(380) < chance[labels]
        _, low, high = statistics.bootstrap_balanced(correct, labels, seed=trial, draws=1000)
        covered += low <= chance.mean() <= high
    assert 0.91 <= covered / 400 <= 0.98


def test_bootstrap_of_the_mean_has_the_standard_error_of_the_mean() -> None:
    values = np.random.default_rng(4).random(1000)
    value, low, high = statistics.bootstrap_mean(values, seed=0, draws=4000)
    assert value == values.mean()
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / np.sqrt(1000), rel=0.08)


def test_a_paired_difference_is_narrower_than_two_single_ones() -> None:
    random = np.random.default_rng(5)
    first = random.random(2000) < 0.8
    second = np.where(random.random(2000) < 0.05, ~first, first)
    value, low, high = statistics.bootstrap_difference(first, second, seed=0)
    assert value == pytest.approx(first.mean() - second.mean())
    difference = first.astype(float) - second
    assert (high - low) / 2 == pytest.approx(1.96 * difference.std() / np.sqrt(2000), rel=0.08)
    balanced = statistics.bootstrap_difference(first, second, seed=0, labels=np.arange(2000) % 4)
    assert balanced.value == pytest.approx(value)


def test_the_mean_of_seeds_adds_both_noises_in_quadrature() -> None:
    single = [Interval(v, v - 0.01, v + 0.02) for v in (0.5, 0.52, 0.54)]
    noise = stats.t.ppf(0.975, 2) * 0.02 / np.sqrt(3)
    expected = (0.52, 0.52 - np.hypot(noise, 0.01), 0.52 + np.hypot(noise, 0.02))
    assert statistics.mean_of_seeds(single) == pytest.approx(expected)
    assert statistics.mean_of_seeds(single[:1]) == pytest.approx(single[0])


def test_permutation_of_shares_equals_signs_drawn_image_by_image() -> None:
    random = np.random.default_rng(6)
    first, second = random.integers(0, 5, 60) / 4, random.integers(0, 5, 60) / 4
    difference = first - second
    signs = random.choice([-1.0, 1.0], (20_000, 60))
    naive = (np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12).mean()
    assert statistics.permutation(first, second, seed=0) == pytest.approx(naive, abs=0.015)


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9, 0.001, 0.6]) == pytest.approx([1.0, 1.0, 0.004, 1.0])
    assert statistics.holm([]) == []


PRECISIONS = {(1, 0, 1, 0): 0.848485, (0, 1): 0.5, (1, 1, 0, 0): 1.0, (0, 0, 1): 0.333333}


@pytest.mark.parametrize("ranked", PRECISIONS)
def test_eleven_point_precision_gives_the_printed_values(ranked: tuple[int, ...]) -> None:
    scores = -np.arange(len(ranked), dtype=float)
    assert statistics.average_precision(scores, np.array(ranked)) == pytest.approx(
        PRECISIONS[ranked], abs=1e-6
    )


def test_difficult_objects_are_ignored_and_equal_scores_rank_by_index() -> None:
    relevant = np.array([-1, 1, -1, 0, 1, 0])
    assert statistics.average_precision(-np.arange(6.0), relevant) == pytest.approx(0.848485, abs=1e-6)
    assert statistics.average_precision(np.zeros(4), np.array([1, 0, 1, 0])) == pytest.approx(
        0.848485, abs=1e-6
    )


def test_eleven_points_equal_the_definition() -> None:
    random = np.random.default_rng(7)
    for _ in range(20):
        scores, relevant = random.random(40), (random.random(40) < 0.3).astype(int)
        if not relevant.any():
            continue
        hits = relevant[np.argsort(-scores)]
        precision, recall = hits.cumsum() / np.arange(1, 41), hits.cumsum() / hits.sum()
        points = [max(precision[recall >= r / 10 - 1e-12], default=0.0) for r in range(11)]
        assert statistics.average_precision(scores, relevant) == pytest.approx(np.mean(points))


def test_the_bootstrap_of_precision_repeats_images() -> None:
    random = np.random.default_rng(8)
    scores, tags = random.random((60, 3)), (random.random((60, 3)) < 0.4).astype(int)
    tags[:5, 0] = -1
    value, low, high = statistics.bootstrap_mean_precision(scores, tags, seed=0, draws=400)
    assert value == pytest.approx(
        np.mean([statistics.average_precision(scores[:, c], tags[:, c]) for c in range(3)])
    )
    assert low < value < high
    drawn = []
    for _ in range(400):
        pick = random.integers(0, 60, 60)
        drawn.append(
            np.mean([statistics.average_precision(scores[pick, c], tags[pick, c]) for c in range(3)])
        )
    shift = value - np.mean(drawn)
    assert shift < 0
    expected = np.percentile(drawn, [2.5, 97.5]) + np.array([2 * shift, shift])
    assert (low, high) == pytest.approx(tuple(expected), abs=0.03)


def share_covered(intervals: list[Interval], truth: float) -> float:
    assert all(low <= value <= high for value, low, high in intervals)
    return float(np.mean([low <= truth <= high for _, low, high in intervals]))


@pytest.mark.parametrize("each", [1, 2, 5, 60])
@pytest.mark.parametrize(("lowest", "highest"), [(0.4, 0.9), (0.9, 0.99)])
def test_balanced_accuracy_of_small_classes_is_covered(each: int, lowest: float, highest: float) -> None:
    random = np.random.default_rng(each)
    chance = np.linspace(lowest, highest, 12)
    labels = np.repeat(np.arange(12), each)
    found = [
        statistics.bootstrap_balanced(random.random(len(labels)) < chance[labels], labels, trial, 500)
        for trial in range(400)
    ]
    assert all(0 <= low < high <= 1 for _, low, high in found)
    assert share_covered(found, float(chance.mean())) >= 0.92


@pytest.mark.parametrize("each", [1, 2, 5, 60])
def test_a_balanced_difference_of_small_classes_is_covered(each: int) -> None:
    random = np.random.default_rng(10 + each)
    win, loss = np.linspace(0.1, 0.4, 12), np.linspace(0.3, 0.1, 12)
    labels = np.repeat(np.arange(12), each)
    found = []
    for trial in range(400):
        u = random.random(len(labels))
        first = u < win[labels]
        second = ~first & (u < (win + loss)[labels])
        found.append(statistics.bootstrap_difference(first, second, trial, labels, 500))
    assert all(-1 <= low < high <= 1 for _, low, high in found)
    assert share_covered(found, float((win - loss).mean())) >= 0.92


def test_a_difference_is_covered_as_it_should_be() -> None:
    random, found = np.random.default_rng(20), []
    for trial in range(500):
        u = random.random(200)
        found.append(statistics.bootstrap_difference(u < 0.2, (u > 0.1) & (u < 0.25), trial, draws=500))
    assert 0.92 <= share_covered(found, 0.05) <= 0.98


def test_where_all_is_right_the_interval_is_wilson_s() -> None:
    labels = np.repeat(np.arange(4), 5)
    right = np.ones(20, bool)
    assert statistics.bootstrap_balanced(right, labels, 0) == pytest.approx(statistics.wilson(20, 20))
    assert statistics.bootstrap_balanced(~right, labels, 0) == pytest.approx(statistics.wilson(0, 20))
    value, low, high = statistics.bootstrap_difference(right, right, 0, labels)
    assert low < value == 0 < high
    assert low == pytest.approx(-high)
    uneven = np.array([0, 1, 1, 1, 1])
    low = statistics.bootstrap_balanced(np.ones(5, bool), uneven, 0).low
    assert low == pytest.approx(1 - statistics.Z**2 / (4 / 1.25 + statistics.Z**2))


def test_one_class_of_one_image_varies_as_an_image_of_any_class() -> None:
    labels, correct = np.array([0] * 40 + [1]), np.array([True] * 20 + [False] * 20 + [True])
    _, low, high = statistics.bootstrap_balanced(correct, labels, 0)
    assert low < 0.5
    assert high == 1


def test_a_bootstrapped_mean_is_covered_as_it_should_be() -> None:
    random = np.random.default_rng(21)
    found = [statistics.bootstrap_mean(random.random(60) ** 2, trial, 500) for trial in range(500)]
    assert 0.92 <= share_covered(found, 1 / 3) <= 0.98


def test_the_mean_of_seeds_is_covered_as_it_should_be() -> None:
    random, found = np.random.default_rng(22), []
    for _ in range(2000):
        of_images = random.normal(0, 0.01)
        values = 0.6 + of_images + random.normal(0, 0.02, 3)
        found.append(statistics.mean_of_seeds([Interval(v, v - 0.0196, v + 0.0196) for v in values]))
    assert 0.94 <= share_covered(found, 0.6) <= 0.99


def test_mean_precision_is_covered_as_it_should_be() -> None:
    random = np.random.default_rng(23)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        tags = (random.random((n, 4)) < 0.3).astype(int)
        return tags + random.normal(0, 0.8, (n, 4)), tags

    scores, tags = drawn(200_000)
    truth = float(np.mean([statistics.average_precision(scores[:, c], tags[:, c]) for c in range(4)]))
    found = [statistics.bootstrap_mean_precision(*drawn(300), trial, 150) for trial in range(150)]
    assert share_covered(found, truth) >= 0.91


@pytest.mark.slow
@pytest.mark.parametrize("balanced", [False, True])
def test_a_difference_over_draws_is_covered_with_noise_of_images_and_of_draws(
    balanced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four draws of labels, each better or worse for all images; an image that is hard is so in all of them."""
    monkeypatch.setattr(
        _repeats, "permutation", lambda *rest: 0.5
    )  # takes most of the time, and no part in it
    random, found = np.random.default_rng(26), []
    labels = np.repeat([0, 1], [60, 140]) if balanced else None
    for trial in range(200):
        hard, of_draws = random.random(200), random.normal(0, 0.04, (2, 4, 1))
        mine, other = (
            (0.7 * hard + 0.3 * random.random((4, 200))) < share + effect
            for share, effect in zip((0.6, 0.5), of_draws, strict=True)
        )
        found.append(_repeats._compare(mine, other, trial, labels)[0])
    shares = (0.7 * random.random(2_000_000) + 0.3 * random.random(2_000_000))[:, None] < [0.6, 0.5]
    truth = float(shares[:, 0].mean() - shares[:, 1].mean())
    assert 0.92 <= share_covered(found, truth) <= 0.995


def test_a_tag_that_no_image_shows_does_not_count() -> None:
    random = np.random.default_rng(24)
    scores, tags = random.random((50, 3)), (random.random((50, 3)) < 0.4).astype(int)
    tags[:, 1] = 0
    without = statistics.bootstrap_mean_precision(scores[:, [0, 2]], tags[:, [0, 2]], 0, 100)
    assert statistics.bootstrap_mean_precision(scores, tags, 0, 100) == pytest.approx(without)
    rare = np.zeros((50, 1), int)
    rare[7] = 1
    low = statistics.bootstrap_mean_precision(rare + 0.1 * scores[:, :1], rare, 0, 100).low
    assert low == 1  # not 0 in the resamples that leave the one image out


def test_student_s_test_of_draws_is_scipy_s() -> None:
    values = np.array([0.02, 0.05, -0.01, 0.04])
    assert statistics.t_test(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert statistics.t_test(np.full(3, 0.125)) == 0
    assert statistics.t_test(np.zeros(3)) == 1


def test_the_jackknife_of_a_mean_is_student_s_of_the_blocks() -> None:
    values = np.random.default_rng(25).random(100)
    value, low, high = statistics.jackknife(lambda places: float(values[places].mean()), 100, seed=3)
    blocks = values[np.random.default_rng(3).permutation(100)].reshape(5, 20).mean(0)
    half = stats.t.ppf(0.975, 19) * blocks.std(ddof=1) / np.sqrt(20)
    assert (value, low, high) == pytest.approx((values.mean(), values.mean() - half, values.mean() + half))
    ends = statistics.jackknife(
        lambda places: float(values[places].mean()), 100, 3, value - 1e-3, value + 1e-3
    )
    assert ends == pytest.approx((value, value - 1e-3, value + 1e-3))
