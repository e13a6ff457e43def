"""What users and the house rules rely on: public names, shared options, short files, a light start."""

import ast
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import nolabel
from nolabel import catalog, seeds
from nolabel.cli import COMMANDS, _method_options, _shared

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("src", "benchmarks", "tests") for path in (ROOT / top).rglob("*.py"))


def test_the_public_names() -> None:
    assert sorted(nolabel.__all__) == ["ImageStore", "compare", "evaluate", "load_encoder", "pretrain"]
    for name in nolabel.__all__:
        assert getattr(nolabel, name).__doc__, f"nolabel.{name} has no docstring"


def test_the_wheel_holds_what_the_code_reads() -> None:
    """The wheel takes every file of the package's folder that git does not ignore."""
    package = Path(nolabel.__file__).parent
    held = {file.relative_to(package).as_posix() for file in package.rglob("*") if file.suffix != ".py"}
    assert {
        "py.typed",
        "published/tables.csv",
        "report/template.html",
        "report/parts.html",
        "views/_kernels.c",
        "evaluation/_largest.c",
    } <= held
    assert 'packages = ["src/nolabel"]' in (ROOT / "pyproject.toml").read_text()


def test_the_commands() -> None:
    assert list(COMMANDS) == [
        *(
            "demo",
            "pretrain",
            "evaluate",
            "compare",
            "transfer",
            "reproduce",
            "check-pretext",
            "study",
            "gallery",
            "report",
            "embed",
            "search",
            "colorize",
            "export",
        ),
        *("methods", "doctor", "cache"),
    ]


def test_the_shared_options() -> None:
    assert [field.name.replace("_", "-") for field in fields(_shared.Shared)] == [
        *("encoder", "size", "epochs", "steps", "minutes", "batch-size", "lr", "seed", "init", "labels"),
        *(
            "out",
            "resume",
            "extend",
            "devices",
            "precision",
            "channels-last",
            "compile",
            "workers",
            "tensorboard",
        ),
    ]


def test_no_method_option_hides_a_shared_one() -> None:
    shared = {field.name for field in fields(_shared.Shared)}
    for name in catalog.names("methods"):
        own = {option.name for option in _method_options.read_options(_method_options.method_file(name))}
        assert not own & shared, name


@pytest.mark.parametrize(
    "words", [["--help"], ["methods"], ["pretrain", "simclr", "--help"], ["pretrain", "simclr"]]
)
def test_help_loads_no_torch(words: list[str]) -> None:
    program = (
        "import sys; from nolabel.cli import main; main(sys.argv[1:]); "
        "sys.exit(bool({'torch', 'torchvision', 'matplotlib', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_importing_the_package_loads_no_torch() -> None:
    program = "import sys, nolabel; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("file", SOURCES, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_and_functions_stay_short(file: Path) -> None:
    text = file.read_text()
    limit = 260 if file.parent.name == "methods" else 400
    assert len(text.splitlines()) <= limit, f"{file.name} has more than {limit} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{file.name}: {node.name} has more than 60 lines"


def test_no_address_of_a_registry_is_written_down() -> None:
    hosts = [
        ".".join(parts)
        for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))
    ]
    tracked = [
        p for pattern in ("*.toml", "*.md", "Makefile", ".ci/run", "tools/*") for p in ROOT.glob(pattern)
    ]
    for path in [*SOURCES, *tracked]:
        assert not [host for host in hosts if host in path.read_text()], path


def opens_text(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    modes = [word.value for word in call.args if isinstance(word, ast.Constant)]
    return name in ("read_text", "write_text") or (
        name in ("open", "fdopen") and any(mode in ("r", "w", "a", "x") for mode in modes)
    )


@pytest.mark.parametrize("top", ["src", "benchmarks", "tools"])
def test_text_is_read_and_written_in_a_named_encoding(top: str) -> None:
    """A system's own may lack the signs that are in it."""
    for file in (ROOT / top).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and opens_text(node):
                positional = ast.unparse(node.func).endswith("read_text") and node.args
                assert positional or "encoding" in [word.arg for word in node.keywords], (file, node.lineno)


def test_every_purpose_of_randomness_is_told_where_seeds_are_made() -> None:
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "generator",
                "derive",
                "seeded",
            ):
                purposes = [word.value for word in node.args[1:2] if isinstance(word, ast.Constant)]
                assert all(f'"{word}"' in (seeds.derive.__doc__ or "") for word in purposes), (file, purposes)
