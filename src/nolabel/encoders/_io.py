"""Encoders in files: safetensors that describe themselves, beside a JSON that a person can read."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from nolabel.encoders._statistics import set_normalisation
from nolabel.encoders._weights import match, trunk
from nolabel.encoders._whitening import freeze_stem
from nolabel.encoders.base import Encoder, build
from nolabel.errors import FileFormatError, UsageError
from nolabel.runs import training_size, write_atomically

FORMAT = 1
WEIGHTS = "encoder.safetensors"
DESCRIPTION = "encoder.json"
METADATA_KEY = "nolabel"
PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle", ".tar")


def image_size(path: Path, encoder: Encoder) -> int:
    """Side in pixels at which the encoder at `path` reads images unless another is named.

    That of its run's training images, else its own (of an encoder trained on tiles, the tile's).
    """
    return training_size(path) or encoder.size


def device_of_choice() -> torch.device:
    """A GPU where there is one, else the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def encoder_digest(encoder: Encoder) -> str:
    """SHA-256 over the names, types, shapes and bytes of the state dict, in hexadecimal."""
    return _digest(encoder.state_dict())


def _digest(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(state.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_encoder(folder: Path, encoder: Encoder, info: dict[str, Any]) -> None:
    """Write `encoder.safetensors` and `encoder.json` into `folder`, each whole at any time.

    The weights carry what is needed to load them, so a kill between the two files does no harm; the JSON
    repeats it for people, with `info` (anything JSON takes: method, options, steps) under "training".
    """
    description = {
        "format": FORMAT,
        "written_by": version("nolabel"),
        "name": encoder.name,
        "size": encoder.size,
        "stem": "whitened" if encoder.whitened else "learnt",
        "digest": encoder_digest(encoder),
    }
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.state_dict().items()}
    metadata = {METADATA_KEY: json.dumps(description)}
    write_atomically(folder / WEIGHTS, safetensors.torch.save(state, metadata))
    readable = description | {
        "dim": encoder.dim,
        "stages": encoder.stages,
        "mean": encoder.mean.flatten().tolist(),
        "std": encoder.std.flatten().tolist(),
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "training": info,
    }
    write_atomically(folder / DESCRIPTION, json.dumps(readable, indent=2) + "\n")


def load_encoder(path: str | Path) -> Encoder:
    """The encoder of a run folder, or of its `encoder.safetensors` or `encoder.json`.

    It is in evaluation mode, on the CPU, and takes RGB in [0, 1], (B, 3, H, W), and gives (B, dim).

    Raises:
        UsageError: there is no encoder at `path`, it takes other channels, or a package that it needs is missing.
        FileFormatError: the file is damaged, not nolabel's, or of an unknown format version.
    """
    file = weights_file(Path(path))
    description, state = _read(file)
    if description is None:
        raise FileFormatError(
            f"{file} holds weights but was not written by nolabel: start a run from it with nolabel pretrain --init."
        )
    encoder = build(description["name"], description["size"])
    _check_channels(file, encoder, state)
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise FileFormatError(
            f"{file} does not fit the {encoder.name} that this version builds "
            f"({str(error).splitlines()[1].strip()}): load it with nolabel {description['written_by']}."
        ) from None
    if description["stem"] == "whitened":
        freeze_stem(encoder)
    return encoder.eval()


def _check_channels(file: Path, encoder: Encoder, state: dict[str, Tensor]) -> None:
    """Raise UsageError where the first convolution in `file` takes other channels than that of `encoder`."""
    key = next(name for name, value in encoder.named_parameters() if value is encoder.stem.weight)
    wanted = encoder.stem.weight.shape[1]
    given = state[key].shape[1] if key in state and state[key].ndim == 4 else wanted
    if given != wanted:
        raise UsageError(
            f"The encoder of {file} takes images of {given} channel{'s' * (given > 1)} and {encoder.name} is built for "
            f"{wanted}: give an encoder whose first convolution takes {wanted} channels."
        )


def initialise(
    encoder: Encoder, source: str | Path, otherwise: str = "give --init a safetensors file"
) -> None:
    """Load weights into `encoder`, in place: what `--init` does.

    Args:
        encoder: it is built, and its size fixed, by the run that starts.
        source: a run folder or encoder file of nolabel (its normalisation comes along, and its whitened stem
            stays frozen); a safetensors file with the keys of torchvision's or timm's model of the same name
            (a head in it is ignored, the normalisation stays as built); or the word `timm`: timm's own
            weights for the model of that name, with its normalisation, downloaded or from the cache.
        otherwise: what a person can do where timm's weights cannot be had.

    Raises:
        UsageError: no such source, weights that do not fit (the first differing key is named), no download.
        FileFormatError: the file is damaged or of an unknown format version.
    """
    description = normalisation = None
    if str(source) == "timm":
        from nolabel.encoders.timm_encoder import pretrained

        state, *normalisation = pretrained(encoder.name, otherwise)
    else:
        source = weights_file(Path(source))
        description, state = _read(source)
        if description:
            normalisation = state["mean"], state["std"]
    here = f"{encoder.name} for {encoder.size} px"
    wanted = trunk(encoder)
    pairs = match(wanted, state, here, str(source))
    encoder.load_state_dict({key: state[given] for key, given in pairs.items()}, strict=False)
    if normalisation:
        set_normalisation(encoder, *normalisation)
    if description and description["stem"] == "whitened":
        freeze_stem(encoder)


def weights_file(path: Path) -> Path:
    """The safetensors file that `path` means."""
    if path.is_dir():
        if not (path / WEIGHTS).is_file():
            raise UsageError(
                f"{path} holds no {WEIGHTS}: give the folder of a run that reached its first checkpoint."
            )
        return path / WEIGHTS
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise UsageError(
            f"{path} is a pickle, which nolabel never loads, because it can run code: "
            f"save its state dict with safetensors.torch.save_file first."
        )
    file = path.with_suffix(".safetensors") if path.suffix == ".json" else path
    if not file.is_file():
        raise UsageError(f"There is no file {file}: give a run folder or a .safetensors file.")
    return file


def _read(file: Path) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """Description (None: not written by nolabel) and state dict of a safetensors file."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            metadata = (opened.metadata() or {}).get(METADATA_KEY)
            description = json.loads(metadata) if metadata else None
            if description and description["format"] != FORMAT:
                raise FileFormatError(
                    f"{file} is in format {description['format']}, written by nolabel "
                    f"{description['written_by']}, and this version reads format {FORMAT}: "
                    f"install nolabel {description['written_by']}."
                )
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            if description and description["digest"] != _digest(state):
                raise FileFormatError(f"{file} is damaged (its digest differs): take another copy of it.")
            return description, state
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise FileFormatError(
            f"{file} is not a safetensors file or is damaged ({error}): take another copy of it."
        ) from None
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read ({error.strerror}): check the path and its permissions."
        ) from None
