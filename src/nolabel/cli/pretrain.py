"""`nolabel pretrain METHOD DATA`: a method's options are read from its file, so that help needs no torch."""

from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from nolabel import catalog
from nolabel.cli import _method_options as own
from nolabel.cli import _screen
from nolabel.cli._shared import Shared
from nolabel.errors import UsageError

HELP = ("--help", "-h")


def pretrain(*words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> None:
    """Learn an encoder from images without labels."""
    method = _method_in(words)
    if method is None:
        _overview()
        if not set(words) & set(HELP):
            raise UsageError("Which method? Write nolabel pretrain METHOD DATA.")
        return
    rest = list(words)
    rest.remove(method)
    _app_of(method)(rest)


def _method_in(words: tuple[str, ...]) -> str | None:
    """The first word that names a method, else the first that is no option; None where there is neither."""
    known = catalog.names("methods")
    plain = [word for word in words if not word.startswith("-")]
    return next((word for word in plain if word.replace("-", "_") in known), plain[0] if plain else None)


def _overview() -> None:
    _screen.line("Usage: nolabel pretrain METHOD DATA [options]")
    _screen.line()
    _screen.line("Learn an encoder from images without labels. METHOD is one of:")
    _screen.line()
    rows = [
        (f"  {name.replace('_', '-')}", catalog.summary("methods", name)) for name in catalog.names("methods")
    ]
    _screen.table(("", ""), rows)
    _screen.line()
    _screen.line(
        "nolabel pretrain METHOD --help shows the options, the method's own and those all methods share."
    )


def _app_of(method: str) -> App:
    """The command of one method."""
    file = own.method_file(method)
    group = Group(f"What {method} can be told", sort_key=1)
    options = own.as_dataclass(own.read_options(file), group)
    app = App(
        name=f"nolabel pretrain {method}",
        help=catalog.summary_of(file) or f"The method in {file}.",
        help_format="plaintext",
        version_flags=(),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_none",
    )

    def run(data: str, /, *, own_options: Any = None, shared: Any = None) -> None:
        from nolabel.cli._pretrain import run_method

        run_method(method, data, own_options or options(), shared or Shared())

    run.__annotations__ |= {
        "data": Annotated[
            str, Parameter(help="a folder, .zip or .tar of images, a list of paths, or a data set's name")
        ],
        "own_options": Annotated[options, Parameter(name="*")],
        "shared": Annotated[Shared, Parameter(name="*")],
    }
    app.default(run)
    app["--help"].show = False
    return app
