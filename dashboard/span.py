"""The time range of a page or a request, as its URL says it.

`range=15m` moves with the clock; `from` and `to` (ISO 8601; UTC when no zone is given)
stand still, so that a link shows tomorrow what it shows today. One that has not ended yet
fills until it has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from model.moments import iso

RANGES = {"5m": 300, "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800}  # seconds
DEFAULT_RANGE = "15m"


@dataclass(frozen=True, slots=True)
class Span:
    """start <= t < end.

    range: its name when it moves with the clock, else None.
    open:  it stands still, but its end is still to come.
    """

    start: datetime
    end: datetime
    range: str | None
    open: bool = False

    @property
    def live(self) -> bool:
        """Whether it moves with the clock."""
        return self.range is not None

    @property
    def grows(self) -> bool:
        """Whether there will be more in it than there is."""
        return self.live or self.open

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start).total_seconds()

    def params(self) -> dict[str, str]:
        """The URL parameters that say it."""
        if self.range is not None:
            return {"range": self.range}
        return {"from": iso(self.start), "to": iso(self.end)}


def parse_moment(text: str) -> datetime:
    """A moment as URLs say it. Raises ValueError that says what is allowed."""
    text = text.strip()
    try:
        # A plus sign that was not encoded in a URL arrives as a space.
        moment = datetime.fromisoformat(re.sub(r"(?<=T)(\S+) (?=\d\d:?\d\d$)", r"\1+", text))
    except ValueError:
        raise ValueError(
            f"{text[:40]!r} is not a moment; write it like 2030-01-01T03:12:05Z"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_span(params: Mapping[str, str], now: datetime) -> Span:
    """The range that *params* ask for. Raises ValueError that says what is allowed."""
    if "from" in params:
        start = parse_moment(params["from"])
        end = parse_moment(params["to"]) if "to" in params else now
        if start >= end:
            raise ValueError("'from' must be before 'to'")
        if end - start > timedelta(days=400):
            raise ValueError("the range must not be longer than 400 days")
        return Span(start, end, None, end > now)
    name = params.get("range", DEFAULT_RANGE)
    if name not in RANGES:
        raise ValueError(f"{name[:40]!r} is not a range; choose one of {', '.join(RANGES)}")
    return Span(now - timedelta(seconds=RANGES[name]), now, name)
