"""Counting: what counts cost that are the same for all images, the yardstick of a run."""

from typing import Any

import pytest
import torch
from torch import nn

from nolabel import seeds
from nolabel.methods.base import DataInfo
from nolabel.methods.counting import Counting, CountingOptions
from small import TinyNet, smooth_images

MARGIN, COUNTS = 10.0, 64


@pytest.mark.parametrize(
    "options",
    [{}, {"symmetric_loss": True}, {"hinge": "per_element"}, {"contrastive": False}],
    ids=str,
)
def test_equal_counts_cost_the_closed_form_and_none_less_than_chance(options: dict[str, Any]) -> None:
    method = Counting(TinyNet(), CountingOptions(**options), DataInfo(64, 32))
    images, last = smooth_images(4, (40, 40)), method.head[-2]
    views = method.views(images, method.draw(4, seeds.generator(0, "views"), 0.0))
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    chance = method.chance_loss(4)
    for bias in (0.0, 0.05, 0.1, 0.3, 1.0, 1.5):
        nn.init.constant_(last.bias, bias)
        with torch.no_grad():
            found = method(views)["loss"].item()
        element = 9 * bias**2
        apart = element if method.options.hinge == "per_element" else COUNTS * element
        other = max(0.0, MARGIN - apart) if method.options.contrastive else 0.0
        assert found == pytest.approx(COUNTS * element + other, rel=1e-5)
        assert found == pytest.approx(chance, abs=1e-6) if bias == 0 else found >= chance - 1e-4
