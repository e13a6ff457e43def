"""The command line: its words, its help, failures that nobody foresaw."""

import re
import tomllib
import warnings
from pathlib import Path

import pytest

from cli_helpers import Say, one_line
from nolabel import catalog
from nolabel.cli import COMMANDS, _method_options, app, doctor
from nolabel.errors import FileFormatError, UsageError

ROOT = Path(__file__).parents[1]

# --- what is asked of the words themselves --------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["pretrian"], ["'pretrian'", "did you mean pretrain?"]),
        (["xyzzy"], ["choose one of demo, pretrain"]),
        (["pretrain"], ["nolabel pretrain METHOD DATA"]),
        (["pretrain", "simclear", "x"], ["'simclear'", "did you mean simclr?"]),
        (["pretrain", "no/such.py", "x"], ["no file no/such.py"]),
        (["pretrain", "no.such", "x"], ["no method named 'no.such'"]),
        (["pretrain", "simclr"], ["DATA", "nolabel pretrain simclr --help"]),
        (["pretrain", "simclr", "x", "--temprature", "1"], ["--temprature", "--temperature?"]),
        (["pretrain", "rotation", "x", "--temperature", "1"], ["--temperature"]),
        (["pretrain", "simclr", "x", "--epoch", "1"], ["--epochs?"]),
        (["pretrain", "simclr", "x", "epochs=1"], ["write --epochs 1"]),
        (["pretrain", "simclr", "x", "--views", "two"], ["--views", '"two"']),
        (["pretrain", "simclr", "x", "--sizes", "1,two"], ["--sizes", "two"]),
        (["pretrain", "simclr", "x", "--head", "mlp9"], ["mlp9", "mlp2_bn"]),
        (["cache", "claer"], ["clear"]),
        (["embed", "--out", "x.parquet"], ["nolabel embed --help"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_words_end_with_2_and_one_line(say: Say, words: list[str], parts: list[str]) -> None:
    code, _, err = say(*words)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    one_line(err, *parts)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["--version"],
        ["methods"],
        ["cache"],
        ["--help"],
        *([name, "--help"] for name in COMMANDS),
        *(["pretrain", method, "--help"] for method in catalog.names("methods")),
    ],
    ids=" ".join,
)
def test_help_ends_with_0(say: Say, command: list[str]) -> None:
    code, out, err = say(*command)
    assert (code, err) == (0, "")
    assert out


def test_the_help_of_a_method_shows_its_options_with_defaults_and_texts(say: Say) -> None:
    code, out, _ = say("pretrain", "simclr", "--help")
    assert code == 0
    for part in ("--temperature", "--crop-min", "--minutes", "--resume", "mlp2_bn", "[default: 0.2]"):
        assert part in out


@pytest.mark.parametrize("name", ["simclr", "rotation"])
def test_the_options_read_from_a_file_are_those_of_its_class(name: str) -> None:
    from dataclasses import fields

    from nolabel.methods.base import Method

    read = _method_options.read_options(_method_options.method_file(name))
    real = catalog.load("methods", name, Method).Options  # type: ignore[attr-defined]
    assert [(o.name, o.default) for o in read] == [(f.name, f.default) for f in fields(real)]
    assert all(option.help for option in read)


def test_a_file_that_is_no_method(tmp_path: Path) -> None:
    (tmp_path / "text.py").write_text("this is no Python")
    (tmp_path / "other.py").write_text("x = 1")
    (tmp_path / "odd.py").write_text("class O:\n    a: int = f()\nclass M:\n    Options = O\n")
    for name, part in (("text", "not a Python file"), ("other", "defines no method"), ("odd", "option a")):
        with pytest.raises(FileFormatError, match=part):
            _method_options.read_options(tmp_path / f"{name}.py")
    with pytest.raises(UsageError, match="no file"):
        _method_options.method_file(str(tmp_path / "missing.py"))


README = (ROOT / "README.md").read_text(encoding="utf-8")
TOLD = [re.sub(r" \[.*\]| \.\.\.", "", words) for words in re.findall(r"`nolabel ([^`]+)`", README)]


@pytest.mark.parametrize("words", [words for words in TOLD if " " in words])
def test_the_commands_of_the_readme_are_whole(words: str) -> None:
    app().parse_args(words.split())


# --- failures that nobody foresaw -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "parts"),
    [
        (ZeroDivisionError("x"), 1, ["ZeroDivisionError", "nolabel-", ".log"]),
        (MemoryError(), 1, ["Out of memory", "--batch-size"]),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, ["Out of memory"]),
        (OSError(28, "No space left on device", "/x"), 1, ["disk is full (/x)"]),
        (PermissionError(13, "Permission denied", "/x"), 1, ["/x", "Permission denied"]),
        (KeyboardInterrupt(), 130, ["Interrupted"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_unforeseen_failure_is_one_line_and_a_log(
    say: Say,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    error: BaseException,
    code: int,
    parts: list[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("nolabel.cli.methods.methods", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    told = say("methods")
    assert told[0] == code
    one_line(told[2], *parts)
    logs = list(tmp_path.glob("nolabel-*.log"))
    assert len(logs) == (code == 1)
    assert all("Traceback" in log.read_text() and "nolabel methods" in log.read_text() for log in logs)


@pytest.mark.parametrize(
    ("command", "text", "said"),
    [
        ("compare", "The checkpoint is in x.", "The checkpoint is in x. The same command goes on."),
        ("study", "", "Interrupted. The same command goes on."),
        ("pretrain", "The checkpoint is in x.", "x. Go on with the run's folder as --out, and --resume."),
        ("pretrain", "", "Interrupted."),
        ("demo", "The checkpoint is in x.", "The checkpoint is in x."),
    ],
)
def test_an_interruption_is_told_with_how_that_command_goes_on(
    say: Say, monkeypatch: pytest.MonkeyPatch, command: str, text: str, said: str
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt(text)

    monkeypatch.setattr(f"nolabel.cli.{command}.{command}", stop)
    code, _, err = say(command)
    assert code == 130
    one_line(err)
    assert err.rstrip().endswith(said)


def test_a_reader_that_has_gone_is_no_failure(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise BrokenPipeError

    monkeypatch.setattr("nolabel.cli.methods.methods", fail)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert say("methods") == (141, "", "")


# --- looking around -------------------------------------------------------------------------------


def test_warnings_are_one_line_and_those_of_libraries_stay_unsaid(
    say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn() -> None:
        warnings.warn_explicit("ours", UserWarning, str(catalog.PACKAGE / "views" / "x.py"), 1)
        warnings.warn_explicit("theirs", UserWarning, "/site-packages/other/x.py", 1)

    monkeypatch.setattr("nolabel.cli.methods.methods", warn)
    assert say("methods") == (0, "", "nolabel: ours\n")


def test_doctor_names_what_is_missing_with_its_remedy(say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(
        "nolabel.cli.doctor.EXTRAS", {"demo": (("no-such-package",), "the demo's photographs")}
    )
    code, out, _ = say("doctor")
    assert code == 0
    assert "C compiler: install gcc or clang" in out
    assert "pip install 'nolabel[demo]'" in out


def test_doctor_knows_the_extras_of_the_project() -> None:
    def names(packages: list[str]) -> set[str]:
        return {re.split(r"[<>=\[]", package)[0] for package in packages}

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {extra: names(packages) for extra, packages in project["optional-dependencies"].items()}
    needed = names(project["dependencies"])
    assert {extra: set(packages) for extra, (packages, _) in doctor.EXTRAS.items()} == {
        extra: packages - needed for extra, packages in extras.items() if extra != "dev"
    }
