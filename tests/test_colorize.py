"""`nolabel colorize` and what it is made of: sizes, lightness kept, files, sheet, and wrong use."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli_helpers import Say, one_line
from nolabel.encoders.base import build
from nolabel.encoders.colorization_net import Enlarged
from nolabel.methods._colouring import colour_photograph, joined
from nolabel.methods.base import DataInfo, Method
from nolabel.methods.colorization import Colorization, ColorizationOptions
from nolabel.methods.rotation import Rotation, RotationOptions
from nolabel.runs import Run
from nolabel.training import checkpoint
from nolabel.views import lab


def made(size: int = 32, **options: object) -> Colorization:
    torch.manual_seed(0)
    return Colorization(build("resnet10", size), ColorizationOptions(**options), DataInfo(64, size))  # type: ignore[arg-type]


def fixed(ab: tuple[float, float], size: int = 32, **options: object) -> Colorization:
    """A net that answers with the class of centre `ab` everywhere (or with U and V)."""
    method = made(size, **options).eval()
    last = method.head[-1]
    assert isinstance(last, torch.nn.Conv2d)
    torch.nn.init.zeros_(last.weight)
    with torch.no_grad():
        if method.space == "lab":
            assert last.bias is not None
            last.bias[method.classes.eq(torch.tensor(ab)).all(1)] = 30.0
        else:
            assert last.bias is not None
            last.bias.copy_(torch.tensor(ab))
    return method


def photograph(height: int, width: int) -> torch.Tensor:
    """A ramp of soft greys, uint8 (3, height, width)."""
    ramp = torch.linspace(90, 160, height * width).view(1, height, width)
    return ramp.round().byte().repeat(3, 1, 1)


@pytest.mark.parametrize("sides", [(50, 70), (32, 32), (9, 200), (640, 40)])
def test_a_photograph_keeps_its_size_and_its_lightness(sides: tuple[int, int]) -> None:
    grey = photograph(*sides)
    found = colour_photograph(fixed((20.0, 10.0)), grey)
    assert found.truth is None
    assert found.coloured.shape == found.grey.shape == grey.shape
    assert (found.grey.int() - grey.int()).abs().max() <= 1
    colours = lab.rgb_to_lab(found.coloured[None] / 255)[0]
    before = lab.rgb_to_lab(grey[None] / 255)[0]
    assert (colours[0] - before[0]).abs().max() < 1
    assert (colours[1:] - torch.tensor([20.0, 10.0]).view(2, 1, 1)).abs().max() < 2.5


@pytest.mark.parametrize("subsample", ["point", "area"])
def test_a_strip_is_coloured_by_a_net_of_small_images(subsample: str) -> None:
    method = fixed((20.0, 10.0), size=12, subsample=subsample)
    assert colour_photograph(method, photograph(12, 200)).coloured.shape == (3, 12, 200)


def test_regression_colours_in_yuv() -> None:
    grey = photograph(40, 60)
    found = colour_photograph(fixed((0.25, -0.1), loss="regression"), grey).coloured
    yuv = lab.rgb_to_yuv(found[None] / 255)[0]
    expected = torch.tensor([0.25 * 0.436, -0.1 * 0.615]).view(2, 1, 1)
    assert (yuv[1:] - expected).abs().max() < 0.01
    assert (yuv[0] - grey[0] / 255).abs().max() < 0.01


def test_a_colour_photograph_is_turned_grey_and_kept_as_the_truth() -> None:
    """Two photographs of one lightness are coloured alike, whatever their colours were."""
    rgb = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    red = joined(rgb, torch.tensor([20.0, 0.0]).view(1, 2, 1, 1), "lab")
    blue = joined(rgb, torch.tensor([0.0, -20.0]).view(1, 2, 1, 1), "lab")
    method = made().eval()
    one, two = (colour_photograph(method, (rgb[0] * 255).round().byte()) for rgb in (red, blue))
    assert one.truth is not None
    assert (one.truth.int() - two.coloured.int()).abs().max() > 10
    assert (one.coloured.int() - two.coloured.int()).abs().float().mean() < 1.5


def test_the_temperature_goes_from_the_mode_to_the_mean() -> None:
    method = fixed((50.0, 50.0))
    last = method.head[-1]
    assert isinstance(last, torch.nn.Conv2d)
    assert last.bias is not None
    with torch.no_grad():
        last.bias[method.classes.eq(torch.tensor([-20.0, 0.0])).all(1)] = 29.0
    seen = torch.rand(1, 3, 32, 32)
    mode, annealed, mean = (method.colours(seen, t).mean((0, 2, 3)) for t in (0.0, 0.38, 1.0))
    assert mode.tolist() == pytest.approx([50, 50], abs=1e-2)
    share = torch.tensor([30.0, 29.0]).softmax(0)
    assert mean.tolist() == pytest.approx(
        (share[0] * torch.tensor([50.0, 50]) + share[1] * torch.tensor([-20.0, 0])).tolist(), abs=0.05
    )
    assert mode[0] > annealed[0] > mean[0]
    assert method.colours(seen).mean((0, 2, 3)).tolist() == pytest.approx(annealed.tolist(), abs=1e-4)


def test_maps_are_enlarged_to_whole_pixels() -> None:
    assert Enlarged(24 / 5)(torch.zeros(1, 1, 5, 7)).shape == (1, 1, 24, 34)
    assert Enlarged(24 / 20)(torch.zeros(1, 1, 20, 20)).shape == (1, 1, 24, 24)


def test_a_large_photograph_is_converted_in_strips_without_seams() -> None:
    rgb, ab = torch.rand(1, 3, 1200, 3), 20 * torch.randn(1, 2, 30, 3)
    whole = torch.cat(
        [lab.rgb_to_lab(rgb)[:, :1], torch.nn.functional.interpolate(ab, (1200, 3), mode="bilinear")], 1
    )
    assert torch.allclose(joined(rgb, ab, "lab"), lab.lab_to_rgb(whole), atol=1e-6)


# --- the command ------------------------------------------------------------------------------------


def saved(folder: Path, name: str, method: Method) -> Path:
    """A run folder as training leaves it, as far as its method is read from it."""
    run = Run.create(folder, name=name)
    run.update(
        method=name, encoder="resnet10", size=32, options=asdict(method.options), data={"trained_on": 64}
    )
    checkpoint.save(run.checkpoints, method, torch.optim.SGD(method.parameters()), 0, {})
    run.close()
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("runs") / "colours", "colorization", made())


def test_photographs_are_coloured_at_full_size(say: Say, run: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(np.full((45, 70, 3), (200, 60, 40), np.uint8)).save(photos / "a.png")
    Image.fromarray(np.full((64, 50), 90, np.uint8)).save(photos / "old.jpg")
    Image.fromarray(np.full((64, 50), 90, np.uint8)).save(tmp_path / "A.tif")
    (photos / "broken.jpg").write_text("no image")
    out = tmp_path / "made" / "here"
    code, said, err = say("colorize", run, tmp_path / "A.tif", photos, "--out", out, "--temperature", 0)
    assert code == 0, err
    assert "Coloured 3 photographs" in said
    assert "Skipped 1 file" in said
    assert "broken.jpg (not an image)" in said
    assert {path.name for path in out.iterdir()} == {
        "A.png",
        "a-2.png",
        "old.png",
        "sheet.png",
        "skipped.csv",
    }
    assert (out / "skipped.csv").read_text().splitlines() == ["path,reason", "broken.jpg,not an image"]
    assert Image.open(out / "a-2.png").size == (70, 45)
    assert Image.open(out / "old.png").size == (50, 64)
    assert Image.open(out / "sheet.png").size[0] > 900


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["{run}"], ["No photographs"]),
        (["{run}", "no/such.jpg"], ["no/such.jpg"]),
        (["{run}", "{text}"], ["Not one photograph"]),
        (["no/run", "{photo}"], ["no/run", "holds no run"]),
        (["{run}", "{images}", "--out", "{images}/made"], ["inside the images"]),
        (["{run}", "{photo}", "--out", "{images}/test/class0"], ["inside the images"]),
        (["{run}", "{photo}", "--out", "{text}"], ["is a file"]),
        (["{run}", "{photo}", "--temperature", "-1"], ["--temperature -1"]),
        (["{run}", "{photo}", "--temperature", "nan"], ["--temperature nan"]),
    ],
    ids=str,
)
def test_wrong_use(
    say: Say, small_images: Path, run: Path, tmp_path: Path, words: list[str], parts: list[str]
) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("no image")
    photo = small_images / "test/class0/002.png"
    out = [] if "--out" in words else ["--out", str(tmp_path / "out")]
    named = [word.format(run=run, text=text, photo=photo, images=small_images) for word in words]
    code, _, err = say("colorize", *named, *out)
    assert code == 2, err
    one_line(err, *parts)


def test_runs_that_cannot_colour(say: Say, small_images: Path, tmp_path: Path) -> None:
    photo = small_images / "test/class0/002.png"
    other = Rotation(build("resnet10", 32), RotationOptions(), DataInfo(64, 32))
    code, _, err = say("colorize", saved(tmp_path / "r", "rotation", other), photo, "--out", tmp_path / "o")
    assert code == 2
    one_line(err, "another method than colorization")
    for loss in ("ab_regression", "huber", "regression"):
        lecture = saved(tmp_path / loss, "colorization", made(loss=loss))
        code, _, err = say("colorize", lecture, photo, "--out", tmp_path / "o", "--temperature", 1)
        assert code == 2
        one_line(err, "by regression: leave --temperature out")
    assert not (tmp_path / "o").exists()
    assert say("colorize", lecture, photo, "--out", tmp_path / "o")[0] == 0
    assert (tmp_path / "o" / "002.png").is_file()
