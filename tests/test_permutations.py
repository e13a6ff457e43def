"""Permutation sets against the figures of the specification (3.3)."""

import numpy as np
import pytest

from nolabel.errors import UsageError
from nolabel.methods._permutations import distances, mean_ceiling, permutation_set


@pytest.mark.parametrize(("count", "least", "mean"), [(24, 7, 8.3152), (64, 7, 8.10), (100, 6, 8.07)])
def test_orders_of_nine_tiles_lie_as_far_apart_as_greedy_choice_can_put_them(
    count: int, least: int, mean: float
) -> None:
    apart = distances(permutation_set(9, count))
    assert apart.min() >= least
    assert apart.mean() >= mean - 1e-3
    assert apart.mean() <= mean_ceiling(9, count) + 1e-9


def test_the_papers_rule_reaches_the_ceiling_of_the_mean() -> None:
    assert distances(permutation_set(9, 100, "mean")).mean() == pytest.approx(mean_ceiling(9, 100), abs=1e-3)


@pytest.mark.parametrize(
    ("count", "ceiling"), [(24, 8.3152), (64, 8.125), (72, 8.1127), (100, 8.08), (1000, 8.008)]
)
def test_the_ceiling_has_the_published_values(count: int, ceiling: float) -> None:
    assert mean_ceiling(9, count) == pytest.approx(ceiling, abs=5e-5)


def test_all_orders_of_four_tiles_are_the_24_with_the_known_distances() -> None:
    chosen = permutation_set(4, 24)
    assert len(np.unique(chosen, axis=0)) == 24
    assert distances(chosen).min() == 2
    assert distances(chosen).mean() == pytest.approx(3.1304, abs=1e-4)


def test_sets_are_repeatable_distinct_permutations_without_the_identity() -> None:
    chosen = permutation_set(9, 50)
    assert (chosen == permutation_set(9, 50)).all()
    assert len(np.unique(chosen, axis=0)) == 50
    assert (np.sort(chosen, 1) == np.arange(9)).all()
    assert not (chosen == np.arange(9)).all(1).any()


def test_more_orders_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match="25 permutations of 4 tiles"):
        permutation_set(4, 25)
