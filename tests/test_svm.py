"""One-vs-all SVM: pooling by hand, the squared hinge against differences and scikit-learn, draws and their errors."""

import math

import numpy as np
import pytest
import torch

from nolabel.errors import DataError, RunError
from nolabel.evaluation import svm
from nolabel.evaluation._logistic import Problem, minimise
from nolabel.evaluation._split import divide
from nolabel.evaluation.svm import SVM, SVMOptions, cell_maxima
from test_features import store_of
from test_heads_protocols import net, one_sentence, tiny
from test_linear import toy


def test_one_hot_cell_gives_one_of_four_maxima() -> None:
    for at in range(16):
        maps = torch.zeros(1, 1, 4, 4)
        maps.view(-1)[at] = 1
        found = cell_maxima(maps, (2,))[0]
        assert found.tolist() == [float(k == 2 * (at // 8) + (at % 4) // 2) for k in range(4)]


def test_an_odd_side_is_cut_into_its_floor_and_ceiling() -> None:
    maps = torch.arange(49.0).view(1, 1, 7, 7)
    expected = [maps[0, 0, r, c].max() for r in (slice(3), slice(3, 7)) for c in (slice(3), slice(3, 7))]
    assert cell_maxima(maps, (2,))[0].tolist() == [float(value) for value in expected]


def test_the_pyramid_has_21_numbers_a_map_and_its_levels_agree() -> None:
    maps = torch.rand(3, 5, 8, 8)
    found = cell_maxima(maps, svm.CELLS["pyramid"])
    assert found.shape == (3, 5 * 21)
    assert cell_maxima(maps, svm.CELLS["quadrants"]).shape == (3, 5 * 4)
    torch.testing.assert_close(found[:, :5], maps.amax((2, 3)))
    torch.testing.assert_close(found[:, 5:25].view(3, 5, 4).amax(2), maps.amax((2, 3)))
    torch.testing.assert_close(found[:, 25:].view(3, 5, 16).amax(2), maps.amax((2, 3)))


def test_a_map_of_one_cell_gives_what_it_has() -> None:
    assert cell_maxima(torch.rand(2, 3, 1, 1), (1, 2, 4)).shape == (2, 9)


def test_features_lose_the_training_mean_and_get_unit_length() -> None:
    train, test = torch.randn(50, 6) + 3, torch.randn(9, 6) + 3
    mean = train.mean(0)
    expected = torch.nn.functional.normalize(test - mean, dim=1)
    svm.scale(train, test)
    torch.testing.assert_close(test, expected)
    torch.testing.assert_close(train.norm(dim=1), torch.ones(50))


def test_the_gradient_of_the_hinge_equals_differences() -> None:
    x, y = toy(40, 4, 3)
    problem = Problem(x, y, 3, torch.float64, loss="squared_hinge")
    theta = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradient = problem.value_and_gradient(theta, 0.1)[1]
    for c in range(3):
        for d in range(5):
            step = torch.zeros_like(theta)
            step[c, d] = 1e-6
            ends = [problem.value_and_gradient(theta + sign * step, 0.1)[0] for sign in (1, -1)]
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(gradient[c, d]), abs=1e-5)


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_reaches_scikit_learns_objective(c: float) -> None:
    from sklearn.svm import LinearSVC

    x, y = toy(300, 12, 3, spread=2.0)
    x = torch.nn.functional.normalize(x - x.mean(0), dim=1)
    # A large scale of the intercept makes the penalty that scikit-learn puts on it vanish.
    other = LinearSVC(C=c, dual=False, tol=1e-10, max_iter=100_000, intercept_scaling=1000).fit(
        x.numpy(), y.numpy()
    )
    signs = 2 * torch.nn.functional.one_hot(y, 3).double() - 1

    def objective(weight: torch.Tensor, bias: torch.Tensor) -> float:
        margins = signs * (x @ weight.T + bias)
        return float(0.5 * weight.square().sum() + c * (1 - margins).clamp_min(0).square().sum())

    fit, _ = minimise(Problem(x, y, 3, torch.float64, loss="squared_hinge"), 1 / (len(x) * c), tolerance=1e-9)
    theirs = objective(torch.from_numpy(other.coef_), torch.from_numpy(other.intercept_))
    ours = objective(fit.weight, fit.bias)
    assert ours <= theirs * (1 + 1e-9)
    assert ours == pytest.approx(theirs, rel=1e-4)
    assert 2 * fit.objective * c * len(x) / 2 == pytest.approx(ours)
    assert np.array_equal(fit.logits(x).argmax(1).numpy(), other.predict(x.numpy()))


def test_the_grid_of_c() -> None:
    assert len(svm.GRID) == 17
    assert (svm.GRID[0], svm.GRID[-1]) == (pytest.approx(1e-6), pytest.approx(100))
    assert svm.GRID[1] / svm.GRID[0] == pytest.approx(math.sqrt(10))


def test_c_is_chosen_by_folds_of_the_training_images() -> None:
    x, y = toy(200, 6, 4, spread=0.3)
    rows = torch.nn.functional.normalize(x - x.mean(0), dim=1).float()
    c, accuracy = SVM(SVMOptions()).choose(rows, y, 4, 0)
    assert c in svm.GRID
    assert accuracy is not None
    assert accuracy > 0.9
    noise = y[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    of_noise = SVM(SVMOptions()).choose(rows, noise, 4, 0)[1]
    assert of_noise is not None
    assert of_noise < 0.45
    assert SVM(SVMOptions()).choose(rows[:4], y[:4], 4, 0) == (1.0, None)  # one image a class


def test_all_stages_of_an_encoder_are_read() -> None:
    subject = tiny(store_of(90, size=8))
    top1, balanced = SVM(SVMOptions()).run(subject, 0)
    assert (top1.metric, balanced.metric, top1.n) == ("top1", "balanced", 30)
    assert top1.value > 0.8
    assert top1.setting["values"] == 4 * (8 + 8)
    assert top1.predictions is not None
    (larger, _) = SVM(SVMOptions(pooling="pyramid", enlarge=2)).run(subject, 0)
    assert larger.setting["values"] == 21 * (8 + 8)
    assert larger.setting["size"] == 16


def test_the_folds_of_the_table() -> None:
    store = store_of(90, size=8)
    subject = tiny(store)
    options = SVMOptions(per_class=5, draws=3, most_test=4)
    top1, balanced = SVM(options).run(subject, 0)
    assert (top1.n, top1.setting["train_images"], top1.setting["draws"]) == (12, 15, 3)
    assert top1.value == pytest.approx(np.mean(top1.setting["of_seeds"]))
    assert len(balanced.setting["of_seeds"]) == 3
    assert top1.predictions is None
    with pytest.raises(DataError, match="21 labels a class are asked for and class 0 has 20") as caught:
        SVM(SVMOptions(per_class=21)).check(store, divide(store, 0))
    one_sentence(str(caught.value))


def test_features_that_are_not_finite_are_refused() -> None:
    subject = tiny(name="broken")
    with torch.no_grad():
        net(subject).encoder.stem.weight[0] = math.nan
    with pytest.raises(RunError, match="features of broken are not finite"):
        SVM(SVMOptions()).run(subject, 0)
