"""Exemplar's forms whose head does not grow: losses against loops and closed forms, the bank, the contract."""

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from nolabel import distributed, seeds
from nolabel.data.store import ImageStore
from nolabel.errors import UsageError
from nolabel.methods import _exemplar_forms as forms
from nolabel.methods.base import DataInfo
from nolabel.methods.exemplar import Exemplar, ExemplarOptions
from nolabel.training.launch import launch, make_fabric
from small import TinyNet, adamw, smooth_images, update

IMAGES = 4
each_form = pytest.mark.parametrize("form", ["softmax", "triplet", "instance"])


def made(seed: int = 0, **options: Any) -> Exemplar:
    torch.manual_seed(seed)
    method = Exemplar(TinyNet(), ExemplarOptions(**options), DataInfo(IMAGES, 32))
    shown = smooth_images(IMAGES, (40, 33))
    method.prepare(ImageStore.of([shown.image(b) for b in range(IMAGES)]), seeds.generator(seed, "prepare"))
    return method


def views_of(method: Exemplar, step: int = 0) -> dict[str, Tensor]:
    return method.views(
        smooth_images(IMAGES), method.draw(IMAGES, seeds.generator(0, "views", step), progress=0.9)
    )


# --- the contract, form by form ------------------------------------------------------------------------------------


@each_form
def test_the_gradient_reaches_every_parameter_and_no_buffer(form: str) -> None:
    method = made(form=form)
    optimizer = adamw(method)
    for step in range(2):
        update(method, optimizer, views_of(method, step))
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    assert not any(value.requires_grad for value in method.buffers())


@each_form
def test_the_loss_of_a_zero_head_is_the_closed_form(form: str) -> None:
    method = made(form=form, triplet_margin=0.3)
    for value in method.head.parameters():
        torch.nn.init.zeros_(value)
    expected = {"softmax": math.log(500), "triplet": 0.3, "instance": math.log(500)}[form]
    assert method.chance_loss(IMAGES) == pytest.approx(expected)
    assert method(views_of(method))["loss"].item() == pytest.approx(expected, abs=1e-5)


@each_form
def test_save_and_restore_give_the_identical_next_step(form: str) -> None:
    method = made(form=form)
    optimizer = adamw(method)
    update(method, optimizer, views_of(method))
    restored = made(seed=1, form=form)
    restored.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    resumed = adamw(restored)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    views = views_of(method, 1)
    assert update(method, optimizer, views) == update(restored, resumed, views_of(restored, 1))
    state = restored.state_dict()
    assert ("bank.vectors" in state) == (form == "instance")
    assert all(torch.equal(value, state[key]) for key, value in method.state_dict().items())


@each_form
def test_held_out_measures_and_changes_nothing(form: str) -> None:
    method = made(form=form).eval()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    found = method.held_out(views_of(method))
    assert found.keys() == {"loss", "accuracy"}
    assert 0 <= found["accuracy"] <= 1
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@each_form
@pytest.mark.slow
def test_one_batch_is_overfitted(form: str) -> None:
    method = made(form=form)
    optimizer, views = adamw(method), views_of(method)
    losses = [update(method, optimizer, views) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    assert method(views)["accuracy"] > 0.9


@pytest.mark.parametrize("seeds_", [500, forms.EXACT + 1])
def test_the_forward_pass_is_one_graph(seeds_: int) -> None:
    bank, v = forms.MemoryBank(seeds_), torch.randn(6, forms.DIM)
    labels, noise = torch.arange(6), None if seeds_ == 500 else torch.randint(seeds_, (6, 50))
    twin = copy.deepcopy(bank)
    compiled = torch.compile(bank, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(v, labels, noise)[0], twin(v, labels, noise)[0])
    assert torch.equal(bank.vectors, twin.vectors)
    triplets = torch.compile(forms.triplet_loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(triplets(v, labels % 3, 0.5), forms.triplet_loss(v, labels % 3, 0.5))


@pytest.mark.parametrize("form", ["triplet", "instance"])
def test_the_head_does_not_grow_with_the_number_of_seeds(form: str) -> None:
    sizes = [
        sum(value.numel() for value in made(form=form, seeds=count).head.parameters()) for count in (50, 1000)
    ]
    assert sizes == [32 * 128 + 128] * 2
    grown = [sum(value.numel() for value in made(seeds=count).head.parameters()) for count in (50, 1000)]
    assert grown == [33 * 50, 33 * 1000]


@each_form
def test_the_trained_panel_names_seeds(form: str) -> None:
    method = made(form=form, seeds=6)
    figure = method.panel(smooth_images(1), seeds.generator(0), trained=True)
    marks = [axis.get_xlabel() for axis in figure.axes]
    assert len([mark for mark in marks if mark in ("✓", "✗")]) == 48
    assert method.training


def test_triplets_need_pairs() -> None:
    with pytest.raises(UsageError, match="copies >= 2"):
        ExemplarOptions(form="triplet", copies=1)


# --- triplets ------------------------------------------------------------------------------------------------------


def test_copies_of_an_image_share_a_seed_where_triplets_are_asked_for() -> None:
    labels = made(form="triplet", copies=3).draw(5, seeds.generator(0), 0.0)["labels"]
    assert labels.shape == (5, 3)
    assert (labels == labels[:, :1]).all()
    assert len(labels.unique()) > 1


def test_the_triplet_loss_is_that_of_a_loop() -> None:
    torch.manual_seed(0)
    z, labels = torch.randn(12, 5, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5])
    v = z / z.norm(dim=1, keepdim=True)
    apart = (v[:, None] - v).square().sum(-1)
    losses, right = [], []
    for a, p in itertools.permutations(range(12), 2):
        if labels[a] != labels[p]:
            continue
        others = [apart[a, n] for n in range(12) if labels[n] != labels[a]]
        further = [distance for distance in others if distance > apart[a, p]]
        losses.append(F.relu(apart[a, p] - (min(further) if further else max(others)) + 0.5))
        right.append(len(further) / len(others))
    loss, share = forms.triplet_loss(z, labels, 0.5)
    assert loss.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-10)
    assert share.item() == pytest.approx(sum(right) / len(right), abs=1e-10)


def test_a_batch_of_one_seed_has_no_triplet() -> None:
    z = torch.randn(4, 5, requires_grad=True)
    loss, _ = forms.triplet_loss(z, torch.zeros(4, dtype=torch.int64), 0.5)
    loss.backward()
    assert loss == 0
    assert z.grad is not None
    assert (z.grad == 0).all()


# --- the memory bank -----------------------------------------------------------------------------------------------


def units(n: int, seed: int = 0) -> Tensor:
    return forms.unit(torch.randn(n, forms.DIM, generator=seeds.generator(seed), dtype=torch.float64))


def test_the_exact_form_is_that_of_a_loop() -> None:
    v, bank, labels = units(6), units(30, 1), torch.tensor([3, 0, 29, 7, 7, 12])
    expected = 0.0
    for row, own in zip(v, labels.tolist(), strict=True):
        weights = [math.exp(float(row @ other) / 0.07) for other in bank]
        expected -= math.log(weights[own] / sum(weights)) / 6
    loss, share = forms.instance_loss(v, labels, bank)
    assert loss.item() == pytest.approx(expected, abs=1e-10)
    named = [max(range(30), key=lambda j: float(row @ bank[j])) for row in v]
    assert share.item() == pytest.approx(sum(a == b for a, b in zip(named, labels.tolist(), strict=True)) / 6)


def test_equal_vectors_in_the_bank_tell_nothing() -> None:
    loss, _ = forms.instance_loss(units(5), torch.arange(5), units(1, 1).expand(40, -1))
    assert loss.item() == pytest.approx(math.log(40), abs=1e-9)


def test_at_the_start_chance_similarities_add_their_variance() -> None:
    """Cosines of random unit vectors have the variance 1 / d, and the mean of exp of a normal value is exp(var / 2)."""
    loss, _ = forms.instance_loss(units(1).expand(2_000, -1), torch.arange(2_000), units(2_000, 1))
    assert loss.item() == pytest.approx(math.log(2_000) + 1 / (2 * 128 * 0.07**2), abs=0.1)


def test_the_bank_moves_at_the_seeds_of_the_batch_and_once_each() -> None:
    torch.manual_seed(0)
    bank, labels = forms.MemoryBank(20), torch.tensor([4, 9, 4, 11])
    before, z = bank.vectors.clone(), torch.randn(4, forms.DIM)
    bank(z, labels, None)
    moved = (bank.vectors != before).any(1).nonzero().flatten().tolist()
    assert moved == [4, 9, 11]
    v = F.normalize(z, dim=1)
    twice = F.normalize(0.5 * before[4] + 0.5 * (v[0] + v[2]) / 2, dim=0)
    torch.testing.assert_close(bank.vectors[4], twice)
    torch.testing.assert_close(bank.vectors[9], F.normalize(before[9] + v[1], dim=0))
    torch.testing.assert_close(bank.vectors.norm(dim=1), torch.ones(20))


def test_the_loss_is_taken_before_the_bank_moves() -> None:
    bank, z = forms.MemoryBank(20), torch.randn(4, forms.DIM, requires_grad=True)
    labels, before = torch.arange(4), bank.vectors.clone()
    loss, _ = bank(z, labels, None)
    (gradient,) = torch.autograd.grad(loss, z)
    again = forms.instance_loss(forms.unit(z), labels, before)[0]
    assert torch.equal(loss, again)
    assert torch.equal(gradient, torch.autograd.grad(again, z)[0])


def test_the_estimate_of_a_zero_head_is_the_closed_form() -> None:
    zeros = torch.zeros(3), torch.zeros(3, 40)
    found = forms.nce_loss(*zeros, seeds=70, normaliser=torch.tensor(70.0))
    assert found.item() == pytest.approx(math.log(41) + 40 * math.log(1 + 1 / 40), abs=1e-5)


def test_the_estimate_is_that_of_the_formula() -> None:
    own, noise = torch.randn(2, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    z, seeds_, expected = 50.0, 10, 0.0
    for b in range(2):
        right, *wrong = (math.exp(float(score)) / z for score in (own[b], *noise[b]))
        odds = 3 / seeds_
        expected -= math.log(right / (right + odds)) / 2
        expected -= sum(math.log(1 - p / (p + odds)) for p in wrong) / 2
    found = forms.nce_loss(own, noise, seeds_, torch.tensor(z, dtype=torch.float64))
    assert found.item() == pytest.approx(expected, abs=1e-10)


def test_the_gradient_of_the_estimate_points_where_the_exact_one_does() -> None:
    torch.manual_seed(0)
    bank = forms.MemoryBank(1000).eval()
    bank.normaliser.fill_(1000 * math.exp(1 / (2 * 128 * 0.07**2)))
    z, labels = torch.randn(200, forms.DIM, requires_grad=True), torch.randint(1000, (200,))
    exact = torch.autograd.grad(bank(z, labels, None)[0], z)[0]
    estimated = torch.autograd.grad(bank(z, labels, torch.randint(1000, (200, 4096)))[0], z)[0]
    assert F.cosine_similarity(exact, estimated).mean() > 0.5


def test_many_seeds_are_estimated_and_the_first_normaliser_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "EXACT", 10)
    monkeypatch.setattr(forms, "NOISE", 16)
    method = made(form="instance", seeds=60)
    assert method.chance == pytest.approx(1 / 17)
    views = views_of(method)
    assert views["noise"].shape == (8, 16)
    method.eval()(views)
    assert method.bank is not None
    assert method.bank.normaliser == 0
    optimizer = adamw(method.train())
    update(method, optimizer, views)
    first = method.bank.normaliser.clone()
    assert first > 0
    update(method, optimizer, views_of(method, 1))
    assert torch.equal(method.bank.normaliser, first)


# --- several processes ---------------------------------------------------------------------------------------------


def in_parts(out: Path) -> None:
    """Both losses on this process's share of eight copies: their mean, the gradient and the bank, written."""
    torch.manual_seed(0)
    fabric, bank, z = make_fabric("64-true"), forms.MemoryBank(12).double(), units(8)
    labels = torch.tensor([1, 1, 2, 2, 1, 1, 5, 7])
    share = slice(
        fabric.global_rank * 8 // fabric.world_size, (fabric.global_rank + 1) * 8 // fabric.world_size
    )
    found = {}
    for name in ("triplet", "instance", "noise"):
        mine = z[share].clone().requires_grad_()
        if name == "triplet":
            loss, right = forms.triplet_loss(mine, labels[share], 0.5)
        else:
            noise = (torch.arange(32).view(8, 4) % 12)[share] if name == "noise" else None
            loss, right = bank(mine, labels[share], noise)
        gradient = torch.autograd.grad(loss, mine)[0] / fabric.world_size
        found |= {f"{name}.loss": distributed.mean(loss), f"{name}.right": distributed.mean(right)}
        found[f"{name}.gradient"] = distributed.gather(gradient)
    found |= bank.state_dict()
    if fabric.is_global_zero:
        safetensors.torch.save_file({key: value.contiguous() for key, value in found.items()}, out)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    launch(in_parts, (tmp_path / "one",), 1)
    launch(in_parts, (tmp_path / "two",), 2)
    one, two = (safetensors.torch.load_file(tmp_path / count) for count in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-10, rtol=0)
