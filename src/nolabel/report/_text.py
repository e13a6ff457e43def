"""Numbers and names as a person reads them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import category

SPACE = "\u00a0"
"""no line break between a number and its unit"""
MINUS = "\u2212"
UNSHOWN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode's categories of control, format, surrogate and unassigned characters and of line separators"""


def readable(text: object) -> str:
    """`text` with escapes for what cannot be shown, such as `caf\\xe9.jpg`.

    Bytes of names that are not UTF-8, control characters, and marks that turn the writing direction.
    """
    return "".join(_escaped(c) if category(c) in UNSHOWN and c != "\n" else c for c in str(text))


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that Python could not decode in a file's name
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def count(value: float) -> str:
    """50000 -> 50,000."""
    return f"{round(value):,}"


def number(value: float) -> str:
    """Three significant digits without a needless exponent: 1.39, 0.0001, 12,300, 2.5e-6."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    if value and not 1e-4 <= abs(value) < 1e6:
        digits, exponent = f"{value:.3g}".split("e")
        return f"{digits}e{int(exponent)}".replace("-", MINUS)
    rounded = float(f"{value:.3g}")
    text = f"{rounded:,.0f}" if rounded == int(rounded) else f"{rounded:,.10f}".rstrip("0")
    return text.replace("-", MINUS)


def capitalised(text: str) -> str:
    """The text with a capital first letter, the others as they are: raw SimCLR -> Raw SimCLR."""
    return text[0].upper() + text[1:]


def hundredths(share: float) -> str:
    """0.6412 -> 64.1; no sign where that is 0.0."""
    return f"{100 * share:z.1f}".replace("-", MINUS)


def percent(share: float) -> str:
    """0.6412 -> 64.1 %."""
    return f"{hundredths(share)}{SPACE}%"


def interval(low: float, high: float) -> str:
    """The ends of an interval of shares: 0.632, 0.65 -> 63.2 to 65.0."""
    return f"{hundredths(low)} to {hundredths(high)}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, without sign: -0.052 -> 5.2 points."""
    size = f"{100 * abs(difference):.1f}"
    return f"{size}{SPACE}point" if size == "1.0" else f"{size}{SPACE}points"


def signed(difference: float) -> str:
    """A difference of two shares in percentage points with its sign: 0.052 -> +5.2; 0.0002 -> 0.0."""
    told = hundredths(difference)
    return told if told == "0.0" or told.startswith(MINUS) else f"+{told}"


def p_value(p: float) -> str:
    """p < 0.001, p = 0.012, p = 0.34."""
    if p < 0.001:
        return f"p{SPACE}<{SPACE}0.001"
    return f"p{SPACE}={SPACE}{p:.3f}" if p < 0.1 else f"p{SPACE}={SPACE}{p:.2f}"


def duration(seconds: float) -> str:
    """45 s, 9 min 58 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{SPACE}min {whole % 60}{SPACE}s"
    return f"{whole // 3600}{SPACE}h {whole % 3600 // 60}{SPACE}min"


def short(source: object) -> str:
    """The last part of a path."""
    return str(source).rstrip("/\\").replace("\\", "/").rpartition("/")[2] or str(source)


def listed(words: Iterable[str]) -> str:
    """a, b and c."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def in_words(value: Any) -> str:
    """A setting as text: numbers short, mappings as `name value`, nothing for what is not set."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value) if value >= 10_000 else str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        named = ((key, in_words(inner)) for key, inner in value.items())
        return ", ".join(f"{readable(key).replace('_', ' ')} {text}" for key, text in named if text)
    if isinstance(value, list | tuple):
        return ", ".join(in_words(inner) for inner in value)
    return readable(value)


def setting_in_words(name: str, values: Mapping[str, Any]) -> str:
    """`size: 32`, of whose -> value; where they differ, `size: 32 for a and b, 64 for c`."""
    whose: dict[str, list[str]] = {}
    for label, value in values.items():
        whose.setdefault(in_words(value), []).append(label)
    if len(whose) == 1:
        return f"{name}: {next(iter(whose))}"
    return f"{name}: " + ", ".join(f"{value} for {listed(labels)}" for value, labels in whose.items())


def setting_by(name: str, values: Sequence[Any], *labels: Sequence[str]) -> str:
    """As `setting_in_words`, by the first of `labels` (one for each value) that tells the values apart, or the last."""
    told = [dict(zip(own, values, strict=True)) for own in labels]
    whole = (
        one for own, one in zip(labels, told, strict=True) if [one[label] for label in own] == list(values)
    )
    return setting_in_words(name, next(whole, told[-1]))
