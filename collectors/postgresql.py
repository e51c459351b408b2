"""One PostgreSQL server: who is connected, what they do, and how many slots are left.

Source: https://www.postgresql.org/docs/current/monitoring-stats.html, PostgreSQL 13 to 18.
Needs:  a role in pg_monitor (pg_read_all_stats is enough). Without it the server answers,
        but hides sessions: the sample is up, degraded, and counts are None.
Cost:   one prepared statement a poll, straight from the backend array; every five seconds
        the databases' counters and the limited roles ride in the same round trip. A second
        round trip only for a new role or database, and while somebody waits for a lock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from psycopg import AsyncConnection, AsyncCursor
from psycopg import errors as pg

from collectors import postgresql_rows as rows_of
from collectors.answer import answered
from collectors.applications import ApplicationNames
from collectors.asked import ASK_AGAIN, REFUSED, Asked
from collectors.connection import HeldConnection, Manner
from collectors.crowd import READ_ALL_EVERY, Crowd
from collectors.errors import NotThisKind, TargetFull
from collectors.lock_waits import LockQueues
from collectors.names import NameBook
from collectors.postgresql_rows import Activity, Identity, Row
from collectors.session_time import SessionTime
from collectors.sql import sql
from model.samples import Database, Failure, LockWait, Role, Sample, Server, Session
from model.targets import Target

SIDE_EVERY = 5.0  # seconds between looks at the databases' counters, and at roles' limits
LOGIN_TIMEOUT = 60.0  # seconds that a login may take (authentication_timeout's default)
_EARLY = 0.5  # seconds; a poll a little before its time must not push the counters by a whole one
Answer = list[tuple[Any, ...]]


@dataclass(slots=True)
class _Seen:
    """One poll's answers."""

    server: Server
    sessions: tuple[Session, ...] | None
    databases: tuple[Database, ...] | None
    roles: tuple[Role, ...] | None
    lock_waits: tuple[LockWait, ...] | None
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
        self._system_identifier: str | None = None
        self._asked = Asked()
        self._names = NameBook(self._asked)
        self.locks = LockQueues(self._asked)
        self._applications = ApplicationNames()
        self.crowd = Crowd(self._applications)
        self._session_time = SessionTime()
        self._side_due = dict.fromkeys(_SIDE, 0.0)  # monotonic; 0.0 not asked yet
        self._all_due = 0.0  # monotonic; when every session of a crowd is read again
        self._last_used: tuple[int, float] | None = None  # slots, and when (monotonic)

    async def poll(self, at: datetime) -> Sample:
        """Ask once. Never raises; ends by the target's deadline and half a second."""
        return await answered(self._target, at, self._fill)

    async def close(self) -> None:
        """Close the connection."""
        await self.held.close()

    async def _fill(self, sample: Sample, deadline: float) -> Sample:
        asked = monotonic()
        try:
            seen = await self.held.ask(lambda c: self._look(c, sample.at, asked), deadline)
        except TargetFull as error:
            if backlog := self._backlog(error):
                raise TargetFull(error.failure, f"{error.reason}; {backlog}") from error
            raise
        return replace(
            sample,
            up=True,
            degraded="; ".join(seen.degraded) or None,
            server=seen.server,
            sessions=seen.sessions,
            databases=seen.databases,
            roles=seen.roles,
            lock_waits=seen.lock_waits,
        )

    def _backlog(self, error: TargetFull) -> str | None:
        """Who holds the slots that we did not see taken, before PostgreSQL 18.

        There a client that logs in has a slot and is in no view. So "too many clients"
        while sessions held fewer slots than there are points at logins that hang.
        """
        if self.identity is None or self.identity.version_num >= rows_of.STARTING_SINCE:
            return None
        if self._last_used is None or "every slot is taken" not in error.reason:
            return None
        used, when = self._last_used
        ago, most = monotonic() - when, self.identity.max_connections
        if used >= most or ago > LOGIN_TIMEOUT:
            return None
        return (
            f"{ago:.0f} s ago sessions held only {used} of {most} slots, so the others are "
            "probably held by clients that are still logging in (authentication backlog)"
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
        self._system_identifier = await self._cluster(connection, self.identity.version_num)
        self._side_due = dict.fromkeys(_SIDE, 0.0)
        self._all_due = 0.0
        self._asked.forget()
        self._names.forget()
        self.locks.forget()
        self.crowd.forget()

    async def _cluster(self, connection: AsyncConnection, version_num: int) -> str | None:
        """What all copies of one cluster share; None where a provider does not tell."""
        cursor = connection.cursor(binary=True)
        try:
            await cursor.execute(sql("cluster", version_num), prepare=False)
            row = await cursor.fetchone()
        except (*REFUSED, pg.UndefinedFunction):
            return None
        return None if row is None else str(row[0])

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
        # Through a pooler nothing is kept, so a crowd is read as a whole.
        cheap = self.crowd.active and sent < self._all_due - _EARLY and not self.through_proxy
        answer, side = await self._activity(connection, known, cheap)
        middle = (sent + monotonic()) / 2 - asked
        rows = [Row(*row[: len(Row._fields)]) for row in answer]
        await self._names.learn(connection, known.version_num, rows)
        if cheap:
            seen = self.crowd.read_some(answer, self._names)
            if self.crowd.incomplete:
                self._all_due = min(self._all_due, sent + READ_ALL_EVERY / 3)
        else:
            seen = self.crowd.read_all(rows, self._names)
            self._all_due = sent + READ_ALL_EVERY
        ours = next(row for row in rows if row.is_ours)
        lock_waits = await self._lock_waits(connection, known, seen, ours.database_oid)
        counters, limits = side.get("databases"), side.get("roles")
        self._last_used = None if seen.hidden else (seen.slots_used, monotonic())
        return _Seen(
            server=rows_of.server(
                known, seen, at + timedelta(seconds=middle), self._system_identifier
            ),
            sessions=None if seen.hidden else tuple(seen.sessions),
            databases=(
                None if counters is None else rows_of.databases(counters, seen, self._session_time)
            ),
            roles=None if limits is None else rows_of.limited_roles(limits, seen),
            lock_waits=lock_waits,
            degraded=self._degraded(known, seen),
        )

    async def _lock_waits(
        self,
        connection: AsyncConnection,
        known: Identity,
        seen: Activity,
        database_oid: int | None,
    ) -> tuple[LockWait, ...] | None:
        """Who waits for whom; says it on the sessions too."""
        if seen.hidden:
            return None
        waits = await self.locks.look(connection, known.version_num, seen, database_oid)
        if waits:
            blocked_by = {wait.pid: wait.blocked_by for wait in waits}
            seen.sessions = [
                replace(s, blocked_by=blocked_by[s.pid]) if s.pid in blocked_by else s
                for s in seen.sessions
            ]
        return waits

    def _degraded(self, known: Identity, seen: Activity) -> list[str]:
        """What could not be seen, in words."""
        degraded = self._asked.reasons()
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
        return degraded

    async def _activity(
        self, connection: AsyncConnection, known: Identity, cheap: bool
    ) -> tuple[Answer, dict[str, Answer | None]]:
        """The sessions, and one side question that is due: one round trip.

        Two side questions would ride in one pipeline as well, but psycopg cannot tell which
        of them a locked catalog refused. So they come in turns; all of them at first.
        """
        question = sql("activity_crowd" if cheap else "activity", known.version_num)
        given = {"since": self.crowd.since} if cheap else None
        sessions = connection.cursor(binary=True)
        now = monotonic()
        due = [name for name, at in self._side_due.items() if now >= at - _EARLY]
        due = [name for name in due if self._asked.may(name) and not self.through_proxy]
        if not due:
            await sessions.execute(question, given)
            return await sessions.fetchall(), {}
        first = due[0]
        side = connection.cursor(binary=True)
        async with connection.pipeline() as pipeline:
            await sessions.execute(question, given)
            # A sync between them makes two transactions of one round trip: a locked catalog
            # refuses what comes after it without taking the sessions with it.
            await pipeline.sync()
            await side.execute(sql(first, known.version_num))
            rows = await sessions.fetchall()
            found = {first: await self._side(first, side)}
        for name in due[1:]:
            if not self._side_due[name]:
                found[name] = await self._side(name, side, known.version_num)
        return rows, found

    async def _side(
        self, name: str, cursor: AsyncCursor[Any], version_num: int | None = None
    ) -> Answer | None:
        """The answer to one side question, asked before or (with *version_num*) now."""
        self._side_due[name] = monotonic() + SIDE_EVERY
        try:
            if version_num is not None:
                await cursor.execute(sql(name, version_num))
            rows: Answer = await cursor.fetchall()
        except REFUSED as error:
            self._asked.refused(name, _SIDE[name], error, ASK_AGAIN)
            return None
        self._asked.answered(name)
        return rows


_SIDE = {"databases": "the databases' counters", "roles": "the limits of roles"}
