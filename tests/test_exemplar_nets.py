"""Exemplar's published nets: parameters and maps of the specification (1.3), and a step of their task."""

import pytest
import torch
from torch import nn

from nolabel import seeds
from nolabel.data.store import ImageStore
from nolabel.encoders.base import build
from nolabel.errors import UsageError
from nolabel.methods.base import DataInfo
from nolabel.methods.exemplar import Exemplar, ExemplarOptions
from small import smooth_images

NETS = ("exemplar_small", "exemplar_medium", "exemplar_large")


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "each", "total"),
    [
        ("exemplar_small", (4_864, 102_464, 204_928), 312_256),
        ("exemplar_medium", (4_864, 204_928, 819_456, 131_584), 1_160_832),
        ("exemplar_large", (6_992, 589_056, 3_277_312, 525_312), 4_398_672),
    ],
)
def test_parameters_are_the_specifications(name: str, each: tuple[int, ...], total: int) -> None:
    with torch.device("meta"):
        encoder = build(name, 32)
    assert tuple(parameters(encoder.get_submodule(stage)) for stage in encoder.stages) == each
    assert parameters(encoder) == total


@pytest.mark.parametrize(
    ("name", "sides", "total"),
    [("exemplar_small", [16, 8, 1], 238_528), ("exemplar_medium", [16, 8, 4, 1], 3_126_912)],
)
def test_smaller_seeds_are_padded(name: str, sides: list[int], total: int) -> None:
    """The fully-connected layer then sees 4×4: 16 times its channels."""
    with torch.device("meta"):
        encoder = build(name, 16)
        maps = encoder.maps(torch.zeros(1, 3, 16, 16))
    assert [value.shape[-1] for value in maps.values()] == sides
    assert parameters(encoder) == total


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("exemplar_small", [(64, 28), (64, 10), (128, 1)]),
        ("exemplar_medium", [(64, 28), (128, 10), (256, 1), (512, 1)]),
        ("exemplar_large", [(92, 28), (256, 10), (512, 1), (1024, 1)]),
    ],
)
def test_maps_of_a_seed_and_of_a_larger_image(name: str, shapes: list[tuple[int, int]]) -> None:
    with torch.device("meta"):
        encoder = build(name, 32)
        maps, larger = (encoder.maps(torch.zeros(1, 3, side, side)) for side in (32, 64))
    assert [(value.shape[1], value.shape[2]) for value in maps.values()] == shapes
    assert larger["fc"].shape[-1] == 9


@pytest.mark.parametrize("name", NETS)
def test_the_net_equals_its_layers_written_out(name: str) -> None:
    encoder, images = build(name, 32), torch.rand(2, 3, 32, 32)
    pools = [nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Identity(), nn.Identity()]
    x = (images - encoder.mean) / encoder.std
    for stage, pool in zip(encoder.stages[:-1], pools, strict=False):
        x = pool(encoder.get_submodule(stage)(x))
    fully = encoder.get_submodule("fc.0")
    weight: torch.Tensor = fully.weight  # type: ignore[assignment]
    fc = (x.flatten(1) @ weight.flatten(1).T + fully.bias).relu()  # type: ignore[operator]
    torch.testing.assert_close(encoder(images), fc, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("form", ["softmax", "instance"])
def test_a_step_of_exemplar_at_the_papers_size(name: str, form: str) -> None:
    torch.manual_seed(0)
    options, data = ExemplarOptions(seeds=10, patch=32, form=form), DataInfo(4, 32)  # type: ignore[arg-type]
    method = Exemplar(build(name, Exemplar.encoder_size(options, data)), options, data)
    images = smooth_images(4)
    method.prepare(ImageStore.of([images.image(b) for b in range(4)]), seeds.generator(0))
    optimizer = torch.optim.SGD(method.parameters(), 0.01)
    views = method.views(images, method.draw(4, seeds.generator(1), 0.0))
    before = method.encoder.stem.weight.detach().clone()
    loss = method(views)["loss"]
    loss.backward()
    optimizer.step()
    assert loss.isfinite()
    assert not torch.equal(method.encoder.stem.weight, before)


def test_images_smaller_than_the_seeds_are_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="reads images from 32 px on"):
        build("exemplar_small", 48)(torch.rand(1, 3, 16, 16))
