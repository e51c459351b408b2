"""Moments as text."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(at: datetime) -> str:
    """*at* as ISO 8601, UTC; milliseconds only where there are some.

    >>> iso(datetime(2030, 1, 1, 3, 12, 5, tzinfo=UTC))
    '2030-01-01T03:12:05Z'
    """
    moment = at.astimezone(UTC)
    digits = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=digits).replace("+00:00", "Z")
