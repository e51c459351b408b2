"""One PostgreSQL server: who is connected, what they do, and how many slots are left.

Source: https://www.postgresql.org/docs/current/monitoring-stats.html, PostgreSQL 13 to 18.
Needs:  a role in pg_monitor (pg_read_all_stats is enough). Without it the server answers,
        but hides sessions: the sample is up, degraded, and counts are None.
Cost:   one prepared statement a poll, straight from the backend array; every five seconds
        the databases' counters ride in the same round trip. A second round trip only
        for a new role or database, and while somebody waits for a lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg import errors as pg

from collectors import postgresql_rows as rows_of
from collectors.answer import answered
from collectors.connection import HeldConnection, Manner
from collectors.errors import NotThisKind
from collectors.postgresql_rows import Identity, Row
from collectors.sql import sql
from model.samples import Database, Failure, Sample, Server, Session
from model.targets import Target

DATABASES_EVERY = 5.0  # seconds between looks at the databases' counters
ASK_AGAIN = 30.0  # seconds before a question that a locked catalog refused is asked again
FORGET_NAMES = 600.0  # seconds; roles and databases are renamed now and then
MOST_WAITERS = 50  # pg_blocking_pids locks the lock table per call; the oldest explain the rest
_EARLY = 0.5  # seconds; a poll a little before its time must not push the counters by a whole one


@dataclass(slots=True)
class _Seen:
    """One poll's answers."""

    server: Server
    sessions: tuple[Session, ...] | None
    databases: tuple[Database, ...] | None
    degraded: list[str]


class PostgresqlCollector:
    """Polls one PostgreSQL server over one held connection.

    identity:      what only a restart changes; None until it was connected to.
    through_proxy: the connection ends at a pooler, not at the server.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self.held = HeldConnection(target, Manner(0, {}), self._introduce)
        self.identity: Identity | None = None
        self.through_proxy = False
        self._database_names: dict[int, str | None] = {}
        self._role_names: dict[int, str | None] = {}
        self._names_due = 0.0  # monotonic
        self._forget_names_at = 0.0
        self._databases_due = 0.0
        self._trouble: dict[str, str] = {}  # question -> why it got no answer

    async def poll(self, at: datetime) -> Sample:
        """Ask once. Never raises; ends by the target's deadline and half a second."""
        return await answered(self._target, at, self._fill)

    async def close(self) -> None:
        """Close the connection."""
        await self.held.close()

    async def _fill(self, sample: Sample, deadline: float) -> Sample:
        asked = monotonic()
        seen = await self.held.ask(lambda c: self._look(c, sample.at, asked), deadline)
        return replace(
            sample,
            up=True,
            degraded="; ".join(seen.degraded) or None,
            server=seen.server,
            sessions=seen.sessions,
            databases=seen.databases,
        )

    # Once per connection

    async def _introduce(self, connection: AsyncConnection) -> None:
        """Learn what cannot change while we are connected, and be a good guest."""
        told = connection.info.parameter_status("server_version") or ""
        if "bouncer" in told:
            raise NotThisKind(
                Failure.PROTOCOL,
                "this is PgBouncer's admin console; "
                'set kind = "pgbouncer", or give the server\'s own host and port',
            )
        version_num = connection.info.server_version
        cursor = connection.cursor(binary=True)
        await cursor.execute(sql("server", version_num), prepare=False)
        row = await cursor.fetchone()
        assert row is not None, "a SELECT without FROM yields one row"
        self.identity = rows_of.identity(row)
        # A pooler shows us its own pid for ours. What we set there would stay behind on a
        # connection of the application, so nothing is set and nothing is prepared.
        self.through_proxy = self.identity.backend_pid != connection.info.backend_pid
        if self.through_proxy:
            connection.prepare_threshold = None
        else:
            await connection.execute(self._settings(self.identity.version_num), prepare=False)
        self._names_due = self._forget_names_at = self._databases_due = 0.0
        self._trouble.clear()

    def _settings(self, version_num: int) -> bytes:
        """Every setting of our session, as one round trip."""
        milliseconds = self._target.deadline_seconds * 1000
        settings = {
            "default_transaction_read_only": "on",
            "search_path": "pg_catalog, pg_temp",
            "statement_timeout": f"{milliseconds * 0.9:.0f}",
            # Short, so that a locked catalog leaves time for everything else in the poll.
            "lock_timeout": f"{max(milliseconds * 0.2, 10):.0f}",
            "TimeZone": "'UTC'",
            "jit": "off",
        }
        if version_num >= 140000:
            settings["idle_session_timeout"] = "0"  # we are meant to be idle between polls
        return "; ".join(f"SET {name} = {value}" for name, value in settings.items()).encode()

    # Every poll

    async def _look(self, connection: AsyncConnection, at: datetime, asked: float) -> _Seen:
        known = self.identity
        assert known is not None, "introduced before the first question"
        sent = monotonic()
        rows, counters = await self._activity(connection, known)
        middle = (sent + monotonic()) / 2 - asked
        await self._learn_names(connection, known, rows)
        seen = rows_of.activity(rows, self._database_names, self._role_names, {})
        if seen.lock_waiters and not seen.hidden:
            blocked_by = await self._blockers(connection, known, seen.lock_waiters)
            seen.sessions = [
                replace(s, blocked_by=blocked_by[s.pid]) if s.pid in blocked_by else s
                for s in seen.sessions
            ]
        degraded = list(self._trouble.values())
        if seen.hidden:
            degraded.insert(
                0,
                f'the role "{known.role}" may not see other sessions; '
                f"run: {rows_of.grant(known.role)}",
            )
        if self.through_proxy:
            degraded.append(
                "connected through a pooler or proxy; give the server's own host and port"
            )
        return _Seen(
            server=rows_of.server(known, seen, at + timedelta(seconds=middle)),
            sessions=None if seen.hidden else tuple(seen.sessions),
            databases=counters,
            degraded=degraded,
        )

    async def _activity(
        self, connection: AsyncConnection, known: Identity
    ) -> tuple[list[Row], tuple[Database, ...] | None]:
        """The sessions, and the databases' counters when they are due: one round trip."""
        question = sql("activity", known.version_num)
        sessions = connection.cursor(binary=True)
        if monotonic() < self._databases_due - _EARLY or self.through_proxy:
            await sessions.execute(question)
            return [Row(*row) for row in await sessions.fetchall()], None
        counters: list[tuple[Any, ...]] | None = None
        databases = connection.cursor(binary=True)
        async with connection.pipeline() as pipeline:
            await sessions.execute(question)
            # A sync between them makes two transactions of one round trip: a locked
            # catalog refuses the counters without taking the sessions with it.
            await pipeline.sync()
            await databases.execute(sql("databases", known.version_num))
            rows = [Row(*row) for row in await sessions.fetchall()]
            try:
                counters = await databases.fetchall()
            except (pg.LockNotAvailable, pg.QueryCanceled, pg.InsufficientPrivilege) as error:
                self._note("databases", "the databases' counters", error)
        if counters is None:
            self._databases_due = monotonic() + ASK_AGAIN
            return rows, None
        self._trouble.pop("databases", None)
        self._databases_due = monotonic() + DATABASES_EVERY
        return rows, rows_of.databases(counters)

    async def _learn_names(
        self, connection: AsyncConnection, known: Identity, rows: Sequence[Row]
    ) -> None:
        """Ask for the names of roles and databases that appeared since."""
        now = monotonic()
        if now >= self._forget_names_at:
            self._forget_names_at = now + FORGET_NAMES
            self._database_names.clear()
            self._role_names.clear()
        databases, roles = rows_of.oids(rows)
        databases -= self._database_names.keys()
        roles -= self._role_names.keys()
        if not (databases or roles) or now < self._names_due:
            return
        cursor = connection.cursor(binary=True)
        try:
            await cursor.execute(
                sql("names", known.version_num), (sorted(databases), sorted(roles))
            )
            found = await cursor.fetchall()
        except (pg.LockNotAvailable, pg.QueryCanceled, pg.InsufficientPrivilege) as error:
            self._note("names", "the names of new roles and databases", error)
            self._names_due = now + ASK_AGAIN
            return
        self._trouble.pop("names", None)
        # Dropped since: known to have no name, so that it is not asked for every second.
        self._database_names.update(dict.fromkeys(databases))
        self._role_names.update(dict.fromkeys(roles))
        for kind, oid, name in found:
            (self._database_names if kind == "database" else self._role_names)[oid] = name

    async def _blockers(
        self, connection: AsyncConnection, known: Identity, waiters: Sequence[int]
    ) -> dict[int, tuple[int, ...]]:
        """Who is in the way of the sessions that wait longest."""
        cursor = connection.cursor(binary=True)
        try:
            await cursor.execute(
                sql("blocking", known.version_num), (list(waiters[:MOST_WAITERS]),)
            )
            found = await cursor.fetchall()
        except (pg.LockNotAvailable, pg.QueryCanceled) as error:
            self._note("blocking", "who blocks whom", error)
            return {}
        self._trouble.pop("blocking", None)
        return {pid: tuple(dict.fromkeys(blockers)) for pid, blockers in found}

    def _note(self, question: str, what: str, error: psycopg.Error) -> None:
        why = "a catalog is locked" if isinstance(error, pg.LockNotAvailable) else "not answered"
        self._trouble[question] = f"{what} could not be read ({why})"
