"""Samples in: one transaction a batch, names kept once as numbers."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Table, bindparam, func, literal, select, update
from sqlalchemy.dialects.sqlite import Insert, insert

from model.samples import Link, LockWait, Sample, Server, Session
from store import episodes, rollup, tables
from store.database import Store
from store.episodes import Episode
from store.kept import Instant, pids_to_text
from store.tables import POLL_COLUMNS

T = TypeVar("T")

_STATES = ("active", "idle", "idle in transaction", "idle in transaction (aborted)")
_WAITS = {
    "CPU": "wait_cpu",
    "Lock": "wait_lock",
    "LWLock": "wait_lwlock",
    "IO": "wait_io",
    "Client": "wait_client",
}
_JUST_AFTER = timedelta(milliseconds=1)  # who was seen at t was there at t: it ended later
Rows = dict[Table, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class _Kind(Generic[T]):
    """One kind of episode: which part of a sample, how it is told apart, which row it is."""

    table: Table
    part: Callable[[Sample], Sequence[T] | None]
    identity: Callable[[T], Hashable]
    same: Callable[[T, T], bool]
    row: Callable[[T], dict[str, Any]]
    key: tuple[str, ...]  # primary key beside target_id and started_at
    moved: Callable[[T, T], bool] = episodes.never  # see episodes.fold
    restated: tuple[str, ...] = ()  # the columns that then change


@dataclass(frozen=True, slots=True)
class _Seen:
    """The open episodes of one kind and target. at: of the last look; out: polls failed since."""

    episodes: Mapping[Hashable, Episode[Any]] = field(default_factory=dict)
    at: datetime | None = None
    out: bool = False


def _session_row(session: Session) -> dict[str, Any]:
    row = _fields(session, but=_AGES)
    return {**row, "statement_id": None, "blocked_by": pids_to_text(session.blocked_by) or None}


def _wait_row(wait: LockWait) -> dict[str, Any]:
    row = _fields(wait, but=("wait_seconds",))
    return {**row, "blocked_by": pids_to_text(wait.blocked_by), "waited_seconds": wait.wait_seconds}


def _link_row(link: Link) -> dict[str, Any]:
    return {**_fields(link, but=("wait_seconds",)), "waited_seconds": link.wait_seconds}


# Ages are found again from the timestamps; the text is kept once, in a table of its own.
_AGES = ("statement", "session_seconds", "xact_seconds", "statement_seconds", "state_seconds")
_BACKEND = ("pid", "backend_start")

_SESSIONS = _Kind(
    tables.session,
    lambda sample: sample.sessions,
    episodes.session_identity,
    episodes.same_session,
    _session_row,
    _BACKEND,
    episodes.session_moved,
    ("state_change", "query_start"),
)
_LOCK_WAITS = _Kind(
    tables.lock_wait,
    lambda sample: sample.lock_waits,
    episodes.wait_identity,
    episodes.same_wait,
    _wait_row,
    _BACKEND,
)
_LINKS = _Kind(
    tables.client_link,
    lambda sample: sample.links,
    episodes.link_identity,
    episodes.same_link,
    _link_row,
    ("client_id",),
)
_KINDS: tuple[_Kind[Any], ...] = (_SESSIONS, _LOCK_WAITS, _LINKS)


class Appender:
    """Appends samples to one store. Only one may write to a store at a time.

    It remembers the open episodes; those a killed predecessor left open are ended at that
    predecessor's last good sample of their target.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ids: dict[tuple[str, tuple[Any, ...]], int] = {}
        self._retired_at: datetime | None = None
        self._statements: dict[int, datetime] = {}  # the number of a text, and its used_at
        self._open: dict[tuple[str, int], _Seen] = {}
        with store.write(durable=False) as connection:
            end_orphans(connection)

    def append(self, samples: Sequence[Sample], position: tuple[int, int] | None = None) -> None:
        """Keep *samples*, in order. Raises StoreError; then nothing of them was kept.

        position: where the spool they come from goes on after them.
        """
        open_before = dict(self._open)
        try:
            with self._store.write(durable=False) as connection:
                self._unlearn_retired(connection)
                rows: Rows = defaultdict(list)
                for sample in samples:
                    self._rows(connection, sample, rows)
                rollup.samples_arrived(connection, min(sample.at for sample in samples))
                for table, values in rows.items():
                    connection.execute(_insert(table), values)
                if position is not None:
                    took(connection, position)
        except BaseException:
            # The transaction is gone, and with it perhaps rows that the caches believe in.
            self._open = open_before
            self._ids.clear()
            self._statements.clear()
            raise

    def end_all(self, at: datetime) -> None:
        """End every open episode: we stop looking at *at*."""
        with self._store.write(durable=False) as connection:
            for kind in _KINDS:
                for (table, target_id), found in self._open.items():
                    if table == kind.table.name:
                        ended_at = _end_of(found, at)
                        _end(connection, kind, target_id, found.episodes.values(), ended_at)
        self._open = {}

    def _unlearn_retired(self, connection: Connection) -> None:
        """Retention may have deleted names that were not used for long, and their numbers."""
        retired_at = connection.execute(select(tables.retired_state.c.at)).scalar()
        if retired_at != self._retired_at:
            self._ids.clear()
            self._retired_at = retired_at

    def _rows(self, connection: Connection, sample: Sample, rows: Rows) -> None:
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
            names = {"database": pool.database, "user": pool.user, "process": pool.process or ""}
            pool_id = self._id(connection, tables.pool, target_id=target_id, **names)
            rows[tables.pool_sample].append(
                {**at, "pool_id": pool_id, **_fields(pool, but=tuple(names))}
            )
        for counters in sample.pool_databases or ():
            database_id = self._id(
                connection, tables.database, target_id=target_id, name=counters.name
            )
            rows[tables.pool_database_sample].append(
                {**at, "database_id": database_id, **_fields(counters, but=("name",))}
            )
        for role in sample.roles or ():
            role_id = self._id(connection, tables.role, target_id=target_id, name=role.name)
            rows[tables.role_sample].append(
                {**at, "role_id": role_id, **_fields(role, but=("name",))}
            )
        for kind in _KINDS:
            self._fold(connection, kind, target_id, sample, rows)

    def _fold(
        self,
        connection: Connection,
        kind: _Kind[Any],
        target_id: int,
        sample: Sample,
        rows: Rows,
    ) -> None:
        snapshot, at = kind.part(sample), sample.at
        where = (kind.table.name, target_id)
        before = self._open.get(where, _Seen())
        if snapshot is None:  # not looked at, or hidden: nothing is known to have ended
            if not sample.up:
                self._open[where] = replace(before, out=True)
            return
        step = episodes.fold(
            before.episodes,
            snapshot,
            at,
            identity=kind.identity,
            same=kind.same,
            moved=kind.moved,
        )
        self._open[where] = _Seen(step.open, at)
        # An episode that began in this very batch must be there before it can be changed.
        if (step.ended or step.restated) and (waiting := rows.pop(kind.table, None)):
            connection.execute(_insert(kind.table), waiting)
        _end(connection, kind, target_id, step.ended, _end_of(before, at))
        _update(
            connection,
            kind,
            target_id,
            [(e, {n: getattr(e.what, n) for n in kind.restated}) for e in step.restated],
        )
        for episode in step.began:
            row = {
                "target_id": target_id,
                "started_at": episode.started_at,
                **kind.row(episode.what),
            }
            if kind is _SESSIONS:
                row["statement_id"] = self._statement_id(episode.what.statement, at, rows)
            rows[kind.table].append(row)

    def _statement_id(self, text: str | None, at: datetime, rows: Rows) -> int | None:
        if text is None:
            return None
        digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        number = int.from_bytes(digest, "big", signed=True)
        noted = self._statements.get(number)
        if noted is None or at - noted >= episodes.LONGEST:
            if len(self._statements) > 100_000:  # bounds our memory; the row is there already
                self._statements.clear()
            self._statements[number] = at
            rows[tables.statement].append({"id": number, "text": text, "used_at": at})
        return number

    def _id(self, connection: Connection, table: Table, **names: Any) -> int:
        """The number of a named thing, made when it is new."""
        key = (table.name, tuple(names.values()))
        if key not in self._ids:
            self._ids[key] = _number_of(connection, table, names)
        return self._ids[key]


def _insert(table: Table) -> Insert:
    """What is there already stays, but a text remembers when it was used last."""
    made = insert(table)
    if table is not tables.statement:
        return made.on_conflict_do_nothing()
    return made.on_conflict_do_update(
        index_elements=["id"],
        set_={"used_at": made.excluded.used_at},
        where=made.excluded.used_at > table.c.used_at,
    )


def took(connection: Connection, position: tuple[int, int]) -> None:
    """What lies before *position* in the spool is in the store."""
    row = {"id": 1, "segment": position[0], "offset": position[1]}
    connection.execute(
        insert(tables.spool_state)
        .values(row)
        .on_conflict_do_update(index_elements=["id"], set_=row)
    )


def spool_position(store: Store) -> tuple[int, int]:
    """Where the spool goes on: (segment, offset)."""
    with store.read() as connection:
        row = connection.execute(select(tables.spool_state)).first()
    return (0, 0) if row is None else (row.segment, row.offset)


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
    """End the episodes of a run that was killed just after it last saw their target."""
    for kind in _KINDS:
        polls, table = tables.pooler_sample if kind is _LINKS else tables.server_sample, kind.table
        open_ = select(table.c.target_id).where(table.c.ended_at.is_(None)).distinct()
        for target_id in connection.execute(open_).scalars().all():
            last = connection.execute(
                select(func.max(polls.c.at)).where(polls.c.target_id == target_id, polls.c.up)
            ).scalar()
            ended_at = table.c.started_at if last is None else literal(last + _JUST_AFTER, Instant)
            connection.execute(
                update(table)
                .where(table.c.target_id == target_id, table.c.ended_at.is_(None))
                .values(ended_at=ended_at)
            )


def _end_of(seen: _Seen, at: datetime) -> datetime:
    """When the episodes ended that are not there at *at*: who left in an outage left unseen,
    and nothing is said about them for a time when nobody saw them."""
    return seen.at + _JUST_AFTER if seen.out and seen.at is not None else at


def _end(
    connection: Connection,
    kind: _Kind[Any],
    target_id: int,
    ended: Iterable[Episode[Any]],
    at: datetime,
) -> None:
    _update(connection, kind, target_id, [(episode, {"ended_at": at}) for episode in ended])


def _update(
    connection: Connection,
    kind: _Kind[Any],
    target_id: int,
    changes: Sequence[tuple[Episode[Any], dict[str, Any]]],
) -> None:
    """Change the same columns of the rows of several episodes."""
    if not changes:
        return
    key = ("target_id", "started_at", *kind.key)
    values = [
        {
            "b_target_id": target_id,
            "b_started_at": episode.started_at,
            **{f"b_{name}": getattr(episode.what, name) for name in kind.key},
            **{f"b_{name}": value for name, value in changed.items()},
        }
        for episode, changed in changes
    ]
    table = kind.table
    same_row = [table.c[name] == bindparam(f"b_{name}", type_=table.c[name].type) for name in key]
    changed_columns = {
        name: bindparam(f"b_{name}", type_=table.c[name].type) for name in changes[0][1]
    }
    connection.execute(update(table).where(*same_row).values(changed_columns), values)


def _fields(noun: Any, but: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(noun, name) for name in noun.__dataclass_fields__ if name not in but}


def _server_columns(server: Server | None) -> dict[str, Any]:
    """One Server as columns; all None when it was not seen, so that every row is alike."""
    names = [c.name for c in tables.server_sample.c if c.name not in POLL_COLUMNS]
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
    names = [c.name for c in tables.pooler_sample.c if c.name not in POLL_COLUMNS]
    pooler = sample.pooler
    return {name: None if pooler is None else getattr(pooler, name) for name in names}
