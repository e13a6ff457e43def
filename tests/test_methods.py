"""The contract that every file of `methods/` keeps; a new method is picked up by its presence."""

import ast
import copy
import dataclasses
import functools
import inspect
import itertools
import math
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cli_helpers import Say
from nolabel import catalog, pretext, seeds
from nolabel.data.batch import ImageBatch
from nolabel.data.store import ImageStore
from nolabel.encoders import base as encoders
from nolabel.methods.base import DataInfo, Method, Recipe
from small import adamw, smooth_images, update
from test_pretext import one_step

IMAGES = 4
OF_THE_IMAGES = ("colorization", "context_encoder")
"""methods whose loss at the start follows from the images too: the tests of their own compare it"""
each_method = pytest.mark.parametrize("name", catalog.names("methods"))


def load(name: str) -> type[Method]:
    return catalog.load("methods", name, Method)


def build(name: str, seed: int = 0, size: int = 32) -> Method:
    """The method with its default options on `resnet10`, initialised from `seed`."""
    return copy.deepcopy(_build(name, seed, size))


@functools.cache
def _build(name: str, seed: int, size: int) -> Method:
    kind = load(name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        options, data = kind.Options(), DataInfo(images=IMAGES, size=size)
        method = kind(encoders.build("resnet10", kind.encoder_size(options, data)), options, data)
    shown = smooth_images(IMAGES, (40, 33))
    method.prepare(ImageStore.of([shown.image(b) for b in range(IMAGES)]), seeds.generator(seed, "prepare"))
    return method


def views_of(method: Method, images: ImageBatch, step: int = 0, progress: float = 0.9) -> dict[str, Tensor]:
    return method.views(images, method.draw(images.size, seeds.generator(0, "views", step), progress))


@each_method
def test_loss_is_finite_and_reaches_every_parameter(name: str) -> None:
    """On the second step: the first one opens residual branches whose last BatchNorm starts at zero."""
    method, images = build(name), smooth_images(IMAGES)
    optimizer = adamw(method)
    for step in range(2):
        views = views_of(method, images, step)
        assert not any(t.requires_grad for t in views.values())
        update(method, optimizer, views)
    found = method(views)
    assert all(value.ndim == 0 and value.isfinite() for value in found.values())
    assert [key for key, value in found.items() if value.requires_grad] == ["loss"]
    for parameter, value in method.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, f"{parameter} has no gradient"
            assert value.grad.isfinite().all()
            assert value.grad.abs().max() > 0, f"the gradient of {parameter} is zero"


@each_method
def test_loss_at_the_start_is_the_closed_form(name: str) -> None:
    method = build(name)
    views = views_of(method, smooth_images(IMAGES))
    expected = method.chance_loss(IMAGES)
    if expected is None:
        assert name in OF_THE_IMAGES
        return
    # In eval mode BatchNorm does not yet tell a handful of images apart.
    assert method.eval()(views)["loss"].item() == pytest.approx(expected, rel=0.1)
    method.train()
    for value in method.head.parameters():  # type: ignore[union-attr]
        torch.nn.init.zeros_(value)
    assert method(views)["loss"].item() == pytest.approx(expected, abs=1e-6)


@each_method
def test_views_follow_from_what_was_drawn(name: str) -> None:
    method, images = build(name), smooth_images(IMAGES, (40, 33))
    drawn = method.draw(IMAGES, seeds.generator(0, "views", 1), 0.9)
    again = method.draw(IMAGES, seeds.generator(0, "views", 1), 0.9)
    other = method.draw(IMAGES, seeds.generator(0, "views", 2), 0.9)
    assert all(torch.equal(drawn[key], again[key]) for key in drawn)
    assert any(not torch.equal(drawn[key], other[key]) for key in drawn)
    kept = {key: value.clone() for key, value in drawn.items()}
    first, second = method.views(images, drawn), method.views(images, kept)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(drawn[key], kept[key]) for key in drawn), "views changed what was drawn"
    for value in first.values():
        if value.is_floating_point():
            assert value.dtype == torch.float32
            if value.min() < -1e-6 or value.max() > 1 + 1e-6:  # standardised by the task, or a target
                assert value.isfinite().all()
                assert value.abs().max() < 200


@each_method
def test_a_process_computes_its_own_part_of_the_views(name: str) -> None:
    method, images = build(name), smooth_images(IMAGES, (40, 33))
    drawn = method.draw(IMAGES, seeds.generator(0, "views", 1), 0.9)
    assert all(
        value.device.type == "cpu" and (value.ndim == 0 or len(value) == IMAGES) for value in drawn.values()
    )
    whole, half = method.views(images, drawn), IMAGES // 2
    parts = [
        method.views(
            images.take(at), {key: value[at] if value.ndim else value for key, value in drawn.items()}
        )
        for at in (slice(0, half), slice(half, IMAGES))
    ]
    for key, value in whole.items():
        torch.testing.assert_close(torch.cat([part[key] for part in parts]), value, rtol=0, atol=1e-6)


@each_method
def test_images_of_mixed_sizes(name: str) -> None:
    method = build(name)
    images = [
        smooth_images(1, sides, seed).image(0) for seed, sides in enumerate([(32, 32), (50, 34), (33, 90)])
    ]
    found = method(views_of(method, ImageBatch.of(images)))
    assert found["loss"].isfinite()


@each_method
@pytest.mark.parametrize("size", [28, 64, 96])
def test_other_sizes_have_views(name: str, size: int) -> None:
    method = build(name, size=size)
    views = views_of(method, smooth_images(3, (size + 9, size + 20)), progress=0.99)
    assert max(value.shape[-1] for value in views.values() if value.ndim > 2) <= size


@each_method
def test_only_the_given_generator_is_used(name: str) -> None:
    method, images = build(name), smooth_images(IMAGES)
    before = torch.get_rng_state(), random.getstate()
    generator = seeds.generator(0, "views", 0)
    views = method.views(images, method.draw(IMAGES, generator, 0.0))
    method(views)["loss"].backward()
    method.eval().held_out(views)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert not torch.equal(generator.get_state(), seeds.generator(0, "views", 0).get_state())


@each_method
def test_held_out_measures_and_changes_nothing(name: str) -> None:
    method = build(name).eval()
    before = {key: value.clone() for key, value in method.state_dict().items()}
    found = method.held_out(views_of(method, smooth_images(IMAGES)))
    assert found
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


@each_method
def test_save_and_restore_give_the_identical_next_step(name: str) -> None:
    images, method = smooth_images(IMAGES), build(name)
    optimizer = adamw(method)
    update(method, optimizer, views_of(method, images, 0))
    restored = build(name, seed=1)
    restored.load_state_dict({key: value.clone() for key, value in method.state_dict().items()})
    resumed = adamw(restored)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    views = views_of(method, images, 1)
    assert update(method, optimizer, views) == update(restored, resumed, views_of(restored, images, 1))
    restored_state = restored.state_dict()
    assert all(torch.equal(value, restored_state[key]) for key, value in method.state_dict().items())


@each_method
@pytest.mark.slow
def test_one_batch_is_overfitted(name: str) -> None:
    method = build(name)
    optimizer, views = adamw(method), views_of(method, smooth_images(IMAGES))
    losses = [update(method, optimizer, views) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]


@each_method
@pytest.mark.slow
def test_forward_is_one_graph(name: str) -> None:
    """No host synchronisation and no graph break: the forward pass can be compiled whole."""
    method = build(name)
    views = views_of(method, smooth_images(IMAGES))
    compiled = torch.compile(method, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(views)["loss"], method(views)["loss"], rtol=1e-4, atol=1e-5)


@each_method
@pytest.mark.parametrize("trained", [False, True])
def test_panel_is_a_figure_of_its_own(name: str, trained: bool) -> None:
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    images = ImageBatch.of([smooth_images(1, sides, 0).image(0) for sides in [(32, 32), (50, 34)]])
    figure = build(name).panel(images, seeds.generator(0), trained)
    assert isinstance(figure, Figure)
    assert figure.get_suptitle()
    assert figure.axes
    assert pyplot.get_fignums() == []


@each_method
def test_options_are_documented_and_have_defaults(name: str) -> None:
    options = load(name).Options
    assert dataclasses.is_dataclass(options)
    assert options() == options()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(options(), dataclasses.fields(options)[0].name, None)
    body = next(
        node.body
        for node in ast.parse(source_of(name).read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == options.__name__
    )
    documented = {
        field.target.id
        for field, doc in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(doc, ast.Expr)
        and isinstance(doc.value, ast.Constant)
    }
    assert {field.name for field in dataclasses.fields(options)} == documented


@each_method
def test_file_reads_like_its_paper(name: str) -> None:
    kind = load(name)
    assert kind.__bases__ == (Method,), "an implemented method is never overridden: share by calling"
    assert len(source_of(name).read_text().splitlines()) <= 260, (
        "a file reads like its paper in about 250 lines"
    )
    assert catalog.summary("methods", name).endswith(("?", "."))
    assert kind.paper[-4:].isdigit()
    assert isinstance(kind.recipe, Recipe)
    assert isinstance(kind.recipe_for(kind.Options(), DataInfo(IMAGES, 32)), Recipe)


def source_of(name: str) -> Path:
    return Path(inspect.getfile(load(name)))


TOY = '''
"""Toy: is an image brighter than the average of its batch?"""

from dataclasses import dataclass

import torch
from torch import nn

from nolabel.methods.base import Method, Recipe
from nolabel.views import plain


@dataclass(frozen=True)
class ToyOptions:
    """Nothing to choose but the width."""

    width: int = 4
    """width of the head"""


class Toy(Method):
    Options = ToyOptions
    recipe = Recipe(batch_size=4)
    paper = "Nobody, 2024"
    undefended = {"width": 8}

    def __init__(self, encoder, options, data):
        super().__init__(encoder, options, data)
        self.head = nn.Linear(encoder.dim, 1)

    def draw(self, n, generator, progress):
        return {"shift": torch.rand(n, generator=generator)}

    def views(self, images, drawn):
        return {"images": (plain.whole(images, self.data.size) + drawn["shift"].view(-1, 1, 1, 1)) / 2}

    def forward(self, views):
        light = views["images"].mean((1, 2, 3))
        logits = self.head(self.encoder(views["images"]))[:, 0]
        target = (light > light.mean()).float()
        return {"loss": nn.functional.binary_cross_entropy_with_logits(logits, target)}

    def chance_loss(self, images):
        return 0.6931

    @torch.no_grad()
    def held_out(self, views):
        return {"loss": self(views)["loss"].item()}

    def panel(self, images, generator, trained=False):
        from matplotlib.figure import Figure

        return Figure()
'''


def test_a_method_from_outside_the_package(tmp_path: Path) -> None:
    file = tmp_path / "toy.py"
    file.write_text(TOY)
    method = build(str(file))
    assert type(method).__name__ == "Toy"
    optimizer, images = adamw(method), smooth_images(IMAGES)
    assert math.isfinite(update(method, optimizer, views_of(method, images)))
    assert "toy" not in catalog.names("methods")


@pytest.mark.slow
def test_a_method_from_outside_goes_through_every_command_that_takes_one(
    small_images: Path, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, page, known = tmp_path / "run", tmp_path / "gallery.html", catalog.names
    file = tmp_path / "methods" / "toy.py"
    file.parent.mkdir()
    file.write_text(TOY)
    monkeypatch.setattr(pretext, "pretrain", one_step)
    monkeypatch.setattr(catalog, "names", lambda kind: () if kind == "methods" else known(kind))
    numerics = ("--precision", "32-true", "--no-compile", "--no-channels-last")
    code, _, err = say("pretrain", file, small_images, "--steps", 1, *numerics, "--out", run)
    assert code == 0, err
    code, _, err = say("gallery", small_images, "--runs", run, "--out", page)
    assert code == 0, err
    assert 'id="toy"' in page.read_text()
    assert f"What the run in {run} answers" in page.read_text()
    code, told, err = say("check-pretext", file, small_images, "--out", tmp_path / "check")
    assert code == 0, err
    assert "With its defences off" in told
    monkeypatch.undo()
    monkeypatch.setattr(catalog, "PACKAGE", tmp_path)
    assert "toy     Toy: is an image brighter than the average of its batch?" in say("methods")[1]
