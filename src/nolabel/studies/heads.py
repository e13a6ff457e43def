"""What the projection head throws away: questions put to h and to g(h) (SimCLR, section 4.2, table 3)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.encoders._io import load_encoder
from nolabel.evaluation._split import divide
from nolabel.evaluation.statistics import wilson
from nolabel.methods.simclr import SimCLR
from nolabel.report.records import Row
from nolabel.seeds import generator
from nolabel.training.restore import load_method
from nolabel.views import colour, filters, geometry, plain

QUESTIONS = ("class", "colour or grey", "which turn", "clean or noisy", "image or Sobel")
TRAIN, TEST = 4000, 2000
"""images on which each question is learnt and tested"""
BATCH = 250
HIDDEN = 256


def answers(run: Path, store: ImageStore, seed: int) -> dict[str, list[Row]]:
    """Accuracy of a small network on each of `QUESTIONS`, reading "h" and "g(h)" of the SimCLR run `run`.

    Images are asked about as they are, and after each distortion; chance is one in two, in four for turns.

    The intervals are Wilson's for the test images, each of which counts by the share of its answers that are right.

    Raises:
        DataError: labels that allow no test.
        FileFormatError: the run has no checkpoint.
    """
    method = trained(run)
    division = divide(store, seed)
    parts = [
        part[torch.randperm(len(part), generator=generator(seed, "heads", name))[:most]]
        for name, part, most in (("train", division.train, TRAIN), ("test", division.test, TEST))
    ]
    images = len(parts[1])
    found: dict[str, list[Row]] = {"h": [], "g(h)": []}
    for question in QUESTIONS:
        read = [_read(method, store, part, question, seed) for part in parts]
        for where, index in (("h", 0), ("g(h)", 1)):
            share = _accuracy(*((one[index], one[2]) for one in read), seed=seed)
            found[where].append(Row("simclr", question, "top1", *wilson(share * images, images), n=images))
    return found


def trained(run: Path) -> SimCLR:
    """The method of `run` around the encoder that the run keeps, whose BatchNorm statistics may be set on plain images.

    Raises:
        FileFormatError: the run has no checkpoint.
    """
    method = load_method(run)
    assert isinstance(method, SimCLR)
    method.encoder = load_encoder(run)
    return method


def _distort(question: str, images: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """The images that are asked about, and the right answer to each."""
    n = len(images)
    if question == "which turn":
        return geometry.all_turns(images), torch.arange(4).repeat(n)
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "colour or grey": lambda x: colour.grey(x, {"grey": torch.ones(n, dtype=torch.bool)}),
        "clean or noisy": lambda x: filters.noise(x, filters.draw_noise(n, random)),
        "image or Sobel": filters.sobel,
    }
    return torch.cat([images, changes[question](images)]), torch.arange(2).repeat_interleave(n)


@torch.no_grad()
def _read(
    method: SimCLR, store: ImageStore, part: Tensor, question: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, dim) of h, (n, out) of g(h), and the right answers (n,)."""
    held: list[tuple[Tensor, Tensor, Tensor]] = []
    for number, rows in enumerate(part.split(BATCH)):
        images = plain.whole(store.batch(rows), method.data.size)
        if question == "class":
            asked, right = images, store.labels[rows]
        else:
            asked, right = _distort(question, images, generator(seed, "heads", question, number))
        h = method.encoder(asked)
        held.append((h, method.head(h), right))
    h, z, right = (torch.cat(parts).numpy() for parts in zip(*held, strict=True))
    return h, z, right


def _accuracy(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], *, seed: int
) -> float:
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reader = make_pipeline(
        StandardScaler(), MLPClassifier((HIDDEN,), early_stopping=True, max_iter=60, random_state=seed)
    )
    return float(reader.fit(*train).score(*test))
