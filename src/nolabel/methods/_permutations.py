"""Sets of permutations that lie far apart (Noroozi and Favaro, ECCV 2016, section 4.2)."""

import math
from functools import lru_cache
from itertools import permutations
from typing import Literal

import numpy as np

from nolabel.errors import UsageError

MOST_TILES = 9
SMALLEST = 2
"""places in which two permutations differ at least"""
Criterion = Literal["min_then_mean", "mean", "middle", "min", "random", "algebraic"]
TieBreak = Literal["random", "first"]


@lru_cache(maxsize=8)
def permutation_set(
    tiles: int,
    count: int,
    criterion: Criterion = "min_then_mean",
    identity: bool = False,
    seed: int = 0,
    least: int = 0,
    tie_break: TieBreak = "random",
) -> np.ndarray:
    """`count` permutations of `tiles` places, int64 (count, tiles), the same for the same arguments.

    Chosen one after another: of all that are left, the one whose smallest (then mean) Hamming distance to those chosen
    is largest; `mean`: the paper's rule, by the mean distance alone; `middle` and `min`: its ablation's, whose mean
    distance is nearest the median, or smallest; `random`: any; `algebraic`: as the first, but from a group whose
    elements all differ in as many places as so many can (see `_groups`).

    Args:
        identity: whether the permutation that moves nothing may be among them; it always is where all are asked for.
        least: the smallest distance that two of them may have.
        tie_break: which of several that are equally good: a drawn one, or the first in lexicographic order.

    Raises:
        UsageError: more permutations than there are, than the groups have, or than were found at distance `least`.
    """
    available = math.factorial(tiles)
    if not 2 <= count <= available or tiles > MOST_TILES:
        raise UsageError(f"{count} permutations of {tiles} tiles cannot be had: ask for 2 to {available:,}.")
    draw = np.random.default_rng(seed)
    if criterion == "algebraic" and count < available:
        candidates = _group_of(tiles, count)
        while not identity and (candidates == np.arange(tiles)).all(1).any():
            candidates = draw.permutation(tiles).astype(np.int8)[candidates]
        return _one_by_one(candidates, count, "min_then_mean", draw, least, tie_break)
    everything = np.array(list(permutations(range(tiles))), dtype=np.int8)
    if count == available and least <= SMALLEST:
        return everything.astype(np.int64)
    candidates = everything if identity else everything[1:]
    if criterion == "random" and least <= SMALLEST:
        return candidates[draw.choice(len(candidates), count, replace=False)].astype(np.int64)
    return _one_by_one(candidates, count, criterion, draw, least, tie_break)


def _one_by_one(
    candidates: np.ndarray,
    count: int,
    criterion: Criterion,
    draw: np.random.Generator,
    least: int,
    tie_break: TieBreak,
) -> np.ndarray:
    """`count` of the candidates (M, n), the first at random, the others each the best beside those before."""
    tiles = candidates.shape[1]
    chosen = [int(draw.integers(len(candidates)))]
    nearest = np.full(len(candidates), tiles, dtype=np.int64)
    total = np.zeros(len(candidates), dtype=np.int64)
    while len(chosen) < count:
        distance = (candidates != candidates[chosen[-1]]).sum(1)
        np.minimum(nearest, distance, out=nearest)
        total += distance
        left = nearest >= max(1, least)
        if not left.any():
            raise UsageError(
                f"{len(chosen)} of {count} permutations of {tiles} tiles were found that differ in {least} places or "
                "more: ask for fewer, or for a smaller least distance (--min-hamming)."
            )
        if criterion == "random":
            score = np.zeros(len(total))
        elif criterion == "middle":
            score = -np.abs(total - np.median(total[left]))
        elif criterion == "min":
            score = -total
        else:
            score = total if criterion == "mean" else nearest * (tiles * count) + total
        score = np.where(left, score, -np.inf)
        best = np.flatnonzero(score == score.max())
        first = tie_break == "first" and criterion != "random"
        chosen.append(int(best[0] if first else draw.choice(best)))
    return candidates[chosen].astype(np.int64)


def distances(chosen: np.ndarray) -> np.ndarray:
    """Hamming distances of all pairs of permutations (K, n): int64 (K (K - 1) / 2,)."""
    first, second = np.triu_indices(len(chosen), 1)
    return (chosen[first] != chosen[second]).sum(1)


def mean_ceiling(tiles: int, count: int) -> float:
    """The largest mean distance that `count` permutations can have: symbols spread evenly over every place."""
    q, r = divmod(count, tiles)
    agreeing = r * math.comb(q + 1, 2) + (tiles - r) * math.comb(q, 2)
    return tiles - tiles * agreeing / math.comb(count, 2)


def least_ceiling(tiles: int, count: int) -> int:
    """The largest smallest distance that `count` permutations can have: K <= n! / (d - 1)!."""
    return max(d for d in range(1, tiles + 1) if count <= math.factorial(tiles) // math.factorial(d - 1))


def _group_of(tiles: int, count: int) -> np.ndarray:
    """All elements, int8 (size, tiles), of the smallest of `_groups` that has `count`; sorted."""
    groups = _groups(tiles)
    if not groups or count > max(groups):
        most = f"at most {max(groups):,} permutations" if groups else "none"
        raise UsageError(
            f"{count} algebraic permutations of {tiles} tiles are not known ({most}): choose another criterion."
        )
    generators = groups[min(size for size in groups if size >= count)]
    found = edge = {tuple(range(tiles))}
    while edge:
        edge = {tuple(g[i] for i in element) for element in edge for g in generators} - found
        found = found | edge
    return np.array(sorted(found), dtype=np.int8)


def _groups(tiles: int) -> dict[int, list[list[int]]]:
    """Size of a group of permutations -> its generators.

    Of nine: cyclic shifts (all 9 places differ), x -> a x + b over the field of 9 elements (72, at least 8 differ), the
    fractional linear maps of the field of 8 elements and infinity (504, 7), and those with squaring (1512, 6). Of four:
    cyclic shifts (4) and the even permutations (12, 3).
    """
    if tiles == 4:
        return {4: [[1, 2, 3, 0]], 12: [[1, 2, 0, 3], [0, 2, 3, 1]]}
    if tiles != 9:
        return {}
    nine = [(a, b) for a in range(3) for b in range(3)]  # a + b i with i i = -1
    affine = [
        [3 * ((a + 1) % 3) + b for a, b in nine],
        [3 * ((a - b) % 3) + (a + b) % 3 for a, b in nine],  # times 1 + i, of which all but 0 are powers
    ]
    power, logarithm = [1], {1: 0}  # of x in the field of 8 elements, bits of polynomials with x x x = x + 1
    while len(power) < 7:
        doubled = power[-1] << 1
        logarithm[doubled ^ 0b1011 if doubled & 8 else doubled] = len(power)
        power.append(doubled ^ 0b1011 if doubled & 8 else doubled)
    infinity = 8
    shift = [x ^ 1 for x in range(8)] + [infinity]
    times = [0, *(power[(logarithm[x] + 1) % 7] for x in range(1, 8)), infinity]
    inverse = [infinity, *(power[-logarithm[x] % 7] for x in range(1, 8)), 0]
    square = [0, *(power[2 * logarithm[x] % 7] for x in range(1, 8)), infinity]
    fractional = [shift, times, inverse]
    return {9: [[(i + 1) % 9 for i in range(9)]], 72: affine, 504: fractional, 1512: [*fractional, square]}
