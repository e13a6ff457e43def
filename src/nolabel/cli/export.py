"""`nolabel export`: an encoder for other programs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.cli._places import check_apart
from nolabel.encoders import _export
from nolabel.encoders._io import load_encoder, weights_file
from nolabel.encoders._weights import published_name
from nolabel.errors import UsageError

SUFFIX = {"torchvision": ".safetensors", "timm": ".safetensors", "onnx": ".onnx"}


def export(
    encoder: Path,
    /,
    *,
    format: Annotated[Literal["torchvision", "timm", "onnx"], Parameter(help="who is to read it")],
    out: Annotated[Path, Parameter(help="the file: .safetensors, or .onnx for onnx")],
) -> None:
    """Write an encoder's weights for torchvision, timm or ONNX.

    torchvision and timm get the state dict of their model of the same name, without its head; they expect
    images normalised with the mean and std in the file's metadata. The ONNX file takes RGB in [0, 1] and
    normalises itself.

    Parameters
    ----------
    encoder
        A run folder or an encoder.safetensors.
    """
    if out.suffix != SUFFIX[format] or not out.parent.is_dir():
        raise UsageError(f"--out {out} must be a {SUFFIX[format]} file in a folder that exists.")
    check_apart(out, weights_file(encoder))
    loaded = load_encoder(encoder)
    if format == "onnx":
        _export.export_onnx(loaded, out)
        shapes = f"images (batch, 3, {loaded.size}, {loaded.size}) to features (batch, {loaded.dim})"
        _screen.line(f"Wrote {out}: {shapes}.")
        return
    _export.export_weights(loaded, format, out)
    _screen.line(f"Wrote {out}. It loads with:")
    model = published_name(loaded)
    builder = f"torchvision.models.{model}()" if format == "torchvision" else f'timm.create_model("{model}")'
    _screen.line(f"  model = {builder}")
    _screen.line(
        f'  model.load_state_dict(safetensors.torch.load_file("{out}"), strict=False)  # only the head is new'
    )
