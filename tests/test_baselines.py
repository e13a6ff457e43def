"""Baselines: random weights as a run begins, pixels, histogram, patch k-means in its folded form."""

import pytest
import torch
from torch import Tensor

from nolabel.encoders import timm_encoder
from nolabel.encoders._whitening import whiten_stem
from nolabel.encoders.base import Encoder, build
from nolabel.errors import UsageError
from nolabel.evaluation import _patches, baselines
from nolabel.evaluation._patches import Patches
from nolabel.evaluation._split import divide
from nolabel.evaluation.base import Features
from nolabel.evaluation.run import evaluate_encoder
from nolabel.views import plain
from test_features import store_of


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    return build("resnet10", 16).eval()


def only(name: str, encoder: Encoder) -> Features:
    store = store_of()
    (found,) = baselines.features(name, encoder, store, divide(store, 0), size=16)
    return found


def test_random_has_three_seeds_and_its_own_batchnorm_statistics(encoder: Encoder) -> None:
    store = store_of()
    found = list(baselines.features("random", encoder, store, divide(store, 0), size=16, seed=4))
    assert [one.seeds for one in found] == [(4,), (5,), (6,)]
    assert {one.name for one in found} == {"random:resnet10"}
    x = [one.stage("stage1", one.train) for one in found]
    assert not torch.allclose(x[0], x[1])
    again = next(iter(baselines.features("random", encoder, store, divide(store, 0), size=16, seed=4)))
    torch.testing.assert_close(again.stage("stage1", again.train), x[0], atol=0, rtol=0)
    # The output of BatchNorm with statistics of these images is of unit size.
    assert 0.1 < float(x[0].mean()) < 3


def test_random_has_the_whitened_stem_of_the_encoder_compared(encoder: Encoder) -> None:
    store = store_of()
    whitened = build("resnet10", 16)
    whiten_stem(whitened, plain.whole(store.batch(torch.arange(40)), 16))
    plainly, alike = (
        baselines.random_features(one, store, divide(store, 0), size=16, seed=0)
        for one in (encoder, whitened.eval())
    )
    assert "whitened stem" in alike.setting["initialisation"]
    assert "random stem" in plainly.setting["initialisation"]
    assert not torch.allclose(alike.stage("stage1", alike.train), plainly.stage("stage1", plainly.train))


def test_pixels_are_the_pixels(encoder: Encoder) -> None:
    found = only("pixels", encoder)
    images = plain.whole(store_of().batch(found.train), 16)
    torch.testing.assert_close(found.stage("pixels", found.train), images.flatten(1))
    store = store_of(9, size=96)
    (small,) = baselines.features("pixels", build("resnet10", 96), store, divide(store, 0), size=96)
    assert small.values["pixels"] == 3 * 32 * 32


def test_whitened_vectors_have_unit_covariance() -> None:
    """By hand: two independent directions of standard deviation 3 and 1, and one that holds less than 1 %."""
    random = torch.Generator().manual_seed(0)
    signs = torch.tensor([[a, b, c] for a in (-1.0, 1) for b in (-1.0, 1) for c in (-1.0, 1)])
    turn = torch.linalg.qr(torch.randn(3, 3, generator=random, dtype=torch.float64)).Q.float()
    vectors = signs * torch.tensor([3.0, 1.0, 0.1]) @ turn + 7
    mean, matrix = baselines.whitening(vectors)
    torch.testing.assert_close(mean, torch.full((3,), 7.0))
    torch.testing.assert_close((matrix / matrix.norm(dim=0)).T.abs(), turn[:2].abs(), atol=1e-5, rtol=0)
    torch.testing.assert_close(matrix.norm(dim=0), torch.tensor([1 / 3, 1.0]))
    white = (vectors - mean) @ matrix
    torch.testing.assert_close(torch.cov(white.T, correction=0), torch.eye(2), atol=1e-5, rtol=0)


def test_whitened_pixels_have_unit_covariance_over_the_training_images(encoder: Encoder) -> None:
    found = only("whitened", encoder)
    white = found.stage("whitened", found.train)
    assert white.shape == (len(found.train), found.values["whitened"])
    torch.testing.assert_close(torch.cov(white.T, correction=0), torch.eye(white.shape[1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(white.mean(0), torch.zeros(white.shape[1]), atol=1e-4, rtol=0)


def test_images_without_variance_are_whitened_to_zero() -> None:
    mean, matrix = baselines.whitening(torch.full((4, 5), 0.25))
    assert ((torch.full((2, 5), 0.25) - mean) @ matrix).tolist() == [[0.0], [0.0]]


def test_histogram_counts_colours() -> None:
    images = torch.zeros(2, 3, 4, 4)
    images[1, 0, :2] = 1.0
    found = baselines.histogram(images).square().double().round(decimals=6)
    assert found.shape == (2, 608)
    torch.testing.assert_close(found.sum(1), torch.tensor([4.0, 4.0]).double())
    assert found[0, 0] == found[0, 512] == found[0, 544] == found[0, 576] == 1
    assert found[1, 0] == found[1, 7 * 64] == found[1, 512] == found[1, 512 + 31] == 0.5
    shuffled = images.flatten(2)[:, :, torch.randperm(16)].view_as(images)
    torch.testing.assert_close(baselines.histogram(shuffled).square().double(), found)


def test_an_unknown_baseline_is_named_with_the_nearest(encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="did you mean pixels"):
        only("pixel", encoder)


def some_patches(k: int, dtype: torch.dtype = torch.float64) -> Patches:
    random = torch.Generator().manual_seed(0)
    d = 108
    half = torch.randn(d, d, generator=random, dtype=dtype) / d
    mean = torch.randn(d, generator=random, dtype=dtype) / 10
    return Patches(
        half @ half.T + torch.eye(d, dtype=dtype), mean, torch.randn(k, d, generator=random, dtype=dtype)
    )


def naive(patches: Patches, image: Tensor) -> Tensor:
    """Activations (H − 5, W − 5, K) of one image (3, H, W), window by window."""
    _, height, width = image.shape
    rows = []
    for y in range(height - 5):
        for x in range(width - 5):
            window = _patches.normalised(image[:, y : y + 6, x : x + 6].reshape(1, -1))[0]
            z = ((window - patches.mean) @ patches.whitening - patches.centres).norm(dim=1)
            rows.append((z.mean() - z).clamp_min(0))
    return torch.stack(rows).view(height - 5, width - 5, -1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_folded_form_equals_the_naive_loop(dtype: torch.dtype) -> None:
    patches = some_patches(7, dtype)
    images = torch.rand(2, 3, 9, 10, generator=torch.Generator().manual_seed(1), dtype=dtype)
    found = patches.activations(images)
    for b in range(2):
        torch.testing.assert_close(found[b], naive(patches, images[b]), atol=1e-5, rtol=0)


def test_a_constant_image_gives_equal_windows_and_no_nan() -> None:
    found = some_patches(5).activations(torch.full((1, 3, 8, 8), 0.3, dtype=torch.float64))
    assert found.isfinite().all()
    torch.testing.assert_close(found, found[:, :1, :1].expand_as(found))


def test_a_zero_patch_is_equally_far_from_centres_of_equal_norm() -> None:
    patches = some_patches(5)
    unit = patches.centres / patches.centres.norm(dim=1, keepdim=True)
    equal = Patches(patches.whitening, torch.zeros_like(patches.mean), unit)
    found = equal.activations(torch.full((1, 3, 8, 8), 0.3, dtype=torch.float64))
    torch.testing.assert_close(found, torch.zeros_like(found), atol=1e-7, rtol=0)


def test_one_centre_gives_zero_everywhere() -> None:
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    assert not some_patches(1)(images).any()


def test_quadrants_of_two_by_two_windows_are_the_windows_and_odd_sides_split_floor_and_ceil() -> None:
    patches = some_patches(4)
    images = torch.rand(1, 3, 7, 7, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    windows = patches.activations(images)
    torch.testing.assert_close(patches(images), windows.permute(0, 3, 1, 2).flatten(1))
    odd = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    maps = patches.activations(odd)
    expected = [maps[0, :1, :1], maps[0, :1, 1:], maps[0, 1:, :1], maps[0, 1:, 1:]]
    sums = torch.stack([part.sum((0, 1)) for part in expected], 1).flatten()
    torch.testing.assert_close(patches(odd)[0], sums)


def test_fitted_patches_whiten_and_k_means_redraws_empty_centres() -> None:
    store = store_of(40, size=32)
    fitted = _patches.fit(store, torch.Generator().manual_seed(0), centres=8, patches=2000)
    assert fitted.centres.shape == (8, 108)
    assert fitted(plain.whole(store.batch(torch.arange(3)), 32)).shape == (3, 32)
    twice = _patches.fit(store, torch.Generator().manual_seed(0), centres=8, patches=2000)
    torch.testing.assert_close(fitted.centres, twice.centres, atol=0, rtol=0)
    points = torch.tensor([[0.0], [0.0], [0.0], [10.0]])
    centres = _patches.k_means(points, 3, torch.Generator().manual_seed(0), passes=5)
    assert set(centres.flatten().tolist()) <= {0.0, 10.0}
    assert centres.isfinite().all()


def test_trained_weights_of_timm_are_a_baseline_where_they_can_be_had(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = build("timm:resnet18", 128)
    with torch.no_grad():
        trained.stem.weight.fill_(0.25)
    held = trained.net.state_dict()
    monkeypatch.setattr(
        timm_encoder, "pretrained", lambda name, otherwise: (held, (0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    )
    found = only("timm:resnet18", encoder)
    assert found.name == "pretrained:timm:resnet18"
    assert found.setting["size"] == baselines.PRETRAINED_SIDE
    assert found.network is None
    trained.eval()
    trained.mean.copy_(torch.tensor((0.1, 0.2, 0.3)).view(3, 1, 1))
    trained.std.fill_(1)
    store = store_of()
    with torch.no_grad():
        expected = trained(plain.whole(store.batch(found.train[:4]), baselines.PRETRAINED_SIDE))
    torch.testing.assert_close(found.stage("pooled", found.train[:4]), expected, atol=1e-4, rtol=1e-4)


def test_weights_that_cannot_be_had_are_told_before_anything_is_computed(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(repository: str) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(timm_encoder, "_download", unreachable)
    monkeypatch.setattr("nolabel.evaluation.run.extract", None)
    with pytest.raises(
        UsageError, match="weights of resnet18 cannot be .*leave the baseline timm:resnet18 out"
    ):
        evaluate_encoder(encoder, store_of(), baselines=("timm:resnet18",))
