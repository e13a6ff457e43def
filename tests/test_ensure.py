"""A run that a command of many needs: begun, gone on with, there already, or refused where it is another."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli_helpers import Say, one_line
from nolabel import catalog
from nolabel.data.store import ImageStore
from nolabel.errors import DataError, UsageError
from nolabel.methods.base import Recipe
from nolabel.methods.rotation import RotationOptions
from nolabel.runs import DESCRIPTION, FORMAT
from nolabel.training.asked import plain_values
from nolabel.training.ensure import ensure

RECIPE = Recipe(batch_size=64, lr=0.1)
ASKED: dict[str, Any] = {
    "method": "rotation", "encoder": "resnet10", "seed": 1, "length": {"minutes": 1.0},
    "size": 32, "options": RotationOptions(grey_p=0.5), "recipe": RECIPE,
}  # fmt: skip


def ending(status: str, calls: list[dict[str, Any]]) -> Callable[..., None]:
    """A pretraining that leaves only the description of a run, and its arguments in `calls`."""

    def pretrain(method: str, data: str, out: Path, **settings: Any) -> None:
        calls.append(settings)
        if settings["resume"]:
            about = json.loads((out / DESCRIPTION).read_text())
        else:
            out.mkdir()
            about = {
                "format": FORMAT, "method": method, "encoder": settings["encoder"], "seed": settings["seed"],
                "size": settings["size"], "budget": {"asked": {"minutes": settings["minutes"]}},
                "data": {"opened_at": 32, "fingerprint": ImageStore.open(data, size=32).fingerprint},
                "options": plain_values(settings["options"]),
                "recipe": settings["recipe"] | {"batch_size": 8},
            }  # fmt: skip
        (out / DESCRIPTION).write_text(json.dumps(about | {"status": status}))

    return pretrain


def test_a_run_is_begun_with_everything_gone_on_with_without_and_then_left_alone(
    small_images: Path, tmp_path: Path
) -> None:
    calls: list[dict[str, Any]] = []
    asked = ASKED | {"data": str(small_images)}
    assert ensure(ending("interrupted", calls), tmp_path / "run", **asked)
    assert ensure(ending("finished", calls), tmp_path / "run", **asked)
    assert not ensure(ending("finished", calls), tmp_path / "run", **asked)
    first, second = calls
    assert not first["resume"]
    assert first["minutes"] == 1.0
    assert second == {"encoder": "resnet10", "seed": 1, "size": 32, "resume": True, "labels": None}


@pytest.mark.parametrize("status", ["finished", "interrupted"])
@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"method": "simclr"}, "method rotation, not simclr"),
        ({"seed": 0}, "seed 1, not 0"),
        ({"length": {"minutes": 60.0}}, "minutes 1.0, not 60.0"),
        ({"length": {"steps": 5}}, "steps None, not 5"),
        ({"size": 96}, "size 32, not 96"),
        ({"encoder": "nin"}, "encoder resnet10, not nin"),
        ({"options": RotationOptions()}, "grey p 0.5, not 0.0"),
        ({"recipe": Recipe(batch_size=64, lr=0.2)}, "lr 0.1, not 0.2"),
    ],
)
def test_a_run_of_other_settings_is_refused(
    small_images: Path, tmp_path: Path, status: str, other: dict[str, Any], named: str
) -> None:
    asked = ASKED | {"data": str(small_images)}
    ensure(ending(status, []), tmp_path / "run", **asked)
    with pytest.raises(UsageError, match=f"{named}: choose another --out"):
        ensure(ending(status, []), tmp_path / "run", **asked | other)


def test_a_run_that_ended_on_other_images_is_refused(small_images: Path, tmp_path: Path) -> None:
    ensure(ending("finished", []), tmp_path / "run", **ASKED, data=str(small_images))
    others = tmp_path / small_images.name
    shutil.copytree(small_images, others)
    next(others.rglob("*.png")).unlink()
    with pytest.raises(DataError, match="trained on other images than these"):
        ensure(ending("finished", []), tmp_path / "run", **ASKED, data=str(others))


@pytest.mark.parametrize(
    ("name", "short"), [("simclr", "simclr"), ("my_package.one", "one"), ("files/mine.py", "mine")]
)
def test_the_short_name_of_a_method(name: str, short: str) -> None:
    assert catalog.short_name(name) == short


def test_two_methods_of_one_name_are_not_taken_for_one(small_images: Path, tmp_path: Path, say: Say) -> None:
    source = Path(catalog.__file__).parent / "methods" / "rotation.py"
    files = [tmp_path / place / "mine.py" for place in ("a", "b")]
    for file in files:
        file.parent.mkdir()
        file.write_text(source.read_text())
    names = ",".join(map(str, files))
    code, _, err = say("compare", small_images, "--methods", names, "--out", tmp_path / "none")
    assert code == 2
    one_line(err, "are both called mine: rename one of the files")
