"""The labels that an encoder saves at equal accuracy, in words: of a table's cell, and as a sentence."""

from collections.abc import Mapping
from typing import Any

from nolabel.report._text import MINUS, SPACE, count

INTERVAL = f"95{SPACE}% interval"
LEAST, MOST = "at least", "at most"
"""begin `setting["range"]` where the other's curve ends below, and where it begins above"""


def saved_in_words(value: float, setting: Mapping[str, Any]) -> str:
    """A cell: `about 12`; `none: costs about 2`; `at least 5,960`; `none: the other needs 4 or fewer`.

    Args:
        value: labels that the other needs for the same accuracy, minus those of the encoder.
        setting: of the row: `labels` of the encoder, and `range`, whether the value is a bound.
    """
    bound = _bound(setting)
    if bound == MOST:
        return f"none: the other needs {count(int(setting['labels']) + value)} or fewer"
    if bound == LEAST and round(value) > 0:
        return f"at least {count(value)}"
    if bound == LEAST:
        return "some: how many was not measured"
    if round(value) == 0:
        return "none"
    return f"about {count(value)}" if value > 0 else f"none: costs about {count(-value)}"


def ends_in_words(low: float | None, high: float | None) -> str:
    """`20 to 60`, `from 20 up`, `up to 60`; empty where the interval has no end."""
    if low is None and high is None:
        return ""
    if high is None:
        return f"from {_whole(low)} up"
    return f"up to {_whole(high)}" if low is None else f"{_whole(low)} to {_whole(high)}"


def saved_sentence(
    value: float,
    low: float | None,
    high: float | None,
    setting: Mapping[str, Any],
    other: str,
    judged_by: str = "",
) -> str:
    """How many labels the encoder saves against `other`, such as `random weights of the same network`."""
    labels = int(setting["labels"])
    told = f"With {count(labels)} label{'s' * (labels != 1)} it is{judged_by} as good as {other} with"
    needed = count(labels + value)
    if _bound(setting) == LEAST:
        return f"{told} more than {needed}, the most that were tried: {_at_least(low)}."
    if _bound(setting) == MOST:
        return f"{told} {needed} or fewer, the fewest that were tried: {_at_most(high)}."
    if round(value) == 0:
        known = ends_in_words(low, high)
        return f"{told} about as many: it saves no labels{f' ({INTERVAL} {known})' if known else ''}."
    saves = value > 0
    if not saves:
        low, high = (None if end is None else -end for end in (high, low))
    known = ends_in_words(low, high)
    chance = "" if low is not None and low > 0 else ", no more than chance explains"
    size = f"{count(abs(value))} label{'s' * (round(abs(value)) != 1)}"
    return (
        f"{told} about {needed}: it {'saves' if saves else 'costs'} about {size}"
        f"{f' ({INTERVAL} {known})' if known else ''}{chance}."
    )


def _bound(setting: Mapping[str, Any]) -> str:
    return str(setting["range"]).partition(":")[0]


def _at_least(low: float | None) -> str:
    """What the interval's low end leaves of labels that are saved, where the other never gets as good."""
    if low is not None and round(low) > 0:
        return f"it saves at least {count(low)} labels, the low end of the {INTERVAL}"
    if low == 0:
        return "it saves labels, and how many was not measured"
    end = f"the {INTERVAL} has no low end" if low is None else f"{INTERVAL} from {_whole(low)} up"
    return f"that it saves labels was not shown ({end})"


def _at_most(high: float | None) -> str:
    """What the interval's high end leaves of labels that are lost, where the other is as good with the fewest."""
    if high is not None and round(high) < 0:
        return f"it costs at least {count(-high)} labels, the near end of the {INTERVAL}"
    if high == 0:
        return "it saves no labels"
    end = f"the {INTERVAL} has no high end" if high is None else f"{INTERVAL} up to {_whole(high)}"
    return f"that it saves none was not shown ({end})"


def _whole(labels: float | None) -> str:
    """A number of labels; "" for None, and no sign on 0."""
    return "" if labels is None else count(round(labels)).replace("-", MINUS)
