"""Retrieval: each test image asks for images of its class; recall@k, mean average precision, R-precision.

Cosine similarity (specs 9.10). The gallery is the training images, or the other test images. Of equal
similarities the images of other classes rank first, so features that are all alike gain nothing by luck.
AP = (1/R) Σ over the R relevant images of the precision at their ranks; all of the gallery is ranked.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.evaluation._as_results import as_results
from nolabel.evaluation._ranges import COUNT, hold
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features, Protocol, Result
from nolabel.evaluation.statistics import bootstrap_mean, wilson
from nolabel.seeds import derive, generator

BLOCK = 20_000_000
"""similarities held at once"""


@dataclass(frozen=True)
class RetrievalOptions:
    """Who asks, whom, and for how many."""

    k: tuple[int, ...] = (1, 5, 10)
    """numbers of images that recall looks at; one beyond the gallery is cut to it"""
    gallery: Literal["train", "test"] = "train"
    """where the answers come from; "test": the other test images"""
    queries: int = 2000
    """at most so many test images ask, drawn with the seed"""
    stage: str | None = None
    """None: the pooled vector"""

    def __post_init__(self) -> None:
        hold(self, k=COUNT, queries=COUNT)


class Retrieval(Protocol):
    """See the module."""

    Options = RetrievalOptions
    options: RetrievalOptions
    protocol: ClassVar[str] = "retrieval"

    def check(self, store: ImageStore, division: Division) -> None:
        """DataError: among the test images as gallery, none has another one of its class."""
        if self.options.gallery == "test" and int(store.labels[division.test].bincount().max()) < 2:
            raise DataError(
                "No test image has another test image of its class to find: give more test images of each class, "
                "or take the training images as the gallery."
            )

    def run(self, subject: Features, seed: int) -> list[Result]:
        """recall@k with Wilson's interval; mAP and R-precision with a bootstrap over the queries.

        Raises:
            RunError: features that are not finite.
        """
        options, stage = self.options, subject.chosen(self.options.stage)
        own = options.gallery == "test"
        bank = subject.test if own else subject.train
        labels = subject.labels[subject.test]
        answered = subject.labels[bank].bincount(minlength=len(subject.class_names))[labels] > own
        order = torch.randperm(len(subject.test), generator=generator(seed, "evaluate", self.protocol))
        order = order[answered[order]][: options.queries]
        gallery = subject.stage(stage, bank).float()
        asked = gallery[order] if own else subject.stage(stage, subject.test[order]).float()
        found = rank(
            asked,
            gallery,
            labels[order].to(gallery.device),
            subject.labels[bank].to(gallery.device),
            order.to(gallery.device) if own else None,
        )
        draw, n = derive(seed, "evaluate", self.protocol, "bootstrap"), len(order)
        values = {
            f"recall@{k}": wilson(int((found.first <= k).sum()), n)
            for k in sorted({min(k, len(bank) - own) for k in options.k})
        }
        values["map"] = bootstrap_mean(found.precision.cpu().numpy(), draw)
        values["r_precision"] = bootstrap_mean(found.r_precision.cpu().numpy(), draw)
        setting = {
            "stage": stage,
            "gallery": f"{len(bank) - own:,} {'other test' if own else 'training'} images",
            "similarity": "cosine",
            "unanswerable": int((~answered).sum()),
        }
        return as_results(subject, self.protocol, values, n, setting)


@dataclass(frozen=True)
class Ranks:
    """Where each of n queries found the images of its class."""

    first: Tensor
    """int64 (n,), rank of the first one, from 1; beyond the gallery where there is none"""
    precision: Tensor
    """float64 (n,), average precision over the whole ranking"""
    r_precision: Tensor
    """float64 (n,), share of relevant images among the first R"""
    relevant: Tensor
    """int64 (n,), R: images of the query's class in the gallery, itself left out"""


def rank(
    queries: Tensor, gallery: Tensor, query_labels: Tensor, labels: Tensor, own: Tensor | None = None
) -> Ranks:
    """Rank the rows of `gallery` (m, D) by cosine for each of `queries` (n, D).

    The ranks of the relevant images follow from two sorted lists, theirs and the others': a relevant image
    comes after the relevant ones above it and after the others at its similarity or higher.

    Args:
        query_labels, labels: int64 (n,) and (m,).
        own: int64 (n,), the query's own row in the gallery, which is left out; None: it is not there.
    """
    queries, gallery = F.normalize(queries, dim=1), F.normalize(gallery, dim=1)
    by_class = labels.argsort(stable=True)
    gallery, labels = gallery[by_class], labels[by_class]
    place = None if own is None else by_class.argsort()[own]
    parts = []
    for c in query_labels.unique().tolist():
        of_class = (query_labels == c).nonzero()[:, 0]
        bounds = torch.searchsorted(labels, torch.tensor([c, c + 1], device=labels.device)).tolist()
        for at in of_class.split(max(1, BLOCK // len(gallery))):
            similarity = queries[at] @ gallery.T
            if place is not None:
                similarity.scatter_(1, place[at, None], -torch.inf)
            parts.append((at, *_ranks(similarity, *bounds)))
    order = torch.cat([part[0] for part in parts]).argsort()
    first, precision, r_precision, relevant = (
        torch.cat(column)[order] for column in list(zip(*parts, strict=True))[1:]
    )
    return Ranks(first, precision, r_precision, relevant)


def _ranks(similarity: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First rank, AP, R-precision and R of queries whose relevant images are the columns `start` to `stop`."""
    relevant = _sorted(similarity[:, start:stop]).flip(1)
    others = _sorted(torch.cat([similarity[:, :start], similarity[:, stop:]], 1))
    above = others.shape[1] - torch.searchsorted(others, relevant, right=False)
    count = torch.arange(1, relevant.shape[1] + 1, device=similarity.device)
    real = relevant > -torch.inf
    r = real.sum(1)
    ranks = torch.where(real, count + above, similarity.shape[1] + 1)
    precision = torch.where(real, count / ranks.double(), 0.0).sum(1) / r.clamp_min(1)
    r_precision = (ranks <= r[:, None]).sum(1).double() / r.clamp_min(1)
    first = ranks[:, 0] if ranks.shape[1] else torch.full_like(r, similarity.shape[1] + 1)
    return first, precision, r_precision, r


def _sorted(rows: Tensor) -> Tensor:
    """Each row from small to large; NumPy's vectorised sort is eight times torch's on a CPU."""
    if rows.device.type == "cpu":
        return torch.from_numpy(np.sort(rows.numpy(), axis=1))
    return rows.sort(dim=1).values


def nearest(subject: Features, query: int, k: int = 4, stage: str | None = None) -> tuple[Tensor, Tensor]:
    """The k training images most like image `query` of the store: (indices in the store, cosines).

    What the lecture's figure shows: the same query for several encoders, a column each
    (`report.columns.columns_figure` draws it).
    """
    stage = stage or subject.whole
    bank = subject.train[subject.train != query]
    vectors = F.normalize(subject.stage(stage, torch.cat([torch.tensor([query]), bank])).float(), dim=1)
    cosines, at = (vectors[1:] @ vectors[0]).topk(min(k, len(bank)))
    return bank[at.cpu()], cosines
