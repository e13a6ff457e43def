"""What the tests of the command line share."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Said = tuple[int, str, str]
"""exit code, standard output, standard error"""
Say = Callable[..., Said]
"""runs one command in this process: the fixture `say`"""


def one_line(err: str, *parts: str) -> None:
    """The last line on standard error is a sentence of nolabel's that has `parts`; there is no traceback."""
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("nolabel: "), err
    for part in parts:
        assert part in last, last


def picture(seed: int, side: int = 32) -> Image.Image:
    """A mosaic of random colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def write_images(folder: Path, classes: int = 2, train: int = 10, test: int = 4, first: int = 0) -> Path:
    """`folder`/train/<class> and test/<class> with small PNG files; `first`: seed of the first picture."""
    seed = first
    for split, count in (("train", train), ("test", test)):
        for label in range(classes):
            place = folder / split / f"class{label}"
            place.mkdir(parents=True)
            for i in range(count):
                picture(seed).save(place / f"{i:03d}.png")
                seed += 1
    return folder
