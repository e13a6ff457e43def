"""Label-free diagnostics: the closed forms."""

import math

import pytest
import torch
from torch import Tensor

from nolabel.evaluation import diagnostics
from nolabel.evaluation.base import Features


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_feature_std_of_an_isotropic_cloud_and_of_a_constant() -> None:
    assert diagnostics.feature_std(normal(20_000, 128)) == pytest.approx(0.088388, rel=0.01)
    assert diagnostics.feature_std(torch.ones(10, 4)) == pytest.approx(0, abs=1e-9)


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


def test_uniformity_closed_forms() -> None:
    assert diagnostics.uniformity(torch.ones(5, 3)) == pytest.approx(0)
    assert diagnostics.uniformity(torch.eye(6)) == pytest.approx(-4)
    assert diagnostics.uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    z = normal(200, 5)
    turn, _ = torch.linalg.qr(normal(5, 5, seed=1))
    assert diagnostics.uniformity(z @ turn) == pytest.approx(diagnostics.uniformity(z))


@pytest.mark.parametrize(("d", "value"), [(2, -1.575027), (3, -2.079777), (16, -3.513036), (128, -3.937530)])
def test_uniformity_of_the_uniform_distribution_on_a_sphere(d: int, value: float) -> None:
    assert diagnostics.uniformity(normal(3000, d)) == pytest.approx(value, abs=0.02)


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
    assert all(r.n == 50 and r.low is None for r in results)
    assert results[0].setting["verdict"].startswith("Healthy")
