"""How times and lists of pids are kept.

Our own times are whole milliseconds; a server's own timestamps are microseconds, because they
identify a session.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ms(at: datetime) -> int:
    """*at* as whole milliseconds since 1970 (UTC)."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def from_ms(value: int) -> datetime:
    """The inverse of to_ms."""
    return _EPOCH + timedelta(milliseconds=value)


class Instant(TypeDecorator[datetime]):
    """An aware datetime of ours, kept as whole milliseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else to_ms(value)

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else from_ms(value)


class ServerInstant(TypeDecorator[datetime]):
    """An aware datetime of a server, kept as whole microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:  # noqa: ARG002
        """To the database."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        """From the database."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


def pids_to_text(pids: tuple[int, ...]) -> str:
    """Several pids as they are kept in one column: "4711,4652"."""
    return ",".join(map(str, pids))


def pids_from_text(kept: str | None) -> tuple[int, ...]:
    """The inverse of pids_to_text; NULL is nobody."""
    return tuple(int(pid) for pid in (kept or "").split(",") if pid)
