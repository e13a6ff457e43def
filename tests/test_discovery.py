"""Discovery: squares, hand-made purity and coverage, planted constellations."""

import numpy as np
import pytest
import torch

from nolabel.data.store import ImageStore
from nolabel.errors import DataError, RunError, UsageError
from nolabel.evaluation import discovery
from nolabel.evaluation._features import extract
from nolabel.evaluation._split import Division
from nolabel.evaluation.discovery import Discovery, DiscoveryOptions
from small import TinyNet, smooth_images

SQUARE = torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])


def test_an_exact_square_has_no_error_and_one_place_is_rejected() -> None:
    for side in (0.7, 1.0, 1.3):
        assert float(discovery.square_error(side * SQUARE + 5)) == pytest.approx(0, abs=1e-9)
    assert float(discovery.square_error(torch.zeros(4, 2))) == pytest.approx(2)
    assert float(discovery.square_error(2 * SQUARE)) == pytest.approx(2 * (2 / 3) ** 2 / (4 / 3) ** 2)
    assert float(discovery.square_error(SQUARE.flip(0))) > 1


def test_random_centres_are_accepted_rarely() -> None:
    random = torch.Generator().manual_seed(0)
    centres = 4 * torch.rand(10_000, 4, 2, generator=random)
    assert (discovery.square_error(centres) < 1).float().mean() < 0.02


def test_the_fit_is_the_least_squares_one() -> None:
    random = torch.Generator().manual_seed(1)
    centres = SQUARE + 0.1 * torch.randn(4, 2, generator=random)
    best = min(
        float((centres - centres.mean(0) - side * discovery.CORNERS).square().sum() / side**2)
        for side in np.linspace(0.9, 1.1, 2001)
    )
    # The side minimises the error itself; the ratio is reported at that side.
    assert float(discovery.square_error(centres)) == pytest.approx(best, abs=2e-3)


def test_purity_and_coverage_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    clusters = np.zeros((3, 10), bool)
    clusters[0, [0, 3, 4, 6]] = True
    clusters[1, [0, 1]] = True
    clusters[2, [6, 7, 8, 3]] = True
    purities = discovery.purity_of(clusters, labels)
    assert purities.tolist() == [0.5, 1.0, 0.75]
    purity, coverage = discovery.purity_coverage(purities, clusters)
    assert purity == pytest.approx([1.0, 5 / 6, 0.7])
    assert coverage == pytest.approx([0.2, 0.6, 0.7])
    whole = 0.2 + 0.4 * (1 + 5 / 6) / 2 + 0.1 * (5 / 6 + 0.7) / 2
    assert discovery.area(purity, coverage) == pytest.approx(whole)
    at_half = 1 - (1 - 5 / 6) * 0.3 / 0.4
    assert discovery.area(purity, coverage, 0.5) == pytest.approx(0.2 + 0.3 * (1 + at_half) / 2)
    assert discovery.area(purity[:0], coverage[:0]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("most", [1.0, 0.5])
def test_the_area_is_covered_as_it_should_be(most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters drawn from a population; the interval holds the mean area of as many of them."""
    monkeypatch.setattr(discovery, "DRAWS", 200)
    random, labels, found = np.random.default_rng(0), np.arange(120) % 4, []
    for trial in range(120):
        clusters = np.zeros((16, 120), bool)
        for members in clusters:
            size, own = random.integers(5, 15), labels == random.integers(4)
            chance = np.where(own, random.choice([1, 6, 30]), 1.0)
            members[random.choice(120, size, replace=False, p=chance / chance.sum())] = True
        found.append(discovery._bootstrap_area(discovery.purity_of(clusters, labels), clusters, most, trial))
    value, low, high = np.array(found).T
    assert (low < value).all()
    assert (value < high).all()
    assert 0.88 <= np.mean((low <= value.mean()) & (value.mean() <= high)) <= 0.99


def test_a_cluster_of_known_images_is_redundant() -> None:
    verified = np.zeros((4, 30), bool)
    verified[0, :10] = True
    verified[1, :8] = True
    verified[2, 6:14] = True
    verified[3, 20:23] = True
    kept = discovery.without_redundant(verified)
    assert kept.tolist() == [verified[0].tolist(), verified[2].tolist()]


def test_constellations_touch_and_do_not_overlap() -> None:
    image, places = discovery.constellations(7, 50, torch.Generator().manual_seed(0))
    assert sorted(image[:7].tolist()) == list(range(7))
    rows, columns = places // discovery.GRID, places % discovery.GRID
    assert (places < discovery.GRID**2).all()
    assert (rows[:, 2] - rows[:, 0] == 2).all()
    assert (rows[:, 0] == rows[:, 1]).all()
    assert (columns[:, 1] - columns[:, 0] == 2).all()


def planted(shuffled: bool) -> tuple[np.ndarray, torch.Tensor]:
    """40 images of noise; the first half hold four special patches, in a square or anywhere."""
    random = torch.Generator().manual_seed(0)
    patches = torch.randn(40, 25, 32, generator=random)
    parts = 5 * torch.randn(4, 32, generator=random)
    for i in range(20):
        corner = int(torch.randint(0, 3, (1,), generator=random)) * 5 + i % 3
        places = torch.tensor([corner, corner + 2, corner + 10, corner + 12])
        if i and shuffled:
            places = torch.randperm(25, generator=random)[:4]
        patches[i, places] = parts + 0.3 * torch.randn(4, 32, generator=random)
        if i == 0:
            first = places
    patches = torch.nn.functional.normalize(patches, dim=2)
    return discovery.mine(patches, torch.tensor([0]), first[None], 19), first


def test_a_planted_constellation_is_verified_and_loose_parts_are_not() -> None:
    square, _ = planted(shuffled=False)
    assert square[0, 1:20].all()
    assert not square[0, 20:].any()
    assert not square[0, 0]
    loose, _ = planted(shuffled=True)
    assert loose.sum() <= 3


def test_the_protocol_gives_rows_with_intervals() -> None:
    encoder = TinyNet(width=6)
    store = ImageStore.of(
        [smooth_images(35, (24, 30)).image(b) for b in range(35)], [b % 2 for b in range(35)]
    )
    subject = extract(encoder, store, Division(torch.arange(10), torch.arange(10, 35), "cut"), name="tiny")
    rows = Discovery(DiscoveryOptions(constellations=20)).run(subject, 0)
    assert [r.metric for r in rows] == ["area", "area_half", "verified"]
    assert all(0 <= r.low <= r.high <= 1 and r.n == 25 for r in rows)
    assert rows[0].setting["matches"] == 5
    with pytest.raises(
        DataError, match="needs at least 25 test images and has 24: a cluster is 5 of the fifth"
    ):
        Discovery(DiscoveryOptions()).check(store, Division(torch.arange(11), torch.arange(11, 35), "cut"))
    with pytest.raises(UsageError, match="The option matches is 4: give a number of 5 or more"):
        DiscoveryOptions(matches=4)


@pytest.mark.parametrize("plant", [True, False])
def test_objects_that_recur_in_the_fewest_images_have_an_area(
    plant: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """25 images of noise; 6 of the first class, one more than a cluster needs, show the same four parts."""
    random = torch.Generator().manual_seed(0)
    patches, parts = torch.randn(25, 25, 32, generator=random), 5 * torch.randn(4, 32, generator=random)
    first = (torch.arange(25) < 6).long()
    for i in range(6 if plant else 0):
        patches[i, [0, 2, 10, 12]] = parts + 0.3 * torch.randn(4, 32, generator=random)
    patches = torch.nn.functional.normalize(patches, dim=2)
    monkeypatch.setattr(discovery, "patch_features", lambda network, images: patches[images])
    store = ImageStore.of([smooth_images(25, (24, 24)).image(b) for b in range(25)], (1 - first).tolist())
    subject = extract(TinyNet(), store, Division(torch.arange(1), torch.arange(25), "all"), name="tiny")
    rows = {r.metric: r for r in Discovery(DiscoveryOptions(constellations=225)).run(subject, 0)}
    covered = 5 / 25  # of one constellation, whose own image does not count
    assert rows["area"].value == pytest.approx(covered if plant else 0, abs=0.02)
    assert rows["area"].setting["clusters"] == int(plant)
    curve = rows["area"].setting["curve"]
    assert curve["purity"] == pytest.approx([1.0] * plant)
    assert curve["coverage"] == pytest.approx([rows["area"].setting["coverage"]] * plant)
    assert discovery.area(np.array(curve["purity"]), np.array(curve["coverage"])) == rows["area"].value
    assert "curve" not in rows["verified"].setting


def test_features_that_are_not_finite_are_refused() -> None:
    class Broken(TinyNet):
        def forward(self, images: torch.Tensor, standardised: bool = False) -> torch.Tensor:
            return images.mean((2, 3)) * torch.tensor([1.0, float("nan"), 1.0])

    store = ImageStore.of([smooth_images(25, (24, 24)).image(b) for b in range(25)], [0] * 25)
    subject = extract(Broken(), store, Division(torch.arange(1), torch.arange(25), "all"), name="broken")
    with pytest.raises(RunError, match="features of broken are not finite"):
        Discovery(DiscoveryOptions(constellations=4)).run(subject, 0)


def test_patches_are_read_where_they_are_said_to_be() -> None:
    """Images whose green is the column and whose red is the row: a patch's mean tells its place."""
    ramp = torch.arange(30, dtype=torch.float32) * 8
    image = torch.stack([ramp[:, None].expand(30, 30), ramp[None].expand(30, 30), torch.zeros(30, 30)]).byte()
    store = ImageStore.of([image] * 12)

    class Mean(TinyNet):
        def forward(self, images: torch.Tensor, standardised: bool = False) -> torch.Tensor:
            return images.mean((2, 3)) + torch.tensor([0.0, 0.0, 1.0])

    subject = extract(Mean(), store, Division(torch.arange(1), torch.arange(12), "all"), name="mean", size=8)
    assert subject.network is not None
    found = discovery.patch_features(subject.network, torch.arange(12))
    assert found.shape == (12, 25, 3)
    place = found[0] / found[0, :, 2:]
    centres = (torch.arange(5) * 5 + 4.5) * 8 / 255
    torch.testing.assert_close(place[:, 0].view(5, 5), centres[:, None].expand(5, 5), atol=2e-3, rtol=0)
    torch.testing.assert_close(place[:, 1].view(5, 5), centres[None].expand(5, 5), atol=2e-3, rtol=0)
