"""k nearest neighbours: hand example, exact search, choice on training images."""

import numpy as np
import pytest
import torch

from nolabel.evaluation import _largest, knn
from nolabel.evaluation.base import Features


@pytest.mark.parametrize(
    ("repeats", "temperature", "share", "winner"),
    [(2, 0.07, 0.479, 0), (2, 0.1, 0.736, 0), (3, 0.07, 0.719, 0), (3, 0.1, 1.104, 1)],
)
def test_hand_example(repeats: int, temperature: float, share: float, winner: int) -> None:
    similarity = torch.tensor([[1.0] + [0.9] * repeats])
    labels = torch.tensor([[0] + [1] * repeats])
    scores = knn.votes(similarity, labels, 2, temperature)
    assert float(scores[0, 1] / scores[0, 0]) == pytest.approx(share, abs=1e-3)
    assert int(scores.argmax(1)) == winner


def test_equal_scores_go_to_the_lower_class() -> None:
    scores = knn.votes(torch.tensor([[0.5, 0.5]]), torch.tensor([[2, 1]]), 3, 0.07)
    assert int(scores.argmax(1)) == 1


def test_votes_overflow_nowhere() -> None:
    assert knn.votes(torch.tensor([[1.0, -1.0]]), torch.tensor([[0, 1]]), 2, 1e-4).isfinite().all()


def test_queries_in_several_parts_over_several_blocks() -> None:
    random = torch.Generator().manual_seed(1)
    x, q = torch.randn(4500, 6, generator=random), torch.randn(knn.QUERIES + 50, 6, generator=random)
    similarity, nearest = knn.neighbours(q, x, 30)
    full = torch.nn.functional.normalize(q, dim=1) @ torch.nn.functional.normalize(x, dim=1).T
    torch.testing.assert_close(similarity, full.topk(30, dim=1).values, atol=1e-6, rtol=0)
    torch.testing.assert_close(full.gather(1, nearest), similarity, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("bank", "k"), [(1000, 1), (3003, 5), (2048, 20), (2500, 200), (7, 7)])
def test_the_search_is_exact(bank: int, k: int) -> None:
    random = torch.Generator().manual_seed(0)
    x, q = torch.randn(bank, 12, generator=random), torch.randn(300, 12, generator=random)
    similarity, nearest = knn.neighbours(q, x, k)
    full = torch.nn.functional.cosine_similarity(q.double()[:, None], x.double()[None], dim=2)
    expected = full.sort(dim=1, descending=True)
    torch.testing.assert_close(similarity.double(), expected.values[:, :k], atol=1e-6, rtol=0)
    torch.testing.assert_close(full.gather(1, nearest), expected.values[:, :k], atol=1e-6, rtol=0)
    assert all(len(set(row)) == k for row in nearest.tolist())


def clusters(n: int, classes: int, spread: float, seed: int = 0) -> Features:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    x = torch.eye(classes)[labels] + spread * torch.randn(n, classes, generator=random)
    cut = 2 * n // 3
    return Features.of("toy", {"pooled": x}, labels, torch.arange(cut), torch.arange(cut, n))


def test_separate_clusters_are_told_apart_and_the_choice_is_said() -> None:
    results = knn.KNN(knn.KNNOptions()).run(clusters(300, 5, 0.02), seed=0)
    assert [r.metric for r in results] == ["top1", "balanced"]
    top1 = results[0]
    assert top1.value == 1.0
    assert top1.low < 1.0 == top1.high
    assert top1.n == 100
    assert top1.chosen["k"] in (1, 5, 20, 160)
    assert top1.chosen["temperature"] in knn.KNNOptions().temperature
    assert results[1].per_class.keys() == set("01234")


def test_k_is_chosen_on_training_images_and_cut_to_their_number() -> None:
    noisy = clusters(60, 2, 3.0)
    chosen = knn.KNN(knn.KNNOptions(k=(1, 200))).run(noisy, seed=0)[0].chosen
    assert chosen["k"] <= 32
    assert 0 <= chosen["validation"] <= 1


def test_one_image_a_class_leaves_nothing_to_choose_by() -> None:
    few = clusters(30, 5, 0.02)
    few = Features.of(
        "toy", {"pooled": few.stage("pooled", torch.arange(30))}, few.labels, torch.arange(5), few.test
    )
    top1 = knn.KNN(knn.KNNOptions(k=(5, 1))).run(few, seed=0)[0]
    assert (top1.chosen["k"], top1.chosen["temperature"], top1.chosen["validation"]) == (1, 0.07, None)
    assert top1.value == 1


def test_poisoned_test_images_change_no_choice() -> None:
    clean = clusters(300, 3, 0.8)
    x = clean.stage("pooled", torch.arange(300))
    x[200:] = 1e6
    poisoned = Features.of("toy", {"pooled": x}, clean.labels, clean.train, clean.test)
    protocol = knn.KNN(knn.KNNOptions())
    assert protocol.run(clean, 0)[0].chosen == protocol.run(poisoned, 0)[0].chosen


def test_agrees_with_scikit_learn_at_one_neighbour() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    subject = clusters(600, 4, 0.7)
    found = knn.KNN(knn.KNNOptions(k=(1,))).run(subject, 0)[0].predictions
    x, y = subject.stage("pooled", torch.arange(600)).numpy(), subject.labels.numpy()
    other = KNeighborsClassifier(1, metric="cosine").fit(x[:400], y[:400]).predict(x[400:])
    assert np.mean(found == other) > 0.995


def test_neighbours_are_the_same_on_one_core_and_on_two_and_leave_the_number_of_threads() -> None:
    random = torch.Generator().manual_seed(2)
    x = torch.randn(3000, 8, generator=random, dtype=torch.float64)
    q = torch.randn(1500, 8, generator=random, dtype=torch.float64)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(knn.neighbours(q, x, 5))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert torch.equal(found[0][1], found[1][1])
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-12, rtol=0)


@pytest.mark.parametrize(("bank", "k"), [(1000, 1), (3003, 5), (4100, 20), (2500, 200), (7, 7), (2049, 2049)])
def test_both_forms_of_the_search_find_the_same(monkeypatch: pytest.MonkeyPatch, bank: int, k: int) -> None:
    random = torch.Generator().manual_seed(bank)
    x, q = torch.randn(bank, 12, generator=random), torch.randn(100, 12, generator=random)
    x[: bank // 2] = x[0]  # equal cosines
    monkeypatch.setenv("NOLABEL_KERNELS", "0")
    plain, _ = knn.neighbours(q, x, k)
    monkeypatch.setenv("NOLABEL_KERNELS", "1")
    similarity, nearest = knn.neighbours(q, x, k)
    torch.testing.assert_close(similarity, plain, atol=1e-6, rtol=0)
    full = torch.nn.functional.cosine_similarity(q[:, None], x[None], dim=2)
    torch.testing.assert_close(full.gather(1, nearest), similarity, atol=1e-6, rtol=0)
    assert all(len(set(row)) == k for row in nearest.tolist())


def test_without_a_compiler_the_search_is_plain_with_one_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    expected = knn.neighbours(x[:5], x, 3)
    monkeypatch.setenv("CC", "no-such-compiler")
    _largest.library.cache_clear()
    with pytest.warns(UserWarning, match="searched in plain PyTorch.*no compiler 'no-such-compiler'"):
        found = knn.neighbours(x[:5], x, 3)
    _largest.library.cache_clear()
    assert found[1].equal(expected[1])


def test_a_class_without_a_vote_is_not_among_the_five() -> None:
    rows = {r.metric: r.value for r in knn.KNN(knn.KNNOptions(k=(1,))).run(clusters(300, 30, 0.4), seed=0)}
    assert rows["top5"] == rows["top1"] < 1
