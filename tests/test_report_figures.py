"""Charts, sheets and wording of the report, from arrays and numbers."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from nolabel.report import _text, figures


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (_text.number(1.3862), "1.39"),
        (_text.number(0.0001), "0.0001"),
        (_text.number(2.5e-6), "2.5e−6"),
        (_text.number(12345.6), "12,300"),
        (_text.number(-0.5), "−0.5"),
        (_text.number(0.0), "0"),
        (_text.number(float("nan")), "not a number"),
        (_text.percent(0.6412), "64.1 %"),
        (_text.interval(0.632, 0.65), "63.2 to 65.0"),
        (_text.points(-0.0521), "5.2 points"),
        (_text.points(0.01), "1.0 point"),
        (_text.signed(-0.0521), "−5.2"),
        (_text.p_value(0.0004), "p < 0.001"),
        (_text.p_value(0.0123), "p = 0.012"),
        (_text.duration(45.2), "45 s"),
        (_text.duration(598), "9 min 58 s"),
        (_text.duration(7510), "2 h 5 min"),
        (_text.in_words({"minutes": 10, "steps": None, "half_rate": 0.5}), "minutes 10, half rate 0.5"),
        (_text.readable("a\u202eb\x07\udce9\u00e9 c"), "a\\u202eb\\x07\\xe9é c"),
    ],
)
def test_numbers_and_names_read_as_a_person_writes_them(found: str, wanted: str) -> None:
    assert found.replace("\u00a0", " ") == wanted


def test_filters_are_scaled_one_by_one_about_mid_grey() -> None:
    weights = np.zeros((3, 3, 2, 2), np.float32)
    weights[0, :, 0, 0], weights[1, :, 0, 0] = 0.01, -7.0
    sheet = figures.filter_sheet(weights, columns=2)
    assert sheet.shape == (5, 5, 4)
    assert sheet[0, 0, 0] == 255
    assert sheet[0, 3, 0] == 0
    assert sheet[1, 1, 0] == sheet[3, 0, 0] == 128
    assert sheet[2, 2, 3] == 0


def test_curves_keep_their_place_and_drop_what_is_not_finite() -> None:
    x = np.concatenate(
        [np.arange(0, 9_000, 100.0), np.arange(9_000.0, 10_000)]
    )  # logged more often at the end
    y = np.where(x == 500, np.nan, 2 * x)
    thin_x, thin_y = figures._thinned(x, y)
    assert len(thin_x) <= 80
    np.testing.assert_allclose(thin_y, 2 * thin_x)
    assert np.diff(thin_x).max() < 300
    assert np.diff(thin_x).min() > 50
    svg = figures.curves([figures.Line("<loss>", x, y)], x_label="step", alt='a "chart" & more')
    assert "&quot;chart&quot; &amp;" in svg
    assert "#0a0001" not in svg
    assert "var(--series-1" in svg
    figures.curves([figures.Line("a", x[:1], y[:1])], x_label="step", alt="one point")


def test_names_in_charts_are_no_formulas_and_are_not_hidden() -> None:
    svg = figures.stages({r"$\bad$": {"$a$": 0.1, "b": 0.2}, "_x": {"b": 0.3}, "n" * 99: {"b": 0.3}}, alt="")
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {r"$\bad$", "$a$", "…" + "n" * 43} <= set(shown)
    assert any(text.strip() == "_x" for text in shown)


def test_the_picture_of_a_search() -> None:
    query = np.zeros((40, 30, 3), np.uint8)
    png = figures.matches_figure(query, [query] * 7, [0.9] * 7, ["$x$ caf\udce9.jpg"] * 7)
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height
