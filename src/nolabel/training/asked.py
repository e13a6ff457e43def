"""What was asked for, against what a run began with: `--resume` goes on with the same settings or not at all."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, cast

from nolabel.catalog import checked
from nolabel.errors import UsageError
from nolabel.methods.base import Recipe


def plain_values(options: Any) -> dict[str, Any]:
    """A dataclass or mapping as what JSON gives back (tuples as lists)."""
    if is_dataclass(options) and not isinstance(options, type):
        return json.loads(json.dumps(asdict(options)))
    return json.loads(json.dumps(dict(cast(Mapping[str, Any], options or {}))))


def build_options(kind: type, values: Mapping[str, Any]) -> Any:
    """`kind` (a dataclass) from values as JSON gives them.

    Raises:
        UsageError: it has no field of that name, or a value that its field does not allow.
    """
    known = [field.name for field in fields(kind)]
    for name in values:
        if name not in known:
            raise UsageError(f"There is no option {name!r}: choose from {', '.join(known)}.")
    made = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return checked(kind(**made))


def recipe_of(values: Mapping[str, Any]) -> Recipe:
    """The recipe from values as JSON gives them."""
    return build_options(Recipe, values)


def check_same(
    asked: Mapping[str, Any], defaults: Mapping[str, Any], recorded: Mapping[str, Any], folder: Any
) -> None:
    """Compare settings by name; one that has its default value counts as not named.

    Raises:
        UsageError: one differs from what the run in `folder` began with; the first is named, with both values.
    """
    for name, value in asked.items():
        if value != defaults.get(name) and value != recorded.get(name):
            option = name.replace("_", "-")
            raise UsageError(
                f"The run in {folder} began with --{option} {recorded.get(name)}, not {value}: resume it without "
                f"--{option}, or start another with --out."
            )


def fitted(recipe: Recipe, images: int, processes: int) -> tuple[Recipe, str | None]:
    """`recipe` with a batch that the images and the processes allow, and the sentence that says so.

    Raises:
        UsageError: the batch is below one image for each process.
    """
    wanted = recipe.batch_size
    batch = min(wanted, images) // processes * processes
    if batch < max(1, processes):
        raise UsageError(
            f"A batch of {min(wanted, images)} is too small for {processes} processes: choose a larger --batch-size "
            "or fewer --devices."
        )
    if batch == wanted:
        return recipe, None
    cause = f"there are {images:,} images" if wanted > images else f"{processes} processes share it evenly"
    return replace(recipe, batch_size=batch), f"The batch of {wanted} is reduced to {batch}, because {cause}."


def repeat_command(info: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """The command of a run: `info` is `run.json` with the peak rate, "lr"; `options`: those not at their default."""
    method = info["method"] if "." in info["method"] else info["method"].replace("_", "-")
    words = ["nolabel", "pretrain", method, info["data"]["source"]]
    values: dict[str, Any] = {
        "encoder": info["encoder"],
        "size": info["size"],
        "steps": info["budget"]["steps"],
        "batch_size": info["recipe"]["batch_size"],
        "lr": info["lr"],
        "seed": info["seed"],
        "init": info["init"],
        "devices": info["devices"] if info["devices"] != 1 else None,
        "precision": info["precision"],
        "channels_last": info["channels_last"],
        "compile": info["compile"],
    }
    for name, value in (values | dict(options)).items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif isinstance(value, list):
            words += [f"--{option}", ",".join(map(str, value))]
        elif value is not None:
            words += [f"--{option}", str(value)]
    return f"OMP_NUM_THREADS={info['threads'] * info['devices']} {shlex.join(words)}"
