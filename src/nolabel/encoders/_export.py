"""An encoder for other programs: state dicts of torchvision's and timm's models, and ONNX."""

import copy
import json
import tempfile
import warnings
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from nolabel.encoders._weights import match, published_name, trunk
from nolabel.encoders.base import Encoder
from nolabel.errors import RunError, UsageError
from nolabel.runs import write_atomically

Flavour = Literal["torchvision", "timm"]
ONNX_TOLERANCE = 1e-4


def export_state_dict(encoder: Encoder, flavour: Flavour) -> dict[str, Tensor]:
    """The weights under the keys of torchvision's or timm's model of the same name, its head left out.

    They load there with `strict=False`, and then nothing but the head is missing. That model expects images
    normalised with the encoder's `mean` and `std`.

    Raises:
        UsageError: the library has no model of that name, or it differs (another stem, say; the first
            differing key is named), or timm is missing.
    """
    model = published_name(encoder)
    theirs = _their_state(model, encoder, flavour)
    ours = trunk(encoder)
    pairs = match(ours, theirs, f"{encoder.name} for {encoder.size} px", f"{flavour}'s {model}")
    return {pairs[key]: value.detach().cpu().contiguous() for key, value in ours.items() if key in pairs}


def export_weights(encoder: Encoder, flavour: Flavour, path: Path) -> None:
    """Write `export_state_dict` as a safetensors file, with the normalisation in its metadata."""
    normalisation = {"mean": encoder.mean.flatten().tolist(), "std": encoder.std.flatten().tolist()}
    metadata = {"normalisation": json.dumps(normalisation)}
    write_atomically(path, safetensors.torch.save(export_state_dict(encoder, flavour), metadata))


def export_onnx(encoder: Encoder, path: Path) -> None:
    """Write the encoder as an ONNX file.

    `images` (batch, 3, size, size), RGB in [0, 1], become `features` (batch, dim). The normalisation is
    inside and the batch is of any length. The file is written only after onnxruntime gave the same vectors to
    1e-4. Torch's tracing exporter is used: it takes a second where the newer one takes twenty, and needs no
    further package.

    Raises:
        UsageError: the packages onnx and onnxruntime are missing.
        RunError: onnxruntime's vectors differ.
    """
    try:
        import onnx  # noqa: F401  (the exporter needs it, and says so less clearly)
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UsageError(
            f"Exporting ONNX needs the package {error.name}: pip install 'nolabel[onnx]'."
        ) from None
    features = _Features(encoder).eval()
    images = torch.rand(3, 3, encoder.size, encoder.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        file = Path(folder) / "encoder.onnx"
        torch.onnx.export(
            features,
            (images[:2],),
            file,
            dynamo=False,
            input_names=["images"],
            output_names=["features"],
            dynamic_axes={"images": {0: "batch"}, "features": {0: "batch"}},
        )
        content = file.read_bytes()
        expected = features(images)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    difference = (found - expected).abs().max().item()
    if not difference <= ONNX_TOLERANCE:
        raise RunError(
            f"The ONNX form of {encoder.name} was not written, because it differs from the encoder by "
            f"{difference:.1e}: use the safetensors file, or report this with the output of nolabel doctor."
        )
    write_atomically(path, content)


class _Features(nn.Module):
    """A copy on the CPU of the encoder's one-argument form, which tracing needs."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).cpu().float()

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(images)


def _their_state(model: str, encoder: Encoder, flavour: Flavour) -> dict[str, Tensor]:
    """State dict, without storage, of the library's model."""
    if flavour == "torchvision":
        import torchvision

        if model not in torchvision.models.list_models(torchvision.models):
            raise UsageError(
                f"torchvision has no model named {model}: give --format onnx, "
                "or take the run's own encoder.safetensors."
            )
        with torch.device("meta"):
            return torchvision.models.get_model(model, weights=None).state_dict()
    from nolabel.encoders.timm_encoder import require_timm

    timm = require_timm(model)
    with torch.device("meta"):
        return timm.create_model(model).state_dict()
