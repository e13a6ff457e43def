"""Colorization's own net: parameters and maps as in the paper's table, and some real steps."""

import pytest
import torch
from torch import nn

from nolabel.encoders.base import build, map_shapes
from nolabel.encoders.colorization_net import colour_head
from nolabel.methods.base import DataInfo
from nolabel.methods.colorization import PAPER_IMAGENET, Colorization, ColorizationOptions
from small import smooth_images

OF_BLOCK = (37_568, 221_440, 1_475_328, 5_899_776, 7_079_424, 7_079_424, 7_079_424)
TWO_MORE_CHANNELS = 2 * 9 * 64


def convolutions(net: nn.Module) -> int:
    """Weights and biases of all convolutions."""
    parts = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    return sum(p.numel() for part in parts for p in part.parameters())


def test_every_block_has_the_parameters_of_the_table() -> None:
    net = build("colorization_net", 64)
    found = [convolutions(net.get_submodule(stage)) for stage in net.stages]
    assert found == [OF_BLOCK[0] + TWO_MORE_CHANNELS, *OF_BLOCK[1:]]
    head = colour_head(net, 64, 16, 313)
    assert convolutions(head) == 3_277_568 + 80_441
    assert convolutions(net) + convolutions(head) == 32_230_393 + TWO_MORE_CHANNELS
    everything = sum(p.numel() for part in (net, head) for p in part.parameters())
    assert everything == convolutions(net) + convolutions(head) + 4_992


def test_the_maps_have_the_sides_of_the_table() -> None:
    net = build("colorization_net", 64)
    assert map_shapes(net, 64) == [(64, 32), (128, 16), (256, 8), *[(512, 8)] * 4]
    assert net(torch.rand(2, 3, 64, 64)).shape == (2, net.dim)
    assert [m.dilation[0] for m in net.get_submodule("conv5") if isinstance(m, nn.Conv2d)] == [2, 2, 2]


@pytest.mark.parametrize(("name", "size", "target"), [("colorization_net", 32, 16), ("colorization_net", 64, 16),
                                                      ("resnet10", 96, 24), ("alexnet", 96, 24)])  # fmt: skip
def test_a_head_gives_the_targets_size(name: str, size: int, target: int) -> None:
    net = build(name, size).eval()
    head = colour_head(net, size, target, 5).eval()
    assert head(net.maps(torch.rand(1, 3, size, size))[net.stages[-1]]).shape == (1, 5, target, target)


def test_a_deeper_head_has_another_convolution_after_each_doubling() -> None:
    thin, deep = (colour_head(build("resnet10", 32), 32, 16, 5, depth) for depth in (1, 2))
    kernels = [[m.kernel_size[0] for m in head if isinstance(m, nn.Conv2d)] for head in (thin, deep)]
    assert kernels == [[1, 3, 3, 1], [1, 3, 3, 3, 3, 1]] or kernels == [[1, 3, 1], [1, 3, 3, 1]]
    options = ColorizationOptions(head_depth=2)
    method = Colorization(build("resnet10", 32), options, DataInfo(2, 32))
    assert convolutions(method.head) > convolutions(thin) + 128 * 128 * 9


@pytest.mark.slow
def test_three_steps_at_the_papers_size_learn() -> None:
    """Crops of 176 px, targets of 44 px, the paper's options and weight decay, on two images."""
    torch.manual_seed(0)
    options, recipe = PAPER_IMAGENET
    method = Colorization(build("colorization_net", 176), options, DataInfo(2, 176))
    views = method.views(smooth_images(2, (256, 256)), method.draw(2, torch.Generator().manual_seed(0), 0.0))
    assert views["colours"].shape == (2, 2, 44, 44)
    optimizer = torch.optim.Adam(method.parameters(), 3e-4, (recipe.momentum, 0.99), weight_decay=1e-3)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = method(views)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(5.746, rel=0.1)
    assert losses[2] < losses[1] < losses[0]
