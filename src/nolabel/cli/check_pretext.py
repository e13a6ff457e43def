"""`nolabel check-pretext METHOD DATA`: does the task fit these images, and does it have a shortcut?"""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.cli._method_options import method_file
from nolabel.pretext import check
from nolabel.runs import new_folder


def check_pretext(
    method: str,
    data: str,
    /,
    *,
    minutes: Annotated[float, Parameter(help="of training in all, shared by the runs")] = 4.0,
    encoder: Annotated[str, Parameter(help="as for nolabel pretrain")] = "resnet10",
    size: Annotated[int | None, Parameter(help="side in pixels; the images' own, at most 96")] = None,
    labels: Annotated[
        Path | None, Parameter(help="CSV with the header path,label; labels are never trained on")
    ] = None,
    out: Annotated[
        Path | None, Parameter(help="a new folder; the next free runs/check-NN when not given")
    ] = None,
    seed: Annotated[int, Parameter(help="of all randomness")] = 0,
) -> None:
    """Say whether a method's task fits your images, by short runs with its defences on and off.

    Also whether rotation and colour carry information in these images at all.
    """
    method_file(method)
    name = method if "." in method else method.replace("-", "_")
    folder = new_folder(out, "check", data)
    found = check(
        name,
        data,
        out=folder,
        minutes=minutes,
        encoder=encoder,
        size=size,
        labels=labels,
        seed=seed,
        say=_screen.line,
    )
    _screen.line()
    for sentence in found.sentences:
        _screen.line(sentence)
