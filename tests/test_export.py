"""Weights for and from torchvision and timm, and ONNX."""

import copy
import sys
from pathlib import Path

import onnxruntime
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from nolabel.encoders import _export
from nolabel.encoders._export import export_onnx, export_state_dict, export_weights
from nolabel.encoders._io import encoder_digest, initialise
from nolabel.encoders._statistics import reestimate_batchnorm, set_normalisation
from nolabel.encoders.base import Encoder, build
from nolabel.errors import RunError, UsageError


def photos(n: int, side: int, seed: int = 1) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def lively(name: str, size: int) -> Encoder:
    """An encoder whose every weight and statistic matters to its output, in evaluation mode."""
    torch.manual_seed(3)
    encoder = build(name, size)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    set_normalisation(encoder, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    reestimate_batchnorm(encoder, [photos(4, size)])
    return encoder.eval()


def headless_output(model: nn.Module, encoder: Encoder, images: Tensor) -> Tensor:
    model.fc = nn.Identity()
    with torch.no_grad():
        return model.eval()(encoder.normalised(images))


def test_a_net_is_exported_alike_however_its_branches_started() -> None:
    found, same = (
        export_state_dict(lively(name, 128), "torchvision") for name in ("resnet18-open", "resnet18")
    )
    assert found.keys() == same.keys()
    assert all(torch.equal(value, same[key]) for key, value in found.items())


@pytest.mark.parametrize(
    "name", ["resnet18", *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet34", "resnet50"))]
)
@pytest.mark.parametrize("flavour", ["torchvision", "timm"])
def test_resnets_are_those_of_torchvision_and_timm(name: str, flavour: _export.Flavour) -> None:
    encoder = lively(name, 128)
    model = (
        torchvision.models.get_model(name, weights=None)
        if flavour == "torchvision"
        else timm.create_model(name)
    )
    head = {key: value for key, value in model.state_dict().items() if key.startswith("fc.")}
    model.load_state_dict(export_state_dict(encoder, flavour) | head, strict=True)
    images = photos(2, 128)
    with torch.no_grad():
        torch.testing.assert_close(headless_output(model, encoder, images), encoder(images))


@pytest.mark.parametrize("name", ["timm:convnext_atto", "timm:mobilenetv3_small_100"])
def test_timm_encoders_are_timm_models(name: str) -> None:
    encoder = lively(name, 64)
    model = timm.create_model(name.removeprefix("timm:")).eval()
    missing, unexpected = model.load_state_dict(export_state_dict(encoder, "timm"), strict=False)
    assert not unexpected
    assert {key.split(".")[0] for key in missing} <= {"fc", "head", "classifier", "conv_head"}
    with torch.no_grad():
        images = photos(2, 64)
        expected = model.forward_intermediates(encoder.normalised(images), intermediates_only=True)[-1]
        torch.testing.assert_close(encoder.maps(images)[encoder.stages[-1]], expected)


@pytest.mark.parametrize(
    ("name", "size", "flavour", "word"),
    [
        ("resnet18", 32, "torchvision", "conv1.weight is (64, 3, 7, 7) there and (64, 3, 3, 3) here"),
        ("resnet10", 32, "torchvision", "torchvision has no model named resnet10"),
        ("nin4", 32, "timm", "timm has no model named 'nin4'"),
        ("resnet18b16", 128, "timm", "timm has no model named 'resnet18b16'"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, size: int, flavour: _export.Flavour, word: str) -> None:
    with torch.device("meta"):
        encoder = build(name, size)
    with pytest.raises(UsageError) as failure:
        export_state_dict(encoder, flavour)
    assert word in str(failure.value)


def test_weights_pass_through_a_file_and_back(tmp_path: Path) -> None:
    encoder = lively("resnet18", 128)
    file = tmp_path / "resnet18.safetensors"
    export_weights(encoder, "torchvision", file)
    other = build("resnet18", 128)
    set_normalisation(other, encoder.mean, encoder.std)
    initialise(other, file)
    assert encoder_digest(other) == encoder_digest(encoder)


@pytest.mark.parametrize("library", [torchvision.models, timm])
def test_init_from_their_weights_ignores_the_head(library: object, tmp_path: Path) -> None:
    model = torchvision.models.resnet18() if library is torchvision.models else timm.create_model("resnet18")
    state = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    safetensors.torch.save_file(state, tmp_path / "theirs.safetensors")
    for name in ("resnet18", "timm:resnet18"):
        encoder = build(name, 128)
        initialise(encoder, tmp_path / "theirs.safetensors")
        images = photos(2, 128)
        torch.testing.assert_close(
            encoder.eval()(images),
            headless_output(copy.deepcopy(model), encoder, images),
            rtol=1e-4,
            atol=1e-5,
        )
    with torch.device("meta"):
        small = build("resnet18", 32)
    with pytest.raises(
        UsageError, match=r"theirs\.safetensors do not fit resnet18 for 32 px: conv1\.weight is"
    ):
        initialise(small, tmp_path / "theirs.safetensors")


@pytest.mark.parametrize(
    ("name", "model"), [("resnet18", "resnet18"), ("timm:convnext_atto", "convnext_atto")]
)
def test_init_from_timm_reads_safetensors_of_its_hub(
    name: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = timm.create_model(model).eval()
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), file)
    asked = []

    def download(repository: str, name: str, **_: object) -> str:
        asked.append((repository, name))
        return str(file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    encoder = build(name, 128).eval()
    set_normalisation(encoder, (0.1, 0.1, 0.1), (0.1, 0.1, 0.1))
    initialise(encoder, "timm")
    assert asked == [(timm.get_pretrained_cfg(model).hf_hub_id, "model.safetensors")]
    assert encoder.mean.flatten().tolist() == pytest.approx(timm.get_pretrained_cfg(model).mean)
    images = photos(2, 128)
    expected = theirs.forward_intermediates(encoder.normalised(images), intermediates_only=True)[-1]
    torch.testing.assert_close(encoder.maps(images)[encoder.stages[-1]], expected, rtol=1e-4, atol=1e-5)


def test_init_from_timm_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def nothing_cached(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("not cached")

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", nothing_cached)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", offline)
    with pytest.raises(UsageError) as failure:
        initialise(build("timm:resnet18", 96), "timm")
    assert str(failure.value) == (
        "timm's weights of resnet18 cannot be downloaded (no route to host): "
        "connect to the network or give --init a safetensors file."
    )
    with pytest.raises(UsageError, match="timm has no model named 'nin4'"):
        initialise(build("nin4", 32), "timm")


@pytest.mark.parametrize(
    ("name", "size"), [("resnet10", 32), ("nin3", 32), ("resnet18b16", 128), ("timm:convnext_atto", 64)]
)
def test_onnx_equals_the_module(
    name: str, size: int, tmp_path: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    encoder = lively(name, size).train()
    digest = encoder_digest(encoder)
    export_onnx(encoder, tmp_path / "encoder.onnx")
    assert encoder.training
    assert encoder_digest(encoder) == digest
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert [file.name for file in tmp_path.iterdir()] == ["encoder.onnx"]
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    images = photos(5, size, seed=9)
    found = session.run(["features"], {"images": images.numpy()})[0]
    with torch.no_grad():
        expected = encoder.eval()(images)
    assert (torch.from_numpy(found) - expected).abs().max() < 1e-4
    assert expected.std() > 1e-3


def test_onnx_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_export, "ONNX_TOLERANCE", -1.0)
    with pytest.raises(RunError, match="was not written, because it differs"):
        export_onnx(lively("resnet10", 32), tmp_path / "encoder.onnx")
    assert not list(tmp_path.iterdir())


def test_onnx_missing_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UsageError, match=r"nolabel\[onnx\]"):
        export_onnx(build("resnet10", 32), tmp_path / "encoder.onnx")
