"""Links that open the dashboard at a moment."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import urlencode

from model import moments

BEFORE = timedelta(minutes=5)  # what led to it
AFTER = timedelta(minutes=5)  # what came of it


def link_to(dashboard: str, target: str, since: datetime, at: datetime) -> str:
    """The target's page of the *dashboard*, from before *since* until after *at*, with the
    sessions of *at*."""
    span = {"from": iso(since - BEFORE), "to": iso(at + AFTER), "at": iso(at)}
    return f"{dashboard}/target?{urlencode({'target': target, **span})}"


def iso(at: datetime) -> str:
    """*at* as ISO 8601 UTC in whole seconds."""
    return moments.iso(at.replace(microsecond=0))
