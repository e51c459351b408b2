"""One Pgpool-II: which of its children are busy, and for whom.

Source: https://www.pgpool.net/docs/latest/en/html/sql-commands.html, version 4.3.
Needs:  a role that may log in to a database behind it; no privilege.
Cost:   two answers from its shared memory a poll, and one client slot (a child of its own)
        with one backend connection for as long as Headroom runs: there is no console apart.
        SHOW POOL_NODES, which makes it ask the backends, once a minute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from collectors import pgpool_rows as rows_of
from collectors.answer import answered
from collectors.cadence import Cadence
from collectors.connection import HeldConnection
from collectors.console import MANNER, readable
from collectors.errors import NotThisKind
from model.samples import Failure, Link, Pool, Pooler, Sample
from model.targets import Target

SETTINGS_EVERY = 60.0  # seconds between looks at the settings and the state of the backends
LINKS_EVERY = 12.0  # seconds between two snapshots of who works for whom


@dataclass(frozen=True, slots=True)
class Seen:
    """One poll's answers. None: it was not time to ask."""

    pooler: Pooler
    pools: tuple[Pool, ...] | None
    links: tuple[Link, ...] | None
    unwell: Sequence[str]


class PgpoolCollector:
    """Polls one Pgpool-II over one held session.

    version: "4.3.5"; empty until it was connected to.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.held = HeldConnection(target, MANNER, self._introduce)
        self.version = ""
        self._settings: Mapping[str, str] = {}
        self._unwell: Sequence[str] = ()
        self._settings_cadence = Cadence(SETTINGS_EVERY, SETTINGS_EVERY)
        self._pools_cadence = Cadence(0.0, 0.0)  # as often as its cost allows
        self._links_cadence = Cadence(LINKS_EVERY, LINKS_EVERY)

    async def poll(self, at: datetime) -> Sample:
        """Ask once. Never raises; ends by the target's deadline and half a second."""
        return await answered(self._target, at, self._fill)

    async def close(self) -> None:
        """Close the connection."""
        await self.held.close()

    async def _fill(self, sample: Sample, deadline: float) -> Sample:
        seen = await self.held.ask(self.look, deadline)
        return replace(
            sample,
            up=True,
            degraded="; ".join(seen.unwell) or None,
            pooler=seen.pooler,
            pools=seen.pools,
            links=seen.links,
        )

    async def _introduce(self, connection: AsyncConnection) -> None:
        """Check that this is Pgpool-II, once per connection."""
        try:
            self.version = rows_of.version(await show(connection, "pool_version"))
        except psycopg.Error as error:
            if connection.closed:
                raise
            raise NotThisKind(
                Failure.PROTOCOL,
                "this is not Pgpool-II; check host and port, or set another kind",
            ) from error
        for cadence in (self._settings_cadence, self._pools_cadence, self._links_cadence):
            cadence.begin()

    async def look(self, connection: AsyncConnection) -> Seen:
        """Every answer of one poll."""
        now = monotonic()
        if self._settings_cadence.due(now):
            status = await show(connection, "pool_status")
            self._settings = {str(row.get("item")): str(row.get("value")) for row in status}
            self._unwell = rows_of.unwell(await show(connection, "pool_nodes"))
            self._settings_cadence.asked(now)
        processes = await show(connection, "pool_processes")
        pools = links = None
        if self._pools_cadence.due(now):
            t0 = monotonic()
            rows = await show(connection, "pool_pools")
            # One row for every child, slot and backend: thousands where there are many.
            self._pools_cadence.asked(now, (monotonic() - t0) / 10)
            pools = rows_of.pools(rows)
            if self._links_cadence.due(now):
                self._links_cadence.asked(now)
                links = rows_of.links(rows)
        return Seen(
            pooler=rows_of.pooler(processes, pools, running=self.version, settings=self._settings),
            pools=pools,
            links=links,
            unwell=self._unwell,
        )


async def show(connection: AsyncConnection[Any], what: str) -> Sequence[dict[str, Any]]:
    """The rows of one SHOW command, by column name.

    Pgpool-II 4.3 sends an empty result before the real one.
    """
    cursor: psycopg.AsyncCursor[dict[str, Any]] = connection.cursor(row_factory=dict_row)
    await cursor.execute(f"SHOW {what}".encode())
    rows: Sequence[dict[str, Any]] = []
    while True:
        if cursor.description:
            rows = [readable(row) for row in await cursor.fetchall()] or rows
        if not cursor.nextset():
            return rows
