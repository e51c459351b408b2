"""Samples in: one transaction a batch, names kept once as numbers."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, bindparam, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from model.samples import Sample, Server
from store import tables
from store.database import Store
from store.episodes import Episode, Identity, fold

_STATES = ("active", "idle", "idle in transaction", "idle in transaction (aborted)")
_WAITS = {
    "CPU": "wait_cpu",
    "Lock": "wait_lock",
    "LWLock": "wait_lwlock",
    "IO": "wait_io",
    "Client": "wait_client",
}
_END_EPISODE = (
    update(tables.session)
    .where(
        tables.session.c.target_id == bindparam("b_target_id"),
        tables.session.c.started_at == bindparam("b_started_at"),
        tables.session.c.pid == bindparam("b_pid"),
        tables.session.c.backend_start == bindparam("b_backend_start"),
    )
    .values(ended_at=bindparam("b_ended_at"))
)


class Appender:
    """Appends samples to one store. Only one may write to a store at a time.

    It remembers the open episodes; those a killed predecessor left open are ended at that
    predecessor's last sample.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ids: dict[tuple[str, tuple[Any, ...]], int] = {}
        self._statements: set[int] = set()
        self._open: dict[int, dict[Identity, Episode]] = {}
        with store.write(durable=False) as connection:
            end_orphans(connection)

    def append(self, samples: Sequence[Sample]) -> None:
        """Keep *samples*, in order. Raises StoreError; then nothing of them was kept."""
        open_before = dict(self._open)
        try:
            with self._store.write(durable=False) as connection:
                rows: dict[Table, list[dict[str, Any]]] = defaultdict(list)
                for sample in samples:
                    self._rows(connection, sample, rows)
                for table, values in rows.items():
                    connection.execute(sqlite_insert(table).on_conflict_do_nothing(), values)
        except BaseException:
            # The transaction is gone, and with it perhaps rows that the caches believe in.
            self._open = open_before
            self._ids.clear()
            self._statements.clear()
            raise

    def end_all(self, at: datetime) -> None:
        """End every open episode at *at*: we stop looking now."""
        with self._store.write(durable=False) as connection:
            for target_id, episodes in self._open.items():
                _end(connection, target_id, episodes.values(), at)
        self._open = {}

    def _rows(
        self, connection: Connection, sample: Sample, rows: dict[Table, list[dict[str, Any]]]
    ) -> None:
        target_id = self._id(connection, tables.target, name=sample.target, kind=sample.kind)
        at = {"target_id": target_id, "at": sample.at}
        poll = {
            **at,
            "up": sample.up,
            "failure": sample.failure,
            "reason": sample.reason,
            "degraded": sample.degraded,
            "poll_seconds": sample.poll_seconds,
        }
        if sample.kind == "postgresql":
            rows[tables.server_sample].append({**poll, **_server_columns(sample.server)})
        else:
            rows[tables.pooler_sample].append({**poll, **_pooler_columns(sample)})
        for database in sample.databases or ():
            database_id = self._id(
                connection, tables.database, target_id=target_id, name=database.name
            )
            rows[tables.database_sample].append(
                {**at, "database_id": database_id, **_fields(database, but=("name",))}
            )
        for pool in sample.pools or ():
            pool_id = self._id(
                connection, tables.pool, target_id=target_id, database=pool.database, user=pool.user
            )
            rows[tables.pool_sample].append(
                {**at, "pool_id": pool_id, **_fields(pool, but=("database", "user"))}
            )
        for counters in sample.pool_databases or ():
            database_id = self._id(
                connection, tables.database, target_id=target_id, name=counters.name
            )
            rows[tables.pool_database_sample].append(
                {**at, "database_id": database_id, **_fields(counters, but=("name",))}
            )
        if sample.sessions is not None:
            self._fold_sessions(connection, target_id, sample, rows)

    def _fold_sessions(
        self,
        connection: Connection,
        target_id: int,
        sample: Sample,
        rows: dict[Table, list[dict[str, Any]]],
    ) -> None:
        step = fold(self._open.get(target_id, {}), sample.sessions or (), sample.at)
        self._open[target_id] = step.open
        # An episode that began in this very batch must be there before it can be ended.
        waiting = rows.pop(tables.session, [])
        if waiting:
            connection.execute(sqlite_insert(tables.session).on_conflict_do_nothing(), waiting)
        _end(connection, target_id, step.ended, sample.at)
        for episode in step.began:
            session = episode.session
            rows[tables.session].append(
                {
                    "target_id": target_id,
                    "started_at": episode.started_at,
                    "pid": session.pid,
                    "backend_start": session.backend_start,
                    "database": session.database,
                    "role": session.role,
                    "application": session.application,
                    "client": session.client,
                    "state": session.state,
                    "wait_event_type": session.wait_event_type,
                    "wait_event": session.wait_event,
                    "xact_start": session.xact_start,
                    "query_start": session.query_start,
                    "state_change": session.state_change,
                    "statement_id": self._statement_id(session.statement, rows),
                    "blocked_by": ",".join(map(str, session.blocked_by)) or None,
                }
            )

    def _statement_id(
        self, text: str | None, rows: dict[Table, list[dict[str, Any]]]
    ) -> int | None:
        if text is None:
            return None
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        if number not in self._statements:
            if len(self._statements) > 100_000:  # bounds our memory; the row is there already
                self._statements.clear()
            self._statements.add(number)
            rows[tables.statement].append({"id": number, "text": text})
        return number

    def _id(self, connection: Connection, table: Table, **names: Any) -> int:
        """The number of a named thing, made when it is new."""
        key = (table.name, tuple(names.values()))
        if key not in self._ids:
            self._ids[key] = _number_of(connection, table, names)
        return self._ids[key]


def _number_of(connection: Connection, table: Table, names: dict[str, Any]) -> int:
    unique = {k: v for k, v in names.items() if table is not tables.target or k == "name"}
    same = [table.c[name] == value for name, value in unique.items()]
    found = connection.execute(select(table.c.id).where(*same)).scalar()
    if found is not None:
        if table is tables.target:
            connection.execute(update(table).where(*same).values(kind=names["kind"]))
        return int(found)
    made = connection.execute(insert(table).values(**names)).inserted_primary_key
    assert made is not None
    return int(made[0])


def end_orphans(connection: Connection) -> None:
    """End the episodes of a run that was killed at the last moment it saw their target."""
    last = (
        select(func.max(tables.server_sample.c.at))
        .where(tables.server_sample.c.target_id == tables.session.c.target_id)
        .scalar_subquery()
    )
    connection.execute(
        update(tables.session)
        .where(tables.session.c.ended_at.is_(None))
        .values(ended_at=func.coalesce(last, tables.session.c.started_at))
    )


def _end(connection: Connection, target_id: int, episodes: Iterable[Episode], at: datetime) -> None:
    values = [
        {
            "b_target_id": target_id,
            "b_started_at": episode.started_at,
            "b_pid": episode.session.pid,
            "b_backend_start": episode.session.backend_start,
            "b_ended_at": at,
        }
        for episode in episodes
    ]
    if values:
        connection.execute(_END_EPISODE, values)


def _fields(noun: Any, but: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(noun, name) for name in noun.__dataclass_fields__ if name not in but}


def _server_columns(server: Server | None) -> dict[str, Any]:
    """One Server as columns; all None when it was not seen, so that every row is alike."""
    names = [c.name for c in tables.server_sample.c][7:]
    row: dict[str, Any] = dict.fromkeys(names)
    if server is None:
        return row
    for name in names:
        if hasattr(server, name):
            row[name] = getattr(server, name)
    if server.states is not None:
        for state in _STATES:
            row[state.replace(" ", "_").replace("(", "").replace(")", "")] = server.states.get(
                state, 0
            )
        row["other_states"] = sum(n for state, n in server.states.items() if state not in _STATES)
    if server.waits is not None:
        for kind, column in _WAITS.items():
            row[column] = server.waits.get(kind, 0)
        row["wait_other"] = sum(n for kind, n in server.waits.items() if kind not in _WAITS)
    return row


def _pooler_columns(sample: Sample) -> dict[str, Any]:
    names = [c.name for c in tables.pooler_sample.c][7:]
    pooler = sample.pooler
    return {name: None if pooler is None else getattr(pooler, name) for name in names}
