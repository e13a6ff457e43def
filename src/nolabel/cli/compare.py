"""`nolabel compare DATA`: methods at equal minutes on one encoder, beside baselines, and a verdict."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nolabel import catalog, comparison
from nolabel.cli import _screen
from nolabel.cli._pretrain import illustrate, train
from nolabel.cli._protocol_options import Set, with_options
from nolabel.cli._shared import Shared
from nolabel.cli.evaluate import LISTED, VALUES_HELP
from nolabel.evaluation import baselines as known
from nolabel.evaluation._features import VALUES


def compare(
    data: str,
    /,
    *,
    minutes: Annotated[float, Parameter(help="of training for each method")] = 10.0,
    methods: Annotated[tuple[str, ...], LISTED, Parameter(help="separated by commas")] = catalog.names(
        "methods"
    ),
    protocols: Annotated[tuple[str, ...], LISTED, Parameter(help="separated by commas")] = ("linear", "knn"),
    options: Set = (),
    values: Annotated[int, Parameter(help=VALUES_HELP)] = VALUES,
    baselines: Annotated[tuple[str, ...], LISTED, Parameter(help=known.HELP)] = known.DEFAULT,
    encoder: Annotated[str, Parameter(help="as for nolabel pretrain")] = "resnet10",
    size: Annotated[int | None, Parameter(help="side in pixels; the images' own, at most 96")] = None,
    labels: Annotated[Path | None, Parameter(help="CSV with the header path,label")] = None,
    seed: Annotated[int, Parameter(help="of all randomness")] = 0,
    out: Annotated[
        Path | None, Parameter(help="folder; the same command again goes on where it stopped")
    ] = None,
) -> None:
    """Pretrain several methods for equal minutes on your labelled images, measure them, and say which to take."""
    found = comparison.compare(
        data, minutes=minutes, methods=methods, protocols=with_options(protocols, options), baselines=baselines,
        encoder=encoder, size=size, values=values, labels=labels, seed=seed, out=out,
        say=_screen.line, counting=_screen.counting,
        pretrain=lambda method, data, **settings: train(method, data, None, Shared(**settings)),
        illustrate=illustrate,
    )  # fmt: skip
    _screen.line(f"\n{found.title}. {' '.join(found.sentences)}")
    _screen.line(f"\nLook at {found.report}: open it in a browser.")
