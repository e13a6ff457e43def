"""Retrieval: the hand example, a naive ranking, scikit-learn's average precision, the lecture's figure."""

import numpy as np
import pytest
import torch
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.errors import DataError
from nolabel.evaluation import retrieval
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features
from nolabel.evaluation.retrieval import Retrieval, RetrievalOptions, rank
from nolabel.report.columns import columns_figure


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def at_cosines(*cosines: float) -> Tensor:
    """Unit vectors in the plane at these cosines from (1, 0)."""
    c = torch.tensor(cosines)
    return torch.stack([c, (1 - c * c).sqrt()], 1)


def test_hand_example() -> None:
    gallery = at_cosines(0.9, 0.8, 0.7, 0.6)
    found = rank(torch.tensor([[2.0, 0]]), gallery, torch.tensor([1]), torch.tensor([1, 0, 1, 0]))
    assert float(found.precision) == pytest.approx(5 / 6)
    assert int(found.first) == 1
    assert float(found.r_precision) == 0.5
    assert int(found.relevant) == 2


def test_alike_features_gain_nothing_by_luck() -> None:
    gallery, labels = torch.ones(10, 3), torch.tensor([1] * 2 + [0] * 8)
    found = rank(torch.ones(1, 3), gallery, torch.tensor([1]), labels)
    assert int(found.first) == 9
    assert float(found.precision) == pytest.approx((1 / 9 + 2 / 10) / 2)


@pytest.mark.parametrize("own", [False, True])
def test_equals_a_naive_ranking_and_scikit_learn(own: bool) -> None:
    from sklearn.metrics import average_precision_score

    gallery, labels = normal(120, 6), torch.arange(120) % 4
    queries = gallery[:30] if own else normal(30, 6, seed=1)
    wanted = labels[:30] if own else torch.arange(30) % 4
    found = rank(queries, gallery, wanted, labels, torch.arange(30) if own else None)
    cosines = torch.nn.functional.cosine_similarity(queries[:, None], gallery[None], dim=2)
    for q in range(30):
        kept = torch.arange(120) != q if own else torch.ones(120, dtype=torch.bool)
        relevant = (labels[kept] == wanted[q]).numpy()
        order = np.argsort(-cosines[q, kept].numpy())
        r = int(relevant.sum())
        assert float(found.precision[q]) == pytest.approx(
            average_precision_score(relevant, cosines[q, kept].numpy())
        )
        assert int(found.first[q]) == 1 + int(relevant[order].argmax())
        assert float(found.r_precision[q]) == pytest.approx(relevant[order][:r].mean())
        assert int(found.relevant[q]) == r


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = normal(50, 5), normal(90, 5, seed=1), torch.arange(50) % 3, torch.arange(90) % 3
    whole = rank(*arguments)
    monkeypatch.setattr(retrieval, "BLOCK", 400)
    torch.testing.assert_close(rank(*arguments).precision, whole.precision)


def subject(x: Tensor, labels: Tensor, cut: int) -> Features:
    return Features.of("toy", {"pooled": x}, labels, torch.arange(cut), torch.arange(cut, len(x)))


def test_the_protocol_on_perfect_and_on_random_features() -> None:
    labels = torch.arange(600) % 5
    rows = {
        r.metric: r for r in Retrieval(RetrievalOptions()).run(subject(torch.eye(5)[labels], labels, 400), 0)
    }
    assert set(rows) == {"recall@1", "recall@5", "recall@10", "map", "r_precision"}
    assert all(row.value == 1 for row in rows.values())
    assert rows["map"].n == 200
    found = {r.metric: r for r in Retrieval(RetrievalOptions()).run(subject(normal(600, 40), labels, 400), 0)}
    for k in (1, 5, 10):
        row = found[f"recall@{k}"]
        assert row.low - 0.05 <= 1 - 0.8**k <= row.high + 0.05
    assert found["map"].value == pytest.approx(0.2, abs=0.02)
    assert found["map"].low <= found["map"].value <= found["map"].high


def test_the_other_test_images_as_gallery() -> None:
    labels = torch.cat([torch.arange(40) % 2, torch.tensor([0, 0, 1, 1, 1])])
    x = torch.eye(2)[labels]
    options = RetrievalOptions(gallery="test", k=(1, 100))
    rows = Retrieval(options).run(subject(x, labels, 40), 0)
    assert [r.metric for r in rows] == ["recall@1", "recall@4", "map", "r_precision"]
    assert all(r.value == 1 for r in rows)
    assert rows[0].setting["gallery"] == "4 other test images"


def test_a_class_of_one_image_cannot_be_found_and_is_said() -> None:
    labels = torch.tensor([0, 1, 2, 0, 0, 1])
    features = subject(normal(6, 3), labels, 3)
    rows = Retrieval(RetrievalOptions(gallery="test")).run(features, 0)
    assert rows[0].n == 2
    assert rows[0].setting["unanswerable"] == 1
    for seed in range(9):
        (asked, *_) = Retrieval(RetrievalOptions(gallery="test", queries=1)).run(features, seed)
        assert asked.n == 1
    store = ImageStore.of(torch.zeros(6, 3, 8, 8, dtype=torch.uint8), [0, 1, 1, 0, 1, 2])
    cut = Division(torch.arange(3), torch.arange(3, 6), "cut")
    Retrieval(RetrievalOptions()).check(store, cut)
    with pytest.raises(DataError, match="more test images of each class"):
        Retrieval(RetrievalOptions(gallery="test")).check(store, cut)


def test_the_lecture_s_figure() -> None:
    labels = torch.arange(40) % 4
    features = subject(torch.eye(4)[labels] + 0.01 * normal(40, 4), labels, 30)
    indices, cosines = retrieval.nearest(features, 35, k=4)
    assert (labels[indices] == labels[35]).all()
    assert (cosines.diff() <= 0).all()
    assert 1 not in retrieval.nearest(features, 1, k=4)[0]
    image = np.zeros((8, 8, 3), np.uint8)
    figure = columns_figure(
        image,
        {"simclr": [image] * 4, "random weights": [image] * 4},
        {"simclr": [True] * 4, "random weights": [False] * 4},
        name="ship",
    )
    assert [axes.get_title() for axes in figure.axes[:3]] == ["query", "simclr", "random weights"]
    assert len(figure.axes) == 12
    assert sum(len(axes.images) for axes in figure.axes) == 9
    assert figure.axes[1].spines["top"].get_visible()
    assert not figure.axes[2].spines["top"].get_visible()
