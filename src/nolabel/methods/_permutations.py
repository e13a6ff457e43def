"""Sets of permutations that lie far apart (Noroozi and Favaro, ECCV 2016, section 4.2)."""

import math
from functools import lru_cache
from itertools import permutations
from typing import Literal

import numpy as np

from nolabel.errors import UsageError

MOST_TILES = 9


@lru_cache(maxsize=8)
def permutation_set(
    tiles: int,
    count: int,
    criterion: Literal["min_then_mean", "mean", "random"] = "min_then_mean",
    identity: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """`count` permutations of `tiles` places, int64 (count, tiles), the same for the same arguments.

    Chosen one after another: of all that are left, the one whose smallest (then mean) Hamming distance to those chosen
    is largest; `mean`: the paper's rule, by the mean distance alone; `random`: any. Ties are drawn.

    Args:
        identity: whether the permutation that moves nothing may be among them; it always is where all are asked for.

    Raises:
        UsageError: more permutations than there are.
    """
    available = math.factorial(tiles)
    if not 2 <= count <= available or tiles > MOST_TILES:
        raise UsageError(f"{count} permutations of {tiles} tiles cannot be had: ask for 2 to {available:,}.")
    everything = np.array(list(permutations(range(tiles))), dtype=np.int8)
    if count == available:
        return everything.astype(np.int64)
    candidates = everything if identity else everything[1:]
    draw = np.random.default_rng(seed)
    if criterion == "random":
        return candidates[draw.choice(len(candidates), count, replace=False)].astype(np.int64)
    chosen = [int(draw.integers(len(candidates)))]
    nearest = np.full(len(candidates), tiles, dtype=np.int64)
    total = np.zeros(len(candidates), dtype=np.int64)
    while len(chosen) < count:
        distance = (candidates != candidates[chosen[-1]]).sum(1)
        np.minimum(nearest, distance, out=nearest)
        total += distance
        score = total if criterion == "mean" else nearest * (tiles * count) + total
        score = np.where(nearest == 0, -1, score)
        chosen.append(int(draw.choice(np.flatnonzero(score == score.max()))))
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
