"""One PgBouncer: who is served, who waits, and what its databases have done.

Source: https://www.pgbouncer.org/usage.html#admin-console, PgBouncer 1.18 to 1.25.
Needs:  a user in stats_users (or admin_users) and the database "pgbouncer".
Cost:   three answers from PgBouncer's memory a poll; no server connection is used. What
        changes by hand (sizes, limits) is asked once a minute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from collectors import pgbouncer_rows as rows_of
from collectors.answer import answered
from collectors.connection import HeldConnection, Manner
from collectors.errors import NotThisKind
from model.samples import Failure, Pool, PoolDatabase, Pooler, Sample
from model.targets import Target

SETTINGS_EVERY = 60.0  # seconds between looks at what changes only by hand
SIZES_AGAIN = 5.0  # seconds at least before a new database makes us ask for sizes again
STATE_SINCE = (1, 19)  # SHOW STATE exists from this version on

# No startup options: PgBouncer refuses a client that sends any it does not know. The empty
# string also hides PGOPTIONS of the environment.
_MANNER = Manner(prepare_threshold=None, overrides={"options": ""})


@dataclass(frozen=True, slots=True)
class Seen:
    """One poll's answers."""

    pooler: Pooler
    pools: tuple[Pool, ...]
    databases: tuple[PoolDatabase, ...]


class PgBouncerCollector:
    """Polls one PgBouncer's admin console over one held connection.

    version: "1.18.0"; empty until it was connected to.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.held = HeldConnection(target, _MANNER, self._introduce)
        self.version = ""
        self._settings: dict[str, str] = {}
        self._sizes: dict[str, int | None] = {}
        self._paused: bool | None = None
        self._settings_due = 0.0  # monotonic
        self._sizes_due = 0.0

    async def poll(self, at: datetime) -> Sample:
        """Ask once. Never raises; ends by the target's deadline and half a second."""
        return await answered(self._target, at, self._fill)

    async def close(self) -> None:
        """Close the connection."""
        await self.held.close()

    async def _fill(self, sample: Sample, deadline: float) -> Sample:
        seen = await self.held.ask(self.look, deadline)
        return replace(
            sample, up=True, pooler=seen.pooler, pools=seen.pools, pool_databases=seen.databases
        )

    async def _introduce(self, connection: AsyncConnection) -> None:
        """Check that this is a PgBouncer, once per connection."""
        told = connection.info.parameter_status("server_version") or "no version"
        if not told.endswith("/bouncer"):
            raise NotThisKind(
                Failure.PROTOCOL,
                f"this is a server ({told}), not PgBouncer's admin console; check host and "
                'port, connect with dbname=pgbouncer, or set kind = "postgresql"',
            )
        self.version = rows_of.version(told)
        self._settings_due = self._sizes_due = 0.0

    async def look(self, connection: AsyncConnection) -> Seen:
        """Every answer of one poll, one after the other: the console takes no pipeline."""
        pool_rows = await _show(connection, "POOLS")
        stats = await _show(connection, "STATS")
        lists = await _show(connection, "LISTS")
        now = monotonic()
        due = now >= self._settings_due
        if due:
            self._settings = rows_of.settings(await _show(connection, "CONFIG"))
        databases = {row.get("database") for row in pool_rows} - {rows_of.ADMIN}
        if due or (not databases <= self._sizes.keys() and now >= self._sizes_due):
            self._sizes = rows_of.sizes(await _show(connection, "DATABASES"), self.version)
            self._sizes_due = now + SIZES_AGAIN
        pools = rows_of.pools(
            pool_rows, self._sizes, rows_of.number(self._settings.get("default_pool_size"))
        )
        # A pause makes clients wait, so that is when its news must be fresh.
        waiting = any(pool.client_waiting for pool in pools)
        if (due or waiting) and rows_of.version_pair(self.version) >= STATE_SINCE:
            self._paused = rows_of.paused(await _show(connection, "STATE"))
        if due:
            self._settings_due = now + SETTINGS_EVERY
        return Seen(
            pooler=rows_of.pooler(
                lists, pools, running=self.version, settings=self._settings, paused=self._paused
            ),
            pools=pools,
            databases=rows_of.pool_databases(stats),
        )


async def _show(connection: AsyncConnection[Any], what: str) -> Sequence[dict[str, Any]]:
    cursor: psycopg.AsyncCursor[dict[str, Any]] = connection.cursor(row_factory=dict_row)
    await cursor.execute(f"SHOW {what}".encode())
    return await cursor.fetchall()
