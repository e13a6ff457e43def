"""The method of a run with its trained weights: to ask it for its answers once training is over."""

from pathlib import Path

from nolabel import catalog
from nolabel.encoders import base
from nolabel.errors import FileFormatError
from nolabel.methods.base import DataInfo, Method
from nolabel.runs import Run
from nolabel.training import checkpoint
from nolabel.training.asked import build_options


def load_method(folder: str | Path) -> Method:
    """The method of the run in `folder`, head and buffers included, from its newest checkpoint, in evaluation mode.

    Raises:
        UsageError: there is no run in `folder`.
        FileFormatError: the run has no checkpoint, or none that is whole.
    """
    run = Run.open(folder)
    info = run.info
    kind = catalog.load("methods", info["method"], Method)
    options, data = (
        build_options(kind.Options, info["options"]),
        DataInfo(info["data"]["trained_on"], info["size"]),
    )
    method = kind(base.build(info["encoder"], kind.encoder_size(options, data)), options, data)
    if not checkpoint.restore_method(run.checkpoints, method):
        raise FileFormatError(f"{run.folder} holds no checkpoint: start the run again.")
    return method.eval()
