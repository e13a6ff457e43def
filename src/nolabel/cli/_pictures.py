"""The pictures of a run for its report: views, the method's panel, nearest images, first-layer filters."""

import inspect
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel.cli._vectors import vectors
from nolabel.data.batch import ImageBatch
from nolabel.data.store import ImageStore
from nolabel.encoders._io import load_encoder
from nolabel.encoders.base import Encoder
from nolabel.evaluation._untrained import untrained
from nolabel.methods.base import Method
from nolabel.report import figures, pictures
from nolabel.runs import read_description
from nolabel.seeds import generator
from nolabel.training.work import training_images
from nolabel.views import plain

ROWS = 5
"""images on the sheet of views and queries of the search"""
MATCHES = 4
MOST_COLUMNS = 4
PANEL_ROWS = 3
ROUNDING = 1e-3
"""how far rounding may carry values beyond [0, 1]"""
STRETCHED = (
    "The network is given values that no screen shows, such as negative ones: here each view is stretched, so that its "
    "smallest value is black and its largest white."
)
MOST_SEARCHED = 10_000
"""training images that are searched in"""


def draw_all(
    folder: Path, method: Method, encoder: Encoder, train: ImageStore, held_out: ImageStore | None, seed: int
) -> None:
    """Write the pictures of the run in `folder`.

    Args:
        method: with its trained weights.
        encoder: as it was saved.
        train: images whose views are shown and that are searched in.
        held_out: images that the method answers for and that are searched for; None: training images, and
            no image finds itself.
    """
    pick = torch.randperm(len(train), generator=generator(seed, "pictures", "views"))[:ROWS]
    method = method.eval()
    with torch.no_grad():
        if (sheet := view_sheet(method, train.batch(pick), seed)) is not None:
            pictures.save_views(folder, sheet)
        unseen = train if held_out is None else held_out
        asked = _one_of_each_class(unseen, seed)[:PANEL_ROWS]
        pictures.save_panel(folder, panel(method, unseen.batch(asked), seed))
    pictures.save_filters(folder, encoder.stem.weight.detach().numpy())
    pictures.save_retrieval(folder, retrieval(encoder, method.data.size, held_out, train, seed))


def draw_untrained(folder: Path, images: ImageStore) -> None:
    """Write what random weights of the network in `folder`, a run on `images`, find; where it is not there yet."""
    if (folder / pictures.FOLDER / pictures.UNTRAINED).is_file():
        return
    info = read_description(folder)
    train, held_out = training_images(images, info["seed"])
    start = untrained(load_encoder(folder), train, torch.arange(len(train)), info["size"], info["seed"])
    found = retrieval(start, info["size"], held_out, train, info["seed"])
    pictures.save_retrieval(folder, found, pictures.UNTRAINED)


def view_sheet(method: Method, images: ImageBatch, seed: int) -> pictures.ViewSheet | None:
    """Each image beside what the encoder is given of it late in training; None where that is no picture.

    Views smaller than an image are enlarged without smoothing; where values lie outside [0, 1], each view is stretched
    over it.
    """
    drawn = method.draw(images.size, generator(seed, "pictures", "drawn"), 0.999)
    seen = method.given(method.views(images, drawn))
    if seen is None or len(seen) % images.size:
        return None
    every = seen.unflatten(0, (images.size, -1))
    of_each = every[:, :MOST_COLUMNS]
    told = []
    if every.shape[1] > MOST_COLUMNS:
        told.append(f"Of the {every.shape[1]} views of an image the first {MOST_COLUMNS} are shown.")
    if of_each.amin() < -ROUNDING or of_each.amax() > 1 + ROUNDING:
        of_each = _stretched(of_each)
        told.append(STRETCHED)
    side = max(method.data.size, seen.shape[-1])
    large = F.interpolate(of_each.flatten(0, 1), size=(side, side), mode="nearest-exact")
    if side > seen.shape[-1]:
        told.append(f"The views have {seen.shape[-1]} px a side and are enlarged here.")
    whole = plain.whole(images, side)
    shown = torch.cat([whole[:, None], large.unflatten(0, of_each.shape[:2])], 1)
    columns = ("image", *(f"view {v + 1}" for v in range(of_each.shape[1])))
    return pictures.ViewSheet(_bytes(shown), columns, " ".join(told))


def panel(method: Method, images: ImageBatch, seed: int) -> pictures.Panel:
    """The method's own figure, its answers included; the paragraph is the one that opens the method's file."""
    figure = method.panel(images, generator(seed, "pictures", "panel"), trained=True)
    module = inspect.getmodule(type(method))
    paragraphs = inspect.cleandoc((module.__doc__ if module else None) or "").split("\n\n")
    return pictures.Panel(figures.svg_bytes(figure), " ".join(" ".join(paragraphs[:2]).split()))


def retrieval(
    encoder: Encoder, size: int, held_out: ImageStore | None, train: ImageStore, seed: int
) -> pictures.Retrieval:
    """Queries and the training images whose vectors have the largest cosine with theirs."""
    queries = train if held_out is None else held_out
    chosen = _one_of_each_class(queries, seed)
    order = torch.randperm(len(train), generator=generator(seed, "pictures", "gallery"))[:MOST_SEARCHED]
    asked = _unit(vectors(encoder, queries.subset(chosen), size=size))
    cosines = asked @ _unit(vectors(encoder, train.subset(order), size=size)).T
    encoder = encoder.to("cpu")
    if held_out is None:
        cosines[chosen[:, None].numpy() == order[None].numpy()] = -np.inf
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :MATCHES]
    found = order[torch.from_numpy(nearest)]
    return pictures.Retrieval(
        _bytes(plain.whole(queries.batch(chosen), size)),
        _bytes(torch.stack([plain.whole(train.batch(row), size) for row in found])),
        np.take_along_axis(cosines, nearest, 1).astype(np.float32),
        tuple(_names(queries, chosen)),
        tuple(tuple(_names(train, row)) for row in found),
    )


def _one_of_each_class(store: ImageStore, seed: int) -> Tensor:
    """`ROWS` images in random order, each of a class not seen before as long as there is one."""
    order = torch.randperm(len(store), generator=generator(seed, "pictures", "queries"))
    first: dict[int, int] = {}
    for i, label in zip(order.tolist(), store.labels[order].tolist(), strict=True):
        if label >= 0:
            first.setdefault(label, i)
    rest = [i for i in order.tolist() if i not in first.values()] if len(first) < ROWS else []
    return torch.tensor([*first.values(), *rest][:ROWS])


def _names(store: ImageStore, indices: Tensor) -> list[str]:
    return [store.class_names[label] if label >= 0 else "" for label in store.labels[indices].tolist()]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _stretched(views: Tensor) -> Tensor:
    """Views (R, C, 3, H, W), each from its smallest value at 0 to its largest at 1; 1/2 where it has but one."""
    low, high = views.amin((2, 3, 4), keepdim=True), views.amax((2, 3, 4), keepdim=True)
    return 0.5 + (views - (low + high) / 2) / (high - low).clamp_min(ROUNDING)


def _bytes(images: Tensor) -> np.ndarray:
    """(..., 3, H, W) in [0, 1] to uint8 (..., H, W, 3)."""
    return (images.clamp(0, 1) * 255).round().byte().movedim(-3, -1).cpu().numpy()
