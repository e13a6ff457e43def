"""A method's own options as options of the command line, read from its file without importing torch."""

import ast
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, Literal, get_args, get_origin

from cyclopts import Group, Parameter, Token

from nolabel import catalog
from nolabel.errors import FileFormatError, UsageError

_TYPES = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "tuple": tuple,
    "Literal": Literal,
    "None": None,
}


@dataclass(frozen=True)
class Option:
    """One field of a method's `Options`."""

    name: str
    hint: Any
    """its type, such as `float` or `Literal["mlp2", "none"]`"""
    default: Any
    help: str


def method_file(name: str) -> Path:
    """The file that defines method `name` (a name of the catalogue, a dotted path or a path to a `.py` file).

    Raises UsageError for an unknown one, with the nearest known name, and for the images in its place.
    """
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UsageError(f"There is no file {name}: give the path of an existing .py file.")
        return Path(name)
    plain = name.replace("-", "_")
    if plain in catalog.names("methods"):
        return catalog.PACKAGE / "methods" / f"{plain}.py"
    if catalog.is_dotted(name):
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:
            spec = None
        if spec is not None and spec.origin is not None:
            return Path(spec.origin)
    if os.path.exists(name):
        known = ", ".join(catalog.names("methods"))
        raise UsageError(f"{name} is a path and no method: name the method before it, one of {known}.")
    raise UsageError(catalog.unknown("method", name, catalog.names("methods")))


def read_options(file: Path) -> tuple[Option, ...]:
    """The options of the method in `file`, in their order.

    Raises FileFormatError where the file is not Python, or a type or default is not a plain literal.
    """
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise FileFormatError(f"{file} is not a Python file ({error}): name the file of a method.") from None
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in classes.values():
        for line in node.body:
            if isinstance(line, ast.Assign) and ast.unparse(line).startswith("Options = "):
                named = ast.unparse(line.value)
                if named in classes:
                    return tuple(_fields(classes[named], file))
    raise FileFormatError(
        f"{file} defines no method: a method's class says Options = a dataclass of the same file."
    )


def _fields(node: ast.ClassDef, file: Path) -> list[Option]:
    options = []
    for line, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not (
            isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.value is not None
        ):
            continue
        text = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            text = " ".join(str(following.value.value).split())
        try:
            hint = eval(ast.unparse(line.annotation), {"__builtins__": {}}, dict(_TYPES))
            default = ast.literal_eval(line.value)
        except (NameError, ValueError, TypeError, SyntaxError):
            raise FileFormatError(
                f"The option {line.target.id} in {file} needs a type made of int, float, str, bool, tuple, "
                "Literal and None, and a literal default: write them out."
            ) from None
        options.append(Option(line.target.id, hint, default, text))
    return options


def comma_separated(hint: Any, tokens: Sequence[Token]) -> tuple[Any, ...]:
    """`0.5,0.75,1` as a tuple of the element type of `hint`; an empty word is the empty tuple."""
    element = get_args(hint)[0] if isinstance(hint, GenericAlias) or get_origin(hint) is tuple else str
    return tuple(element(part.strip()) for part in tokens[0].value.split(",") if part.strip())


def as_dataclass(options: Sequence[Option], group: Group) -> type:
    """A frozen dataclass whose fields cyclopts shows as options of `group`."""
    fields = [(option.name, _annotated(option, group), option.default) for option in options]
    made = make_dataclass("Options", fields, frozen=True)
    made.__module__ = __name__  # cyclopts looks into no class of the module `types`, the default
    return made


def _annotated(option: Option, group: Group) -> Any:
    if get_origin(option.hint) is tuple:
        listed = Parameter(
            help=f"{option.help}; separated by commas",
            group=group,
            converter=comma_separated,
            n_tokens=1,
            negative=(),
            show_default=lambda value: ",".join(map(str, value)) or "none",
        )
        return Annotated[option.hint, listed]
    return Annotated[option.hint, Parameter(help=option.help, group=group)]
