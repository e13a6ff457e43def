"""One-vs-all linear SVM on the maps of all layers together, pooled by maximum over quadrants or a pyramid.

Exemplar-CNN's protocol (Dosovitskiy et al. 2014, section 4.1): the net reads the whole image; each stage's map
gives its maximum over four quadrants (1 + 4 + 16 cells on Caltech). Features lose the training mean and get
unit length; ½‖w‖² + C Σ max(0, 1 − y(w·x + b))² for each class, b free, C by five-fold cross-validation over
the training images; the largest margin wins. The columns of the paper's table are options: `folds` for STL-10;
`enlarge` 2 for CIFAR-10, and `per_class` 400 too for CIFAR-10(400); `per_class` 30, `most_test` 50 and the pyramid
for Caltech-101 (ten draws each).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from nolabel.data import named
from nolabel.data.store import ImageStore
from nolabel.errors import UsageError
from nolabel.evaluation import _accuracy, _few
from nolabel.evaluation._features import storage_type
from nolabel.evaluation._head_training import network_of
from nolabel.evaluation._logistic import Problem, minimise, sweep
from nolabel.evaluation._ranges import COUNT, hold
from nolabel.evaluation._repeats import over_seeds
from nolabel.evaluation._split import Division, stratified
from nolabel.evaluation.base import Features, Protocol, Result, not_finite
from nolabel.evaluation.linear import PATIENCE, ROUGH
from nolabel.seeds import generator
from nolabel.views import plain

CELLS = {"quadrants": (2,), "pyramid": (1, 2, 4)}
"""cells along a side of each level"""
GRID = tuple(10 ** (-6 + k / 2) for k in range(17))
"""C, from 1e-6 to 100"""
UNCHOSEN_C = 1.0
FOLDS = 5
READ = 128
ROWS = 4096


@dataclass(frozen=True)
class SVMOptions:
    """Pooling, and which images."""

    pooling: Literal["quadrants", "pyramid"] = "quadrants"
    """maximum of each map over 4 cells, or over 1 + 4 + 16"""
    enlarge: int = 1
    """times the side at which images are read; the paper: 2 for CIFAR-10"""
    images: int = 10_000
    """training images that C is chosen on"""
    per_class: int | None = None
    """training images of each class; by default all"""
    draws: int = 10
    """of the training images, where `per_class` is given"""
    most_test: int | None = None
    """test images of each class, at most, drawn with the training images; then there is no paired comparison"""
    folds: bool = False
    """train on each of the predefined folds of the data set in turn (STL-10: ten of 1,000 images)"""

    def __post_init__(self) -> None:
        hold(self, enlarge=COUNT, images=COUNT, per_class=COUNT, draws=COUNT, most_test=COUNT)
        if self.folds and self.per_class is not None:
            raise UsageError(
                "The SVM's training images are its folds or drawn per class: give one of the two."
            )


class SVM(Protocol):
    """See the module."""

    Options = SVMOptions
    options: SVMOptions
    protocol: ClassVar[str] = "svm"
    needs = "encoder"

    def check(self, store: ImageStore, division: Division) -> None:
        """DataError: a class with fewer training images than `per_class`, or `folds` that the set does not bring."""
        if self.options.folds:
            named.folds(store.source, store.paths)
        _few.check_each(store, division, () if (each := self.options.per_class) is None else (each,))

    def run(self, subject: Features, seed: int) -> list[Result]:
        """Top-1, balanced accuracy (and top-5 where classes are many), each the mean over the draws.

        Raises:
            RunError: features that are not finite.
        """
        drawn = list(self._draws(subject, seed))
        images = torch.cat([rows for one in drawn for rows in (one.train, one.test)]).unique()
        x = self._read(subject, images)
        return over_seeds([self._fit(one, x, images, seed, len(drawn)) for one in drawn])

    def _draws(self, subject: Features, seed: int) -> Iterator[Features]:
        """`subject` with the training and test images of each draw."""
        options = self.options
        for draw, train in enumerate(self._train(subject, seed)):
            test = subject.test
            if options.most_test is not None:
                random = generator(seed, "evaluate", self.protocol, "test", draw)
                test = test[_few.ranks_in_class(subject.labels[test], random) < options.most_test]
            yield replace(subject, train=train, test=test, validation=None)

    def _train(self, subject: Features, seed: int) -> Sequence[Tensor]:
        """The training images of each draw."""
        options = self.options
        if options.folds:
            store = network_of(subject).store
            return [torch.tensor(fold) for fold in named.folds(store.source, store.paths)]
        if options.per_class is None:
            return [subject.train]
        size = _few.labels_of_each(subject, options.per_class)
        return [_few.round_robin(subject, seed, draw)[:size] for draw in range(options.draws)]

    @torch.no_grad()
    def _read(self, subject: Features, images: Tensor) -> Tensor:
        """Pooled maps of all stages, (n, D)."""
        network, cells = network_of(subject), CELLS[self.options.pooling]
        encoder, size = network.encoder.eval(), network.size * self.options.enlarge
        parts = []
        for done, rows in enumerate(images.split(READ)):
            maps = encoder.maps(plain.whole(network.store.batch(rows), size, torch.channels_last))
            part = torch.cat([cell_maxima(maps[stage], cells) for stage in encoder.stages], 1).float()
            if not bool(part.isfinite().all()):
                raise not_finite(subject.name)
            parts.append(part.to(storage_type(len(images), part.shape[1])))
            network.progress(subject.name, min((done + 1) * READ, len(images)), len(images))
        return torch.cat(parts)

    def _fit(self, subject: Features, x: Tensor, images: Tensor, seed: int, draws: int) -> list[Result]:
        labels, classes = subject.labels[subject.train].to(x.device), len(subject.class_names)
        train = x[torch.searchsorted(images, subject.train).to(x.device)]
        test = x[torch.searchsorted(images, subject.test).to(x.device)]
        scale(train, test)
        c, accuracy = self.choose(train, labels, classes, seed)
        problem = Problem(train, labels, classes, loss="squared_hinge")
        fit, _ = minimise(problem, 1 / (len(train) * c))
        chosen: dict[str, Any] = {"c": c, "validation": accuracy}
        setting = {
            "pooling": f"maximum over {self.options.pooling}, all stages",
            "size": network_of(subject).size * self.options.enlarge,
            "values": x.shape[1],
            "train_images": len(train),
            "draws": draws,
            "folds": self.options.folds,
            "converged": fit.converged,
        }
        rows = _accuracy.results(subject, self.protocol, fit.logits(test), seed, chosen, setting)
        if self.options.most_test is None:
            return rows
        return [replace(row, predictions=None) for row in rows]

    def choose(self, x: Tensor, labels: Tensor, classes: int, seed: int) -> tuple[float, float | None]:
        """(C, accuracy) of the best by five-fold cross-validation on at most `images` rows, small C first.

        The sweep of a fold ends after two values in a row that are worse than its best. Where no class has a second
        image there is nothing to choose by: C = 1 and None.
        """
        random = generator(seed, "evaluate", self.protocol, "choice")
        part = stratified(labels.cpu(), self.options.images, random)
        fold = _few.ranks_in_class(labels.cpu()[part], random) % FOLDS
        if not fold.any():
            return UNCHOSEN_C, None
        right = torch.zeros(len(GRID))
        for k in range(FOLDS):
            own, held = part[fold != k].to(x.device), part[fold == k].to(x.device)
            if not len(held):
                continue
            problem = Problem(x[own], labels[own], classes, loss="squared_hinge")
            best = worse = 0
            for at, fit in enumerate(sweep(problem, [1 / (len(own) * c) for c in GRID], tolerance=ROUGH)):
                found = int((fit.logits(x[held]).argmax(1) == labels[held]).sum())
                right[at] += found
                best, worse = max(best, found), worse + 1 if found < best else 0
                if worse == PATIENCE:
                    break
        best_at = int(right.argmax())
        return GRID[best_at], float(right[best_at]) / len(part)


def cell_maxima(maps: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Maps (B, C, h, w) -> (B, C · Σ cells²): maxima over g × g cells for each g, or fewer where the map is smaller.

    A side that g does not divide has its smaller cells first: 7 in two is 3 and 4.
    """
    parts = []
    for g in cells:
        rows = [r for r in maps.tensor_split(_cuts(maps.shape[2], g), 2) if r.shape[2]]
        grid = [
            c.amax((2, 3)) for r in rows for c in r.tensor_split(_cuts(maps.shape[3], g), 3) if c.shape[3]
        ]
        parts.append(torch.stack(grid, 2).flatten(1))
    return torch.cat(parts, 1)


def _cuts(side: int, g: int) -> tuple[int, ...]:
    """Where a side is cut into g parts."""
    return tuple(side * k // g for k in range(1, g))


def scale(train: Tensor, test: Tensor) -> None:
    """Both in place: less the mean of `train`, then of unit length."""
    mean = train.float().mean(0)
    for matrix in (train, test):
        for rows in matrix.split(ROWS):
            moved = rows.float() - mean
            rows.copy_(moved / moved.norm(dim=1, keepdim=True).clamp_min(1e-12))
