"""Few labels: balanced nested subsets, probes that see only their labels, and the labels that an encoder saves."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.evaluation import _few
from nolabel.evaluation._logistic import Fit, Problem, sweep
from nolabel.evaluation._repeats import differences, over_seeds
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features, Protocol, Result
from nolabel.evaluation.few_labels import FewLabels, FewLabelsOptions
from nolabel.evaluation.svm import SVM
from test_features import store_of
from test_heads_protocols import one_sentence, tiny
from test_linear import shuffled_toy, subject


def labelled(counts: list[int]) -> Features:
    """Images of uneven classes, the last two of each for the test."""
    y = torch.cat([torch.full((n + 2,), c) for c, n in enumerate(counts)])
    test = torch.cat([(y == c).nonzero()[-2:, 0] for c in range(len(counts))])
    train = torch.tensor(sorted(set(range(len(y))) - set(test.tolist())))
    x = torch.randn(len(y), 3, generator=torch.Generator().manual_seed(0))
    return Features.of("toy", {"pooled": x}, y, train, test)


@pytest.mark.parametrize("counts", [[20, 20, 20, 20], [3, 17, 30]])
def test_every_beginning_is_balanced(counts: list[int]) -> None:
    found = labelled(counts)
    order = _few.round_robin(found, 0, 0)
    assert sorted(order.tolist()) == found.train.tolist()
    for size in range(1, len(order) + 1):
        seen = torch.bincount(found.labels[order[:size]], minlength=len(counts))
        left = seen < torch.tensor(counts)  # a class that has run out is passed over
        assert int(seen.max()) - int(seen[left].min() if left.any() else seen.max()) <= 1


def test_draws_are_seeded_and_differ() -> None:
    found = labelled([20, 20])
    orders = [_few.round_robin(found, seed, draw) for seed, draw in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[3])


def test_the_first_of_each_class_are_taken_in_the_order_of_files() -> None:
    """RotNet's code: K of each class exactly, whatever the seed; a class that has fewer gives all."""
    found = labelled([20, 6, 9])
    shuffled = torch.randperm(len(found.train), generator=torch.Generator().manual_seed(0))
    found = replace(found, train=found.train[shuffled])
    order = _few.first_of_each(found)
    files = sorted(found.train.tolist())
    for each in (1, 4, 6):
        first = [i for c in range(3) for i in [i for i in files if found.labels[i] == c][:each]]
        assert sorted(order[: 3 * each].tolist()) == sorted(first)
    assert sorted(order.tolist()) == sorted(found.train.tolist())


@pytest.mark.parametrize("first", [False, True])
def test_smaller_sets_are_the_beginnings_of_larger_ones(first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: dict[int, list[list[int]]] = {}

    def watched(self: FewLabels, found: Features, rows: Tensor, name: str, seed: int) -> list[Result]:
        trained.setdefault(seed, []).append(rows.tolist())
        return []

    monkeypatch.setattr(FewLabels, "_finetune", watched)
    options = FewLabelsOptions(shares=(0.05, 0.2), per_class=(2, 7), first=first, draws=2, finetune_draws=2)
    found = toy_subject()
    FewLabels(options).run(found, 0)
    assert len(trained) == (1 if first else 2)
    for sets in trained.values():
        ordered = sorted(sets, key=len)
        assert [len(rows) for rows in ordered] == [8, 20, 28, 80]
        for less, more in itertools.pairwise(ordered):
            assert more[: len(less)] == less
        assert set(ordered[-1]) <= set(found.train.tolist())


def test_labels_of_the_first_images_are_not_drawn() -> None:
    options = FewLabelsOptions(
        shares=(), per_class=(3,), first=True, draws=3, finetune_draws=2, steps=2, batch_size=8
    )
    subject, protocol = tiny(store_of(180, size=8)), FewLabels(options)
    rows = protocol.run(subject, 0)
    assert [row.setting["draws"] for row in rows] == [1] * len(rows)
    assert {row.protocol for row in rows} == {"linear@3", "finetune@3"}
    (one,), (other,) = (protocol._orders(subject, seed) for seed in (0, 1))
    assert torch.equal(one, other)


def test_shares_of_cifar_s_size() -> None:
    y = torch.arange(60_000) % 10
    found = Features.of(
        "c", {"x": torch.zeros(60_000, 1)}, y, torch.arange(50_000), torch.arange(50_000, 60_000)
    )
    assert FewLabels(FewLabelsOptions()).amounts(found) == {"1%": 500, "10%": 5000}
    order = _few.round_robin(found, 0, 0)
    for size, each in ((500, 50), (5000, 500)):
        assert torch.bincount(y[order[:size]]).tolist() == [each] * 10


def test_small_sets_have_one_label_a_class_at_least_and_counts_beside_it() -> None:
    amounts = FewLabels(FewLabelsOptions()).amounts(labelled([40] * 3))
    assert amounts == {"1%": 3, "10%": 12, "1": 3, "4": 12, "10": 30}
    few = FewLabels(FewLabelsOptions()).amounts(labelled([40, 40, 5]))
    assert set(few) == {"1%", "10%", "1", "4"}


def test_more_labels_than_a_class_has_are_refused_in_one_sentence() -> None:
    with pytest.raises(
        DataError, match="8 labels a class are asked for and class 1 has 7 training"
    ) as caught:
        check(FewLabels(FewLabelsOptions(per_class=(1, 8))), [20, 7])
    one_sentence(str(caught.value))
    check(FewLabels(FewLabelsOptions(per_class=(1, 7))), [20, 7])
    check(FewLabels(FewLabelsOptions()), [20, 1])


def check(protocol: Protocol, counts: list[int]) -> None:
    """`protocol.check` on training images of so many of each class, and one test image."""
    labels = [c for c, n in enumerate(counts) for _ in range(n)]
    store = ImageStore.of(torch.zeros(len(labels) + 1, 3, 8, 8, dtype=torch.uint8), [*labels, 0])
    protocol.check(store, Division(torch.arange(len(labels)), torch.tensor([len(labels)]), "cut"))


def toy_subject(spread: float = 0.5, n: int = 600, **stages: Tensor) -> Features:
    x, y = shuffled_toy(n, 4, spread)
    return subject(x, y, 2 * n // 3, **stages)


def test_a_probe_sees_the_labels_of_its_subset_only() -> None:
    found = toy_subject(2.0)
    order = _few.round_robin(found, 0, 0)
    (clean,) = _few.probes(found, [order], [8, 80], 0)
    labels = found.labels.clone()
    labels[order[80:]] = 0
    labels[found.test] = 0
    (other,) = _few.probes(replace(found, labels=labels), [order], [8, 80], 0)
    for one, same in zip(clean, other, strict=True):
        assert one.chosen() == same.chosen()
        torch.testing.assert_close(one.scores, same.scores)


def test_draws_share_one_reading_of_the_test_images() -> None:
    found = toy_subject(1.0, stage1=torch.randn(600, 3, generator=torch.Generator().manual_seed(5)))
    orders = [_few.round_robin(found, 0, draw) for draw in range(3)]
    alone = [_few.probes(found, [order], [4, 40], 0)[0] for order in orders]
    read = []

    def counting(stages: Sequence[str], rows: Tensor) -> dict[str, Tensor]:
        read.extend((stage, len(rows)) for stage in stages)
        return found.compute(stages, rows)

    together = _few.probes(replace(found, compute=counting), orders, [4, 40], 0)
    assert [stage for stage, rows in read if rows == len(found.test)] == ["pooled"]
    for of_draw, of_alone in zip(together, alone, strict=True):
        for one, same in zip(of_draw, of_alone, strict=True):
            assert one.chosen() == same.chosen()
            torch.testing.assert_close(one.scores, same.scores)


def test_the_better_stage_is_chosen_by_folds() -> None:
    noise = torch.randn(600, 40, generator=torch.Generator().manual_seed(5))
    found = toy_subject(0.05, stage1=noise)
    ((probe,),) = _few.probes(found, [_few.round_robin(found, 0, 0)], [40], 0)
    assert probe.stage == "pooled"
    assert probe.validation == 1
    right = probe.scores.argmax(1) == found.labels[found.test]
    assert float(right.float().mean()) > 0.98


def test_one_label_a_class_leaves_nothing_to_choose_by() -> None:
    found = toy_subject(stage1=torch.zeros(600, 3))
    ((probe,),) = _few.probes(found, [_few.round_robin(found, 0, 0)], [4], 0)
    assert probe.chosen() == {"stage": "pooled", "l2": 1.0, "validation": None}


def test_a_probe_is_scikit_learns() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    found = toy_subject(2.0)
    order = _few.round_robin(found, 0, 0)[:100]
    ((probe,),) = _few.probes(found, [order], [100], 0)
    x, test = (found.stage("pooled", rows).numpy() for rows in (order, found.test))
    scaler = StandardScaler().fit(x)
    other = LogisticRegression(C=1 / (100 * probe.l2), tol=1e-8, max_iter=10_000)
    other.fit(scaler.transform(x), found.labels[order].numpy())
    expected = other.decision_function(scaler.transform(test))
    ours = probe.scores.numpy()
    assert (
        np.abs((ours - ours.mean(1, keepdims=True)) - (expected - expected.mean(1, keepdims=True))).max()
        < 0.02
    )


@pytest.mark.parametrize(("labels", "folds", "held"), [(90, 3, 30), (1200, 1, 240)])
def test_folds_are_stratified(labels: int, folds: int, held: int) -> None:
    y = torch.arange(labels) % 3
    found = _few._folds(y, torch.Generator().manual_seed(0))
    assert len(found) == folds
    assert all(torch.bincount(y[fold]).tolist() == [held // 3] * 3 for fold in found)


def test_rows_of_every_number_of_labels() -> None:
    options = FewLabelsOptions(shares=(0.1,), per_class=(3,), draws=3, steps=6, batch_size=16)
    rows = FewLabels(options).run(tiny(store_of(180, size=8)), 0)
    assert [r.protocol for r in rows if r.metric == "top1"] == [
        "linear@10%",
        "linear@3",
        "finetune@10%",
        "finetune@3",
    ]
    probe, tuned = rows[0], rows[-2]
    assert probe.setting["labels"] == 12
    assert probe.setting["labels_a_class"] == [4, 4]
    assert len(probe.setting["of_seeds"]) == 3
    assert probe.predictions is not None
    assert probe.predictions.shape == (3, 60)
    assert (tuned.setting["labels"], tuned.setting["lr"]) == (9, pytest.approx(0.05 * 16 / 256))
    assert all(r.low is not None and r.seeds == (0,) for r in rows)


def test_draws_are_compared_image_by_image() -> None:
    truth = np.zeros(40, int)
    mine, other = np.zeros((2, 40), int), np.zeros((2, 40), int)
    other[:, :10] = 1
    pair = [Result(s, "linear@1", "top1", 0, 0, 0, 40, predictions=p) for s, p in (("a", mine), ("b", other))]
    (row,) = differences(pair[:1], [pair[1:]], truth, 0)
    assert row.value == pytest.approx(0.25)
    # Bonett and Price's interval of 10 in 40 images, for the draws are alike.
    assert row.low == pytest.approx(0.0934, abs=1e-3)
    assert row.setting["test"].startswith("paired permutation of images, t over 2 draws")
    assert row.setting["p"] < 0.01


def test_the_noise_of_the_draws_is_in_the_interval_and_in_p() -> None:
    truth = np.zeros(400, int)
    mine, alike, apart = (np.zeros((3, 400), int) for _ in range(3))
    alike[:, :40] = 1
    for draw, wrong in enumerate((0, 40, 80)):  # the same mean, but not in every draw
        apart[draw, :wrong] = 1

    def row(other: np.ndarray) -> Result:
        pair = [
            Result(s, "linear@1", "top1", 0, 0, 0, 400, predictions=p) for s, p in (("a", mine), ("b", other))
        ]
        (found,) = differences(pair[:1], [pair[1:]], truth, 0)
        return found

    steady, noisy = row(alike), row(apart)
    assert steady.value == noisy.value == pytest.approx(0.1)
    assert steady.low is not None
    assert noisy.low is not None
    assert steady.low > 0.05
    assert noisy.low < 0.1 - 4.3 * 0.1 / 3**0.5
    assert steady.setting["p"] < 0.001
    assert noisy.setting["p"] == pytest.approx(0.2254, abs=1e-3)


def test_random_weights_are_probed_in_every_seed_and_fine_tuned_in_one() -> None:
    options = FewLabelsOptions(shares=(0.2,), per_class=(), draws=2, steps=2, batch_size=8)
    whole = tiny(store_of(90, size=8))
    rows = [FewLabels(options).run(replace(whole, seeds=(seed,)), 0) for seed in (0, 1)]
    assert [{r.protocol for r in of} for of in rows] == [{"linear@20%", "finetune@20%"}, {"linear@20%"}]
    joint = {r.protocol: r for r in over_seeds(rows) if r.metric == "top1"}
    assert joint["linear@20%"].seeds == (0, 1)
    assert joint["finetune@20%"].seeds == (0,)
    assert FewLabels.baseline_seeds == SVM.baseline_seeds == 3


def test_a_fit_that_did_not_converge_is_told_by_the_row_of_all_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = itertools.count()

    def broken(problem: Problem, l2s: list[float], *, tolerance: float) -> Iterator[Fit]:
        for fit in sweep(problem, l2s, tolerance=tolerance):
            yield replace(fit, converged=len(l2s) > 1 or next(fits) != 1)  # of the final ones the second

    monkeypatch.setattr(_few, "sweep", broken)
    options = FewLabelsOptions(shares=(), per_class=(4,), draws=3, finetune_draws=0)
    of = [row.setting["converged"] for row in FewLabels(options).run(toy_subject(), 0)]
    assert of == [False, False]
