"""The admin console of one pooler process, over one held connection.

Source: https://www.pgbouncer.org/usage.html#admin-console, PgBouncer 1.18 to 1.25; the
        consoles of PgCat and Odyssey, as collectors/dialects.py knows them.
Needs:  a user in stats_users (or admin_users) and the database "pgbouncer"; PgCat and
        Odyssey: their admin user and console database.
Cost:   three answers from the pooler's memory a poll; no server connection is used. What
        changes by hand (sizes, limits) is asked once a minute, and with who waits for whom
        (SHOW CLIENTS, 20 ms of the pooler's time at 5,000 clients) every 12 s; both sooner
        while clients wait, but never for more than 1 % of the pooler's time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from collectors import pgbouncer_chain as chain
from collectors import pgbouncer_rows as rows_of
from collectors.cadence import Cadence
from collectors.connection import HeldConnection, Manner
from collectors.dialects import Dialect, dialect
from collectors.errors import NotThisKind
from collectors.pgbouncer_rows import DatabaseRow, Row, Sizes
from model.samples import Failure, Link, Pool, PoolDatabase, Pooler
from model.targets import Target

SETTINGS_EVERY = 60.0  # seconds between looks at what changes only by hand
DATABASES_AGAIN = 5.0  # seconds between looks at the databases while clients wait
LINKS_EVERY = 12.0  # seconds between looks at every client
AGAIN = 0.9  # seconds; "once a second" for polls that do not come by the exact second

# No startup options: PgBouncer refuses a client that sends any it does not know. The empty
# string also hides PGOPTIONS of the environment.
MANNER = Manner(prepare_threshold=None, overrides={"options": ""})


@dataclass(frozen=True, slots=True)
class Seen:
    """One poll's answers. links: None when it was not time to ask."""

    pooler: Pooler
    pools: tuple[Pool, ...]
    databases: tuple[PoolDatabase, ...]
    links: tuple[Link, ...] | None


class Console:
    """Asks one process.

    process:  how it is told apart from others of the same target; None the only one.
    version:  "1.18.0"; empty until it was connected to.
    speaks:   what this product and version report.
    settings: SHOW CONFIG.
    backends: the databases behind it, by the name that clients use; as they were at
              backends_at (monotonic).
    """

    def __init__(self, target: Target, process: str | None = None) -> None:
        self._target = target
        self.process = process
        self.held = HeldConnection(target, MANNER, self._introduce)
        self.version = ""
        self.speaks: Dialect = dialect(target.kind, "")
        self.settings: Mapping[str, str] = {}
        self.backends: Mapping[str, DatabaseRow] = {}
        self.backends_at = 0.0
        self._user_sizes: Mapping[str, int | None] = {}
        self._paused: bool | None = None
        self._waits = chain.LoginWaits()
        self._in_queue: Mapping[chain.PoolKey, int] | None = None
        self._settings_cadence = Cadence(SETTINGS_EVERY, SETTINGS_EVERY)
        self._databases_cadence = Cadence(SETTINGS_EVERY, DATABASES_AGAIN)
        self._state_cadence = Cadence(SETTINGS_EVERY, 0.0)
        self._links_cadence = Cadence(LINKS_EVERY, AGAIN)

    async def _introduce(self, connection: AsyncConnection) -> None:
        """Check that this is the console that was meant, once per connection."""
        greeting = connection.info.parameter_status("server_version") or "no version"
        if self._target.kind == "pgbouncer":
            if not greeting.endswith("/bouncer"):
                raise NotThisKind(
                    Failure.PROTOCOL,
                    f"this is a server ({greeting}), not PgBouncer's admin console; check host "
                    'and port, connect with dbname=pgbouncer, or set kind = "postgresql"',
                )
            self.version = rows_of.version(greeting)
        else:
            self.version = await self._asked_version(connection)
        self.speaks = dialect(self._target.kind, self.version)
        # Another process may answer now, or the same one with another configuration.
        for cadence in (
            self._settings_cadence,
            self._databases_cadence,
            self._state_cadence,
            self._links_cadence,
        ):
            cadence.begin()
        self._waits = chain.LoginWaits()
        self._paused = None

    async def _asked_version(self, connection: AsyncConnection) -> str:
        product = self.speaks.product
        other = f'check host and port, or set another kind than "{self._target.kind}"'
        try:
            rows = await show(connection, "VERSION")
        except psycopg.Error as error:
            if connection.closed:
                raise
            raise NotThisKind(
                Failure.PROTOCOL, f"this is not {product}'s admin console; {other}"
            ) from error
        told = str(rows[0].get("version") or "") if rows else ""
        if any(name in told for name in ("PgBouncer", "PgCat") if name != product):
            raise NotThisKind(Failure.PROTOCOL, f"this is {told}, not {product}; {other}")
        return told.removeprefix(f"{product} ").partition("-")[0]

    async def look(self, connection: AsyncConnection) -> Seen:
        """Every answer of one poll, one after the other: the console takes no pipeline."""
        speaks = self.speaks
        pool_rows = await show(connection, "POOLS")
        stats = await show(connection, "STATS")
        lists = await show(connection, "LISTS")
        now = monotonic()
        await self._look_at_settings(connection, now)
        waiting = _any_waits(pool_rows, speaks) or bool(self._in_queue)
        known = {str(row.get("database")) for row in rows_of.others(pool_rows, speaks)}
        if self._databases_cadence.due(
            now, urgent=waiting or not (speaks.sizes_per_server or known <= self.backends.keys())
        ):
            self.backends = rows_of.databases(await show(connection, "DATABASES"), speaks)
            self.backends_at = now
            self._databases_cadence.asked(now)
        # A pause makes clients wait, so that is when its news must be fresh.
        if speaks.state and self._state_cadence.due(now, urgent=waiting or bool(self._paused)):
            self._paused = rows_of.paused(await show(connection, "STATE"))
            self._state_cadence.asked(now)
        elif speaks.database_states and speaks.sizes_per_server:
            rows = self.backends.values()
            self._paused = bool(rows) and all(row.paused for row in rows)
        links = await self._look_at_clients(connection, now, waiting)
        pools = self._pools(pool_rows, now)
        return Seen(
            pooler=rows_of.pooler(
                lists,
                pools,
                speaks,
                running=self.version,
                settings=self.settings,
                paused=self._paused,
            ),
            pools=pools,
            databases=rows_of.pool_databases(stats, self.backends, speaks),
            links=links,
        )

    async def _look_at_settings(self, connection: AsyncConnection, now: float) -> None:
        if not self._settings_cadence.due(now):
            return
        if self.speaks.config:
            self.settings = rows_of.settings(await show(connection, "CONFIG"))
        if self.speaks.user_sizes:
            self._user_sizes = rows_of.user_sizes(await show(connection, "USERS"), self.speaks)
        self._settings_cadence.asked(now)

    async def _look_at_clients(
        self, connection: AsyncConnection, now: float, waiting: bool
    ) -> tuple[Link, ...] | None:
        # A queue that only the list of clients shows is looked at as often as it may cost.
        if not self._links_cadence.due(now, urgent=waiting or not self.speaks.waiters):
            if not self.speaks.waiters:
                self._in_queue = None
            return None
        t0 = monotonic()
        servers: Sequence[Row] = ()
        if self.speaks.links:
            servers = await show(connection, "SERVERS")
        clients = await show(connection, "CLIENTS")
        self._links_cadence.asked(now, monotonic() - t0)
        self._waits.look(clients, self.speaks, now)
        self._in_queue = None if self.speaks.waiters else chain.in_queue(clients, self.speaks)
        return chain.links(clients, servers, self.speaks, self._waits, now, process=self.process)

    def _pools(self, pool_rows: Sequence[Row], now: float) -> tuple[Pool, ...]:
        sizes = Sizes(
            databases=self.backends,
            users=self._user_sizes,
            default=rows_of.number(self.settings.get("default_pool_size")),
            default_reserve=rows_of.number(self.settings.get("reserve_pool_size")),
        )
        found = rows_of.pools(
            pool_rows, sizes, self.speaks, waiting=self._in_queue, process=self.process
        )
        return tuple(replace(pool, oldest_wait_seconds=self._oldest(pool, now)) for pool in found)

    def _oldest(self, pool: Pool, now: float) -> float | None:
        at_login = self._waits.oldest((pool.database, pool.user), pool.client_waiting, now)
        if pool.maxwait_seconds is None or at_login is None:
            return pool.maxwait_seconds
        return max(pool.maxwait_seconds, at_login)


def _any_waits(pool_rows: Sequence[Row], speaks: Dialect) -> bool:
    if not speaks.waiters:
        return False
    return any(int(row.get("cl_waiting") or 0) > 0 for row in rows_of.others(pool_rows, speaks))


async def show(connection: AsyncConnection[Any], what: str) -> Sequence[dict[str, Any]]:
    """The rows of one SHOW command, by column name."""
    cursor: psycopg.AsyncCursor[dict[str, Any]] = connection.cursor(row_factory=dict_row)
    await cursor.execute(f"SHOW {what}".encode())
    return [readable(row) for row in await cursor.fetchall()]


def readable(row: dict[str, Any]) -> dict[str, Any]:
    """*row* with text as text, also where a column has no type that the driver knows."""
    return {
        name: str(value, "utf-8", "replace") if isinstance(value, bytes) else value
        for name, value in row.items()
    }
