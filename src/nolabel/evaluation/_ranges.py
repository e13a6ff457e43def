"""Ranges of protocols' options: what they must hold is said where they are made, not where a division fails."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from nolabel.catalog import checked
from nolabel.errors import UsageError


class Range(NamedTuple):
    """Numbers that an option may hold."""

    text: str
    holds: Callable[[float], bool]


def at_least(least: int) -> Range:
    """Numbers from `least` on."""
    return Range(f"a number of {least} or more", lambda value: value >= least)


COUNT, SEVERAL, COUNT_OR_NONE = at_least(1), at_least(2), at_least(0)
NOT_NEGATIVE = Range("a finite number of 0 or more", lambda value: 0 <= value < math.inf)
POSITIVE = Range("a finite number above 0", lambda value: 0 < value < math.inf)
SHARE = Range("a share above 0 and up to 1", lambda value: 0 < value <= 1)


def hold(options: Any, **ranges: Range) -> None:
    """Check a dataclass of options: its types, and that the named ones, or each number of theirs, lie in their range.

    None passes; an empty tuple does not.

    Raises:
        UsageError: naming the option, its value and what it may be.
    """
    checked(options, own=ranges)
    for name, allowed in ranges.items():
        value = getattr(options, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if value is not None and not (numbers and all(map(allowed.holds, numbers))):
            said = f"one or more of: {allowed.text}" if isinstance(value, tuple) else allowed.text
            raise UsageError(f"The option {name} is {value!r}: give {said}.")
