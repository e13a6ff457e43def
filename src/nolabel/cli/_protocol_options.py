"""`--set PROTOCOL.OPTION=VALUE`: options of protocols, of the types that their `Options` say."""

from collections.abc import Sequence
from dataclasses import fields
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from cyclopts import Parameter, Token

from nolabel import catalog
from nolabel.cli._method_options import comma_separated
from nolabel.errors import UsageError
from nolabel.evaluation.base import Protocol

FORM = "PROTOCOL.OPTION=VALUE"
Set = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        negative=(),
        show_default=False,
        help=f"{FORM}, such as linear.l2_grid=full or few_labels.per_class=5,20; may be given several times; "
        "an unknown option lists those that there are",
    ),
]
SWITCHES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def with_options(protocols: Sequence[str], given: Sequence[str]) -> list[str | Protocol]:
    """`protocols` in their order, those that `given` sets an option of made with it.

    Raises:
        UsageError: an unknown protocol or option, a protocol that is not measured, or a value that does not fit.
    """
    of_protocol: dict[str, dict[str, str]] = {}
    for word in given:
        place, equals, value = word.partition("=")
        name, dot, option = place.strip().rpartition(".")
        if not (equals and dot and name and option):
            raise UsageError(
                f"--set {word} is not of the form {FORM}: write for instance --set linear.l2_grid=full."
            )
        name = _plain(name)
        catalog.load("evaluation", name, Protocol)  # an unknown name is told before that it is not measured
        if name not in map(_plain, protocols):
            raise UsageError(
                f"--set {word} is of the protocol {name}, which is not measured: add {name} to --protocols."
            )
        of_protocol.setdefault(name, {})[option.replace("-", "_")] = value
    return [_made(one, of_protocol[_plain(one)]) if _plain(one) in of_protocol else one for one in protocols]


def _plain(name: str) -> str:
    return name if name.endswith(".py") or "." in name else name.replace("-", "_")


def _made(name: str, words: dict[str, str]) -> Protocol:
    kind = catalog.load("evaluation", name, Protocol)
    hints = get_type_hints(kind.Options)
    known = tuple(field.name for field in fields(kind.Options))
    for option in words:
        if option not in known:
            nearest = catalog.unknown("option of " + name, option, known).removesuffix(".")
            raise UsageError(f"{nearest} {name} has: {', '.join(known)}.")
    values = {option: _value(f"{name}.{option}", word, hints[option]) for option, word in words.items()}
    try:
        return kind(kind.Options(**values))
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from None


def _value(place: str, word: str, hint: Any) -> Any:
    """`word` as a value of the type `hint`; words of a `Literal` are left for `catalog.checked`."""
    word = word.strip()
    kinds = (
        [kind for kind in get_args(hint) if kind is not NoneType] if NoneType in get_args(hint) else [hint]
    )
    if word.lower() == "none" and kinds != [hint]:
        return None
    (kind,) = kinds
    try:
        if get_origin(kind) is tuple:
            return comma_separated(kind, [Token(value=word)])
        if kind is bool:
            return SWITCHES[word.lower()]
        return kind(word) if kind in (int, float) else word
    except (ValueError, KeyError):
        wanted = "true or false" if kind is bool else f"a value of type {_spelt(kind)}"
        raise UsageError(f"{place} is {word!r}: give {wanted}.") from None


def _spelt(kind: Any) -> str:
    """`tuple[int, ...]` -> int, separated by commas."""
    return (
        f"{get_args(kind)[0].__name__}, separated by commas" if get_origin(kind) is tuple else kind.__name__
    )
