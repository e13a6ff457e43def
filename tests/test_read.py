"""One file at a time: what a person sees is what is read, and what cannot be read says why."""

import contextlib
import csv
import io
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from nolabel.data import read, workers
from nolabel.data.read import PIXEL_LIMIT, Unreadable, read_image

RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format, **options)
    return file.getvalue()


def pixels(data: bytes, shorter: int | None = None) -> np.ndarray:
    decoded = read_image(data, shorter)
    return np.frombuffer(decoded.pixels, np.uint8).reshape(decoded.height, decoded.width, 3)


def reason(data: bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        read_image(data)
    return str(caught.value)


STORED_FROM_UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: a.transpose(1, 0, 2)[::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED_FROM_UPRIGHT)
def test_every_exif_orientation_shows_the_same_picture(orientation: int, format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED_FROM_UPRIGHT[orientation](PICTURE))
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(stored, format, exif=exif, **options)
    decoded = read_image(data)
    assert (decoded.full_height, decoded.full_width) == PICTURE.shape[:2]
    np.testing.assert_array_equal(pixels(data), PICTURE)


def test_one_bit_becomes_black_and_white() -> None:
    bits = Image.fromarray(PICTURE[..., 0]).convert("1")
    np.testing.assert_array_equal(pixels(encoded(bits)), np.asarray(bits.convert("RGB")))
    assert set(np.unique(pixels(encoded(bits)))) == {0, 255}


def test_grey_is_repeated_to_three_channels() -> None:
    np.testing.assert_array_equal(pixels(encoded(PICTURE[..., 0])), np.repeat(PICTURE[..., :1], 3, -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_put_on_white(mode: str) -> None:
    alpha = RANDOM.integers(0, 256, (6, 9, 1), dtype=np.uint8)
    colour = PICTURE if mode == "RGBA" else PICTURE[..., :1]
    got = pixels(encoded(Image.fromarray(np.concatenate([colour, alpha], -1), mode)))
    exact = (colour * (alpha / 255.0) + 255 * (1 - alpha / 255.0)) * np.ones(3)
    assert np.abs(got - exact).max() <= 1


def test_palettes_are_applied_and_their_transparent_index_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    np.testing.assert_array_equal(pixels(encoded(image)), [[[10, 20, 30], [200, 100, 50]]])
    np.testing.assert_array_equal(pixels(encoded(image, transparency=1)), [[[10, 20, 30], [255, 255, 255]]])


def test_cmyk_is_no_negative() -> None:
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for format in ("JPEG", "TIFF"):
        colour = pixels(encoded(red, format)).mean((0, 1))
        assert colour[0] > 200 > 60 > colour[1:].max(), format


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(format: str) -> None:
    values = np.array([[0, 256, 257, 32768, 65535]], dtype=np.uint16)
    data = encoded(Image.fromarray(values), format)
    np.testing.assert_array_equal(pixels(data)[0, :, 0], np.round(values[0] / 257))


def test_integers_beyond_sixteen_bits_are_stretched() -> None:
    values = np.array([[-100_000, 0, 100_000]], dtype=np.int32)
    np.testing.assert_array_equal(pixels(encoded(Image.fromarray(values), "TIFF"))[0, :, 1], [0, 128, 255])


@pytest.mark.parametrize(
    ("values", "grey"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 100.0, 255.0], [0, 100, 255]),
        ([-1.0, 1.0, 3.0], [0, 128, 255]),
    ],
)
def test_float_values_are_scaled_as_stated(values: list[float], grey: list[int]) -> None:
    data = encoded(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    np.testing.assert_array_equal(pixels(data)[0, :, 0], grey)


def test_an_icc_profile_is_converted_and_a_broken_one_ignored() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.abs(pixels(encoded(PICTURE, icc_profile=srgb)).astype(int) - PICTURE).max() <= 1
    np.testing.assert_array_equal(pixels(encoded(PICTURE, icc_profile=b"no profile")), PICTURE)


def test_lab_is_converted() -> None:
    lab = Image.new("LAB", (4, 4), (255, 128, 128))
    assert pixels(encoded(lab, "TIFF")).min() > 240


def test_only_the_first_frame_is_read() -> None:
    frames = [Image.fromarray(np.full((4, 4), value, dtype=np.uint8)) for value in (10, 200)]
    for format in ("GIF", "TIFF", "PNG"):
        assert pixels(encoded(frames[0], format, save_all=True, append_images=frames[1:])).max() == 10


def test_the_largest_icon_is_read() -> None:
    icon = encoded(Image.new("RGBA", (64, 64), "red"), "ICO", sizes=[(16, 16), (64, 64), (32, 32)])
    assert pixels(icon).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("size", "stored"),
    [((300, 200), (60, 40)), ((200, 300), (40, 60)), ((39, 30), (39, 30)), ((5000, 1), (5000, 1))],
)
def test_the_shorter_side_is_limited_and_nothing_is_enlarged(
    size: tuple[int, int], stored: tuple[int, int]
) -> None:
    decoded = read_image(encoded(Image.new("RGB", size)), 40)
    assert (decoded.width, decoded.height) == stored
    assert (decoded.full_width, decoded.full_height) == size


def test_a_large_jpeg_decoded_at_reduced_scale_looks_the_same() -> None:
    y, x = np.mgrid[0:800, 0:1200]
    smooth = np.stack([127 + 120 * np.sin(x / 75), 127 + 120 * np.cos(y / 65), (x + y) / 8], -1).astype(
        np.uint8
    )
    got = pixels(encoded(smooth, "JPEG", quality=95), 50)
    exact = np.asarray(Image.fromarray(smooth).resize((75, 50), Image.Resampling.LANCZOS))
    assert got.shape == exact.shape
    assert np.abs(got.astype(int) - exact).mean() < 2


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return head + struct.pack(">I", 100) + b"IDAT" + b"cut off"


def test_a_bomb_is_refused_by_its_declared_size() -> None:
    assert "too large" in reason(png_header(30_000, 30_000))
    assert f"{PIXEL_LIMIT:,} pixels" in reason(png_header(30_000, 30_000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert "too large" not in reason(png_header(13_000, 13_000))


def test_what_is_no_image_says_so() -> None:
    assert reason(b"") == "empty file"
    assert reason(b"<html>no image</html>") == "not an image"
    assert reason(b"\xff\xd8\xff\xe0nonsense").startswith(("damaged", "truncated"))


def test_cut_files_are_refused_not_half_grey() -> None:
    for format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"):
        whole = encoded(RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8), format)
        assert reason(whole[: len(whole) // 2]).split(":")[0] in ("truncated", "damaged", "damaged header"), (
            format
        )


def test_any_flipped_byte_gives_a_picture_or_a_reason() -> None:
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "ICO"):
        whole = bytearray(encoded(RANDOM.integers(0, 256, (24, 24, 3), dtype=np.uint8), format))
        for _ in range(60):
            broken = bytearray(whole)
            for place in RANDOM.integers(0, len(whole), 3):
                broken[place] = RANDOM.integers(0, 256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with contextlib.suppress(Unreadable):
                    read_image(bytes(broken), 16)


def test_a_missing_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "_heif", lambda: False)
    monkeypatch.setattr(features, "check", lambda _: False)
    for brand, name in ((b"heic", "HEIC"), (b"avif", "AVIF")):
        text = reason(struct.pack(">I", 24) + b"ftyp" + brand + b"\0\0\0\0mif1" + brand)
        assert name in text
        assert "nolabel[heif]" in text


def test_results_come_in_order_whatever_the_number_of_workers() -> None:
    blobs: list[bytes | str] = [encoded(np.full((3, 3 + i % 5, 3), i % 256, np.uint8)) for i in range(150)]
    blobs[70] = "cannot be read: test"
    blobs[71] = b"nothing"
    one, three = (list(workers.decode_all(blobs, 40, count)) for count in (1, 3))
    assert one == three
    assert one[70:72] == ["cannot be read: test", "not an image"]
    decoded = one[149]
    assert isinstance(decoded, read.Decoded)
    assert decoded.pixels == bytes([149]) * 3 * 3 * 7


def test_a_file_that_brings_the_decoder_down_costs_that_file_only() -> None:
    class Fragile(workers._Child):
        """Its process ends whenever it is given the file b"fatal"."""

        def _ask(self, chunk: list[workers.Blob]) -> list[read.Decoded | str]:
            if b"fatal" in chunk:
                self._start().kill()
            return super()._ask(chunk)

    child = Fragile(40)
    good = encoded(PICTURE)
    first, crashed, last = child.decode([good, b"fatal", good])
    child.close()
    assert isinstance(first, read.Decoded)
    assert isinstance(last, read.Decoded)
    assert crashed == "damaged: the decoder crashed"


@pytest.fixture(scope="module")
def messy(shared_data: Path) -> dict[str, tuple[dict[str, str], bytes]]:
    with zipfile.ZipFile(shared_data / "messy_open.zip") as archive:
        rows = csv.DictReader(io.StringIO(archive.read("index.csv").decode()))
        return {row["file"]: (row, archive.read(row["file"])) for row in rows}


def without_profile(data: bytes) -> bytes:
    """The JPEG with its ICC segments (APP2) taken out: the index's mean colours know no profiles."""
    out, place = data[:2], 2
    while data[place + 1] != 0xDA:
        length = 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
        if data[place + 1] != 0xE2:
            out += data[place : place + length]
        place += length
    return out + data[place:]


def test_every_messy_file_is_read_as_its_index_says(messy: dict[str, tuple[dict[str, str], bytes]]) -> None:
    assert len(messy) == 44
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, (row, data) in messy.items():
            if row["expect"] == "reject":
                assert reason(data), name
                continue
            if row["kind"] == "truncated":
                assert reason(data).startswith("truncated"), name
                continue
            got = pixels(data)
            assert got.shape == (int(row["out_height"]), int(row["out_width"]), 3), name
            if row["mean_rgb"]:
                plain = pixels(without_profile(data)) if b"ICC_PROFILE" in data else got
                exact = [float(value) for value in row["mean_rgb"].split()]
                np.testing.assert_allclose(plain.mean((0, 1)), exact, atol=1.0, err_msg=name)
            if row["kind"] not in ("onebit_png", "tiny", "animated", "heic"):
                assert 1 < got.mean() < 254, f"{name} came out black or white"


def test_all_eight_landscapes_show_the_same_picture(messy: dict[str, tuple[dict[str, str], bytes]]) -> None:
    pictures = [pixels(messy[f"landscape_{i}.jpg"][1]).astype(int) for i in range(1, 9)]
    for i, picture in enumerate(pictures):
        assert np.abs(picture - pictures[0]).mean() < 8, f"landscape_{i + 1}"
        assert np.abs(picture - pictures[0][:, ::-1]).mean() > 25


def test_profiles_change_what_is_read(messy: dict[str, tuple[dict[str, str], bytes]]) -> None:
    reference = pixels(messy["landscape_1.jpg"][1]).mean()
    data = messy["landscape_3.jpg"][1]
    assert abs(pixels(data).mean() - reference) < 2 < abs(pixels(without_profile(data)).mean() - reference)
