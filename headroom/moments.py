"""Points in time as people type them: "10m" (ago), "2026-11-22T03:12:05Z"."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta

from model.durations import parse_duration


def parse_moment(text: str, now: datetime) -> datetime:
    """The moment *text* means, seen from *now*. Raises ValueError that says what is allowed.

    A time without a zone is UTC.

    >>> parse_moment("10m", datetime(2030, 1, 1, tzinfo=UTC)).isoformat()
    '2029-12-31T23:50:00+00:00'
    """
    try:
        return now - timedelta(seconds=parse_duration(text))
    except ValueError as error:
        if "ten years" in str(error):
            raise
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f'{text!r} is neither a duration like "10m" nor a time like "2026-11-22T03:12:05Z"'
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def moment_argument(text: str) -> datetime:
    """For argparse: a moment seen from now."""
    try:
        return parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
