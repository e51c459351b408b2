"""Links that open the dashboard at a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

BEFORE = timedelta(minutes=5)  # what led to it
AFTER = timedelta(minutes=5)  # what came of it


def link_to(dashboard: str, target: str, since: datetime, at: datetime) -> str:
    """The target's page of the *dashboard*, from before *since* until after *at*."""
    query = {"target": target, "from": iso(since - BEFORE), "to": iso(at + AFTER)}
    return f"{dashboard}/target?{urlencode(query)}"


def iso(at: datetime) -> str:
    """*at* as ISO 8601 UTC in whole seconds.

    >>> iso(datetime(2030, 1, 1, 3, 12, 5, tzinfo=UTC))
    '2030-01-01T03:12:05Z'
    """
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
