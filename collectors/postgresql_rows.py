"""What the rows of PostgreSQL's statistics say. Pure: rows in, nouns out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from collectors.mask import mask
from collectors.session_time import SessionTime
from model.samples import Database, Role, Server, Session

ON_CPU = "CPU"  # an active backend without a wait event
UNKNOWN_STATE = "unknown"  # a client backend that reports no state
STARTING = "starting"  # a client that is logging in, as PostgreSQL 18 and newer call it
STARTING_SINCE = 180000
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
    leader_pid: int | None
    statement: str | None
    clock: datetime
    in_recovery: bool
    prepared_transactions: int
    oldest_prepared_at: datetime | None


class Names(Protocol):
    """Oids to names; None for what has none."""

    def database(self, oid: int | None) -> str | None:
        """The name of a database."""
        ...

    def role(self, oid: int | None) -> str | None:
        """The name of a role."""
        ...


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

    hidden:       backends that our role may not see; counts would be wrong, so there are none.
    by_database:  client backends by the oid of their database; by_role likewise. Ours too.
    lock_waiters: pids, the one that waits longest first.
    leaders:      of the parallel workers among the lock waiters.
    """

    clock: datetime
    in_recovery: bool
    prepared_transactions: int
    oldest_prepared: float
    hidden: int = 0
    slots_used: int = 0
    walsenders: int = 0
    authenticating: int = 0
    blocked: int = 0
    states: dict[str, int] = field(default_factory=dict)
    waits: dict[str, int] = field(default_factory=dict)
    by_database: dict[int, int] = field(default_factory=dict)
    by_role: dict[int, int] = field(default_factory=dict)
    longest_statement: float = 0.0
    longest_transaction: float = 0.0
    longest_idle_in_transaction: float = 0.0
    sessions: list[Session] = field(default_factory=list)
    lock_waiters: list[int] = field(default_factory=list)
    leaders: dict[int, int] = field(default_factory=dict)
    folded_applications: int = 0

    def count(self, row: Row, number: int = 1) -> bool:
        """Add *number* backends that are like *row*; whether they are people's sessions.

        Our own session takes a slot like any other, so slots_used counts it, and so do the
        limits of its role and database; it is left out of states, waits and sessions, which
        are about the people that we watch.
        """
        if row.backend_type is None and not row.is_ours:
            self.hidden += number
            return False
        if row.backend_type == "walsender":
            self.walsenders += number
            return False
        if row.leader_pid is not None and row.leader_pid != row.pid:
            self.leaders[row.pid] = row.leader_pid
            return False
        if row.backend_type == "parallel worker":  # counted with its group
            return False
        self.slots_used += number
        if row.database_oid:
            self.by_database[row.database_oid] = self.by_database.get(row.database_oid, 0) + number
        if row.role_oid:
            self.by_role[row.role_oid] = self.by_role.get(row.role_oid, 0) + number
        if row.is_ours:
            return False
        state = row.state or UNKNOWN_STATE
        self.states[state] = self.states.get(state, 0) + number
        if state == "active":
            wait = row.wait_event_type or ON_CPU
            self.waits[wait] = self.waits.get(wait, 0) + number
            self.longest_statement = max(self.longest_statement, self._age(row.query_start))
        elif state in _IDLE_IN_TRANSACTION:
            self.longest_idle_in_transaction = max(
                self.longest_idle_in_transaction, self._age(row.state_change)
            )
        elif state == STARTING:
            self.authenticating += number
        if row.wait_event_type == "Lock":
            self.blocked += number
        self.longest_transaction = max(self.longest_transaction, self._age(row.xact_start))
        return True

    def _age(self, since: datetime | None) -> float:
        return age(self.clock, since) or 0.0


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


def begun(rows: Iterable[Row]) -> Activity:
    """An Activity that has counted our own session, which every look holds."""
    ours = next(row for row in rows if row.is_ours)
    seen = Activity(
        ours.clock,
        ours.in_recovery,
        ours.prepared_transactions,
        age(ours.clock, ours.oldest_prepared_at) or 0.0,
    )
    seen.count(ours)
    return seen


def activity(
    rows: Sequence[Row],
    names: Names,
    application: Callable[[str], str] = str,
    masked: Callable[[str], str] = mask,
) -> Activity:
    """Count and name what *rows* hold. application: which name an application is kept by."""
    seen = begun(rows)
    for row in rows:
        if not row.is_ours and seen.count(row):
            seen.sessions.append(session(row, names, application, masked))
    seen.lock_waiters = waiters(rows)
    return seen


def waiters(rows: Iterable[Row]) -> list[int]:
    """The pids of those who wait for a lock, the one that waits longest first."""
    waiting = [
        (-(age(row.clock, row.state_change) or 0.0), row.pid)
        for row in rows
        if row.wait_event_type == "Lock" and not row.is_ours
    ]
    return [pid for _, pid in sorted(waiting)]


def session(
    row: Row,
    names: Names,
    application: Callable[[str], str] = str,
    masked: Callable[[str], str] = mask,
) -> Session:
    """The session that one row tells of."""
    clock = row.clock
    return Session(
        pid=row.pid,
        backend_start=row.backend_start,
        database=names.database(row.database_oid),
        role=names.role(row.role_oid),
        application=application(row.application or ""),
        client=client(row.client_address, row.client_port),
        state=row.state,
        wait_event_type=row.wait_event_type,
        wait_event=row.wait_event,
        xact_start=row.xact_start,
        query_start=row.query_start,
        state_change=row.state_change,
        statement=masked(row.statement) if row.statement else None,
        session_seconds=age(clock, row.backend_start) or 0.0,
        xact_seconds=age(clock, row.xact_start),
        statement_seconds=age(clock, row.query_start) if row.state == "active" else None,
        state_seconds=age(clock, row.state_change),
    )


def client(address: str | None, port: int | None) -> str | None:
    """Where a client comes from, as people write it.

    >>> client("10.0.3.7", 51512), client("::1", 5), client(None, -1), client(None, None)
    ('10.0.3.7:51512', '[::1]:5', 'local', None)
    """
    if address is None:
        return "local" if port == -1 else None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def age(clock: datetime, since: datetime | None) -> float | None:
    """Seconds since, on the server's clock; never below zero."""
    return None if since is None else max((clock - since).total_seconds(), 0.0)


def server(
    known: Identity, seen: Activity, asked_at: datetime, system_identifier: str | None = None
) -> Server:
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
        blocked=seen.blocked if visible else None,
        prepared_transactions=seen.prepared_transactions,
        walsenders=seen.walsenders if visible else None,
        # Before 18 a client that logs in takes a slot and is in no view.
        authenticating=(
            seen.authenticating if visible and known.version_num >= STARTING_SINCE else None
        ),
        oldest_prepared_seconds=seen.oldest_prepared,
        system_identifier=system_identifier,
        folded_applications=seen.folded_applications,
    )


def databases(
    rows: Iterable[Sequence[Any]], seen: Activity, session_time: SessionTime
) -> tuple[Database, ...]:
    """The rows of databases.sql, with the connections that *seen* counted. Times are in ms."""
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
            connections=None if seen.hidden else seen.by_database.get(oid, 0),
            session_seconds_total=session_time.total(oid, spent, reset, seen.clock),
        )
        for (
            oid,
            name,
            limit,
            backends,
            commits,
            rollbacks,
            sessions,
            abandoned,
            fatal,
            killed,
            spent,
            active,
            idle_in_transaction,
            reset,
        ) in rows
    )


def limited_roles(rows: Iterable[Sequence[Any]], seen: Activity) -> tuple[Role, ...] | None:
    """The rows of roles.sql, with the connections that *seen* counted; None when hidden."""
    if seen.hidden:
        return None
    return tuple(Role(name, limit, seen.by_role.get(oid, 0)) for oid, name, limit in rows)


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
