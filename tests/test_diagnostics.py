"""Label-free diagnostics: the closed forms."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from nolabel.data.store import ImageStore
from nolabel.evaluation import diagnostics, statistics
from nolabel.evaluation._cka import cka, kernel
from nolabel.evaluation._features import extract
from nolabel.evaluation._split import Division
from nolabel.evaluation.base import Features, Result
from nolabel.training import health
from small import TinyNet, smooth_images


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_feature_std_of_an_isotropic_cloud_and_of_a_constant() -> None:
    assert diagnostics.feature_std(normal(20_000, 128)) == pytest.approx(0.088388 * 128**0.5, rel=0.01)
    assert diagnostics.feature_std(torch.ones(10, 4)) == pytest.approx(0, abs=1e-9)


def test_the_run_s_own_watch_has_the_same_scale_and_thresholds() -> None:
    z = normal(200, 16) + 0.5
    assert diagnostics.feature_std(z) == pytest.approx(health.feature_std(z), rel=1e-5)
    assert (diagnostics.LOW_STD, diagnostics.LOW_RANK) == (health.LOW_STD, health.LOW_RANK)


def test_rankme_closed_forms() -> None:
    assert diagnostics.rankme(torch.eye(8)) == pytest.approx(8, abs=1e-3)
    assert diagnostics.rankme(torch.outer(torch.arange(1, 9.0), torch.ones(8))) == pytest.approx(1, abs=1e-3)
    z = torch.diag(torch.tensor([2.0, 1, 1]))
    assert diagnostics.rankme(z) == pytest.approx(2 * math.sqrt(2), abs=1e-4)
    assert diagnostics.rankme(7 * z) == pytest.approx(diagnostics.rankme(z))
    turn, _ = torch.linalg.qr(normal(3, 3))
    assert diagnostics.rankme(z.double() @ turn) == pytest.approx(diagnostics.rankme(z))
    assert diagnostics.rankme(normal(50, 20)) <= 20
    assert diagnostics.rankme(torch.zeros(5, 3)) == 1


def test_participation_ratio_closed_forms() -> None:
    assert diagnostics.participation_ratio(torch.cat([torch.eye(6), -torch.eye(6)])) == pytest.approx(6)
    assert diagnostics.participation_ratio(torch.outer(torch.arange(9.0), torch.ones(4))) == pytest.approx(1)
    assert diagnostics.participation_ratio(torch.ones(4, 3)) == 0


def test_alpha_req_closed_forms() -> None:
    j = torch.arange(1, 101, dtype=torch.float64)
    assert diagnostics.alpha_req(j**-1.5) == pytest.approx(1.5)
    assert diagnostics.alpha_req(torch.ones(50)) == pytest.approx(0)
    assert diagnostics.alpha_req(torch.tensor([1.0, 0.0])) == 0


def test_alignment_closed_forms() -> None:
    a = torch.eye(4)
    assert diagnostics.alignment(a, 3 * a) == pytest.approx(0)
    assert diagnostics.alignment(a, a.roll(1, 0)) == pytest.approx(2)
    assert diagnostics.alignment(a, -a) == pytest.approx(4)
    x, y = normal(50, 7), normal(50, 7, seed=1) + 0.5
    cosines = torch.nn.functional.cosine_similarity(x, y)
    assert diagnostics.alignment(x, y) == pytest.approx(2 - 2 * float(cosines.mean()))


def test_uniformity_closed_forms() -> None:
    assert diagnostics.uniformity(torch.ones(5, 3)) == pytest.approx(0)
    assert diagnostics.uniformity(torch.eye(6)) == pytest.approx(-4)
    assert diagnostics.uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    z = normal(200, 5)
    turn, _ = torch.linalg.qr(normal(5, 5, seed=1))
    assert diagnostics.uniformity(z @ turn) == pytest.approx(diagnostics.uniformity(z))


@pytest.mark.parametrize(
    ("d", "value", "within"),
    [
        (2, -1.575027, 0.02),
        (3, -2.079777, 0.02),
        (16, -3.513036, 0.02),
        (64, -3.875236, 0.002),
        (128, -3.937530, 0.002),
        (512, -3.984375, 0.002),
    ],
)
def test_uniformity_of_the_uniform_distribution_on_a_sphere(d: int, value: float, within: float) -> None:
    assert diagnostics.uniformity(normal(3000, d)) == pytest.approx(value, abs=within)


def test_the_interval_of_uniformity_covers_as_it_should() -> None:
    d, truth, covered = 16, -3.513036, 0
    for trial in range(200):
        z = normal(80, d, seed=trial)
        each = diagnostics.uniformity_of_each(z)
        assert each.mean() == pytest.approx(diagnostics.uniformity(z))
        _, low, high = statistics.bootstrap_mean(each, trial, 500)
        covered += low <= truth <= high
    assert covered / 200 >= 0.9


def test_the_verdict_names_health_collapse_and_redundancy() -> None:
    cloud = normal(500, 64)
    constant = torch.ones(500, 64) + 1e-3 * cloud
    thin = cloud[:, :3] @ normal(3, 64)
    for z, word in ((cloud, "Healthy"), (constant, "Collapsing"), (thin, "Redundant")):
        said = diagnostics.verdict(diagnostics.feature_std(z), diagnostics.rankme(z), *z.shape)
        assert said.startswith(word), said


def test_the_protocol_gives_one_row_a_measure() -> None:
    x = normal(100, 16).float()
    none = torch.zeros(0, dtype=torch.int64)
    labels = torch.full((100,), -1)
    subject = Features.of("toy", {"pooled": x}, labels, none, torch.arange(100), ["unknown"])
    results = diagnostics.Diagnostics(diagnostics.DiagnosticsOptions(images=50)).run(subject, seed=0)
    assert {r.metric for r in results} == {
        "feature_std",
        "rankme",
        "participation_ratio",
        "alpha_req",
        "uniformity",
    }
    assert all(r.n == 50 and r.low < r.value < r.high for r in results)
    assert {r.metric: r.setting["interval"] for r in results} == dict.fromkeys(
        ("feature_std", "rankme", "participation_ratio", "alpha_req"), "jackknife over images, in 20 blocks"
    ) | {"uniformity": "bootstrap over images"}
    few = diagnostics.Diagnostics(diagnostics.DiagnosticsOptions(images=49)).run(subject, seed=0)
    assert [r.metric for r in few if r.low is not None] == ["uniformity"]
    assert few[0].setting["interval"] == "none: fewer than 50 images"
    assert results[0].setting["verdict"].startswith("Healthy")


def test_lidar_closed_forms() -> None:
    between, within = normal(3000, 8), normal(3000 * 20, 8, seed=1).view(3000, 20, 8)
    assert diagnostics.lidar(between[:, None] + 0.3 * within) == pytest.approx(8, abs=0.1)
    line = normal(500, 1)[:, None] * normal(1, 8, seed=2)
    assert diagnostics.lidar(line + 0.01 * within[:500]) == pytest.approx(1, abs=0.05)
    z, mixing = between[:, None] + 0.3 * within, normal(8, 8, seed=3)
    assert diagnostics.lidar(z @ mixing, delta=1e-12) == pytest.approx(diagnostics.lidar(z, delta=1e-12))
    assert diagnostics.lidar(torch.ones(10, 4, 3)) == 1


def test_view_recall() -> None:
    z = normal(300, 10)
    assert diagnostics.view_recall(z, 5 * z) == 1
    assert diagnostics.view_recall(z, normal(300, 10, seed=1)) == pytest.approx(1 / 599, abs=0.01)
    assert diagnostics.view_recall(torch.eye(4), torch.eye(4).roll(1, 0)) == 0


def alike(x: Tensor, y: Tensor) -> float:
    return cka(kernel(x), kernel(y))


def test_cka_closed_forms() -> None:
    x, y = normal(60, 6), normal(60, 40, seed=2)
    turn, _ = torch.linalg.qr(normal(6, 6, seed=1))
    assert alike(x, 3 * x @ turn + 5) == pytest.approx(1)
    assert alike(x, y) == pytest.approx(alike(y, x))
    assert alike(x, torch.ones(60, 3)) == 0


@pytest.mark.parametrize("n", [100, 1000])
def test_cka_of_independent_features_is_not_biased(n: int) -> None:
    assert alike(normal(n, 64), normal(n, 64, seed=1)) == pytest.approx(0, abs=4 / n)


def test_cka_is_made_of_means_over_four_different_images() -> None:
    """The criterion's unbiased estimate is a U-statistic (Song et al. 2012, equation 4)."""
    kernels = [kernel(x) for x in (normal(7, 3), normal(7, 2, seed=1))]

    def criterion(k: Tensor, l: Tensor) -> float:
        k, l = k.tolist(), l.tolist()
        fours = permutations(range(7), 4)
        return float(np.mean([k[i][j] * (l[i][j] + l[q][r] - 2 * l[i][q]) for i, j, q, r in fours]))

    (k, l), scale = kernels, math.prod(criterion(one, one) for one in kernels)
    assert cka(k, l) == pytest.approx(criterion(k, l) / math.sqrt(scale))


def cloud(n: int, d: int, seed: int) -> Tensor:
    """Features as a rectified stage gives them: not negative, of a falling spectrum."""
    mixing = torch.linalg.qr(normal(d, d, seed=99)).Q
    return (normal(n, d, seed) * torch.arange(1, d + 1) ** -0.5 @ mixing + 0.1).relu()


@pytest.mark.slow
@pytest.mark.parametrize(("n", "d"), [(60, 16), (60, 80)])
@pytest.mark.parametrize(
    ("measure", "width"),
    [
        ("feature_std", 2),
        ("rankme", 2),
        ("participation_ratio", 2),
        ("alpha_req", 2),
        ("cka", 2),
        ("lidar", 3),
    ],
)
def test_the_jackknife_covers_what_sets_of_as_many_images_have(
    measure: str, width: float, n: int, d: int
) -> None:
    """100 sets: the share covered has a standard error of 2 points. No interval is `width` times too wide either."""
    found = []
    for trial in range(100):
        z = cloud(n, d, trial)
        views = z[:, None] + 0.3 * normal(n * 3, d, 1000 + trial).view(n, 3, d)
        found.append({
            "feature_std": lambda z=z: over(lambda rows: diagnostics.feature_std(z[rows]), n),
            "rankme": lambda z=z: over(lambda rows: diagnostics.rankme(z[rows]), n),
            "participation_ratio": lambda z=z: over(lambda rows: diagnostics.participation_ratio(z[rows]), n),
            "alpha_req": lambda z=z: over(
                lambda rows: diagnostics.alpha_req(diagnostics.covariance_spectrum(z[rows])), n
            ),
            "cka": lambda z=z: diagnostics.cka_over_blocks(kernel(z), kernel(z[:, : d // 2].tanh()), 0).value,
            "lidar": lambda z=views: over(lambda rows: diagnostics.lidar(z[rows]), n),
        }[measure]())  # fmt: skip
    values, low, high = np.array(found).T
    assert np.mean((low <= values.mean()) & (values.mean() <= high)) >= 0.88
    assert np.mean(high - low) <= width * 2 * 1.96 * values.std()


def over(measure: Callable[[Tensor], float], n: int) -> statistics.Interval:
    found = diagnostics.over_blocks(measure, n, 0).value
    assert isinstance(found, statistics.Interval)
    return found


def test_cka_over_blocks_leaves_images_out_of_both() -> None:
    x, y = cloud(60, 90, 0) + 3, cloud(60, 4, 1)
    found = diagnostics.cka_over_blocks(kernel(x), kernel(y), 0).value
    assert isinstance(found, statistics.Interval)
    assert found.value == pytest.approx(alike(x, y))
    expected = statistics.jackknife(lambda places: alike(x[places], y[places]), 60, 0)
    assert (found.low, found.high) == pytest.approx(expected[1:])
    assert diagnostics.cka_over_blocks(kernel(x), kernel(torch.ones(60, 3)), 0).value == (0, 0, 0)


def test_an_encoder_adds_measures_of_views_and_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnostics, "COMPARED", 7)
    torch.manual_seed(0)
    encoder = TinyNet(width=6)
    store = ImageStore.of([smooth_images(40, (12, 12)).image(b) for b in range(40)])
    none = torch.zeros(0, dtype=torch.int64)
    subject = extract(encoder, store, Division(none, torch.arange(40), "all"), name="tiny")
    options = diagnostics.DiagnosticsOptions(viewed=30, views=3)
    rows = {r.metric: r for r in diagnostics.Diagnostics(options).run(subject, seed=0)}
    assert {metric: (row.n, row.setting.get("views"), row.setting.get("delta")) for metric, row in rows.items()} == {
        **dict.fromkeys(("feature_std", "rankme", "participation_ratio", "alpha_req", "uniformity"), (40, None, None)),
        **dict.fromkeys(("cka_stage1", "cka_stage2"), (7, None, None)),
        **dict.fromkeys(("alignment", "view_recall"), (30, 2, None)),
        "lidar": (30, 3, 1e-4),
    }  # fmt: skip
    for metric in ("alignment", "view_recall", "uniformity"):
        low, high = rows[metric].low, rows[metric].high
        assert low is not None
        assert high is not None
        assert low < rows[metric].value < high
    assert (
        rows["cka_stage1"].setting["interval"]
        == rows["lidar"].setting["interval"]
        == "none: fewer than 50 images"
    )
    found = {metric: row.value for metric, row in rows.items()}
    assert {"alignment", "view_recall", "lidar", "cka_stage1", "cka_stage2"} < set(found)
    assert 0 <= found["alignment"] <= 4
    assert 0 <= found["view_recall"] <= 1
    assert 1 <= found["lidar"] <= 6
    assert found["cka_stage2"] == pytest.approx(1, abs=0.5)
    again = {r.metric: r.value for r in diagnostics.Diagnostics(options).run(subject, seed=0)}
    assert again == found


@pytest.mark.parametrize(
    ("n", "left_out"),
    [
        (1, set(diagnostics.LEAST)),
        (2, {"participation_ratio", "alpha_req", "lidar", "cka"}),
        (3, {"cka"}),
        (4, set()),
    ],
)
def test_what_too_few_images_define_is_left_out(n: int, left_out: set[str]) -> None:
    store = ImageStore.of([smooth_images(4, (12, 12)).image(b) for b in range(4)])
    none = torch.zeros(0, dtype=torch.int64)
    subject = extract(TinyNet(width=6), store, Division(none, torch.arange(n), "all"), name="tiny")
    rows = diagnostics.Diagnostics(diagnostics.DiagnosticsOptions()).run(subject, seed=0)
    assert {row.metric.partition("_stage")[0] for row in rows} == set(diagnostics.LEAST) - left_out
    assert all(math.isfinite(row.value) for row in rows)
    assert all(row.setting["verdict"].startswith(f"Too few images ({n}) to say") for row in rows)


def test_a_collapse_is_dated_by_the_run_s_own_health() -> None:
    def row(step: int, spread: float, rank: float = 9.0) -> dict[str, float]:
        return {"step": step, "loss": 1.0, "feature_std": spread, "rankme": rank}

    metrics = [row(0, 0.6), row(10, 0.01), row(20, 0.5), {"step": 25}, row(30, 0.04), row(40, 0.5, 1.2)]
    assert diagnostics.since(metrics) == 30
    assert diagnostics.since(metrics[:4]) is None
    assert diagnostics.since([]) is None
    said = diagnostics.verdict(0.01, 1.1, 100, 64)
    result = Result("x", "diagnostics", "rankme", 1.1, None, None, 100, setting={"verdict": said})
    (found,) = diagnostics.dated([result], metrics)
    assert found.setting["verdict"].startswith("Collapsing since step 30: the features")
    assert "try a smaller" in found.setting["verdict"]
    assert diagnostics.dated([result], metrics[:3]) == [result]
    healthy = replace(result, setting={"verdict": diagnostics.verdict(0.9, 60, 100, 64)})
    assert diagnostics.dated([healthy], metrics) == [healthy]
