"""pg_stat_database.session_time, mended.

PostgreSQL 14 to 18 add the time since 2000-01-01 to it for every login that is refused
after its database was chosen (connection limit of the database, no CONNECT privilege): some
27 years each. No database collects so much between two looks, so each look tells how many
such leaps it holds, and they are taken out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Counter:
    raw: float  # milliseconds, as the server said last
    reset_at: datetime | None
    total: float = 0.0  # seconds since we began to look


class SessionTime:
    """The session time of each database since we began to look, in seconds.

    It starts at 0.0 and not at the server's figure: how much of that figure is leaps cannot
    be told afterwards, since the leaps differ by the time between them.
    """

    def __init__(self) -> None:
        self._counters: dict[int, _Counter] = {}

    def total(
        self, oid: int, raw: float | None, reset_at: datetime | None, clock: datetime
    ) -> float | None:
        """The mended total after the server said *raw* milliseconds; None before 14.

        clock: the server's. A counter that fell or was reset begins anew where it is.
        """
        if raw is None:
            return None
        before = self._counters.get(oid)
        if before is None:
            self._counters[oid] = _Counter(raw, reset_at)
            return 0.0
        if reset_at == before.reset_at and raw >= before.raw:
            delta = raw - before.raw
            leap = (clock - _POSTGRES_EPOCH).total_seconds() * 1000.0
            # Rounded, not cut: a leap is a little smaller than the one *clock* makes of it.
            leaps = round(delta / leap)
            before.total += max(delta - leaps * leap, 0.0) / 1000.0
        before.raw, before.reset_at = raw, reset_at
        return before.total
