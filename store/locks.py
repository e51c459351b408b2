"""Who waited for which lock, and behind whom, at any moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from store import tables
from store.kept import pids_from_text
from store.looks import last_look, there
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
    wait, target_id = tables.lock_wait, id_of(connection, target)
    look = last_look(connection, tables.server_sample, target_id, at)
    if look is None:
        return []
    moment = look.moment
    rows = connection.execute(select(wait).where(there(wait, target_id, moment)))
    return sorted((_lock_row(row, moment) for row in rows), key=lambda r: (-r.wait_seconds, r.pid))


def _lock_row(row: Row[Any], moment: datetime) -> LockRow:
    since = max((moment - row.started_at).total_seconds(), 0.0)
    return LockRow(
        pid=row.pid,
        blocked_by=pids_from_text(row.blocked_by),
        root=row.root,
        depth=row.depth,
        soft=row.soft,
        lock_type=row.lock_type,
        mode=row.mode,
        relation=row.relation,
        wait_seconds=row.waited_seconds + since,
    )
