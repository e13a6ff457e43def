"""Options given from Python are checked as those of the command line are."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

import nolabel
from nolabel import catalog
from nolabel.errors import UsageError
from nolabel.evaluation.base import Protocol
from nolabel.evaluation.linear import Linear, LinearOptions
from nolabel.methods.base import Method, Recipe
from nolabel.methods.colorization import ColorizationOptions
from toys import toy_method, toy_store


@dataclass(frozen=True)
class Options:
    word: Literal["one", "three"] = "one"
    words: tuple[Literal["a", "b"], ...] = ()
    maybe: Literal["x"] | None = None
    share: float = 0.5
    count: int = 1
    sides: tuple[float, float] = (1.0, 2.0)
    name: str = ""
    flag: bool = False
    turn_p: float = 0.5
    chosen_p: float = -1.0
    dropout: float = 0.0
    chosen: int = -1
    endless: float = math.inf


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"word": "tree"}, "no value of word named 'tree': did you mean three"),
        ({"words": ("a", "c")}, "value of words"),
        ({"maybe": "z"}, "value of maybe"),
        ({"share": "half"}, "option share is 'half': give a value of type float"),
        ({"count": 1.5}, "option count is 1.5"),
        ({"count": True}, "option count is True"),
        ({"sides": (1.0,)}, "option sides"),
        ({"sides": 1.0}, "option sides"),
        ({"name": 3}, "option name is 3"),
        ({"flag": "no"}, "option flag is 'no'"),
        ({"turn_p": 1.5}, "option turn_p is 1.5: give a probability"),
        ({"chosen_p": -0.5}, "option chosen_p is -0.5: give a probability"),
        ({"turn_p": float("nan")}, "option turn_p is nan"),
        ({"dropout": 1.5}, "option dropout is 1.5: give a probability"),
        ({"share": float("nan")}, "option share is nan: give finite numbers"),
        ({"sides": (1.0, float("inf"))}, "option sides is .*: give finite numbers"),
        ({"count": -1}, "option count is -1: give a whole number of 0 or more"),
        ({"chosen": -2}, "option chosen is -2: give a whole number of 0 or more"),
    ],
)
def test_a_value_that_its_type_does_not_allow(wrong: dict[str, Any], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        catalog.checked(Options(**wrong))


def test_what_fits_passes_unchanged() -> None:
    made = Options("three", ("b", "a"), "x", 1, 2, (1, 2.5), "n", True, 1, -1.0, 1.0, -1, math.inf)
    assert catalog.checked(made) is made


@pytest.mark.parametrize("options", [{"head": "mlp9"}, "class"])
def test_pretrain_refuses_a_wrong_word_and_leaves_nothing(options: Any, tmp_path: Path) -> None:
    if options == "class":
        options = catalog.load("methods", "simclr", Method).Options(head="mlp9")  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="no value of head named 'mlp9'"):
        nolabel.pretrain(
            "simclr", toy_store(), steps=1, out=tmp_path / "new" / "run", options=options, progress=False
        )
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("recipe", "part"),
    [
        ({"optimizer": "adam"}, "value of optimizer named 'adam': did you mean adamw"),
        ({"momentun": 1.0}, "'momentun'"),
    ],
)
def test_pretrain_refuses_a_wrong_recipe_and_leaves_nothing(recipe: Any, part: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=part):
        nolabel.pretrain(
            "rotation", toy_store(), steps=1, out=tmp_path / "a" / "b", recipe=recipe, progress=False
        )
    assert not list(tmp_path.iterdir())


def test_methods_and_protocols_check_what_they_are_made_with() -> None:
    with pytest.raises(UsageError, match="option dropout"):
        toy_method(toy_store(), dropout="much")
    with pytest.raises(UsageError, match="value of l2_grid"):
        Linear(LinearOptions(l2_grid="ful"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"),
    [("rebalance", 0.0), ("rebalance", 1.1), ("neighbours", 0), ("neighbours", 314), ("temperature", -0.1),
     ("crop_min", 0.0), ("crop_min", 1.5)],
)  # fmt: skip
def test_colorization_names_what_its_options_may_be(option: str, value: float) -> None:
    """`rebalance=0` divided by the frequency of classes that no image has."""
    with pytest.raises(UsageError, match=f"{option}.*not {value}"):
        ColorizationOptions(**{option: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("simclr", {"head_out": 0}),
        ("jigsaw", {"per_tile": 0}),
        ("jigsaw", {"head_hidden": 0}),
        ("context_prediction", {"head_hidden": 0}),
        ("rotation", {"crop_pad": 17}),
    ],
)
def test_a_layer_without_width_and_a_shift_past_the_image_are_refused(method: str, wrong: Any) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=f"{name}[^:]*\\.$"):
        catalog.load("methods", method, Method).Options(**wrong)  # type: ignore[attr-defined]


@pytest.mark.parametrize("rate", [-0.1, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused_and_leaves_nothing(rate: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--lr must be a finite number of 0 or more"):
        nolabel.pretrain("rotation", toy_store(), steps=1, out=tmp_path / "run", lr=rate, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["methods", "evaluation"])
def test_every_default_fits_its_own_type(kind: str) -> None:
    contract = Method if kind == "methods" else Protocol
    for name in catalog.names(kind):
        options = catalog.load(kind, name, contract).Options  # type: ignore[attr-defined]
        catalog.checked(options())
    catalog.checked(Recipe())
