"""`nolabel embed`: one vector for each image, with its path, for other programs."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from cyclopts import Parameter

from nolabel.cli import _screen
from nolabel.cli._places import check_apart
from nolabel.cli._vectors import vectors
from nolabel.data.store import ImageStore
from nolabel.encoders._io import image_size, load_encoder
from nolabel.errors import UsageError
from nolabel.report._text import readable
from nolabel.runs import write_atomically


def embed(
    encoder: Path,
    data: str,
    /,
    *,
    out: Annotated[
        Path, Parameter(help="a .parquet file, or a .npy file beside which a .csv of paths is put")
    ],
    stage: Annotated[
        str | None, Parameter(help="take the mean of this stage's map, not the last vector")
    ] = None,
    size: Annotated[int | None, Parameter(help="side in pixels; the encoder's own")] = None,
    labels: Annotated[Path | None, Parameter(help="CSV with the header path,label")] = None,
    workers: Annotated[int, Parameter(help="processes that read the images; 0: one per core")] = 0,
) -> None:
    """Write one vector for each image, with its path.

    Parquet holds the columns `path`, `label` (empty where there is none) and `vector`; NumPy holds the
    vectors (images, length) and the CSV the same images' paths and labels in the same order.

    Parameters
    ----------
    encoder
        A run folder or an encoder.safetensors.
    data
        A folder, .zip or .tar of images, a list of paths, or a data set's name.
    """
    if out.suffix not in (".parquet", ".npy"):
        raise UsageError(f"--out {out} must end in .parquet or .npy, which says what is written.")
    if not out.parent.is_dir():
        raise UsageError(f"There is no folder {out.parent}: make it, or name another --out.")
    for written in (out,) if out.suffix == ".parquet" else (out, out.with_suffix(".csv")):
        check_apart(written, data, labels)
    loaded = load_encoder(encoder)
    side = image_size(encoder, loaded) if size is None else size
    with _screen.counting("Reading images") as progress:
        store = ImageStore.open(data, size=side, labels=labels, workers=workers, progress=progress, minimum=1)
    _screen.line(store.describe())
    with _screen.counting("Embedding") as progress:
        found = vectors(loaded, store, stage=stage, size=side, progress=progress)
    names = [store.class_names[label] if label >= 0 else None for label in store.labels.tolist()]
    if out.suffix == ".parquet":
        write_atomically(out, _parquet(store.paths, names, found))
    else:
        write_atomically(out.with_suffix(".csv"), _csv(store.paths, names))
        held = io.BytesIO()
        np.save(held, found)
        write_atomically(out, held.getvalue())
    _screen.line(f"Wrote {found.shape[0]:,} vectors of length {found.shape[1]:,} to {out}.")


def _parquet(paths: Sequence[str], names: list[str | None], found: np.ndarray) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(found.ravel(), pa.float32())
    held = pa.BufferOutputStream()
    columns = {
        "path": pa.array([readable(path) for path in paths], pa.string()),
        "label": pa.array(names, pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(flat, found.shape[1]),
    }
    pq.write_table(pa.table(columns), held)
    return held.getvalue().to_pybytes()


def _csv(paths: Sequence[str], names: list[str | None]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerows([("path", "label"), *zip(paths, (name or "" for name in names), strict=True)])
    return text.getvalue().encode("utf-8", "surrogateescape")
