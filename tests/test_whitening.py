"""The whitened first convolution."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nolabel.encoders._io import load_encoder, save_encoder
from nolabel.encoders._statistics import set_normalisation
from nolabel.encoders._whitening import MOST_PATCHES, _patches, whiten_stem
from nolabel.encoders.base import Encoder, build
from nolabel.errors import UsageError


def photos(n: int, side: int, seed: int = 1) -> Tensor:
    """Smooth random images, so that neighbouring pixels and channels are correlated as in photographs."""
    noise = torch.rand(n, 3, side + 4, side + 4, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool2d(noise, 5, 1)
    return (0.7 * smooth + 0.3 * smooth.mean(1, keepdim=True)).clamp(0, 1)


class Stem(Encoder):
    """One convolution, of any form."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.name, self.size, self.stages, self.dim = "stem", 16, ("only",), conv.out_channels
        self.conv = conv

    def maps(self, images: Tensor, standardised: bool = False) -> dict[str, Tensor]:
        return {"only": self.conv(self.normalised(images, standardised))}

    def forward(self, images: Tensor, standardised: bool = False) -> Tensor:
        return self.maps(images, standardised)["only"].mean((2, 3))

    @property
    def stem(self) -> nn.Conv2d:
        return self.conv


def test_outputs_are_uncorrelated_with_the_closed_form_variance() -> None:
    images = photos(40, 16)
    encoder = Stem(nn.Conv2d(3, 54, 3)).double()
    set_normalisation(encoder, images.mean((0, 2, 3)), images.std((0, 2, 3)))
    whiten_stem(encoder, images.double())
    normalised = encoder.normalised(images.double())
    eigenvalues = torch.linalg.eigvalsh(
        torch.cov(F.unfold(normalised, 3).transpose(0, 1).flatten(1), correction=0)
    )
    out = encoder.maps(images.double())["only"][:, :27].transpose(0, 1).flatten(1)
    expected = torch.diag((eigenvalues / (eigenvalues + 0.01)).flip(0))
    torch.testing.assert_close(torch.cov(out, correction=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "pairs"),
    [
        ("resnet10", 32, 16),
        ("resnet18", 32, 27),
        ("resnet18b16", 128, 8),
        ("nin3", 32, 75),
        ("timm:convnext_atto", 32, 20),
    ],
)
def test_filters_come_in_signed_pairs_and_are_frozen(name: str, size: int, pairs: int) -> None:
    encoder = build(name, size)
    initial = encoder.stem.weight.detach().clone()
    whiten_stem(encoder, photos(30, 32))
    weight = encoder.stem.weight
    assert torch.equal(weight[:pairs], -weight[pairs : 2 * pairs])
    assert torch.equal(weight[2 * pairs :], initial[2 * pairs :])
    first = weight[:pairs].flatten(1)
    assert (first.gather(1, first.abs().argmax(1, keepdim=True)) > 0).all()
    norms = first.norm(dim=1)
    assert (norms.diff() >= -1e-4).all(), "the largest eigenvalue comes first, so norms grow"
    assert encoder.whitened
    assert not any(parameter.requires_grad for parameter in encoder.stem.parameters())
    rest = [p for key, p in encoder.named_parameters() if not any(p is q for q in encoder.stem.parameters())]
    assert all(parameter.requires_grad for parameter in rest)


def test_a_stem_with_bias_and_stride() -> None:
    encoder = Stem(nn.Conv2d(3, 8, (5, 3), stride=4, padding=2))
    whiten_stem(encoder, photos(30, 16))
    assert encoder.conv.bias is not None
    assert (encoder.conv.bias == 0).all()
    assert encoder(photos(2, 16)).isfinite().all()


def test_the_result_is_a_function_of_the_images() -> None:
    first, second = build("resnet10", 32), build("resnet10", 32)
    whiten_stem(first, photos(30, 32))
    torch.rand(5)
    whiten_stem(second, photos(30, 32))
    assert torch.equal(first.stem.weight, second.stem.weight)
    whiten_stem(second, photos(30, 32, seed=2))
    assert not torch.equal(first.stem.weight, second.stem.weight)


@pytest.mark.parametrize(("n", "side"), [(300, 32), (50_000, 8), (110_000, 3), (2, 300)])
def test_patches_are_bounded_and_spread(n: int, side: int) -> None:
    images = torch.zeros(n, 3, side, side)
    images[:, 0] = torch.arange(n).view(-1, 1, 1)
    found = _patches(images, 3, 3)
    assert found.shape[1] == 27
    assert MOST_PATCHES / 8 < len(found) <= MOST_PATCHES
    assert found[-1, 0] >= n - 2, "the last images are read too"


def test_images_smaller_than_the_kernel_are_refused() -> None:
    with pytest.raises(UsageError, match="give larger images"):
        whiten_stem(build("nin3", 32), torch.rand(10, 3, 4, 4))


def test_constant_images_give_finite_filters() -> None:
    encoder = build("resnet10", 32)
    whiten_stem(encoder, torch.full((4, 3, 16, 16), 0.5))
    assert encoder.stem.weight.isfinite().all()


def test_a_loaded_stem_is_frozen_again(tmp_path: Path) -> None:
    encoder = build("resnet10", 32)
    save_encoder(tmp_path, encoder, {})
    assert load_encoder(tmp_path).stem.weight.requires_grad
    whiten_stem(encoder, photos(30, 32))
    assert copy.deepcopy(encoder).whitened
    save_encoder(tmp_path, encoder, {})
    loaded = load_encoder(tmp_path)
    assert loaded.whitened
    assert not loaded.stem.weight.requires_grad
