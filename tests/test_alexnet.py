"""AlexNet: parameters and maps of the papers, the stem at every size, the files."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nolabel.encoders._io import load_encoder, save_encoder
from nolabel.encoders._whitening import whiten_stem
from nolabel.encoders.base import build
from nolabel.methods._sizes import view_side


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def shapes(name: str, size: int, side: int | None = None) -> list[tuple[int, ...]]:
    with torch.device("meta"):
        found = build(name, size).maps(torch.zeros(2, 3, side or size, side or size))
    return [tuple(stage.shape[1:]) for stage in found.values()]


@pytest.mark.parametrize(
    ("name", "size", "each"),
    [
        ("alexnet", 224, (23_424, 307_776, 664_704, 885_504, 590_592)),
        ("alexnet_context", 96, (34_944, 614_656, 885_120, 1_327_488, 884_992)),
        ("alexnet_jigsaw", 64, (34_944, 307_456, 885_120, 663_936, 442_624)),
        ("alexnet_counting", 112, (34_944, 307_456, 885_120, 663_936, 442_624)),
    ],
)
def test_parameters_of_the_papers(name: str, size: int, each: tuple[int, ...]) -> None:
    with torch.device("meta"):
        encoder = build(name, size)
    assert tuple(parameters(encoder.get_submodule(stage)) for stage in encoder.stages) == each
    assert parameters(encoder) == sum(each)


@pytest.mark.parametrize(
    ("name", "size", "sides"),
    [
        ("alexnet", 224, (55, 27, 13, 13, 13)),
        ("alexnet_context", 96, (24, 12, 6, 6, 6)),
        ("alexnet_jigsaw", 64, (27, 13, 6, 6, 6)),
        ("alexnet_jigsaw", 75, (33, 16, 8, 8, 8)),
        ("alexnet_counting", 112, (26, 13, 6, 6, 6)),
        ("alexnet", 8, (8, 4, 2, 2, 2)),
        ("alexnet", 32, (32, 16, 8, 8, 8)),
        ("alexnet", 48, (21, 10, 5, 5, 5)),
        ("alexnet", 64, (29, 14, 7, 7, 7)),
        ("alexnet", 96, (23, 11, 5, 5, 5)),
        ("alexnet", 128, (31, 15, 7, 7, 7)),
    ],
)
def test_sides_of_the_maps(name: str, size: int, sides: tuple[int, ...]) -> None:
    assert tuple(shape[1] for shape in shapes(name, size)) == sides


def test_channels_of_the_maps() -> None:
    assert [shape[0] for shape in shapes("alexnet", 32)] == [64, 192, 384, 256, 256]
    assert [shape[0] for shape in shapes("alexnet_counting", 32)] == [96, 256, 384, 384, 256]


@pytest.mark.parametrize("name", ["alexnet", "alexnet_context", "alexnet_jigsaw", "alexnet_counting"])
@pytest.mark.parametrize("size", [8, 12, 33, 48, 96, 128])
def test_views_of_half_the_side_pass(name: str, size: int) -> None:
    """Rotation and SimCLR begin with half of the side."""
    assert shapes(name, size, max(8, view_side(size, (0.5,), (), 0.0)))[-1][1] >= 1


@pytest.mark.parametrize("name", ["alexnet", "alexnet_counting"])
@pytest.mark.parametrize("size", [16, 48, 96])
def test_the_plain_form_equals_its_layers_written_out(name: str, size: int) -> None:
    """Normalisation, then convolution, BatchNorm where there is one, ReLU, with pools before conv2 and conv3."""
    encoder, images = build(name, size).eval(), torch.rand(2, 3, size, size)
    x, found = (images - encoder.mean) / encoder.std, encoder.maps(images)
    for stage in encoder.stages:
        if stage in ("conv2", "conv3"):
            x = nn.MaxPool2d(3, 2, ceil_mode=True)(x)
        for layer in encoder.get_submodule(stage):  # type: ignore[union-attr]
            x = layer(x)
        torch.testing.assert_close(found[stage], x)
        assert x.min() >= 0
    torch.testing.assert_close(encoder(images), x.mean((2, 3)))


def test_local_response_normalisation_stands_after_the_pools() -> None:
    encoder, images = build("alexnet_jigsaw", 64).eval(), 50 * torch.randn(1, 3, 64, 64)
    entered: list[Tensor] = []
    encoder.get_submodule("conv2.0").register_forward_pre_hook(
        lambda module, inputs: entered.append(inputs[0])
    )
    first = encoder.maps(images, standardised=True)["conv1"]
    pooled = nn.MaxPool2d(3, 2, ceil_mode=True)(first)
    torch.testing.assert_close(entered[0], nn.LocalResponseNorm(5, 1e-4, 0.75)(pooled))
    assert not torch.allclose(entered[0], pooled, rtol=1e-3)


def test_nets_without_batchnorm_keep_the_scale_of_their_input() -> None:
    torch.manual_seed(0)
    encoder = build("alexnet_counting", 48)
    with torch.no_grad():
        maps = encoder.maps(torch.randn(8, 3, 48, 48), standardised=True)
    for stage in maps.values():
        assert 0.1 < stage.square().mean() < 30


def test_every_part_of_the_stem_whitens_and_comes_back_from_a_file(tmp_path: Path) -> None:
    for size in (16, 48):
        encoder, images = build("alexnet", size), torch.rand(16, 3, size, size)
        whiten_stem(encoder, images)
        save_encoder(tmp_path, encoder, {})
        loaded = load_encoder(tmp_path)
        assert loaded.whitened
        assert torch.equal(loaded(images[:2]), encoder.eval()(images[:2]))
        filters = encoder.stem.weight
        assert torch.equal(filters[:32], -filters[32:64])
