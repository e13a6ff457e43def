"""Images that a protocol chooses by are none that it fits on meanwhile, and none of the test: by their pixels."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.evaluation import (
    _few,
    _head_training,
    _kept,
    _stage_heads,
    knn,
    label_efficiency,
    linear,
    supervised,
    svm,
)
from nolabel.evaluation import transfer as tagged
from nolabel.evaluation._features import extract
from nolabel.evaluation._logistic import Fit, Problem
from nolabel.evaluation._split import divide
from nolabel.evaluation.base import Features
from nolabel.evaluation.conv import Conv, ConvOptions
from nolabel.evaluation.few_labels import FewLabels, FewLabelsOptions
from nolabel.evaluation.finetune import Finetune, FinetuneOptions
from nolabel.evaluation.knn import KNN, KNNOptions
from nolabel.evaluation.label_efficiency import LabelEfficiency, LabelEfficiencyOptions
from nolabel.evaluation.linear import Linear, LinearOptions
from nolabel.evaluation.mlp import MLP, MLPOptions
from nolabel.evaluation.supervised import Supervised, SupervisedOptions
from nolabel.evaluation.svm import SVM, SVMOptions
from small import TinyNet, smooth_images

N, CLASSES = 90, 3
SHORT: dict[str, Any] = {"steps": 1, "batch_size": 8}
FEW = FewLabelsOptions(shares=(), per_class=(9,), first=True, finetune_draws=0)
CURVE = LabelEfficiencyOptions(per_class=(12,), draws=1, supervised_draws=1, choice_steps=1, **SHORT)
CHOOSE: dict[str, Callable[[Features], object]] = {
    "linear": lambda found: Linear(LinearOptions(standardise="none")).run(found, 0),
    "knn": lambda found: KNN(KNNOptions()).run(found, 0),
    "svm": lambda found: SVM(SVMOptions()).choose(told(found.train), found.labels[found.train], CLASSES, 0),
    "few_labels": lambda found: FewLabels(FEW).run(found, 0),
    "label_efficiency": lambda found: LabelEfficiency(CURVE).run(found, 0),
    "mlp": lambda found: MLP(MLPOptions(choice_steps=1, **SHORT)).run(found, 0),
    "conv": lambda found: Conv(ConvOptions(choice_steps=1, **SHORT)).run(found, 0),
    "finetune": lambda found: Finetune(FinetuneOptions(**SHORT)).run(found, 0),
    "supervised": lambda found: Supervised(SupervisedOptions(choice_steps=1, **SHORT)).run(found, 0),
    "tags": lambda found: tagged._choose_tagged(
        found, torch.eye(CLASSES).long()[found.labels], torch.Generator().manual_seed(0)
    ),
}


def told(rows: Tensor) -> Tensor:
    """Features whose ratio is the image's position, however long they are made."""
    return torch.stack([(rows + 1) / N, torch.ones(len(rows))], 1)


def images_of(features: Tensor) -> list[int]:
    return ((features[:, 0] / features[:, 1] * N).round().long() - 1).tolist()


def watch(patch: pytest.MonkeyPatch) -> list[tuple[list[int], list[int]]]:
    """A list that fills with (images fitted on, images asked about) of every fit."""
    pairs: list[tuple[list[int], list[int]]] = []
    fitted: list[int] = []
    nearest, scored, logits = knn._nearest, _few._scored, Fit.logits
    fit, scores_of = _head_training.fit, _head_training.scores_of

    def problem(x: Tensor, *rest: Any, **named: Any) -> Problem:
        fitted[:] = images_of(x)
        return Problem(x, *rest, **named)

    def asked(one: Fit, x: Tensor) -> Tensor:
        if bool((x[:, 1] == 1).all()):  # else standardised, and seen by `of_few`
            pairs.append((list(fitted), images_of(x)))
        return logits(one, x)

    def of_knn(queries: Tensor, bank: Tensor, k: int) -> object:
        pairs.append((images_of(bank), images_of(queries)))
        return nearest(queries, bank, k)

    def of_few(x: Tensor, labels: Tensor, other: Tensor, *rest: Any) -> object:
        pairs.append((images_of(x), images_of(other)))
        return scored(x, labels, other, *rest)

    def trained(forward: Any, modules: Any, subject: Features, rows: Tensor, *rest: Any) -> None:
        fitted[:] = rows.tolist()
        fit(forward, modules, subject, rows, *rest)

    def read(forward: Any, subject: Features, rows: Tensor) -> list[Tensor]:
        pairs.append((list(fitted), rows.tolist()))
        return scores_of(forward, subject, rows)

    for module in (linear, svm, tagged):
        patch.setattr(module, "Problem", problem)
    for module in (_head_training, _stage_heads):
        patch.setattr(module, "fit", trained)
        patch.setattr(module, "scores_of", read)
    patch.setattr(tagged, "standardise", lambda x, rows: None)
    patch.setattr(Fit, "logits", asked)
    patch.setattr(knn, "_nearest", of_knn)
    patch.setattr(_few, "_scored", of_few)
    return pairs


def subject(validation: bool) -> tuple[Features, list[str]]:
    """90 images, a third of them for the test, with a validation split or without; and a digest of each."""
    batch, part = smooth_images(N, (8, 8)), torch.arange(N) // CLASSES % 3
    pixels = [batch.image(b) for b in range(N)]
    splits = torch.tensor([0, 1 if validation else 0, 2])[part]
    store = ImageStore.of(pixels, (torch.arange(N) % CLASSES).tolist())
    store = replace(store, splits=splits, split_names=("train", "val", "test"))
    found = extract(TinyNet(8), store, divide(store, 0), name="tiny", size=8)
    digests = [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in pixels]
    return replace(found, compute=lambda stages, rows: {s: told(rows) for s in stages}), digests


@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.parametrize(
    "protocol",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "label_efficiency")) for name in CHOOSE],
)
def test_no_image_is_both_fitted_on_and_chosen_by(
    protocol: str, validation: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, digests = subject(validation)
    assert len(set(digests)) == N
    monkeypatch.setattr(_kept, "kept", lambda path, measured: measured())
    monkeypatch.setattr(label_efficiency, "random_features", lambda *one, **other: found)
    for module in (label_efficiency, supervised):
        monkeypatch.setattr(module, "untrained", lambda *rest: TinyNet(8))
    pairs = watch(monkeypatch)
    CHOOSE[protocol](found)
    test, chosen_by = {digests[i] for i in found.test}, set()
    for fitted, asked in (({digests[i] for i in rows} for rows in pair) for pair in pairs):
        assert fitted
        assert asked
        assert not fitted & (asked | test)
        if not asked <= test:
            assert not asked & test
            chosen_by |= asked
    assert chosen_by <= {digests[i] for i in found.train}
    assert chosen_by
