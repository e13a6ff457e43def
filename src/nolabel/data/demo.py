"""Demo data without a network: small crops of the colour photographs that scikit-image and scikit-learn ship.

The task is to tell from which photograph a crop comes. It is made so that colour alone does not solve it:
every crop gets its own turn of hue, saturation, contrast, gamma and brightness. Training and test crops come
from different cells of a grid over each photograph; no pixel is in both.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nolabel.data.store import ImageStore
from nolabel.errors import UsageError

SIDE = 32
"""pixels of a crop's side"""
TRAIN_PER_PHOTO = 320
TEST_PER_PHOTO = 100

_PHOTOS = {
    "astronaut": ("skimage", "data/astronaut.png"),
    "cat": ("skimage", "data/chelsea.png"),
    "coffee": ("skimage", "data/coffee.png"),
    "galaxies": ("skimage", "data/hubble_deep_field.jpg"),
    "motorcycle": ("skimage", "data/motorcycle_left.png"),
    "retina": ("skimage", "data/retina.jpg"),
    "rocket": ("skimage", "data/rocket.jpg"),
    "temple": ("sklearn", "datasets/images/china.jpg"),
    "flower": ("sklearn", "datasets/images/flower.jpg"),
    "tissue": ("skimage", "data/ihc.png"),
}
_FEWEST_PHOTOS = 8
_SHORTER = 260
"""photographs are brought to this shorter side"""
_CELL = 52
"""side of a grid cell; a crop lies within one"""
_TEST_EVERY = 3
"""one cell in so many is a test cell"""
_CONTRAST = 10.0
"""standard deviation of grey (of 255) under which a crop shows nothing and another is drawn"""


def demo_store(seed: int = 0) -> ImageStore:
    """About 4,000 crops of 32 px, label = photograph, splits train and test; the same for the same seed.

    Raises:
        UsageError: the photographs are not installed.
    """
    images: list[np.ndarray] = []
    labels: list[int] = []
    splits: list[int] = []
    photos = _photographs()
    for label, photo in enumerate(photos.values()):
        random = np.random.default_rng([seed, label])
        for split, count in enumerate((TRAIN_PER_PHOTO, TEST_PER_PHOTO)):
            cells = _cells(photo.shape[0], photo.shape[1], split)
            crops = np.stack([_crop(photo, cells, random) for _ in range(count)])
            images.append(_shift_colours(crops, random))
            labels += [label] * count
            splits += [split] * count
    pixels = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2)
    return ImageStore.of(
        pixels, labels, splits, class_names=tuple(photos), split_names=("train", "test"), source="demo"
    )


def _photographs() -> dict[str, np.ndarray]:
    """The installed photographs, uint8 (H, W, 3) with the shorter side `_SHORTER`."""
    found = {}
    for name, (package, place) in _PHOTOS.items():
        spec = find_spec(package)
        file = Path(spec.origin).parent / place if spec and spec.origin else None
        if file and file.is_file():
            with Image.open(file) as image:
                scale = _SHORTER / min(image.size)
                size = (round(image.width * scale), round(image.height * scale))
                found[name] = np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    if len(found) < _FEWEST_PHOTOS:
        raise UsageError("The demo's photographs are not installed: run pip install 'nolabel[demo]'.")
    return found


def _cells(height: int, width: int, split: int) -> list[tuple[int, int]]:
    """Top left corners of the grid cells of a split: train 0, test 1."""
    rows, columns = height // _CELL, width // _CELL
    return [
        (row * _CELL, column * _CELL)
        for row in range(rows)
        for column in range(columns)
        if ((row + column) % _TEST_EVERY == 0) == bool(split)
    ]


def _crop(photo: np.ndarray, cells: list[tuple[int, int]], random: np.random.Generator) -> np.ndarray:
    """A crop that shows something; after twenty that do not, the last."""
    crop = photo[:SIDE, :SIDE]
    for _ in range(20):
        y, x = cells[random.integers(len(cells))] + random.integers(0, _CELL - SIDE + 1, 2)
        crop = photo[y : y + SIDE, x : x + SIDE]
        if crop.mean(-1).std() >= _CONTRAST:
            break
    return crop


_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=np.float32)


def _shift_colours(crops: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Crops (n, H, W, 3), each under another light: other hue, saturation, contrast, brightness."""

    def draw(low: float, high: float) -> np.ndarray:
        return random.uniform(low, high, (len(crops), 1, 1)).astype(np.float32)

    yiq = (crops.astype(np.float32) / 255) ** draw(0.6, 1.6)[..., None] @ _TO_YIQ.T
    grey, i, q = np.moveaxis(yiq, -1, 0)
    angle, saturation, contrast = draw(0, 2 * np.pi), draw(0, 1.2), draw(0.4, 1.2)
    shifted = np.stack(
        [
            draw(0.3, 0.7) + contrast * (grey - grey.mean((1, 2), keepdims=True)),
            contrast * saturation * (np.cos(angle) * i - np.sin(angle) * q),
            contrast * saturation * (np.sin(angle) * i + np.cos(angle) * q),
        ],
        axis=-1,
    )
    return (np.clip(shifted @ np.linalg.inv(_TO_YIQ).T, 0, 1) * 255).round().astype(np.uint8)
