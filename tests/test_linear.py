"""Linear probe: the optimizer against Newton and scikit-learn; choices on training images only."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from nolabel.evaluation import _accuracy, linear, statistics
from nolabel.evaluation._logistic import Problem, minimise, moments, sweep
from nolabel.evaluation.base import Features
from nolabel.evaluation.linear import Linear, LinearOptions
from nolabel.report.accuracy import STAGES
from nolabel.report.records import Row
from nolabel.report.verdict import main_row


def toy(n: int, d: int, classes: int, seed: int = 0, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    centres = torch.randn(classes, d, generator=random, dtype=torch.float64)
    x = centres[y] + spread * torch.randn(n, d, generator=random, dtype=torch.float64)
    return x * torch.logspace(-1, 1, d, dtype=torch.float64) + 3, y


def newton(x: Tensor, y: Tensor, classes: int, l2: float) -> Tensor:
    """The minimum by undamped Newton steps on all (C, D + 1) parameters."""
    rows = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    target = torch.nn.functional.one_hot(y, classes).double()
    penalty = torch.full((classes, rows.shape[1]), l2, dtype=x.dtype)
    penalty[:, -1] = 0
    theta = torch.zeros_like(penalty)
    for _ in range(50):
        p = (rows @ theta.T).softmax(1)
        gradient = (p - target).T @ rows / len(x) + penalty * theta
        curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        hessian = torch.einsum("nab,ni,nj->aibj", curvature, rows, rows) / len(x)
        hessian = hessian.reshape(theta.numel(), -1) + torch.diag(penalty.flatten())
        theta = theta - (torch.linalg.pinv(hessian, rtol=1e-13) @ gradient.flatten()).view_as(theta)
    return theta


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_the_optimum_is_newtons(l2: float) -> None:
    x, y = toy(90, 5, 3)
    fit, _ = minimise(Problem(x, y, 3, torch.float64), l2, tolerance=1e-11)
    expected = newton(x, y, 3, l2)
    assert fit.converged
    torch.testing.assert_close(fit.weight, expected[:, :-1], atol=1e-8, rtol=0)
    # The penalty fixes W; the bias is free up to a constant, which the scores' differences do not see.
    scores = x @ expected[:, :-1].T + expected[:, -1]
    found = fit.logits(x)
    torch.testing.assert_close(
        found - found.mean(1, keepdim=True), scores - scores.mean(1, keepdim=True), atol=1e-7, rtol=0
    )


def test_the_gradient_equals_differences() -> None:
    x, y = toy(40, 4, 3)
    problem = Problem(x, y, 3, torch.float64)
    theta = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradient = problem.value_and_gradient(theta, 0.1)[1]
    for c in range(3):
        for d in range(5):
            step = torch.zeros_like(theta)
            step[c, d] = 1e-6
            ends = [problem.value_and_gradient(theta + sign * step, 0.1)[0] for sign in (1, -1)]
            assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(gradient[c, d]), abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_reaches_scikit_learns_objective_where_c_is_one_over_n_lambda(dtype: torch.dtype) -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = toy(400, 20, 4, spread=2.0)
    l2 = 1e-2
    other = LogisticRegression(C=1 / (len(x) * l2), tol=1e-10, max_iter=10_000).fit(x.numpy(), y.numpy())
    scores = torch.from_numpy(other.decision_function(x.numpy()))
    theirs = torch.nn.functional.cross_entropy(scores, y) + l2 / 2 * float((other.coef_**2).sum())
    fit, _ = minimise(
        Problem(x.to(dtype), y, 4, dtype), l2, tolerance=1e-8 if dtype == torch.float64 else 1e-4
    )
    assert fit.converged
    assert fit.objective == pytest.approx(float(theirs), abs=1e-9 if dtype == torch.float64 else 1e-5)


def test_a_warm_start_and_half_precision_change_the_path_and_not_the_minimum() -> None:
    x, y = toy(500, 30, 5, spread=2.0)
    cold, _ = minimise(Problem(x, y, 5, torch.float64), 1e-2, tolerance=1e-9)
    problem = Problem(x, y, 5, torch.float64)
    _, theta = minimise(problem, 1.0, tolerance=1e-9)
    warm, _ = minimise(problem, 1e-2, theta, tolerance=1e-9)
    assert warm.iterations > 0
    assert warm.objective == pytest.approx(cold.objective, abs=1e-12)
    half, _ = minimise(Problem(x.half(), y, 5), 1e-2)
    assert half.objective == pytest.approx(cold.objective, abs=1e-3)


def test_non_convergence_is_said() -> None:
    x, y = toy(200, 10, 3)
    fit, _ = minimise(Problem(x, y, 3, torch.float64), 1e-4, tolerance=1e-12, limit=2)
    assert fit.iterations == 2
    assert not fit.converged


def test_more_columns_than_rows_take_the_small_matrix_to_the_same_minimum() -> None:
    x, y = toy(60, 100, 3, spread=3.0)
    x = x - x.mean(0)
    fit, _ = minimise(Problem(x, y, 3, torch.float64), 1.0, tolerance=1e-9)
    # W lies in the span of the rows, so the problem in their coordinates has the same minimum.
    basis = torch.linalg.qr(x.T).Q
    small, _ = minimise(Problem(x @ basis, y, 3, torch.float64), 1.0, tolerance=1e-9)
    assert fit.converged
    assert fit.iterations == pytest.approx(small.iterations, abs=5)
    assert fit.objective == pytest.approx(small.objective, abs=1e-12)


def test_a_singular_covariance_is_no_obstacle() -> None:
    x, y = toy(60, 4, 3)
    x = torch.cat([x, x, torch.ones(60, 80, dtype=x.dtype)], 1).float()
    fit, _ = minimise(Problem(x, y, 3), 1e-6)
    assert np.isfinite(fit.objective)


def test_moments_in_blocks() -> None:
    x = torch.randn(5000, 3, dtype=torch.float64) * 5 + 1000
    x[:, 2] = 7
    mean, std = moments(x)
    torch.testing.assert_close(mean, x.mean(0))
    torch.testing.assert_close(std[:2], x[:, :2].std(0, correction=0))
    assert std[2] == 1


def test_the_paper_s_grid() -> None:
    grid = linear.l2_values("full")
    assert len(grid) == 45
    assert (grid[-1], grid[0]) == (pytest.approx(1e-6), pytest.approx(1e5))
    assert all(a / b == pytest.approx(1.778279, rel=1e-6) for a, b in itertools.pairwise(grid))
    assert set(linear.l2_values("short")) < set(grid)


def subject(x: Tensor, y: Tensor, cut: int, **stages: Tensor) -> Features:
    every = {**stages, "pooled": x}
    return Features.of(
        "toy", {k: v.float() for k, v in every.items()}, y, torch.arange(cut), torch.arange(cut, len(y))
    )


def shuffled_toy(n: int, classes: int, spread: float) -> tuple[Tensor, Tensor]:
    x, y = toy(n, 12, classes, spread=spread)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(3))
    return x[order], y[order]


def test_separable_features_give_everything_right_and_the_better_stage_is_chosen() -> None:
    x, y = shuffled_toy(600, 4, 0.05)
    noise = torch.randn(600, 40, generator=torch.Generator().manual_seed(5))
    top1, balanced = Linear(LinearOptions()).run(subject(x, y, 400, stage1=noise), seed=0)
    assert top1.value == balanced.value == 1.0
    assert top1.chosen["stage"] == "pooled"
    assert top1.chosen["values"] == 12
    assert set(top1.chosen["stages"]) == {"stage1", "pooled"}
    assert top1.chosen["stages"]["stage1"] < 0.5
    assert top1.setting["converged"]
    assert top1.predictions is not None
    assert len(top1.predictions) == top1.n == 200


def test_shuffled_labels_give_chance() -> None:
    x, y = shuffled_toy(1500, 3, 0.5)
    y = y[torch.randperm(1500, generator=torch.Generator().manual_seed(4))]
    top1 = Linear(LinearOptions()).run(subject(x, y, 500), seed=0)[0]
    _, low, high = statistics.wilson(round(1000 / 3), 1000)
    assert low <= top1.value <= high


def test_an_infinite_penalty_gives_the_majority_class() -> None:
    x, _ = shuffled_toy(200, 2, 0.1)
    y = (torch.arange(200) % 3 == 0).long()
    fit, _ = minimise(Problem(x, y, 2, torch.float64), 1e12, tolerance=1e-9)
    assert set(fit.logits(x).argmax(1).tolist()) == {0}


def test_poisoned_test_images_change_nothing_that_was_fitted() -> None:
    x, y = shuffled_toy(450, 3, 1.5)
    clean = Linear(LinearOptions()).run(subject(x, y, 300), seed=0)[0]
    poisoned_x = x.clone()
    poisoned_x[300:400] = 1e9
    poisoned = Linear(LinearOptions()).run(subject(poisoned_x, y, 300), seed=0)[0]
    assert clean.chosen == poisoned.chosen
    assert clean.predictions is not None
    assert poisoned.predictions is not None
    assert (clean.predictions[100:] == poisoned.predictions[100:]).all()


def test_the_total_penalty_is_kept_when_the_winner_is_refitted() -> None:
    x, y = shuffled_toy(450, 3, 1.5)
    probe, found = Linear(LinearOptions(images=100)), subject(x, y, 300)
    choices, fitted_on = probe.choose(found, 0)
    assert fitted_on == pytest.approx(80, abs=3)
    top1 = probe.run(found, 0)[0]
    assert top1.chosen["l2"] * 300 == pytest.approx(choices[0].l2 * fitted_on)


def test_top5_is_given_where_classes_are_many() -> None:
    x, y = shuffled_toy(1500, 30, 1.0)
    results = Linear(LinearOptions()).run(subject(x, y, 1000), seed=0)
    assert [r.metric for r in results] == ["top1", "top5", "balanced"]
    assert results[1].value >= results[0].value


def test_options_of_published_tables() -> None:
    x, y = shuffled_toy(240, 3, 1.0)
    options = LinearOptions(standardise="none", l2_grid="full", precision="float64")
    top1 = Linear(options).run(subject(x, y, 160), seed=0)[0]
    assert len(top1.chosen["l2_curve"]) == 45
    assert top1.setting["precision"] == "float64"
    assert top1.value > 0.8


def test_a_sweep_reaches_the_minimum_of_each_value_alone() -> None:
    x, y = toy(300, 15, 4, spread=2.0)
    problem = Problem(x, y, 4, torch.float64)
    values = linear.l2_values("full")[16::6]
    for fit in sweep(problem, values, tolerance=1e-9):
        alone, _ = minimise(Problem(x, y, 4, torch.float64), fit.l2, tolerance=1e-9)
        assert fit.objective == pytest.approx(alone.objective, abs=1e-12)


def test_tags_are_binary_classifiers_each_with_scikit_learn_s_objective() -> None:
    from sklearn.linear_model import LogisticRegression

    x, y = toy(250, 8, 3, spread=2.0)
    tags = torch.stack([(y == 0), (y != 1), x[:, 0] > 3], 1).to(torch.int8)
    l2 = 1e-2
    fit, _ = minimise(Problem(x, tags, 3, torch.float64), l2, tolerance=1e-9)
    for c in range(3):
        other = LogisticRegression(C=1 / (len(x) * l2), tol=1e-10, max_iter=10_000)
        other.fit(x.numpy(), tags[:, c].numpy())
        torch.testing.assert_close(fit.weight[c], torch.from_numpy(other.coef_[0]), atol=1e-5, rtol=1e-5)
        assert float(fit.bias[c]) == pytest.approx(float(other.intercept_[0]), abs=1e-4)


def test_ignored_tags_change_nothing() -> None:
    x, y = toy(200, 6, 2, spread=2.0)
    tags = torch.stack([y == 0, y == 1], 1).to(torch.int8)
    tags[50:100, 0] = -1
    fit, _ = minimise(Problem(x, tags, 2, torch.float64), 1e-2, tolerance=1e-10)
    kept = torch.cat([torch.arange(50), torch.arange(100, 200)])
    # The loss is divided by all images, so fewer of them weigh like a larger λ.
    alone, _ = minimise(
        Problem(x[kept], tags[kept][:, :1], 1, torch.float64), 1e-2 * 200 / 150, tolerance=1e-10
    )
    torch.testing.assert_close(fit.weight[:1], alone.weight, atol=1e-6, rtol=1e-5)


def test_every_stage_is_fitted_and_tested_where_that_is_asked_for() -> None:
    x, y = shuffled_toy(450, 3, 1.5)
    found = subject(x, y, 300, stage1=x[:, :3], stage2=x[:, :6])
    rows = Linear(LinearOptions(every_stage=True)).run(found, seed=0)
    assert [r.protocol for r in rows if r.metric == "top1"] == [
        *("linear", "linear@stage1", "linear@stage2", "linear@pooled")
    ]
    of = {r.protocol: r for r in rows if r.metric == "top1"}
    assert of["linear"].chosen["stage"] == "pooled"
    assert of["linear@pooled"].value == of["linear"].value
    assert of["linear@pooled"].chosen["l2"] == of["linear"].chosen["l2"]
    assert of["linear@stage1"].chosen["validation"] == of["linear"].chosen["stages"]["stage1"]
    assert of["linear@stage1"].setting["train_images"] == 300
    alone = Linear(LinearOptions()).run(subject(x[:, :3], y, 300), seed=0)[0]
    assert of["linear@stage1"].value == alone.value
    assert [r.value for r in rows[:2]] == [r.value for r in Linear(LinearOptions()).run(found, seed=0)]
    written = [Row(r.subject, r.protocol, r.metric, r.value, chosen=r.chosen) for r in reversed(rows)]
    main = main_row(written, "toy")
    assert main is not None
    assert main.protocol == "linear"
    (curve,) = [row for row in written if row.metric == "top1" and STAGES in row.chosen]
    assert curve.protocol == "linear"


def test_one_image_a_class_leaves_nothing_to_choose_by() -> None:
    x, y = shuffled_toy(40, 4, 0.05)
    first = torch.tensor([int((y == c).nonzero()[0]) for c in range(4)])
    rest = torch.tensor([i for i in range(40) if i not in first.tolist()])
    found = Features.of("toy", {"stage1": x[:, :2].float(), "pooled": x.float()}, y, first, rest)
    rows = Linear(LinearOptions(every_stage=True)).run(found, seed=0)
    assert {r.protocol for r in rows} == {"linear", "linear@stage1", "linear@pooled"}
    chosen = rows[0].chosen
    assert (chosen["stage"], chosen["l2"], chosen["validation"]) == ("pooled", 1.0, None)
    json.dumps([r.chosen for r in rows], allow_nan=False)
    assert rows[0].value > 0.9


def test_the_mean_over_classes_may_choose() -> None:
    correct, labels = torch.tensor([True] * 8 + [False] * 2), torch.tensor([0] * 8 + [2] * 2)
    assert _accuracy.share(correct, labels, "balanced") == 0.5
    assert _accuracy.share(correct, labels) == pytest.approx(0.8)
