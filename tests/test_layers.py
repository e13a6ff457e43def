"""Data flows one way: a layer imports only from layers above it; read with `ast`, lazy imports included."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "nolabel"

DESIGN = PACKAGE.parents[1] / "docs" / "design.md"
ORDER = tuple(
    tuple(re.findall(r"`(\w+)/?`", row.split("|")[2]))
    for row in DESIGN.read_text(encoding="utf-8").split("\n\n")[2].splitlines()[2:]
)
"""the layers as the table in docs/design.md has them"""
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}

FILES = sorted(PACKAGE.rglob("*.py"))


def layer_of(module: str) -> str | None:
    """`nolabel.data.store` -> `data`; None for the package itself and for other packages."""
    parts = module.split(".")
    return parts[1] if parts[0] == "nolabel" and len(parts) > 1 else None


def imported(file: Path) -> list[tuple[str, bool]]:
    """(module, only for type checking) of every import in `file`, inside functions too."""
    tree = ast.parse(file.read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} uses a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name, id(node) in typing_only) for name in names]
    return found


def modules_of(file: Path) -> list[str]:
    return [module for module, typing_only in imported(file) if not typing_only]


def own_layer(file: Path) -> str:
    parts = file.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_a_layer_imports_only_from_layers_above_it(file: Path) -> None:
    own = own_layer(file)
    if own == "__init__":
        return
    assert own in LEVEL, f"{own} has no place in ORDER"
    for module in modules_of(file):
        layer = layer_of(module)
        if layer is not None and layer != own:
            assert layer in LEVEL, f"{file.name} imports {module}, which has no place in ORDER"
            assert LEVEL[layer] <= LEVEL[own], f"{file.name} ({own}) imports {module}, which comes after it"


def test_the_table_of_layers_names_what_there_is() -> None:
    there = {own_layer(file) for file in FILES} - {"__init__"}
    assert [name for names in ORDER for name in names if name not in there] == []


def test_nothing_imports_the_command_line() -> None:
    for file in FILES:
        if own_layer(file) not in ("cli", "__main__"):
            assert not [m for m in modules_of(file) if layer_of(m) == "cli"], file


@pytest.mark.parametrize(
    ("layer", "forbidden"),
    [
        ("evaluation", {"methods", "training"}),  # a protocol sees an encoder, whatever trained it
        ("methods", {"training", "runs"}),  # a method knows nothing of the loop and of files
        ("training", {"evaluation"}),  # monitors are handed in: training code never reads labels
        ("report", {"methods", "encoders", "views", "training", "evaluation"}),
        ("encoders", {"data"}),
    ],
)
def test_layers_that_must_not_know_each_other(layer: str, forbidden: set[str]) -> None:
    for file in (f for f in FILES if own_layer(f) == layer):
        assert not [m for m in modules_of(file) if layer_of(m) in forbidden], file


def test_the_report_needs_no_torch() -> None:
    for file in (f for f in FILES if own_layer(f) == "report"):
        assert not [m for m in modules_of(file) if m.split(".")[0] in ("torch", "torchvision")], file


@pytest.mark.parametrize(
    "package", ["timm", "sklearn", "matplotlib", "pyarrow", "torchvision", "skimage", "onnx"]
)
def test_heavy_packages_are_imported_where_they_are_used(package: str) -> None:
    for file in FILES:
        top = ast.parse(file.read_text()).body
        names = [a.name for n in top if isinstance(n, ast.Import) for a in n.names]
        names += [n.module or "" for n in top if isinstance(n, ast.ImportFrom)]
        assert package not in {name.split(".")[0] for name in names}, file
