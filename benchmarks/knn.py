"""Nearest neighbours per second: `neighbours` against faiss-cpu's exact index, same threads, same float32 rows.

Both give the k rows of a bank of 50,000 × 512 of the largest cosines, and both start from rows of any length: ours
normalises them, and so must who asks faiss, whose index is then filled. Two banks: Gaussian rows, and rows with the
decaying spectrum and common mean that pooled features have.
"""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.pairs import Row, compare
from nolabel.evaluation.knn import neighbours
from nolabel.memory import keep_freed
from nolabel.seeds import generator

BANK, QUERIES, VALUES = 50_000, 2_048, 512


def gaussian(n: int, purpose: str) -> Tensor:
    return torch.randn(n, VALUES, generator=generator(0, purpose))


def like_features(n: int, purpose: str) -> Tensor:
    """Rectified mixtures of 64 directions whose weights fall as 1 / rank, plus a little noise."""
    mixing = torch.randn(64, VALUES, generator=generator(0, "mixing")) / torch.arange(1, 65)[:, None]
    latent = torch.randn(n, 64, generator=generator(0, purpose))
    return (latent @ mixing + 0.05 * gaussian(n, f"{purpose} noise")).relu()


def faiss_search(bank: Tensor, queries: Tensor, k: int) -> Callable[[], int]:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())

    def work() -> int:
        index = faiss.IndexFlatIP(VALUES)
        index.add(F.normalize(bank, dim=1).numpy())
        index.search(F.normalize(queries, dim=1).numpy(), k)
        return len(queries)

    return work


def rows(pairs: int) -> Iterator[Row]:
    """The comparisons, each when it is done."""
    keep_freed()
    for kind in (gaussian, like_features):
        bank, queries = kind(BANK, "bank"), kind(QUERIES, "queries")
        for k in (20, 200):

            def ours(k: int = k, bank: Tensor = bank, queries: Tensor = queries) -> int:
                return len(neighbours(queries, bank, k)[0])

            name = f"{k} nearest of {BANK:,} × {VALUES}, {kind.__name__.replace('_', ' ')}"
            theirs = ("faiss IndexFlatIP", faiss_search(bank, queries, k))
            yield compare(name, ("nolabel", ours), theirs, pairs=pairs, unit="queries/s")
