"""Exemplar: seeds, copies and loss against closed forms and matplotlib's HSV."""

import math

import numpy as np
import pytest
import torch

from nolabel.data.batch import ImageBatch
from nolabel.data.store import ImageStore
from nolabel.encoders.base import build
from nolabel.errors import UsageError
from nolabel.methods._exemplar_seeds import gradient_energy
from nolabel.methods.base import DataInfo
from nolabel.methods.exemplar import Exemplar, ExemplarOptions, side_of
from nolabel.views import hsv

STILL = {"shift": 0.0, "zoom": 1.0, "turn": 0.0, "contrast": 1.0, "power": 1.0, "hue": 0.0}


def made(size: int = 32, **options: object) -> Exemplar:
    chosen, data = ExemplarOptions(**({"seeds": 20} | options)), DataInfo(64, size)  # type: ignore[arg-type]
    torch.manual_seed(0)
    method = Exemplar(build("resnet10", Exemplar.encoder_size(chosen, data)), chosen, data)
    method.prepare(store(size), torch.Generator().manual_seed(0))
    return method


def store(size: int) -> ImageStore:
    return ImageStore.of(torch.randint(256, (30, 3, size, size), dtype=torch.uint8))


def some(n: int) -> ImageBatch:
    return ImageBatch.of(torch.zeros(n, 3, 32, 32, dtype=torch.uint8))


def test_hsv_equals_matplotlib_and_goes_back() -> None:
    from matplotlib.colors import rgb_to_hsv

    images = torch.rand(3, 3, 6, 5)
    ours = hsv.rgb_to_hsv(images)
    assert np.allclose(ours.movedim(1, -1).numpy(), rgb_to_hsv(images.movedim(1, -1).numpy()), atol=1e-5)
    assert torch.allclose(hsv.hsv_to_rgb(ours), images, atol=1e-5)


def test_neutral_changes_change_nothing() -> None:
    images = torch.rand(4, 3, 6, 6)
    one, none = torch.ones(4, 2), torch.zeros(4, 2)
    assert torch.allclose(hsv.change_hsv(images, one, one, none, torch.zeros(4)), images, atol=1e-4)
    rotation = torch.linalg.qr(torch.randn(3, 3)).Q
    assert torch.allclose(hsv.scale_components(images, rotation, torch.ones(4, 3)), images, atol=1e-5)


def test_a_copy_that_nothing_changes_is_the_seed() -> None:
    method = made(**STILL)
    drawn = method.draw(5, torch.Generator().manual_seed(0), 0.0)
    found = method.views(some(5), drawn)
    low = (method.windows.shape[-1] - method.side) // 2
    seeds = method.windows[found["labels"], :, low : low + method.side, low : low + method.side].float() / 255
    shifted = (method.windows.shape[-1] - method.side) % 2
    assert shifted or torch.allclose(found["copies"], seeds, atol=2e-2)


def test_energy_is_that_of_a_ramp() -> None:
    ramp = torch.arange(10.0).view(1, 1, 1, 10).expand(1, 3, 10, 10) / 10
    inner = gradient_energy(ramp, 4)[0, :, 1:-1]
    assert inner == pytest.approx(torch.full_like(inner, 0.01), abs=1e-5)


def test_seeds_lie_where_the_gradients_are() -> None:
    images = torch.full((40, 3, 32, 32), 128, dtype=torch.uint8)
    images[:, :, 20:28, 20:28] = torch.randint(256, (40, 3, 8, 8), dtype=torch.uint8)
    method = made()
    method.prepare(ImageStore.of(images), torch.Generator().manual_seed(0))
    low = (method.windows.shape[-1] - method.side) // 2
    inside = method.windows[:, :, low : low + method.side, low : low + method.side].float()
    assert (inside.std((1, 2, 3)) > 5).all()


def test_the_loss_of_a_zero_head_is_the_logarithm_of_the_number_of_seeds() -> None:
    method = made()
    torch.nn.init.zeros_(method.head.weight)
    torch.nn.init.zeros_(method.head.bias)
    views = method.views(some(4), method.draw(4, torch.Generator().manual_seed(0), 0.0))
    assert method(views)["loss"].item() == pytest.approx(math.log(20), abs=1e-5)
    assert method.chance == pytest.approx(1 / 20)


def test_parameters_stay_in_their_ranges_with_median_one() -> None:
    drawn = made().draw(4000, torch.Generator().manual_seed(0), 0.0)
    assert drawn["zoom"].min() >= 0.7 - 1e-6
    assert drawn["zoom"].max() <= 1.4 + 1e-6
    assert drawn["power"].median() == pytest.approx(1.0, abs=0.05)
    assert drawn["components"].max() <= 2 + 1e-6
    assert drawn["shift"].abs().max() <= 0.2


def test_seeds_are_kept_with_the_checkpoint_and_sides_are_the_specifications() -> None:
    assert {"windows", "components"} <= set(made().state_dict())
    assert [side_of(ExemplarOptions(), size) for size in (32, 64, 96)] == [16, 24, 32]
    with pytest.raises(UsageError, match="do not fit"):
        side_of(ExemplarOptions(patch=64), 32)
