"""kNN accuracy while an encoder trains, on training images only."""

from collections.abc import Callable

import torch

from nolabel.data.store import ImageStore
from nolabel.encoders.base import Encoder
from nolabel.evaluation import knn
from nolabel.evaluation._split import held_out, stratified
from nolabel.seeds import generator
from nolabel.views import plain

BANK, QUERIES = 4000, 1000
K, TEMPERATURE = 20, 0.07
BATCH = 256


def knn_monitor(
    store: ImageStore, *, bank: int = BANK, queries: int = QUERIES, size: int | None = None, seed: int = 0
) -> Callable[[Encoder, int], dict[str, float]] | None:
    """(encoder in evaluation mode, step) -> {"knn": top-1 accuracy}; None without usable labels.

    Twenty neighbours vote at τ = 0.07.

    Args:
        store: training images; at most `bank` + `queries` of those with a label are read, a stratified part.
        size: side in pixels; None: the encoder's own.
    """
    labelled = (store.labels >= 0).nonzero()[:, 0]
    if len(store.labels[labelled].unique()) < 2:
        return None
    random = generator(seed, "evaluate", "monitor")
    part = labelled[stratified(store.labels[labelled], bank + queries, random)]
    held = held_out(store.labels[part], queries / (bank + queries), random)
    if not held.any():
        return None
    part, first = torch.cat([part[~held], part[held]]), int((~held).sum())
    labels = store.labels[part]

    @torch.no_grad()
    def monitor(encoder: Encoder, step: int) -> dict[str, float]:
        here = store.to(encoder.mean.device)
        side = encoder.size if size is None else size
        vectors = [
            encoder(plain.whole(here.batch(rows), side, torch.channels_last)).float()
            for rows in part.split(BATCH)
        ]
        x = torch.cat(vectors)
        y = labels.to(x.device)
        found = knn.accuracy(x[:first], y[:first], x[first:], y[first:], ks=(K,), temperature=TEMPERATURE)
        return {"knn": found[K]}

    return monitor
