"""Who waited for which lock, and behind whom, at any moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from store import tables
from store.episodes import LONGEST
from store.windows import id_of


@dataclass(frozen=True, slots=True)
class LockRow:
    """One session that waits for a lock.

    blocked_by:   pids; 0 is a prepared transaction.
    root:         the pid at the head of its queue; None when the waits form a cycle.
    wait_seconds: at the moment that was asked for.
    """

    pid: int
    blocked_by: tuple[int, ...]
    root: int | None
    depth: int
    soft: bool
    lock_type: str | None
    mode: str | None
    relation: str | None
    wait_seconds: float


def lock_waits_at(connection: Connection, target: str, at: datetime | None) -> list[LockRow]:
    """Who waits in *target* at *at* (None: as last seen), the longest wait first."""
    wait, sample = tables.lock_wait, tables.server_sample
    target_id = id_of(connection, target)
    moment = at
    if at is None:
        moment = connection.execute(
            select(sample.c.at)
            .where(sample.c.target_id == target_id, sample.c.up)
            .order_by(sample.c.at.desc())
            .limit(1)
        ).scalar()
    if moment is None:
        return []
    rows = connection.execute(
        select(wait).where(
            wait.c.target_id == target_id,
            wait.c.started_at <= moment,
            wait.c.started_at > moment - LONGEST - timedelta(minutes=1),
            # Those who waited when we were stopped have ended since, but still waited then.
            or_(wait.c.ended_at.is_(None), wait.c.ended_at > moment),
        )
    )
    return sorted((_lock_row(row, moment) for row in rows), key=lambda r: (-r.wait_seconds, r.pid))


def _lock_row(row: Row[Any], moment: datetime) -> LockRow:
    since = max((moment - row.started_at).total_seconds(), 0.0)
    return LockRow(
        pid=row.pid,
        blocked_by=tuple(int(pid) for pid in (row.blocked_by or "").split(",") if pid),
        root=row.root,
        depth=row.depth,
        soft=row.soft,
        lock_type=row.lock_type,
        mode=row.mode,
        relation=row.relation,
        wait_seconds=row.waited_seconds + since,
    )
