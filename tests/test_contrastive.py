"""The losses beside NT-Xent: closed forms, definitions, the gradients of the paper's table, two processes."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel import distributed, seeds
from nolabel.errors import UsageError
from nolabel.methods import _contrastive
from nolabel.methods._contrastive import MASKED, dcl_weights, margin_triplet, nt_logistic, rival, rival_chance
from nolabel.methods._simclr_picture import nearest_other
from nolabel.methods.base import DataInfo
from nolabel.methods.simclr import SimCLR, SimCLROptions, nt_xent
from small import TinyNet, smooth_images

CASES = [
    ("dcl", "all"), ("dclw", "all"), ("nt_logistic", "all"), ("nt_logistic", "semi_hard"), ("margin", "all"),
    ("margin", "semi_hard"),
]  # fmt: skip
each_case = pytest.mark.parametrize(("name", "mining"), CASES)
NEGATIVES = ("both_views", "other_view")


def random_z(n: int, views: int = 2, dim: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, views, dim, dtype=torch.float64, generator=seeds.generator(seed, "z"))


def loss(
    z: Tensor, name: str, mining: str = "all", *, tau: float = 0.5, normalise=True, negatives="both_views"
) -> Tensor:
    return rival(name, z, tau, normalise, negatives, mining, 0.4)  # type: ignore[arg-type]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# ---- closed forms


@pytest.mark.parametrize("n", [2, 8, 32])
@pytest.mark.parametrize("views", [2, 3])
def test_orthogonal_embeddings(n: int, views: int) -> None:
    """All similarities are 0: also what a head that gives zero has."""
    z = torch.eye(views * n, dtype=torch.float64).view(n, views, views * n)
    for name, mining in CASES:
        value = rival_chance(name, views * (n - 1), 0.4)  # type: ignore[arg-type]
        assert loss(z, name, mining).item() == pytest.approx(value, abs=1e-6)
        assert loss(0 * z, name, mining).item() == pytest.approx(value, abs=1e-6)
    assert loss(z, "dcl").item() == pytest.approx(math.log(views * (n - 1)), abs=1e-6)
    assert loss(z, "dcl", negatives="other_view").item() == pytest.approx(math.log(n - 1), abs=1e-6)
    assert loss(z, "nt_logistic").item() == pytest.approx(2 * math.log(2), abs=1e-6)
    assert loss(z, "margin").item() == pytest.approx(0.4, abs=1e-6)


@pytest.mark.parametrize("mining", ["all", "semi_hard"])
def test_equal_embeddings(mining: str) -> None:
    z = torch.ones(8, 2, 3, dtype=torch.float64)
    assert loss(z, "nt_logistic", mining).item() == pytest.approx(softplus(-2) + softplus(2), abs=1e-6)
    assert loss(z, "margin", mining).item() == pytest.approx(0.4, abs=1e-6)
    assert loss(z, "dcl").item() == loss(z, "dclw").item() == pytest.approx(math.log(14), abs=1e-6)


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("tau", [0.1, 0.5, 1.0])
def test_equal_partners_of_orthogonal_images(tau: float, negatives: str) -> None:
    """s⁺ = 1/τ, s⁻ = 0: the positive is nearer than every negative by more than the margin."""
    n, views = 8, 2
    z = torch.eye(n, dtype=torch.float64)[:, None].repeat(1, views, 1)
    rivals = (n - 1) * (views if negatives == "both_views" else 1)
    for mining in ("all", "semi_hard"):
        value = loss(z, "nt_logistic", mining, tau=tau, negatives=negatives).item()
        assert value == pytest.approx(softplus(-1 / tau) + math.log(2), abs=1e-9)
        assert loss(z, "margin", mining, tau=tau, negatives=negatives).item() == 0
    for name in ("dcl", "dclw"):
        value = loss(z, name, tau=tau, negatives=negatives).item()
        assert value == pytest.approx(math.log(rivals) - 1 / tau, abs=1e-9)
    expected = math.log1p(rivals * math.exp(-1 / tau))
    assert nt_xent(z, tau, negatives=negatives).item() == pytest.approx(expected, abs=1e-9)


# ---- definitions


def pairs_of(u: Tensor, negatives: str) -> list[tuple[Tensor, Tensor, list[Tensor]]]:
    """(anchor, its positive, its negatives) of every ordered pair of views."""
    n, views, _ = u.shape
    return [
        (
            u[i, v], u[i, w],
            [u[k, x] for k in range(n) if k != i for x in (range(views) if negatives == "both_views" else [w])],
        )
        for i in range(n) for v in range(views) for w in range(views) if v != w
    ]  # fmt: skip


def by_hand(z: Tensor, name: str, mining: str, *, tau: float, normalise: bool, negatives: str) -> float:
    """The mean of the definitions over the anchors, in plain numbers."""
    u = z / z.norm(dim=-1, keepdim=True) if normalise else z
    values = []
    for anchor, partner, others in pairs_of(u, negatives):
        positive, against = float(anchor @ partner), [float(anchor @ other) for other in others]
        if mining == "semi_hard":
            against = sorted(s for s in against if s <= positive)[-1:]
        if name == "margin":
            terms = [max(s - positive + 0.4, 0) for s in against]
            values.append(sum(terms) / max(len(terms), 1))
        elif name == "nt_logistic":
            terms = [softplus(s / tau) for s in against]
            values.append(softplus(-positive / tau) + sum(terms) / max(len(terms), 1))
        else:
            values.append(-positive / tau + math.log(sum(math.exp(s / tau) for s in against)))
    return sum(values) / len(values)


@pytest.mark.parametrize("negatives", NEGATIVES)
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(("n", "views"), [(2, 2), (7, 2), (4, 3)])
@pytest.mark.parametrize(("name", "mining"), [case for case in CASES if case[0] != "dclw"])
def test_equal_to_the_definition_term_by_term(
    name: str, mining: str, n: int, views: int, normalise: bool, negatives: str
) -> None:
    z = random_z(n, views)
    if n == 2:
        z[1] = -0.9 * z[0].flip(
            0
        )  # an anchor none of whose negatives is nearer than its positive, and others
    found = loss(z, name, mining, tau=0.7, normalise=normalise, negatives=negatives)
    expected = by_hand(z, name, mining, tau=0.7, normalise=normalise, negatives=negatives)
    assert found.item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_nt_xent_without_lengths_or_with_one_view_of_negatives(normalise: bool, negatives: str) -> None:
    z = random_z(5, 3)
    u = F.normalize(z, dim=-1) if normalise else z
    terms = []
    for anchor, partner, others in pairs_of(u, negatives):
        scores = torch.stack([anchor @ other for other in [partner, *others]]) / 0.7
        terms.append(-F.log_softmax(scores, 0)[0])
    found = nt_xent(z, 0.7, normalise, negatives)
    torch.testing.assert_close(found, torch.stack(terms).mean(), rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize(("name", "theirs"), [("dcl", "DCLLoss"), ("dclw", "DCLWLoss")])
def test_decoupled_losses_equal_lightlys(name: str, theirs: str) -> None:
    import lightly.loss

    for n, tau in ((2, 0.5), (16, 0.1)):
        ours, reference = random_z(n).float().requires_grad_(), random_z(n).float().requires_grad_()
        value = loss(ours, name, tau=tau)
        expected = getattr(lightly.loss, theirs)(tau)(reference[:, 0], reference[:, 1])
        value.backward()
        expected.backward()
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.grad, reference.grad, rtol=1e-4, atol=1e-6)


def test_weights_of_the_decoupled_loss_are_one_on_average_and_smaller_for_pairs_alike() -> None:
    positive = torch.rand(6, 2, 2, dtype=torch.float64, requires_grad=True)
    weights = dcl_weights(positive / 0.2, 0.2)
    torch.testing.assert_close(weights.mean(0), torch.ones(2, 2, dtype=torch.float64))
    assert (weights[:, 0, 1].argsort() == positive[:, 0, 1].argsort(descending=True)).all()
    assert not weights.requires_grad


# ---- gradients of table 2


def table_gradient(terms: Callable[[Tensor, Tensor], Tensor], u: Tensor, v: Tensor, others: Tensor) -> Tensor:
    """-∂/∂u of the terms of one anchor, with lengths left alone as in the paper's table."""
    u = u.clone().requires_grad_()
    value = terms((u @ v).view(1, 1, 1), (others @ u).view(1, 1, 1, -1))
    return -torch.autograd.grad(value.sum(), u)[0]


def anchor(seed: int, negatives: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    u = F.normalize(random_z(2 + negatives, 1, 5, seed)[:, 0], dim=1)
    return u[0], u[1], u[2:]


@pytest.mark.parametrize("seed", range(4))
def test_gradient_of_nt_logistic_is_the_tables(seed: int) -> None:
    u, v, others = anchor(seed)
    tau = 0.3
    found = table_gradient(lambda p, n: nt_logistic(p / tau, n / tau), u, v, others)
    negative = others[0]
    expected = torch.sigmoid(-u @ v / tau) / tau * v - torch.sigmoid(u @ negative / tau) / tau * negative
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_gradient_of_the_margin_is_the_tables(seed: int) -> None:
    u, v, others = anchor(seed)
    gap = float(u @ v - u @ others[0])
    for margin, expected in ((gap + 0.1, v - others[0]), (gap - 0.1, torch.zeros_like(v))):
        found = table_gradient(lambda p, n, m=margin: margin_triplet(p, n, m), u, v, others)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_semi_hard_gradient_takes_the_nearest_negative_behind_the_positive() -> None:
    u = torch.tensor([1.0, 0, 0])
    v = torch.tensor([0.6, 0.8, 0])
    nearer, behind, far = (torch.tensor([s, 0, (1 - s * s) ** 0.5]) for s in (0.9, 0.5, -0.7))
    others = torch.stack([nearer, far, behind])
    margin = table_gradient(lambda p, n: margin_triplet(p, n, 0.4, "semi_hard"), u, v, others)
    torch.testing.assert_close(margin, v - behind)
    outside = table_gradient(lambda p, n: margin_triplet(p, n, 0.05, "semi_hard"), u, v, others)
    torch.testing.assert_close(outside, torch.zeros(3))
    logistic = table_gradient(lambda p, n: nt_logistic(p, n, "semi_hard"), u, v, others)
    torch.testing.assert_close(
        logistic, torch.sigmoid(torch.tensor(-0.6)) * v - torch.sigmoid(torch.tensor(0.5)) * behind
    )
    only_nearer = table_gradient(lambda p, n: margin_triplet(p, n, 0.4, "semi_hard"), u, v, others[:1])
    torch.testing.assert_close(only_nearer, torch.zeros(3))


def gradient(z: Tensor, name: str, mining: str) -> Tensor:
    z = z.clone().requires_grad_()
    return torch.autograd.grad(loss(z, name, mining), z)[0]


@each_case
def test_symmetries(name: str, mining: str) -> None:
    z = random_z(6)
    assert (z * gradient(z, name, mining)).sum(-1).abs().max() < 1e-12
    torch.testing.assert_close(loss(3 * z, name, mining), loss(z, name, mining))
    torch.testing.assert_close(loss(z.flip(1), name, mining), loss(z, name, mining))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(gradient(z[order], name, mining), gradient(z, name, mining)[order])


@pytest.mark.parametrize(("name", "mining"), [case for case in CASES if case[0] != "dclw"])
def test_central_differences(name: str, mining: str) -> None:
    assert torch.autograd.gradcheck(lambda z: loss(z, name, mining), random_z(3, 3).requires_grad_())


@each_case
def test_small_temperature_and_half_precision_are_computed_in_float32(name: str, mining: str) -> None:
    z = random_z(32).float().requires_grad_()
    value = loss(z, name, mining, tau=0.01)
    value.backward()
    assert value.isfinite()
    assert z.grad.isfinite().all()
    half = random_z(16).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(half, name, mining, tau=0.07)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half.float(), name, mining, tau=0.07), rtol=0, atol=0)


# ---- over processes


@each_case
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_two_simulated_ranks_equal_one_process(
    name: str, mining: str, negatives: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    z = random_z(8, 3)
    expected, whole = loss(z, name, mining, negatives=negatives), z.clone().requires_grad_()
    expected_gradient = torch.autograd.grad(loss(whole, name, mining, negatives=negatives), whole)[0]
    u = F.normalize(whole, dim=-1)
    alike = ((u @ u.mT).detach() / _contrastive.SIGMA).exp().mean(0)
    monkeypatch.setattr(distributed, "gather", lambda own: u)
    monkeypatch.setattr(distributed, "mean", lambda own: alike)
    losses = []
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        losses.append(loss(whole[4 * rank : 4 * rank + 4], name, mining, negatives=negatives))
    found = torch.stack(losses).mean()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(found, whole)[0], expected_gradient, rtol=0, atol=1e-12)


def one_of_two_processes(rank: int, folder: str, z: Tensor) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for name, mining in CASES:
        own = z[4 * rank : 4 * rank + 4].clone().requires_grad_()
        value = loss(own, name, mining)
        value.backward()
        found[f"{name}.{mining}"] = (value.detach(), own.grad / 2)
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path) -> None:
    z = random_z(8)
    torch.multiprocessing.spawn(one_of_two_processes, (str(tmp_path), z), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, mining in CASES:
        values, gradients = zip(*(part[f"{name}.{mining}"] for part in parts), strict=True)
        torch.testing.assert_close(torch.stack(values).mean(), loss(z, name, mining), rtol=0, atol=1e-12)
        torch.testing.assert_close(torch.cat(gradients), gradient(z, name, mining), rtol=0, atol=1e-12)


# ---- in the method


def method(**options) -> SimCLR:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SimCLR(TinyNet(), SimCLROptions(**options), DataInfo(images=64, size=32))


@each_case
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_the_method_with_each_loss(name: str, mining: str, negatives: str) -> None:
    simclr = method(loss=name, mining=mining, negatives=negatives, margin=0.4, loss_scale="sum_of_means")
    views = simclr.views(smooth_images(4), simclr.draw(4, seeds.generator(0), 0))
    z = simclr.embed(views["views"])[1]
    found = simclr(views)
    torch.testing.assert_close(found["loss"], 2 * loss(z, name, mining, tau=0.2, negatives=negatives))
    found["loss"].backward()
    assert all(p.grad.isfinite().all() for p in simclr.parameters() if p.grad is not None)
    for value in simclr.head.parameters():
        torch.nn.init.zeros_(value)
    assert simclr(views)["loss"].item() == pytest.approx(simclr.chance_loss(4), abs=1e-6)


def test_dot_products_reach_loss_and_retrieval() -> None:
    simclr = method(normalise=False, temperature=10.0)
    views = simclr.views(smooth_images(4), simclr.draw(4, seeds.generator(0), 0))
    z = simclr.embed(views["views"])[1]
    found = simclr(views)
    torch.testing.assert_close(found["loss"], nt_xent(z, 10.0, normalise=False))
    torch.testing.assert_close(found["acc_all"], _contrastive.retrieval(z, normalise=False)["acc_all"])


@pytest.mark.parametrize("name", ["dcl", "dclw"])
def test_a_decoupled_loss_of_one_image_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="batch-size"):
        loss(random_z(1), name)
    assert MASKED < -1e8


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss": "dclw", "normalise": False},
        {"mining": "semi_hard"},
        {"aspect": (1.0,)},
        {"blur_sigma": (2, 1)},
    ],
)
def test_options_that_do_not_fit_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        SimCLROptions(**wrong)


def test_the_jitters_order_its_brightness_and_the_ranges_of_crop_and_blur() -> None:
    drawn = method(
        jitter_order="fixed", brightness="add", aspect=(1.0, 1.0), blur_p=1.0, blur_sigma=(0.5, 0.6)
    ).draw(50, seeds.generator(0), 0)
    assert torch.equal(drawn["order"], torch.arange(4).expand(50, 4, 4))
    assert (drawn["brightness"] == 1).all()
    assert drawn["shift"].min() < -0.2
    assert drawn["crop_log_aspect"].abs().max() == 0
    assert 0.5 <= drawn["sigma"].min() < drawn["sigma"].max() <= 0.6
    usual = method().draw(50, seeds.generator(0), 0)
    assert (usual["shift"] == 0).all()
    assert not torch.equal(usual["order"][0, 0], usual["order"][1, 0])


def test_the_panel_of_views_smaller_than_the_image() -> None:
    simclr = method(sizes=(0.5,), size_changes=())
    figure = simclr.panel(smooth_images(2), seeds.generator(0))
    assert len(figure.axes) == 2 * 5


def test_the_trained_panel_marks_the_view_that_each_view_finds() -> None:
    z = torch.tensor([[[1.0, 0.1], [1, 0.2]], [[0, 1], [1, 0.21]]])
    assert nearest_other(z, normalise=True).tolist() == [[1, 3], [3, 1]]
    figure = method().panel(smooth_images(3), seeds.generator(0), trained=True)
    told = [axis.get_xlabel() for axis in figure.axes if axis.get_xlabel()]
    assert len(figure.axes) == 2 * 3 * 5
    assert len(told) == 3 * 4
    assert set(told) <= {"✓ same image", "✗ another image"}
