"""The bytes of one image file to 8-bit RGB, as a person sees the picture; imports no torch."""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError, features

READER_VERSION = 1
"""part of a store's key: raise it whenever a change here changes pixels"""

PIXEL_LIMIT = 178_956_970
"""images that declare more pixels are refused before decoding; Pillow's own limit, 512 MiB as RGB"""

BYTE_LIMIT = 1 << 29
"""larger files are not read"""

FORMATS = (
    *("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "AVIF", "HEIF", "ICO", "ICNS"),
    *("JPEG2000", "PPM", "TGA", "PCX", "PSD", "SGI", "DDS", "QOI"),
)
"""what Pillow may open; EPS and WMF are left out since they start other programs"""

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_AVIF_BRANDS = (b"avif", b"avis")
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"RIFF", b"BM")


class Unreadable(Exception):
    """The file gives no picture; the text says why: a kind that can be counted, or "kind: detail"."""


@dataclass(frozen=True)
class Decoded:
    """One picture, upright, 8-bit sRGB."""

    pixels: bytes
    """3 * height * width bytes, rows first, channels last"""
    height: int
    width: int
    full_height: int
    """upright height before shrinking"""
    full_width: int
    mode: str
    """Pillow's name of the pixel format in the file"""


def read_image(data: bytes, shorter: int | None = None) -> Decoded:
    """The first frame or page of an image file, as a person sees it.

    The content decides the format, not a name. EXIF orientation is applied, an embedded ICC profile is
    converted to sRGB where it can be, transparency is put on white. 16-bit values are divided by 257. Float
    values are taken as [0, 1] or [0, 255] when they lie within, else (as 32-bit integers beyond 16 bits)
    stretched from their smallest to their largest value. The picture is shrunk to a shorter side of `shorter`
    (never enlarged; aspect kept, each side at least 1) with a Lanczos filter, after a box reduction to at
    least three times that size; a JPEG is decoded at a reduced scale of at least twice that size.

    Raises:
        Unreadable: no image, damaged, more than `PIXEL_LIMIT` pixels, or a decoder is missing.
    """
    if not data:
        raise Unreadable("empty file")
    _need_decoder(data)
    try:
        with Image.open(io.BytesIO(data), formats=_formats()) as image:
            return _decode(image, shorter)
    except Unreadable:
        raise
    except Image.DecompressionBombError:
        raise Unreadable(f"too large: declares more than {PIXEL_LIMIT:,} pixels") from None
    except UnidentifiedImageError:
        raise Unreadable("damaged header" if data.startswith(_MAGIC) else "not an image") from None
    except MemoryError:
        raise Unreadable("too large: not enough memory to decode it") from None
    except Exception as error:  # decoders raise nearly every class on damaged files; each means the same here
        kind = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise Unreadable(f"{kind}: {str(error) or type(error).__name__}") from None


def _decode(image: Image.Image, shorter: int | None) -> Decoded:
    mode, (width, height) = image.mode, image.size
    if width * height > PIXEL_LIMIT:
        raise Unreadable(f"too large: {width} x {height} pixels, more than {PIXEL_LIMIT:,}")
    if width * height == 0:
        raise Unreadable("damaged: no pixels")
    if shorter is not None and image.format in ("JPEG", "MPO"):
        side = 2 * shorter
        image.draft(
            None, (max(1, width * side // min(width, height)), max(1, height * side // min(width, height)))
        )
    image.load()
    turn = _orientation(image)
    picture = _shrink(_to_rgb(image), shorter)
    if turn is not None:
        picture = picture.transpose(turn)
        if turn in _SWAPPING:
            width, height = height, width
    return Decoded(picture.tobytes(), picture.height, picture.width, height, width, mode)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = (
    *(Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270),
    *(Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90),
)


def _orientation(image: Image.Image) -> Image.Transpose | None:
    """The turn that EXIF asks for; None where there is none or EXIF is broken. Valid after `load`."""
    try:
        return _TURNS.get(image.getexif().get(0x0112, 1))
    except Exception:  # a broken EXIF block says nothing about the pixels
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return _wide_grey(image)
    profile = image.info.get("icc_profile")
    if _has_alpha(image):
        layers = image.convert("RGBA")
        colours = _managed(layers.convert("RGB"), profile)
        colours.paste((255, 255, 255), mask=ImageOps.invert(layers.getchannel("A")))
        return colours
    if image.mode in ("RGB", "L", "CMYK"):
        return _managed(image, profile)
    if image.mode == "LAB":
        return _managed(image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
    return _managed(image.convert("RGB"), profile)


def _has_alpha(image: Image.Image) -> bool:
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return True
    return image.mode == "P" and image.palette is not None and image.palette.mode == "RGBA"


def _managed(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image in sRGB: by its profile where that fits the pixels, else by plain conversion."""
    if profile:
        transform = _to_srgb(profile, image.mode)
        if transform is not None:
            return cast(Image.Image, ImageCms.applyTransform(image, transform))
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (
        ImageCms.PyCMSError,
        OSError,
        ValueError,
        TypeError,
    ):  # damaged, or made for another kind of pixels
        return None


def _wide_grey(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey to RGB, by the rules of `read_image`."""
    import numpy as np

    values = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]
    if image.mode == "F" and low >= 0 and high <= 255:
        grey = values * 255 if high <= 1 else values
    elif image.mode != "F" and low >= 0 and high <= 65535:
        grey = values * (255 / (4095 if bits == 12 else 65535))
    else:
        grey = (values - low) * (255 / (high - low or 1))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey.round().astype(np.uint8)).convert("RGB")


def _shrink(image: Image.Image, shorter: int | None) -> Image.Image:
    least = min(image.size)
    if shorter is None or least <= shorter:
        return image
    width, height = (max(1, round(side * shorter / least)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)


def _need_decoder(data: bytes) -> None:
    """Refuse HEIC and AVIF by name when this installation has no decoder for them."""
    if data[4:8] != b"ftyp":
        return
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    if any(brand in brands for brand in _AVIF_BRANDS) and not features.check("avif"):
        raise Unreadable("AVIF needs an extra: pip install 'nolabel[heif]'")
    if any(brand in brands for brand in _HEIC_BRANDS) and not _heif():
        raise Unreadable("HEIC needs an extra: pip install 'nolabel[heif]'")


@lru_cache(maxsize=1)
def _heif() -> bool:
    """Whether HEIC can be read; teaches it to Pillow at the first call."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False)
    return True


@lru_cache(maxsize=1)
def _formats() -> list[str]:
    Image.init()
    _heif()
    return [name for name in FORMATS if name in Image.OPEN]
