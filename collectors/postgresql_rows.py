"""What the rows of PostgreSQL's statistics say. Pure: rows in, nouns out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from collectors.mask import mask
from model.samples import Database, Server, Session

ON_CPU = "CPU"  # an active backend without a wait event
UNKNOWN_STATE = "unknown"  # a client backend that reports no state
_IDLE_IN_TRANSACTION = ("idle in transaction", "idle in transaction (aborted)")


class Row(NamedTuple):
    """One row of activity.sql, in its order."""

    pid: int
    is_ours: bool
    database_oid: int | None
    role_oid: int | None
    backend_type: str | None
    application: str | None
    client_address: str | None
    client_port: int | None
    state: str | None
    wait_event_type: str | None
    wait_event: str | None
    backend_start: datetime
    xact_start: datetime | None
    query_start: datetime | None
    state_change: datetime | None
    statement: str | None
    clock: datetime
    in_recovery: bool
    prepared_transactions: int


@dataclass(frozen=True, slots=True)
class Identity:
    """One row of server.sql: what a restart alone can change."""

    backend_pid: int
    version_num: int
    version: str
    started_at: datetime
    max_connections: int
    superuser_reserved_connections: int
    reserved_connections: int
    role: str


@dataclass(slots=True)
class Activity:
    """What one look at the backend array says. The fields mean what Server's mean.

    hidden: backends that our role may not see; counts would be wrong, so there are none.
    """

    hidden: int
    clock: datetime
    in_recovery: bool
    prepared_transactions: int
    slots_used: int
    walsenders: int
    states: dict[str, int]
    waits: dict[str, int]
    longest_statement: float
    longest_transaction: float
    longest_idle_in_transaction: float
    sessions: list[Session]
    lock_waiters: list[int]  # pids, the one that waits longest first


def identity(row: Sequence[Any]) -> Identity:
    """The server behind one row of server.sql. "18.6 (Debian …)" becomes "18.6"."""
    pid, version_num, version, started_at, *rest = row
    number = str(version).split(" ", 1)[0]
    return Identity(pid, version_num, number, started_at.astimezone(UTC), *rest)


def oids(rows: Iterable[Row]) -> tuple[set[int], set[int]]:
    """The databases and the roles that *rows* speak of."""
    databases: set[int] = set()
    roles: set[int] = set()
    for row in rows:
        if row.database_oid:
            databases.add(row.database_oid)
        if row.role_oid:
            roles.add(row.role_oid)
    return databases, roles


def activity(
    rows: Sequence[Row],
    databases: Mapping[int, str | None],
    roles: Mapping[int, str | None],
    blocked_by: Mapping[int, tuple[int, ...]],
    masked: Callable[[str], str] = mask,
) -> Activity:
    """Count and name what *rows* hold.

    Our own session takes a slot like any other, so slots_used counts it; it is left out
    of states, waits and sessions, which are about the people that we watch.
    """
    ours = next(row for row in rows if row.is_ours)
    seen = Activity(
        hidden=0,
        clock=ours.clock,
        in_recovery=ours.in_recovery,
        prepared_transactions=ours.prepared_transactions,
        slots_used=1,
        walsenders=0,
        states={},
        waits={},
        longest_statement=0.0,
        longest_transaction=0.0,
        longest_idle_in_transaction=0.0,
        sessions=[],
        lock_waiters=[],
    )
    waiting: list[tuple[float, int]] = []
    for row in rows:
        if row.is_ours:
            continue
        if row.backend_type is None:
            seen.hidden += 1
            continue
        if row.backend_type == "walsender":
            seen.walsenders += 1
            continue
        session = _session(row, databases, roles, blocked_by, masked)
        seen.sessions.append(session)
        seen.slots_used += 1
        state = row.state or UNKNOWN_STATE
        seen.states[state] = seen.states.get(state, 0) + 1
        if state == "active":
            wait = row.wait_event_type or ON_CPU
            seen.waits[wait] = seen.waits.get(wait, 0) + 1
        elif state in _IDLE_IN_TRANSACTION:
            seen.longest_idle_in_transaction = max(
                seen.longest_idle_in_transaction, session.state_seconds or 0.0
            )
        if row.wait_event_type == "Lock":
            waiting.append((-(session.state_seconds or 0.0), row.pid))
        seen.longest_statement = max(seen.longest_statement, session.statement_seconds or 0.0)
        seen.longest_transaction = max(seen.longest_transaction, session.xact_seconds or 0.0)
    seen.lock_waiters = [pid for _, pid in sorted(waiting)]
    return seen


def _session(
    row: Row,
    databases: Mapping[int, str | None],
    roles: Mapping[int, str | None],
    blocked_by: Mapping[int, tuple[int, ...]],
    masked: Callable[[str], str],
) -> Session:
    clock = row.clock
    return Session(
        pid=row.pid,
        backend_start=row.backend_start,
        database=databases.get(row.database_oid) if row.database_oid else None,
        role=roles.get(row.role_oid) if row.role_oid else None,
        application=row.application or "",
        client=client(row.client_address, row.client_port),
        state=row.state,
        wait_event_type=row.wait_event_type,
        wait_event=row.wait_event,
        xact_start=row.xact_start,
        query_start=row.query_start,
        state_change=row.state_change,
        statement=masked(row.statement) if row.statement else None,
        session_seconds=_age(clock, row.backend_start) or 0.0,
        xact_seconds=_age(clock, row.xact_start),
        statement_seconds=_age(clock, row.query_start) if row.state == "active" else None,
        state_seconds=_age(clock, row.state_change),
        blocked_by=blocked_by.get(row.pid, ()),
    )


def client(address: str | None, port: int | None) -> str | None:
    """Where a client comes from, as people write it.

    >>> client("10.0.3.7", 51512), client("::1", 5), client(None, -1), client(None, None)
    ('10.0.3.7:51512', '[::1]:5', 'local', None)
    """
    if address is None:
        return "local" if port == -1 else None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _age(clock: datetime, since: datetime | None) -> float | None:
    """Seconds since, on the server's clock; never below zero."""
    return None if since is None else max((clock - since).total_seconds(), 0.0)


def server(known: Identity, seen: Activity, asked_at: datetime) -> Server:
    """The server as a whole. What is hidden is None, because zero would be a lie.

    asked_at: our clock at the moment the server read its own.
    """
    visible = seen.hidden == 0
    return Server(
        version=known.version,
        version_num=known.version_num,
        role="standby" if seen.in_recovery else "primary",
        started_at=known.started_at,
        clock_skew_seconds=(seen.clock - asked_at).total_seconds(),
        max_connections=known.max_connections,
        superuser_reserved_connections=known.superuser_reserved_connections,
        reserved_connections=known.reserved_connections,
        slots_used=seen.slots_used if visible else None,
        states=seen.states if visible else None,
        waits=seen.waits if visible else None,
        longest_statement_seconds=seen.longest_statement if visible else None,
        longest_transaction_seconds=seen.longest_transaction if visible else None,
        longest_idle_in_transaction_seconds=(seen.longest_idle_in_transaction if visible else None),
        blocked=len(seen.lock_waiters) if visible else None,
        prepared_transactions=seen.prepared_transactions,
        walsenders=seen.walsenders if visible else None,
    )


def databases(rows: Iterable[Sequence[Any]]) -> tuple[Database, ...]:
    """The rows of databases.sql. Times come in milliseconds.

    session_time is left out on purpose: rejected logins corrupt it (PostgreSQL 14 to 18).
    """
    return tuple(
        Database(
            name=name,
            connection_limit=limit,
            backends=backends,
            xact_commit_total=commits,
            xact_rollback_total=rollbacks,
            sessions_total=sessions,
            sessions_abandoned_total=abandoned,
            sessions_fatal_total=fatal,
            sessions_killed_total=killed,
            active_seconds_total=_seconds(active),
            idle_in_transaction_seconds_total=_seconds(idle_in_transaction),
            stats_reset_at=reset,
        )
        for (
            name,
            limit,
            backends,
            commits,
            rollbacks,
            sessions,
            abandoned,
            fatal,
            killed,
            active,
            idle_in_transaction,
            reset,
        ) in rows
    )


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000.0


def grant(role: str) -> str:
    """The statement that lets *role* see everybody's sessions."""
    return f"GRANT pg_monitor TO {quoted(role)};"


def quoted(name: str) -> str:
    """*name* as an identifier in SQL, for people to copy.

    >>> print(quoted('a "strange" name'))
    "a ""strange"" name"
    """
    return '"' + name.replace('"', '""') + '"'
