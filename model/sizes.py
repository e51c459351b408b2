"""Sizes as people write them: "256MB", "20GB"."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}  # bytes
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(kB|MB|GB|TB)")


def parse_size(text: object) -> int:
    """Bytes in *text*. Raises ValueError that says what is allowed.

    >>> parse_size("256MB"), parse_size("1.5 GB")
    (256000000, 1500000000)
    """
    found = _PATTERN.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f'{text!r} is not a size; write a number and a unit, like "256MB", "20GB"')
    return int(float(found[1]) * _UNITS[found[2]])


def format_size(size: float) -> str:
    """*size* in bytes as people say it.

    >>> format_size(927), format_size(12_345_678), format_size(3.2e9)
    ('927 bytes', '12 MB', '3.2 GB')
    """
    for unit, factor in reversed(_UNITS.items()):
        if size >= factor:
            number = size / factor
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{size:.0f} bytes"


Size = Annotated[int, BeforeValidator(parse_size), PlainSerializer(format_size)]
"""An int of *bytes*, written with its unit in the configuration file."""
