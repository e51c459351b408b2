"""Ages, counts and untrusted text in words. Pure."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime

from model.durations import format_duration

UNKNOWN = "–"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~:$])")


def age(seconds: float | None) -> str:
    """*seconds* as people say it, or a dash where it is not known.

    >>> age(None), age(0.0), age(6.12), age(192)
    ('–', '0 s', '6.1 s', '3 min 12 s')
    """
    if seconds is None:
        return UNKNOWN
    return "0 s" if seconds <= 0 else format_duration(seconds)


def old(seconds: float) -> str:
    """The age of data, in whole seconds.

    >>> old(0.4), old(12.3)
    ('0 s old', '12 s old')
    """
    return f"{whole(seconds)} old"


def whole(seconds: float) -> str:
    """An age whose fractions mean nothing.

    >>> whole(9.04), whole(192)
    ('9 s', '3 min 12 s')
    """
    rounded = max(round(seconds), 0)
    return f"{rounded} s" if rounded < 60 else age(float(rounded))


def count(value: float | None) -> str:
    """A number of things, or a dash where it is not known.

    >>> count(None), count(0), count(12345)
    ('–', '0', '12\\u202f345')
    """
    return UNKNOWN if value is None else f"{round(value):,}".replace(",", "\u202f")


def plural(number: int, one: str, many: str | None = None) -> str:
    """*number* with its noun.

    >>> plural(1, "client"), plural(3, "client"), plural(2, "query", "queries")
    ('1 client', '3 clients', '2 queries')
    """
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def size(number: float) -> str:
    """Bytes as people say them, decimal as disks are sold.

    >>> size(999), size(41_200_000), size(3_140_000_000)
    ('999 B', '41 MB', '3.1 GB')
    """
    value, unit = float(number), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:.0f} {unit}"


def sentence(text: str) -> str:
    """*text* with an end.

    >>> sentence("refused"), sentence("is it up?")
    ('refused.', 'is it up?')
    """
    return text if text.endswith((".", "?", "!")) else f"{text}."


def clock(at: datetime) -> str:
    """A moment of the past, UTC, to the second.

    >>> from datetime import UTC
    >>> clock(datetime(2030, 1, 1, 3, 12, 5, tzinfo=UTC))
    '2030-01-01 03:12:05 UTC'
    """
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def visible(text: str) -> str:
    """*text* without what could hide or turn around its neighbours.

    Control characters and marks that change the direction of writing become "�", line
    breaks and tabs become spaces: a name must not be able to disguise itself or others.

    >>> visible("ab\\u202ecd\\nef")
    'ab�cd ef'
    """
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in "\n\r\t":
        return " "
    return "�" if unicodedata.category(character) in ("Cc", "Cf") else character


def literal(text: str) -> str:
    """*text* for a label that Streamlit reads as Markdown: nothing in it is interpreted.

    >>> literal("a_b:smile:")
    'a\\\\_b\\\\:smile\\\\:'
    """
    return _MARKDOWN.sub(r"\\\1", visible(text))
