"""The contract of all encoders, their sizes in the papers, and their files."""

import copy
import functools
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn
from torch.optim.swa_utils import update_bn

from nolabel import catalog
from nolabel.encoders._io import encoder_digest, initialise, load_encoder, save_encoder
from nolabel.encoders._statistics import reestimate_batchnorm, set_normalisation
from nolabel.encoders.base import IMAGENET_MEAN, Encoder, build
from nolabel.errors import FileFormatError, NolabelError, UsageError

FAST = ("resnet10", "resnet18b16", "nin3", "timm:mobilenetv3_small_100", "timm:convnext_atto")
EXAMPLES = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
    for entry in catalog.names("encoders")
    for name in catalog.module("encoders", entry).EXAMPLES
]


def seeded(name: str, size: int, seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    return build(name, size)


@functools.cache
def shared(name: str, size: int) -> Encoder:
    """An encoder in evaluation mode that no test may change."""
    return seeded(name, size).eval()


def photos(n: int, side: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("name", EXAMPLES)
def test_maps_and_pooled_vector(name: str, size: int) -> None:
    encoder = shared(name, size)
    assert (encoder.name, encoder.size) == (name, size)
    with torch.no_grad():
        images = photos(2, size)
        maps, pooled = encoder.maps(images), encoder(images)
        assert tuple(maps) == encoder.stages
        sides = [tuple(m.shape[2:]) for m in maps.values()]
        assert all(m.ndim == 4 and len(m) == 2 for m in maps.values())
        assert sides == sorted(sides, reverse=True)
        assert pooled.shape == (2, encoder.dim)
        torch.testing.assert_close(pooled, maps[encoder.stages[-1]].mean((2, 3)))
        assert pooled.isfinite().all()
        ready = (images - encoder.mean) / encoder.std
        torch.testing.assert_close(encoder(ready, standardised=True), pooled)
        assert encoder(torch.rand(1, 3, size + 29, size + 8)).shape == (1, encoder.dim)
    assert encoder.stem.in_channels == 3


@pytest.mark.parametrize("size", [32, 96])
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_parameter_gets_a_gradient(name: str, size: int) -> None:
    encoder = copy.deepcopy(shared(name, size)).train()
    encoder(photos(2, size)).square().sum().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("name", EXAMPLES)
def test_initialisation_is_a_function_of_the_seed(name: str) -> None:
    assert encoder_digest(seeded(name, 32)) == encoder_digest(shared(name, 32))
    assert encoder_digest(seeded(name, 32, seed=1)) != encoder_digest(shared(name, 32))


@pytest.mark.parametrize("name", EXAMPLES)
def test_file_round_trip(name: str, tmp_path: Path) -> None:
    encoder = copy.deepcopy(shared(name, 32))
    set_normalisation(encoder, (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))
    encoder.to(memory_format=torch.channels_last)
    save_encoder(tmp_path, encoder, {"steps": 7})
    for path in (tmp_path, tmp_path / "encoder.safetensors", tmp_path / "encoder.json"):
        loaded = load_encoder(path)
        assert encoder_digest(loaded) == encoder_digest(encoder)
        assert not any(module.training for module in loaded.modules())
    assert torch.equal(loaded(photos(2, 32)), load_encoder(tmp_path)(photos(2, 32)))
    described = json.loads((tmp_path / "encoder.json").read_text())
    assert described["training"] == {"steps": 7}
    assert described["stages"] == list(encoder.stages)
    assert described["dim"] == encoder.dim


@pytest.mark.parametrize(
    ("name", "size", "parameters", "dim"),
    [
        ("resnet18", 128, 11_176_512, 512),
        ("resnet18", 32, 11_168_832, 512),
        ("resnet34", 128, 21_284_672, 512),
        ("resnet34", 32, 21_276_992, 512),
        ("resnet50", 128, 23_508_032, 2048),
        ("resnet50", 32, 23_500_352, 2048),
        ("resnet50x2", 128, 93_907_072, 4096),
        ("resnet50x2", 32, 93_891_712, 4096),
        ("resnet50x4", 128, 375_378_176, 8192),
        ("resnet50x4", 32, 375_347_456, 8192),
        ("resnet18b32", 32, 2_795_040, 256),
        ("resnet18b16", 32, 700_176, 128),
        ("nin3", 32, 1_004_484 - 772, 192),
        ("nin4", 32, 1_411_140 - 772, 192),
        ("nin5", 32, 1_817_796 - 772, 192),
    ],
)
def test_parameter_counts_of_the_papers(name: str, size: int, parameters: int, dim: int) -> None:
    with torch.device("meta"):
        encoder = build(name, size)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == parameters
    assert encoder.dim == dim


def multiply_adds(encoder: Encoder, side: int) -> int:
    """Multiply-adds of the convolutions on one image, counted in a run without data."""
    total = 0

    def count(module: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += out.numel() * module.weight[0].numel()

    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    encoder.eval()(torch.zeros(1, 3, side, side, device="meta"))
    return total


@pytest.mark.parametrize(
    ("name", "size", "millions"),
    [
        ("nin3", 32, 224.7),
        ("nin4", 32, 250.7),
        ("nin5", 32, 276.6),
        ("resnet18b16", 32, 35.0),
        ("resnet18b16", 64, 35.0),
        ("resnet18b16", 128, 44.2),
        ("resnet18b32", 32, 139.3),
        ("resnet18b32", 128, 157.7),
    ],
)
def test_multiply_adds_of_the_specification(name: str, size: int, millions: float) -> None:
    with torch.device("meta"):
        encoder = build(name, size)
    assert multiply_adds(encoder, size) / 1e6 == pytest.approx(millions, abs=0.05)


def test_nin_maps_are_those_of_the_paper() -> None:
    maps = shared("nin4", 32).maps(photos(1, 32))
    shapes = {stage: tuple(m.shape[1:]) for stage, m in maps.items()}
    assert shapes == {
        "conv1": (96, 16, 16),
        "conv2": (192, 8, 8),
        "conv3": (192, 8, 8),
        "conv4": (192, 8, 8),
    }


@pytest.mark.parametrize(("size", "first", "last"), [(32, 32, 4), (64, 32, 4), (96, 24, 3), (128, 32, 4)])
def test_stem_of_resnet10_keeps_the_first_map_small(size: int, first: int, last: int) -> None:
    with torch.device("meta"):
        maps = build("resnet10", size).maps(torch.zeros(1, 3, size, size))
    assert maps["stage1"].shape == (1, 32, first, first)
    assert maps["stage4"].shape == (1, 256, last, last)


@pytest.mark.parametrize("size", [160, 224, 256, 512])
def test_stem_of_resnet10_for_large_images(size: int) -> None:
    with torch.device("meta"):
        first = build("resnet10", size).maps(torch.zeros(1, 3, size, size))["stage1"].shape[-1]
    assert 16 < first <= 32


@pytest.mark.parametrize("name", ["resnet10", "resnet50b16"])
def test_residual_blocks_start_as_their_shortcut(name: str) -> None:
    for key, value in shared(name, 32).state_dict().items():
        last = "bn3.weight" if name == "resnet50b16" else "bn2.weight"
        if "layer" in key and key.endswith(last):
            assert (value == 0).all()
        elif key.endswith("bn1.weight"):
            assert (value == 1).all()


def test_residual_branches_may_start_open() -> None:
    """The same net and the same random weights, but for the last BatchNorm of each branch."""
    closed, opened = (seeded(name, 32).state_dict() for name in ("resnet18b16", "resnet18b16-open"))
    assert build("resnet18b16-open", 32).name == "resnet18b16-open"
    for key, value in opened.items():
        if "layer" in key and key.endswith("bn2.weight"):
            assert (value == 1).all()
            assert (closed[key] == 0).all()
        else:
            assert torch.equal(value, closed[key]), key


def test_convolutions_start_with_variance_one_over_fan_in() -> None:
    weight = shared("resnet10", 32).get_parameter("layer4.0.conv2.weight")
    fan_in = weight[0].numel()
    assert weight.var().item() * fan_in == pytest.approx(1, rel=0.02)
    assert weight.abs().max().item() <= 2 / 0.8796 * fan_in**-0.5 + 1e-6


@pytest.mark.parametrize(
    ("name", "size", "word"),
    [
        ("resnt18", 32, "did you mean resnet18?"),
        ("resnet50x3", 32, "did you mean resnet50?"),
        ("timm:resnet17", 32, "did you mean timm:resnet"),
        ("timm:qqqqqqqq", 32, "timm has no model named 'qqqqqqqq'"),
        ("timm:vit_tiny_patch16_224", 224, "gives no feature maps for images of 224 px"),
        pytest.param(
            "timm:swin_tiny_patch4_window7_224", 224, "gives no feature maps", marks=pytest.mark.slow
        ),
        ("timm:inception_v3", 32, "gives no feature maps for images of 32 px"),
        ("resnet10", 4, "at least 8 px"),
        ("nowhere.py", 32, "There is no file nowhere.py"),
    ],
)
def test_a_name_that_builds_nothing(name: str, size: int, word: str) -> None:
    with pytest.raises(UsageError) as failure:
        build(name, size)
    assert word in str(failure.value)
    assert "\n" not in str(failure.value)


def test_timm_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UsageError, match=r"nolabel\[timm\]"):
        build("timm:resnet18", 96)


def test_timm_model_brings_its_normalisation() -> None:
    assert build("timm:inception_v3", 96).mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert build("resnet10", 32).mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)


TOY = """
from torch import nn
from nolabel.encoders.base import Encoder

class Toy(Encoder):
    def __init__(self, name, size):
        super().__init__()
        self.name, self.size, self.stages, self.dim = name, size, ("only",), 5
        self.conv = nn.Conv2d(3, 5, 3)
    def maps(self, images, standardised=False):
        return {"only": self.conv(self.normalised(images, standardised))}
    def forward(self, images, standardised=False):
        return self.maps(images, standardised)["only"].mean((2, 3))
    @property
    def stem(self):
        return self.conv

build = Toy
"""


def test_an_encoder_from_outside_the_package(tmp_path: Path) -> None:
    file = tmp_path / "toy.py"
    file.write_text(TOY)
    encoder = build(str(file), 32)
    save_encoder(tmp_path, encoder, {})
    loaded = load_encoder(tmp_path)
    assert torch.equal(loaded(photos(2, 32)), encoder(photos(2, 32)))


def test_batchnorm_statistics_equal_torch_own() -> None:
    encoder = copy.deepcopy(shared("resnet10", 32))
    for seed, module in enumerate(m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(module.weight, generator=torch.Generator().manual_seed(seed))
    oracle = copy.deepcopy(encoder)
    batches = [photos(16, 32, seed) for seed in range(3)]
    before = dict(encoder.named_parameters())
    reestimate_batchnorm(encoder, batches)
    update_bn(batches, oracle)
    for key, value in oracle.state_dict().items():
        torch.testing.assert_close(encoder.state_dict()[key], value)
    assert all(torch.equal(before[key], value) for key, value in oracle.named_parameters())
    assert not any(module.training for module in encoder.modules())
    assert {m.momentum for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_batchnorm_statistics_of_no_images_change_nothing() -> None:
    encoder = copy.deepcopy(shared("resnet10", 32))
    before = encoder_digest(encoder)
    with pytest.raises(UsageError, match="at least one batch"):
        reestimate_batchnorm(encoder, [])
    assert encoder_digest(encoder) == before


def test_normalisation_of_images_of_one_colour_is_refused() -> None:
    encoder = build("resnet10", 32)
    with pytest.raises(UsageError, match="do not vary"):
        set_normalisation(encoder, (0.5, 0.5, 0.5), (0.1, 0.0, 0.1))
    assert encoder.mean.flatten().tolist() == pytest.approx(IMAGENET_MEAN)


def test_digest_sees_every_bit() -> None:
    encoder = copy.deepcopy(shared("resnet10", 32))
    digest = encoder_digest(encoder)
    with torch.no_grad():
        weight = encoder.get_parameter("layer4.0.conv2.weight")
        weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))
    assert encoder_digest(encoder) != digest
    encoder = copy.deepcopy(shared("resnet10", 32))
    encoder.get_buffer("bn1.num_batches_tracked").add_(1)
    assert encoder_digest(encoder) != digest


def saved(folder: Path) -> Path:
    save_encoder(folder, shared("resnet10", 32), {})
    return folder / "encoder.safetensors"


def rewritten(file: Path, **changes: object) -> None:
    """Write the encoder file again with another description."""
    with safe_open(file, "pt") as opened:
        description = json.loads(opened.metadata()["nolabel"]) | changes
        state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    safetensors.torch.save_file(state, file, {"nolabel": json.dumps(description)})


def test_the_description_in_json_is_not_needed_to_load(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "encoder.json").unlink()
    assert load_encoder(tmp_path).name == "resnet10"


def test_same_encoder_same_bytes(tmp_path: Path) -> None:
    first = saved(tmp_path).read_bytes()
    assert saved(tmp_path).read_bytes() == first


def test_files_that_cannot_be_loaded(tmp_path: Path) -> None:
    def refused(path: Path, kind: type[NolabelError], word: str) -> None:
        for load in (load_encoder, lambda source: initialise(build("resnet10", 32), source)):
            with pytest.raises(kind) as failure:
                load(path)
            assert word in str(failure.value)
            assert "\n" not in str(failure.value)

    refused(tmp_path / "none.safetensors", UsageError, "There is no file")
    refused(tmp_path / "encoder.json", UsageError, "There is no file")
    refused(tmp_path, UsageError, "holds no encoder.safetensors")
    (tmp_path / "model.pth").write_bytes(b"x")
    refused(tmp_path / "model.pth", UsageError, "is a pickle")
    text = tmp_path / "text.safetensors"
    text.write_text("not an encoder\n" * 20)
    refused(text, FileFormatError, "not a safetensors file or is damaged")
    text.write_bytes(b"")
    refused(text, FileFormatError, "not a safetensors file or is damaged")
    file = saved(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, FileFormatError, "is damaged")
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(tmp_path, FileFormatError, "its digest differs")
    file.write_bytes(whole)
    rewritten(file, format=9, written_by="4.5.6")
    refused(tmp_path, FileFormatError, "in format 9, written by nolabel 4.5.6")


def test_file_of_another_net_under_a_known_name(tmp_path: Path) -> None:
    rewritten(saved(tmp_path), name="resnet18b16")
    with pytest.raises(FileFormatError, match="does not fit the resnet18b16 that this version builds"):
        load_encoder(tmp_path)


def test_weights_without_description_are_for_init_only(tmp_path: Path) -> None:
    file = tmp_path / "theirs.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, file)
    with pytest.raises(FileFormatError, match="was not written by nolabel"):
        load_encoder(file)
