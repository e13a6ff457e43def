"""A run that a command of many needs: begun, gone on with, or there already."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nolabel.data.store import ImageStore
from nolabel.errors import DataError, UsageError
from nolabel.methods.base import Recipe
from nolabel.runs import read_description, status_of
from nolabel.training.asked import plain_values


def ensure(
    pretrain: Callable[..., Any], folder: Path, method: str, data: str | ImageStore, *, encoder: str, seed: int,
    length: Mapping[str, float], size: int | None = None, options: Any = None,
    recipe: Recipe | None = None, labels: Path | None = None, **others: Any,
) -> bool:  # fmt: skip
    """Have a finished run of these settings in `folder`; False where it was there already.

    Args:
        pretrain: called as `api.pretrain` where there is something to train.
        length: epochs, steps or minutes.
        labels: CSV of `data` with the header `path,label`.
        others: what may be another at every call.

    Raises:
        UsageError: the run in `folder` began with other settings.
        DataError: it was trained on other images.
        Else as `pretrain`.
    """
    status = status_of(folder)
    settings: dict[str, Any] = {"encoder": encoder, "seed": seed} | ({} if size is None else {"size": size})
    begun = status is not None
    if begun:
        _check_settings(folder, {"method": method, **settings, **length}, options, recipe)
    if status == "finished":
        _check_images(folder, data, labels)
        return False
    if not begun:
        settings |= length
        settings |= {} if options is None else {"options": options}
        settings |= {} if recipe is None else {"recipe": asdict(recipe)}
    pretrain(method=method, data=data, out=folder, resume=begun, labels=labels, **settings, **others)
    return True


def _check_settings(folder: Path, settings: Mapping[str, Any], options: Any, recipe: Recipe | None) -> None:
    info = read_description(folder)
    # few images make the batch of a recipe smaller
    wanted = {name: value for name, value in plain_values(recipe).items() if name != "batch_size"}
    for asked, held in (
        (settings, {**info, **info["budget"]["asked"]}),
        (plain_values(options), info["options"]),
        (wanted, info["recipe"]),
    ):
        for name, value in asked.items():
            if held.get(name) != value:
                raise UsageError(
                    f"The run in {folder} began with {name.replace('_', ' ')} {held.get(name)}, not {value}: "
                    "choose another --out."
                )


def _check_images(folder: Path, data: str | ImageStore, labels: Path | None) -> None:
    held = read_description(folder)["data"]
    store = (
        data if isinstance(data, ImageStore) else ImageStore.open(data, size=held["opened_at"], labels=labels)
    )
    if store.fingerprint != held["fingerprint"]:
        raise DataError(f"The run in {folder} was trained on other images than these: choose another --out.")
