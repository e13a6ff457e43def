"""The files of `methods/`, `encoders/` and `evaluation/` are the registry: a file's presence registers it.

A name may also be a dotted path (`my_package.my_method`) or a path to a `.py` file, so that research code
stays outside the package.
"""

import ast
import difflib
import functools
import importlib
import importlib.util
import inspect
import math
from collections.abc import Container
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from nolabel.errors import UsageError

T = TypeVar("T")

PACKAGE = Path(__file__).parent


def names(kind: str) -> tuple[str, ...]:
    """Names of the entries of `kind` ("methods", "encoders", "evaluation"), sorted; reads file names only.

    Files that start with an underscore are helpers; `base` is the contract; a file without the contract's
    class is not an entry (see `NOT_ENTRIES`).
    """
    return tuple(
        sorted(
            file.stem
            for file in (PACKAGE / kind).glob("*.py")
            if not file.stem.startswith("_") and file.stem != "base" and _is_entry(file)
        )
    )


@functools.cache
def _is_entry(file: Path) -> bool:
    """Whether the module declares itself an entry: a class derived from the contract, or a `PATTERN`."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and any(_base_name(b) in CONTRACTS for b in node.bases):
            return True
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "PATTERN" for t in node.targets
        ):
            return True
    return False


CONTRACTS = ("Method", "Protocol")


def _base_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def short_name(name: str) -> str:
    """What an entry is called beside others: the file's name of a path, the last part of a dotted path."""
    return Path(name).stem if name.endswith(".py") else name.rpartition(".")[2]


def summary(kind: str, name: str) -> str:
    """First line of the entry's docstring, read with `ast`: listing imports no torch."""
    return summary_of(PACKAGE / kind / f"{name}.py")


def summary_of(file: Path) -> str:
    """First line of the docstring of the module in `file`; "" where it has none."""
    doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return doc.splitlines()[0] if doc else ""


def is_dotted(name: str) -> bool:
    """Whether `name` is a dotted path of Python, as `my_package.my_method` is and `./photos` is not."""
    return "." in name and all(part.isidentifier() for part in name.split("."))


def module(kind: str, name: str) -> ModuleType:
    """The module of an entry: a name of `names(kind)`, a dotted path, or a path to a `.py` file.

    Raises:
        UsageError: no such entry (the nearest is suggested) or no such file.
    """
    if name.endswith(".py"):
        path = Path(name).resolve()
        if not path.is_file():
            raise UsageError(f"There is no file {name}: give the path of an existing .py file.")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec
        assert spec.loader
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded
    if is_dotted(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise UsageError(
                f"The module {name} cannot be imported ({error}): check the dotted path."
            ) from None
    plain = name.replace("-", "_")
    if plain not in names(kind):
        raise UsageError(unknown(kind.rstrip("s"), name, names(kind)))
    return importlib.import_module(f"nolabel.{kind}.{plain}")


def load(kind: str, name: str, contract: type) -> type:
    """The one concrete subclass of `contract` that the entry's module defines."""
    found = module(kind, name)
    classes = [
        value
        for value in vars(found).values()
        if inspect.isclass(value)
        and issubclass(value, contract)
        and not inspect.isabstract(value)
        and value.__module__ == found.__name__
    ]
    if len(classes) != 1:
        raise UsageError(
            f"{name} must define exactly one {contract.__name__}, but it defines {len(classes)}."
        )
    return classes[0]


def checked(options: T, own: Container[str] = ()) -> T:
    """`options`, a dataclass whose fields hold what their types allow; the command line checks its words likewise.

    Numbers are finite, whole ones are not below 0, and a field whose name ends in `_p` or `dropout` is a probability;
    a default that is not stands for a choice of the program, and is allowed. The numbers of the fields in `own` are
    left to who calls.

    Raises:
        UsageError: a word that is none of a field's `Literal`, a value of another type, a number out of these ranges.
    """
    hints = get_type_hints(type(options))
    for field in fields(cast(Any, options)):
        value, hint = getattr(options, field.name), hints[field.name]
        if not _fits(value, hint):
            words = tuple(str(word) for word in _words(hint))
            if words:
                raise UsageError(unknown(f"value of {field.name}", str(value), words))
            kind = hint.__name__ if isinstance(hint, type) else str(hint)
            raise UsageError(f"The option {field.name} is {value!r}: give a value of type {kind}.")
        if (
            field.name not in own
            and value != field.default
            and (wanted := _range_left(value, field.name, hint))
        ):
            raise UsageError(f"The option {field.name} is {value!r}: give {wanted}.")
    return options


def _range_left(value: Any, name: str, hint: Any) -> str | None:
    """What the numbers of a field must be, where those of `value` are not."""
    every = value if isinstance(value, tuple) else (value,)
    numbers = [float(one) for one in every if isinstance(one, Real)]
    if not all(math.isfinite(one) for one in numbers):
        return "finite numbers"
    if hint is int and numbers[0] < 0:
        return "a whole number of 0 or more"
    if hint is float and name.endswith(("_p", "dropout")) and not 0 <= numbers[0] <= 1:
        return "a probability, 0 to 1"
    return None


def _words(hint: Any) -> tuple[Any, ...]:
    """What the `Literal`s of a type allow."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(word for part in get_args(hint) for word in _words(part))


def _fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of the type `hint`, made of int, float, str, bool, tuple, Literal and None; else True."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in parts
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind is tuple:
        if not isinstance(value, tuple):
            return False
        elements = parts[:1] * len(value) if parts[-1] is ... else parts
        return len(elements) == len(value) and all(map(_fits, value, elements))
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (str, bool, NoneType) else True


def unknown(what: str, name: str, known: tuple[str, ...]) -> str:
    """The sentence for an unknown name, with the nearest known one."""
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(known)}."
    return f"There is no {what} named {name!r}: {hint}"
