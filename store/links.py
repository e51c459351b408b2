"""Who works for whom: a pooler's clients, and the sessions of the server behind it.

A pooler's clients are looked at every few seconds, a server's sessions every second, so a
short transaction may have moved on between the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from store import tables
from store.latest import SessionRow, sessions_at
from store.looks import last_look, there
from store.windows import id_of


@dataclass(frozen=True, slots=True)
class LinkRow:
    """One client of a pooler as it was last seen.

    client:       "10.0.3.7:51512"; "local" for a Unix socket; "?" not reported.
    wait_seconds: clients in the queue only: how long they have been in it.
    backend_pid:  of the backend that works for it; None when none does, or not reported.
    since:        when it was first seen in this state, with this backend.
    """

    client: str
    client_id: str
    application: str
    database: str
    user: str
    state: str
    wait_seconds: float | None
    connected_at: datetime | None
    backend_pid: int | None
    process: str | None
    since: datetime


@dataclass(frozen=True, slots=True)
class ChainRow:
    """A client, and the session that works for it; None when none does or it is not seen."""

    link: LinkRow
    session: SessionRow | None

    @property
    def pool(self) -> str:
        """ "shop/app"."""
        return f"{self.link.database}/{self.link.user}"

    @property
    def blocked_by(self) -> tuple[int, ...]:
        """The pids that its session waits for; 0 is a prepared transaction."""
        return () if self.session is None else self.session.blocked_by


def links_now(connection: Connection, pooler: str) -> list[LinkRow]:
    """The clients of *pooler* as last seen: those who wait first, the longest wait first."""
    target_id = id_of(connection, pooler)
    look = last_look(connection, tables.pooler_sample, target_id, None)
    if look is None:
        return []
    link = tables.client_link
    rows = connection.execute(select(link).where(there(link, target_id, look.moment)))
    found = [_link_row(row, look.moment) for row in rows]
    return sorted(
        found,
        key=lambda row: (-(row.wait_seconds or 0.0), row.backend_pid is None, row.client_id),
    )


def chain(connection: Connection, pooler: str, server: str) -> list[ChainRow]:
    """The clients of *pooler*, each with the session of *server* that works for it.

    Those who wait come first, then those whose session has the oldest transaction.
    """
    by_pid = {session.pid: session for session in sessions_at(connection, server, None)}
    found = [
        ChainRow(link, None if link.backend_pid is None else by_pid.get(link.backend_pid))
        for link in links_now(connection, pooler)
    ]
    return sorted(found, key=_urgency)


def _urgency(row: ChainRow) -> tuple[float, bool, float]:
    age = row.session.xact_seconds if row.session else None
    return (-(row.link.wait_seconds or 0.0), row.session is None, -(age or 0.0))


def _link_row(row: Row[Any], moment: datetime) -> LinkRow:
    waited = row.waited_seconds
    if waited is not None:
        waited += max((moment - row.started_at).total_seconds(), 0.0)
    return LinkRow(
        client=row.client,
        client_id=row.client_id,
        application=row.application,
        database=row.database,
        user=row.user,
        state=row.state,
        wait_seconds=waited,
        connected_at=row.connected_at,
        backend_pid=row.backend_pid,
        process=row.process or None,
        since=row.started_at,
    )
