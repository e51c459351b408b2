"""Asks who waits for whom. Only while somebody waits, and not more than once a second.

pg_blocking_pids is the server's own word, but each call locks the whole lock table, and
for one hot row its answers grow with the square of the waiters (500 waiters: 48 ms). So it
is asked about 50 waiters at most; when more wait, the edges follow from one look at the
lock table (7.5 ms for 500 waiters).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from psycopg import AsyncConnection

from collectors.asked import ASK_AGAIN, REFUSED, Asked
from collectors.blocking import Lock, Waiting, lock_waits, waiting
from collectors.postgresql_rows import Activity
from collectors.sql import sql
from model.samples import LockWait, Session

MOST_WAITERS = 50  # who pg_blocking_pids is asked about
EVERY = 0.9  # seconds between looks at the locks; polls may come more often
_MOST_RELATIONS = 10_000  # names that are remembered


class LockQueues:
    """What one server says about waiting for locks.

    blocking_calls: how many pg_blocking_pids were asked for, since the beginning.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._relations: dict[int, str | None] = {}
        self._due = 0.0  # monotonic
        self._last: tuple[LockWait, ...] = ()
        self.blocking_calls = 0

    def forget(self) -> None:
        """A new connection, perhaps to another database."""
        self._relations.clear()
        self._due = 0.0

    async def look(
        self,
        connection: AsyncConnection,
        version_num: int,
        seen: Activity,
        database_oid: int | None,
    ) -> tuple[LockWait, ...] | None:
        """Who waits for whom; () when nobody waits, None when it could not be asked."""
        if not seen.lock_waiters:
            return ()
        sessions = {session.pid: session for session in seen.sessions}
        if monotonic() < self._due:
            still = {seen.leaders.get(pid, pid) for pid in seen.lock_waiters}
            return tuple(w for w in self._last if w.pid in still and _same(w, sessions))
        if not self._asked.may("locks"):
            return None
        self._due = monotonic() + EVERY
        try:
            locks, told = await self._ask(connection, version_num, seen.lock_waiters)
            found = waiting(locks, seen.leaders, told)
            relations = await self._tables(connection, version_num, locks, found, database_oid)
        except REFUSED as error:
            # A short wait is no reason to look away for half a minute: people wait right now.
            self._asked.refused("locks", "who blocks whom", error, ASK_AGAIN / 10)
            return None
        self._asked.answered("locks")
        self._last = lock_waits(found, sessions, relations, seen.clock)
        return self._last

    async def _ask(
        self, connection: AsyncConnection, version_num: int, waiters: Sequence[int]
    ) -> tuple[list[Lock], dict[int, list[int]] | None]:
        locks = connection.cursor(binary=True)
        if len(waiters) > MOST_WAITERS:
            await locks.execute(sql("locks", version_num))
            return [Lock(*row) for row in await locks.fetchall()], None
        self.blocking_calls += len(waiters)
        blockers = connection.cursor(binary=True)
        async with connection.pipeline():
            await locks.execute(sql("locks", version_num))
            await blockers.execute(sql("blocking", version_num), (list(waiters),))
            rows: list[tuple[Any, ...]] = await locks.fetchall()
            told: dict[int, list[int]] = dict(await blockers.fetchall())
        return [Lock(*row) for row in rows], told

    async def _tables(
        self,
        connection: AsyncConnection,
        version_num: int,
        locks: Sequence[Lock],
        found: Mapping[int, Waiting],
        database_oid: int | None,
    ) -> dict[int, str]:
        """The table that each waiter waits for, by the waiter's pid."""
        # Who waits for a row waits for the transaction that changed it, and holds the row.
        rows = {lock.pid: lock for lock in locks if lock.lock_type == "tuple" and lock.granted}
        about = {
            pid: (waiter.lock if waiter.lock.relation_oid else rows.get(waiter.lock.pid))
            for pid, waiter in found.items()
        }
        here = {pid: lock for pid, lock in about.items() if lock and lock.relation_oid}
        # The names of another database's tables are in its own catalog: their number does.
        tables = {pid: str(lock.relation_oid) for pid, lock in here.items()}
        ours = {
            pid: lock.relation_oid
            for pid, lock in here.items()
            if lock.relation_oid and lock.database_oid in (0, database_oid)  # 0: shared by all
        }
        new = set(ours.values()) - self._relations.keys()
        if new:
            cursor = connection.cursor(binary=True)
            await cursor.execute(sql("relations", version_num), (sorted(new),))
            if len(self._relations) > _MOST_RELATIONS:
                self._relations.clear()
            self._relations.update(dict.fromkeys(new))
            for oid, schema, name in await cursor.fetchall():
                self._relations[oid] = f"{schema}.{name}"
        return tables | {pid: name for pid, oid in ours.items() if (name := self._relations[oid])}


def _same(wait: LockWait, sessions: Mapping[int, Session]) -> bool:
    session = sessions.get(wait.pid)
    return session is not None and session.backend_start == wait.backend_start
