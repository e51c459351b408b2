"""Durations as people write them: "500ms", "1s", "10m", "4h", "7d"."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}  # seconds
LONGEST = 3660 * 86400.0  # seconds; what is longer is a mistake, and dates would overflow
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


def parse_duration(text: object) -> float:
    """Seconds in *text*. Raises ValueError that says what is allowed.

    >>> parse_duration("1s"), parse_duration("1h30m"), parse_duration("250ms")
    (1.0, 5400.0, 0.25)
    """
    if isinstance(text, str):
        stripped = text.strip()
        if stripped == "0":
            return 0.0
        parts = _PATTERN.findall(stripped)
        if parts and _PATTERN.sub("", stripped).strip() == "":
            seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
            if seconds > LONGEST:
                raise ValueError(f"{text!r} is longer than ten years")
            return seconds
    raise ValueError(
        f"{text!r} is not a duration; write a number and a unit, "
        'like "500ms", "1s", "10m", "4h", "7d"'
    )


def format_duration(seconds: float) -> str:
    """*seconds* as people say it, two units at most.

    >>> format_duration(0.25), format_duration(6.1), format_duration(192), format_duration(90061)
    ('250 ms', '6.1 s', '3 min 12 s', '1 d 1 h')
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, rest_size, rest_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // rest_size
            return f"{whole // size} {name}" + (f" {rest} {rest_name}" if rest else "")
    return f"{whole} s"


Duration = Annotated[float, BeforeValidator(parse_duration), PlainSerializer(format_duration)]
"""A float of *seconds*, written with its unit in the configuration file."""
