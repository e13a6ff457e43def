"""NT-Xent: closed forms, its definition term by term, gradient and distributed form; view retrieval."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel import distributed, seeds
from nolabel.methods.simclr import mean_over_pairs, nt_xent, retrieval


def random_z(n: int, views: int = 2, dim: int = 8, seed: int = 0) -> Tensor:
    return torch.randn(n, views, dim, dtype=torch.float64, generator=seeds.generator(seed, "z"))


def on_circle(*degrees: float) -> Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return torch.stack([angles.cos(), angles.sin()], -1)


def simplex(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64) - 1 / n


# ---- the loss


@pytest.mark.parametrize("n", [2, 8, 32, 256])
def test_equal_or_orthogonal_embeddings_give_log_2n_minus_1(n: int) -> None:
    for z in (torch.ones(n, 2, 3), torch.eye(2 * n).view(n, 2, 2 * n)):
        assert nt_xent(z.double(), 0.5).item() == pytest.approx(math.log(2 * n - 1), abs=1e-6)


@pytest.mark.parametrize(
    ("n", "temperature", "value"),
    [(2, 0.1, 0.000091), (8, 0.2, 0.090143), (256, 0.5, 4.248795), (512, 1, 5.932173)],
)
def test_equal_partners_of_orthogonal_images(n: int, temperature: float, value: float) -> None:
    z = torch.eye(n, dtype=torch.float64)[:, None].repeat(1, 2, 1)
    assert nt_xent(z, temperature).item() == pytest.approx(
        math.log1p((2 * n - 2) * math.exp(-1 / temperature)), abs=1e-10
    )
    assert nt_xent(z, temperature).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "temperature", "value"), [(8, 0.1, 0.000152), (32, 0.5, 2.182285), (256, 1, 5.235826)]
)
def test_lower_bound_is_reached_on_the_simplex(n: int, temperature: float, value: float) -> None:
    z = simplex(n)[:, None].repeat(1, 2, 1)
    assert nt_xent(z, temperature).item() == pytest.approx(value, abs=1e-6)
    assert nt_xent(z + 0.1 * random_z(n, dim=n), temperature) > nt_xent(z, temperature)


@pytest.mark.parametrize(("temperature", "value"), [(0.1, 0.012872), (0.5, 0.361123), (1.0, 0.632443)])
def test_planar_example(temperature: float, value: float) -> None:
    z = torch.stack([on_circle(0, 90), on_circle(30, 120)], 1)
    assert nt_xent(z, temperature).item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("views", [2, 4])
def test_one_image_alone_has_loss_and_gradient_zero(views: int) -> None:
    z = random_z(1, views).float().requires_grad_()
    loss = nt_xent(z, 0.2)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(z.grad, torch.zeros_like(z))


def by_hand(z: Tensor, temperature: float) -> Tensor:
    """The definition, term by term: ordered pairs of one image against the views of the others."""
    u = F.normalize(z, dim=-1)
    n, views, _ = u.shape
    terms = []
    for i in range(n):
        for v in range(views):
            for w in range(views):
                if v != w:
                    own = torch.exp(u[i, v] @ u[i, w] / temperature)
                    rest = sum(
                        torch.exp(u[i, v] @ u[k, x] / temperature)
                        for k in range(n)
                        if k != i
                        for x in range(views)
                    )
                    terms.append(-torch.log(own / (own + rest)))
    return torch.stack(terms).mean()


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
@pytest.mark.parametrize(("n", "views"), [(1, 2), (2, 2), (7, 2), (5, 3), (3, 4)])
def test_equal_to_the_definition_term_by_term(n: int, views: int, temperature: float) -> None:
    z = random_z(n, views)
    assert nt_xent(z, temperature).item() == pytest.approx(by_hand(z, temperature).item(), abs=1e-10)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_two_views_are_a_cross_entropy_without_the_diagonal(n: int, temperature: float) -> None:
    z = random_z(n)
    u = F.normalize(torch.cat([z[:, 0], z[:, 1]]), dim=1)
    logits = (u @ u.T / temperature).fill_diagonal_(-torch.inf)
    expected = F.cross_entropy(logits, torch.arange(2 * n).roll(n))
    assert nt_xent(z, temperature).item() == pytest.approx(expected.item(), abs=1e-10)


@pytest.mark.parametrize(("n", "temperature"), [(2, 0.5), (16, 0.1), (64, 0.2)])
def test_equal_to_lightly(n: int, temperature: float) -> None:
    from lightly.loss import NTXentLoss

    ours, theirs = random_z(n).float().requires_grad_(), random_z(n).float().requires_grad_()
    loss, reference = nt_xent(ours, temperature), NTXentLoss(temperature)(theirs[:, 0], theirs[:, 1])
    loss.backward()
    reference.backward()
    torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def closed_form_gradient(z: Tensor, temperature: float) -> Tensor:
    """Gradient of two-view NT-Xent with respect to z (specification 8.4)."""
    n = len(z)
    flat = torch.cat([z[:, 0], z[:, 1]])
    length = flat.norm(dim=1, keepdim=True)
    u = flat / length
    p = (u @ u.T / temperature).fill_diagonal_(-torch.inf).softmax(1)
    in_u = ((p + p.T) @ u - 2 * u.roll(n, 0)) / (2 * n * temperature)
    in_z = (in_u - (in_u * u).sum(1, keepdim=True) * u) / length
    return torch.stack([in_z[:n], in_z[n:]], 1)


def gradient(z: Tensor, temperature: float = 0.5) -> Tensor:
    z = z.clone().requires_grad_()
    return torch.autograd.grad(nt_xent(z, temperature), z)[0]


def test_gradient_closed_form_and_central_differences() -> None:
    z = random_z(5)
    torch.testing.assert_close(gradient(z, 0.2), closed_form_gradient(z, 0.2), rtol=0, atol=1e-12)
    step = 1e-5
    for index in [(0, 0, 0), (2, 1, 3), (4, 0, 7)]:
        up, down = z.clone(), z.clone()
        up[index] += step
        down[index] -= step
        difference = (nt_xent(up, 0.2) - nt_xent(down, 0.2)) / (2 * step)
        assert gradient(z, 0.2)[index].item() == pytest.approx(difference.item(), abs=1e-8)


def test_many_views_pass_gradcheck() -> None:
    assert torch.autograd.gradcheck(lambda z: nt_xent(z, 0.3), random_z(3, 4).requires_grad_())


def test_symmetries_of_loss_and_gradient() -> None:
    z = random_z(6)
    torch.testing.assert_close((z * gradient(z)).sum(-1), torch.zeros(6, 2, dtype=torch.float64))
    torch.testing.assert_close(nt_xent(3 * z, 0.5), nt_xent(z, 0.5))
    torch.testing.assert_close(gradient(3 * z), gradient(z) / 3)
    turn = torch.linalg.qr(random_z(8, 1)[:, 0]).Q
    torch.testing.assert_close(nt_xent(z @ turn, 0.5), nt_xent(z, 0.5))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(gradient(z[order]), gradient(z)[order])


def test_order_of_views_does_not_matter() -> None:
    z = random_z(6, 4)
    torch.testing.assert_close(nt_xent(z.flip(1), 0.5), nt_xent(z, 0.5))
    interleaved, stacked = z.flatten(0, 1), z.transpose(0, 1).flatten(0, 1)
    torch.testing.assert_close(
        nt_xent(interleaved.unflatten(0, (6, 4)), 0.5),
        nt_xent(stacked.unflatten(0, (4, 6)).transpose(0, 1), 0.5),
    )


def test_small_temperature_and_half_precision_are_computed_in_float32() -> None:
    z = random_z(32).float().requires_grad_()
    loss = nt_xent(z, 0.01)
    loss.backward()
    assert loss.isfinite()
    assert z.grad.isfinite().all()
    half = random_z(32).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt_xent(half, 0.07)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, nt_xent(half.float(), 0.07), rtol=0, atol=0)


@pytest.mark.parametrize("views", [2, 3])
def test_two_simulated_ranks_equal_one_process(views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a gather that passes the gradient; one that cuts it has the loss right and the gradient wrong."""
    z = random_z(8, views)
    expected, expected_gradient = nt_xent(z, 0.2), gradient(z, 0.2)

    def as_two_ranks(
        gather_for: Callable[[int, Tensor], Callable[[Tensor], Tensor]],
    ) -> tuple[Tensor, Tensor]:
        whole = z.clone().requires_grad_()
        losses = []
        for rank in range(2):
            monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
            monkeypatch.setattr(distributed, "gather", gather_for(rank, F.normalize(whole, dim=-1)))
            losses.append(nt_xent(whole[4 * rank : 4 * rank + 4], 0.2))
        loss = torch.stack(losses).mean()
        return loss, torch.autograd.grad(loss, whole)[0]

    def cutting(rank: int, everyone: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda own: torch.cat(
            [own if r == rank else everyone[4 * r : 4 * r + 4].detach() for r in range(2)]
        )

    passing = as_two_ranks(lambda rank, everyone: lambda own: everyone)
    torch.testing.assert_close(passing[0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(passing[1], expected_gradient, rtol=0, atol=1e-12)
    cut = as_two_ranks(cutting)
    torch.testing.assert_close(cut[0], expected, rtol=0, atol=1e-12)
    assert (cut[1] - expected_gradient).abs().max() > 1e-3


def one_of_two_processes(rank: int, folder: str, z: Tensor) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    own = z[4 * rank : 4 * rank + 4].clone().requires_grad_()
    loss = nt_xent(own, 0.2)
    loss.backward()
    torch.save({"loss": loss.detach(), "gradient": own.grad / 2}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path) -> None:
    z = random_z(8)
    torch.multiprocessing.spawn(one_of_two_processes, (str(tmp_path), z), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(
        torch.stack([p["loss"] for p in parts]).mean(), nt_xent(z, 0.2), rtol=0, atol=1e-12
    )
    torch.testing.assert_close(
        torch.cat([p["gradient"] for p in parts]), gradient(z, 0.2), rtol=0, atol=1e-12
    )


# ---- retrieval


def test_retrieval_counts_all_views_or_the_partners_place_only() -> None:
    perfect = torch.eye(4)[:, None].repeat(1, 2, 1)
    assert {k: v.item() for k, v in retrieval(perfect).items()} == {"acc_cross": 1, "acc_all": 1}
    # The first views are nearer to each other than to their partners: only `acc_all` counts that as a miss.
    z = torch.stack([on_circle(0, 10), on_circle(-40, 50)], 1)
    assert {k: v.item() for k, v in retrieval(z).items()} == {"acc_cross": 1, "acc_all": 0.5}
    assert retrieval(torch.ones(4, 2, 3))["acc_all"] == 0


def test_mean_over_pairs_leaves_a_view_with_itself_out() -> None:
    assert mean_over_pairs(torch.eye(3).repeat(5, 1, 1)) == 0
    assert mean_over_pairs(torch.ones(5, 3, 3)) == 1
