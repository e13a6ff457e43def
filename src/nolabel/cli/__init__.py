"""The command line: one small file per command, loaded when chosen. Only this layer prints and exits."""

import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from cyclopts import App, Group
from cyclopts.exceptions import CycloptsError, UnusedCliTokensError

from nolabel import catalog
from nolabel.cli._failure import failed
from nolabel.errors import NolabelError, UsageError

_LEARN = Group("Learn and measure", sort_key=1)
_USE = Group("Use an encoder", sort_key=2)
_LOOK = Group("Look around", sort_key=3)

COMMANDS: dict[str, tuple[Group, str]] = {
    "demo": (_LEARN, "Pretrain two methods on demo photographs or your own, and report; about five minutes."),
    "pretrain": (_LEARN, "Learn an encoder from images without labels."),
    "evaluate": (_LEARN, "Measure an encoder on labelled images, beside baselines."),
    "compare": (
        _LEARN,
        "Pretrain several methods on your labelled images, measure them, and say which to take.",
    ),
    "transfer": (_LEARN, "Measure an encoder on other labelled data sets, and say where it helps."),
    "reproduce": (_LEARN, "Run a published setting again, and put the published numbers beside yours."),
    "check-pretext": (_LEARN, "Say whether a method's task fits your images, and whether it has a shortcut."),
    "study": (
        _LEARN,
        "Repeat on your images SimCLR's study of augmentations or of the projection head, or Exemplar's of seeds.",
    ),
    "gallery": (_LOOK, "Draw every method's task from your own images, on one page."),
    "report": (_LEARN, "Write a run's report.html again."),
    "embed": (_USE, "Write one vector for each image, with its path."),
    "search": (_USE, "Find the images most like one image."),
    "colorize": (_USE, "Colour black-and-white photographs with a trained colorization."),
    "export": (_USE, "Write an encoder's weights for torchvision, timm or ONNX."),
    "methods": (_LOOK, "List the methods, and published numbers."),
    "doctor": (_LOOK, "Say what is installed, what this machine has, and what is slow or missing."),
    "cache": (_LOOK, "See or clear the decoded images that are kept between runs."),
}

GO_ON = ("compare", "study", "reproduce", "transfer")
"""commands that leave alone what is there already, so that they are given again after an interruption"""
_OPTION_BY_EQUALS = re.compile(r"([A-Za-z][\w-]*)=(.*)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. The exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted.

    Every failure is one line on standard error; an unexpected one names the file that holds its traceback.
    """
    tokens = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _note
            if tokens and not tokens[0].startswith("-") and tokens[0] not in COMMANDS:
                raise UsageError(catalog.unknown("command", tokens[0], tuple(COMMANDS)))
            app()(tokens)
        sys.stdout.flush()
        return 0
    except CycloptsError as error:
        return _say(f"{_sentence(error)} See {_help_of(tokens)}.", 2)
    except NolabelError as error:
        return _say(str(error), error.exit_code)
    except KeyboardInterrupt as error:
        return _say(f"{str(error) or 'Interrupted.'} {_going_on(tokens, error)}", 130)
    except BrokenPipeError:  # the reader (head, less) has gone: leave quietly, as other programs do
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        return _say(failed(error, tokens), 1)


def app() -> App:
    """The command line as a cyclopts application whose commands are imported when they are chosen."""
    root = App(
        name="nolabel",
        help="A folder of images and no labels in; an encoder, proof of what it is worth, and pictures out. "
        "Start with: nolabel demo",
        help_format="plaintext",
        version=version("nolabel"),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_none",
    )
    for flag in ("--help", "--version"):
        root[flag].group = (_LOOK,)
    for place, (name, (group, summary)) in enumerate(COMMANDS.items()):
        # `pretrain` reads its options from the method's file, so it parses its own words, --help included.
        extra = {"help_flags": ()} if name == "pretrain" else {}
        root.command(
            "nolabel.cli.{0}:{0}".format(name.replace("-", "_")),
            name=name,
            group=group,
            help=summary,
            sort_key=place,
            **extra,
        )
    return root


def _say(message: str, exit_code: int) -> int:
    print(f"nolabel: {' '.join(message.split())}", file=sys.stderr)
    return exit_code


def _going_on(tokens: Sequence[str], error: KeyboardInterrupt) -> str:
    """How the command that was interrupted goes on; nothing where it does not, or nothing is there yet."""
    command = next(iter(tokens), "")
    if command == "pretrain" and str(error):
        return "Go on with the run's folder as --out, and --resume."
    return "The same command goes on." if command in GO_ON else ""


def _note(message: Warning | str, category: type[Warning], filename: str, *_: object) -> None:
    """A warning of nolabel's as one line; those of libraries are for programmers and stay unsaid."""
    if Path(filename).is_relative_to(catalog.PACKAGE):
        print(f"nolabel: {message}", file=sys.stderr)


def _sentence(error: CycloptsError) -> str:
    unused = error.unused_tokens if isinstance(error, UnusedCliTokensError) else None
    if unused and (spelt := _OPTION_BY_EQUALS.fullmatch(unused[0])):
        return f"{unused[0]} is not an option: write --{spelt[1].replace('_', '-')} {spelt[2]}."
    text = str(error)
    return text if text.endswith((".", "?")) else f"{text}."


def _help_of(tokens: list[str]) -> str:
    named = tokens[:1] if tokens and tokens[0] in COMMANDS else []
    if named == ["pretrain"]:
        methods = catalog.names("methods")
        named += [token for token in tokens if token.replace("-", "_") in methods][:1]
    return " ".join(["nolabel", *named, "--help"])
