"""Checkpoints: method, optimizer and step, as safetensors and JSON; the newest two are kept."""

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from nolabel.errors import FileFormatError
from nolabel.runs import write_atomically

FORMAT = 1
KEPT = 2


def save(
    folder: Path, method: nn.Module, optimizer: torch.optim.Optimizer, step: int, extra: dict[str, Any]
) -> None:
    """Write the state after `step` updates into `folder`, then remove all but the newest two.

    The step is the only random state (see `seeds`). The JSON comes last and holds the digest of the tensors, so a
    pair that was cut short by a kill or a full disk is never taken for a checkpoint.
    """
    folder.mkdir(exist_ok=True)
    tensors, numbers = _flat(method, optimizer)
    content = safetensors.torch.save(tensors)
    description = {
        "format": FORMAT,
        "step": step,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "optimizer": numbers,
        "extra": extra,
    }
    path = folder / f"step-{step:09d}.json"
    write_atomically(path.with_suffix(".safetensors"), content)
    write_atomically(path, json.dumps(description) + "\n")
    for old in listed(folder)[KEPT:]:
        _remove(old)


def listed(folder: Path) -> list[Path]:
    """The JSON files of the checkpoints in `folder`, newest first."""
    return sorted(folder.glob("step-*.json"), reverse=True)


def restore(
    folder: Path, method: nn.Module, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> tuple[int, dict[str, Any]] | None:
    """Load the newest whole checkpoint of `folder` in place: (step, extra), or None where there is none.

    A newest one that is damaged is passed over for the one before, and removed unless `keep`.

    Raises:
        FileFormatError: there are checkpoints and all are damaged, or of an unknown format version, or the newest does
            not fit `method`.
    """
    read = _newest(folder, keep=keep)
    if read is None:
        return None
    tensors, description = read
    _load_method(folder, method, tensors)
    _load_optimizer(optimizer, tensors, description["optimizer"])
    return description["step"], description["extra"]


def restore_method(folder: Path, method: nn.Module) -> bool:
    """Load the weights of the newest whole checkpoint of `folder` into `method`; False where there is none.

    Raises:
        FileFormatError: as `restore`.
    """
    read = _newest(folder, keep=True)
    if read is not None:
        _load_method(folder, method, read[0])
    return read is not None


def _newest(folder: Path, *, keep: bool) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and description of the newest whole checkpoint; damaged ones before it are removed unless `keep`."""
    found = listed(folder)
    for path in found:
        read = _read(path)
        if read is not None:
            return read
        if not keep:
            _remove(path)
    if found:
        raise FileFormatError(
            f"Every checkpoint in {folder} is damaged: start the run again with another --out."
        )
    return None


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".safetensors").unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        known = description["format"]
        content = path.with_suffix(".safetensors").read_bytes()
        whole = (
            len(content) == description["bytes"]
            and hashlib.sha256(content).hexdigest() == description["sha256"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if known != FORMAT:
        raise FileFormatError(
            f"{path} has format {known} and this version reads format {FORMAT}: resume with the version of nolabel "
            "that run.json names."
        )
    return (safetensors.torch.load(content), description) if whole else None


def _flat(method: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors under "method.<name>" and "optimizer.<parameter>.<key>"; the optimizer's plain numbers apart."""
    tensors = {f"method.{key}": value for key, value in method.state_dict().items()}
    numbers: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            name = f"{index}.{key}"
            if isinstance(value, Tensor):
                tensors[f"optimizer.{name}"] = value
            else:
                numbers[name] = value
    # A copy of its own for each: safetensors refuses tensors that share memory.
    return {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }, numbers


def _load_method(folder: Path, method: nn.Module, tensors: dict[str, Tensor]) -> None:
    prefix = "method."
    try:
        method.load_state_dict(
            {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        )
    except RuntimeError as error:
        raise FileFormatError(
            f"The checkpoint in {folder} does not fit the {type(method).__name__} that this version builds "
            f"({str(error).splitlines()[-1].strip()}): use the version of nolabel that run.json names."
        ) from None


def _load_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], numbers: dict[str, Any]
) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    saved = {k.removeprefix("optimizer."): v for k, v in tensors.items() if k.startswith("optimizer.")}
    for name, value in (saved | numbers).items():
        index, key = name.split(".", 1)
        if isinstance(value, Tensor) and value.shape == parameters[int(index)].shape:
            # The layout of the parameter (channels_last), which the file does not keep.
            value = torch.empty_like(parameters[int(index)], dtype=value.dtype).copy_(value)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
