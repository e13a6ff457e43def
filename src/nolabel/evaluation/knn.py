"""k nearest neighbours: a weighted vote of the training images whose features are closest by cosine.

Wu, Xiong, Yu, Lin 2018 (section 3.4): class score = Σ exp(S/τ) over the k nearest. k and τ are chosen on a
validation part of the training images (the first of each where no class has an image to spare); the winner
votes with all of them. Equal scores go to the class of lower index.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor

from nolabel.evaluation import _accuracy, _largest
from nolabel.evaluation._ranges import COUNT, POSITIVE, hold
from nolabel.evaluation.base import Features, Protocol, Result
from nolabel.seeds import generator

VALIDATION_SHARE = 0.2
MOST_VALIDATION = 2000
QUERIES = 1024
"""rows that are searched together"""
MOST_SIMILARITIES = 100_000_000
"""in memory at once, 400 MB"""
_Found = tuple[Tensor, Tensor]
BLOCK = 2048
"""rows of the bank whose similarities are computed together"""
GROUP, GROUPS = 16, 128
"""without compiled code: of every 16 rows of a block, 128 apart, the largest similarity stands for all at first"""


@dataclass(frozen=True)
class KNNOptions:
    """What is tried on the validation part."""

    k: tuple[int, ...] = (1, 5, 20, 200)
    """numbers of neighbours; one beyond the number of training images is cut to it"""
    temperature: tuple[float, ...] = (0.07, 0.1, 0.2, 0.5)
    """τ: small ones let the nearest neighbours dominate"""
    stage: str | None = None
    """None: the pooled vector"""

    def __post_init__(self) -> None:
        hold(self, k=COUNT, temperature=POSITIVE)


class KNN(Protocol):
    """See the module."""

    Options = KNNOptions
    options: KNNOptions
    protocol: ClassVar[str] = "knn"

    def run(self, subject: Features, seed: int) -> list[Result]:
        """Top-1, balanced accuracy (and top-5 where classes are many) on the test images.

        Raises:
            RunError: features that are not finite.
        """
        stage = subject.chosen(self.options.stage)
        images, classes = len(subject.train), len(subject.class_names)
        x = subject.stage(stage, torch.cat([subject.train, subject.test])).float()
        F.normalize(x, dim=1, out=x)  # in place: of 60,000 images 3,072 values each are 737 MB
        bank, queries = x[:images], x[images:]
        labels = subject.labels[subject.train].to(x.device)
        k, temperature, validation = self.choose(bank, labels, classes, self._held(subject, seed))
        similarity, nearest = _nearest(queries, bank, k)
        scores = votes(similarity, labels[nearest], classes, temperature)
        chosen = {"k": k, "temperature": temperature, "stage": stage, **validation}
        setting = {"similarity": "cosine", "values": x.shape[1], "train_images": images}
        return _accuracy.results(subject, self.protocol, scores, seed, chosen, setting)

    def _held(self, subject: Features, seed: int) -> Tensor:
        """The validation images of the data, else a stratified part of the training images, at most 2,000."""
        share = min(VALIDATION_SHARE, MOST_VALIDATION / len(subject.train))
        return subject.choice_part(share, generator(seed, "evaluate", self.protocol, "choice"))

    def choose(
        self, bank: Tensor, labels: Tensor, classes: int, held: Tensor
    ) -> tuple[int, float, dict[str, float | None]]:
        """(k, τ, accuracies) of the best pair on the part `held`, bool (n,), of the bank (rows of length 1).

        The best is that of the largest `validation`, the share that is right; `validation_balanced` is its mean over
        classes. The smallest k, the first τ and None where no class has an image to spare.
        """
        held = held.to(bank.device)
        ks = sorted({min(k, int((~held).sum())) for k in self.options.k})
        if not held.any():
            return ks[0], self.options.temperature[0], {"validation": None, "validation_balanced": None}
        similarity, nearest = _nearest(bank[held], bank[~held], ks[-1])
        of_nearest, wanted = labels[~held][nearest], labels[held]
        found = {
            (k, t): votes(similarity[:, :k], of_nearest[:, :k], classes, t).argmax(1) == wanted
            for k in ks
            for t in self.options.temperature
        }
        k, temperature = max(found, key=lambda pair: _accuracy.share(found[pair], wanted))
        right = found[k, temperature]
        shares: dict[str, float | None] = {"validation": _accuracy.share(right, wanted)}
        shares["validation_balanced"] = _accuracy.share(right, wanted, "balanced")
        return k, temperature, shares


def neighbours(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Cosines and indices of the k rows of `bank` (m, D) nearest to each of `queries` (n, D), nearest first.

    Exact. On a processor each core takes queries of its own, so that none waits for another. k ≤ m; of equal cosines
    any may come first.
    """
    return _nearest(F.normalize(queries, dim=1), F.normalize(bank, dim=1), k)


def _nearest(queries: Tensor, bank: Tensor, k: int) -> _Found:
    """As `neighbours`, of rows of length 1."""
    threads = torch.get_num_threads() if queries.device.type == "cpu" else 1
    rows = min(QUERIES, max(1, MOST_SIMILARITIES // (threads * len(bank))))
    parts = _one_a_core(lambda part: _search(part, bank, k), queries.split(rows), threads)
    return torch.cat([values for values, _ in parts]), torch.cat([indices for _, indices in parts])


def _one_a_core(work: Callable[[Tensor], _Found], parts: Sequence[Tensor], threads: int) -> list[_Found]:
    """`work` on every part, on so many cores at once, each with one thread."""
    if threads == 1 or len(parts) == 1:
        return [work(part) for part in parts]
    try:
        with (
            threadpool_limits(1, user_api="blas"),
            ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        ):
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(threads)


def _search(queries: Tensor, bank: Tensor, k: int) -> _Found:
    """As `neighbours`, of few rows of unit length."""
    return (
        _compiled_search(queries, bank, k)
        if _largest.usable(queries.device)
        else _plain_search(queries, bank, k)
    )


def _compiled_search(queries: Tensor, bank: Tensor, k: int) -> _Found:
    """The similarities of a block lie in the cache while those above the row's k-th largest so far are picked."""
    best, block = _largest.Largest(len(queries), k), queries.new_empty(len(queries) * BLOCK)
    for b, part in enumerate(bank.split(BLOCK)):
        similarity = block[: len(queries) * len(part)].view(len(queries), len(part))
        _product(queries, part, similarity)
        best.add(similarity, b * BLOCK)
    return best.found()


def _plain_search(queries: Tensor, bank: Tensor, k: int) -> _Found:
    """The k largest of a row lie in the k groups of 16 whose maxima are largest, so only those are sorted."""
    block = GROUP * GROUPS
    similarity = queries.new_empty((-(-len(bank) // block), len(queries), block))
    similarity[-1] = -torch.inf
    best = queries.new_empty((len(queries), len(similarity), GROUPS))
    for b, part in enumerate(bank.split(block)):
        _product(queries, part, similarity[b, :, : len(part)])
        torch.amax(similarity[b].unflatten(1, (GROUP, GROUPS)), 1, out=best[:, b])
    return _largest_of(similarity, best.flatten(1), k)


def _product(rows: Tensor, part: Tensor, out: Tensor) -> None:
    """`rows` times `part` transposed, into `out`; on a processor numpy's product was measured to be the faster one."""
    if out.device.type == "cpu":
        np.matmul(rows.numpy(), part.numpy().T, out=out.numpy())
    else:
        torch.mm(rows, part.T, out=out)


def _largest_of(similarity: Tensor, best: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their places in the bank, from (blocks, n, block) and the groups' maxima."""
    _, n, block = similarity.shape
    if best.shape[1] <= 2 * k:
        return similarity.transpose(0, 1).reshape(n, -1).topk(k, dim=1)
    top = best.topk(k, dim=1, sorted=False).indices
    members = GROUPS * torch.arange(GROUP, device=best.device)
    of_block = ((top % GROUPS)[:, :, None] + members).flatten(1)
    in_block = (top // GROUPS).repeat_interleave(GROUP, dim=1)
    queries = torch.arange(n, device=best.device)[:, None]
    values, at = similarity[in_block, queries, of_block].topk(k, dim=1)
    return values, (in_block * block + of_block).gather(1, at)


def votes(similarity: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Class scores (n, classes) from the cosines and labels (both (n, k), nearest first) of the neighbours.

    exp((S − S_max)/τ): the row's maximum is taken off, which changes no order and overflows nowhere. A class without
    a vote has −∞.
    """
    weights = ((similarity - similarity[:, :1]) / temperature).exp()
    scores = torch.full((len(labels), classes), -torch.inf, device=labels.device)
    return scores.scatter_(1, labels, 0.0).scatter_add_(1, labels, weights)


def accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    ks: Sequence[int],
    temperature: float,
) -> dict[int, float]:
    """k -> top-1 accuracy of the vote, k cut to the bank's size."""
    cut = {k: min(k, len(bank)) for k in ks}
    similarity, nearest = neighbours(queries, bank, max(cut.values()))
    classes = int(max(bank_labels.max(), query_labels.max())) + 1
    found = {}
    for k, size in cut.items():
        scores = votes(similarity[:, :size], bank_labels[nearest[:, :size]], classes, temperature)
        found[k] = float((scores.argmax(1) == query_labels).float().mean())
    return found
