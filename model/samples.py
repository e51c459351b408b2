"""What one poll of one target said.

Times: `at` is our clock when the target was asked, aware and UTC. Timestamps that a
server reports (`backend_start`, `xact_start`, …) stay on the server's clock, so that
they identify a session; ages are already durations, measured on the server's clock.

None always means "not known" or "not reported", never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Failure(StrEnum):
    """Why a poll failed. The class answers "what kind of trouble is it?"."""

    UNREACHABLE = "unreachable"  # refused, reset, no route, name not resolved
    TIMEOUT = "timeout"  # no answer before the poll's deadline
    SLOTS_EXHAUSTED = "slots_exhausted"  # max_connections, or only reserved slots are left
    ROLE_LIMIT = "role_limit"  # the monitoring role's own CONNECTION LIMIT
    DATABASE_LIMIT = "database_limit"  # the database's CONNECTION LIMIT
    NOT_AVAILABLE = "not_available"  # starting up, shutting down, in recovery
    AUTHENTICATION = "authentication"  # password, pg_hba.conf, role or database missing
    PERMISSION = "permission"  # connected, but not allowed to ask
    PROTOCOL = "protocol"  # it answered, but not like this kind of target


@dataclass(frozen=True, slots=True)
class Session:
    """One client backend: one row of pg_stat_activity.

    (pid, backend_start) identifies it; a pid alone is reused by the operating system.
    Source: https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
    """

    pid: int
    backend_start: datetime
    database: str | None
    role: str | None
    application: str
    client: str | None  # "10.0.3.7:51512"; "local" for a Unix socket; None unknown
    state: str | None  # as the server says it: "active", "idle in transaction", …
    wait_event_type: str | None
    wait_event: str | None
    xact_start: datetime | None
    query_start: datetime | None
    state_change: datetime | None
    statement: str | None  # masked; None for idle sessions, whose text is stale
    session_seconds: float
    xact_seconds: float | None  # age of the open transaction
    statement_seconds: float | None  # age of the running statement; None unless active
    state_seconds: float | None  # time since the state last changed
    blocked_by: tuple[int, ...] = ()  # pids; 0 is a prepared transaction


@dataclass(frozen=True, slots=True)
class LockWait:
    """One session that waits for a lock, with its place in the tree of waiters.

    Source: pg_blocking_pids() and pg_locks,
    https://www.postgresql.org/docs/current/view-pg-locks.html
    """

    pid: int
    backend_start: datetime
    blocked_by: tuple[int, ...]  # pids; 0 is a prepared transaction
    root: int | None  # the pid at the head of its queue; None when the waits form a cycle
    depth: int  # 1 waits for the root itself
    soft: bool  # nobody in its way holds the lock; they only queue ahead of it
    lock_type: str | None  # "relation", "transactionid", "tuple", "advisory", …
    mode: str | None  # "AccessExclusiveLock", …
    relation: str | None  # "public.orders"; None where the lock is not about one, or unknown
    wait_seconds: float


@dataclass(frozen=True, slots=True)
class Server:
    """One PostgreSQL server as a whole.

    Slots are counted as the server counts them: client backends only, ours included.
    Source: https://www.postgresql.org/docs/current/runtime-config-connection.html
    """

    version: str  # "18.6"
    version_num: int  # 180006
    role: str  # "primary" or "standby"
    started_at: datetime  # pg_postmaster_start_time(), server clock
    clock_skew_seconds: float  # server clock minus ours
    max_connections: int
    superuser_reserved_connections: int
    reserved_connections: int  # 0 before PostgreSQL 16
    slots_used: int | None
    states: Mapping[str, int] | None  # client backends by state; None where they are hidden
    waits: Mapping[str, int] | None  # active client backends by wait_event_type; "CPU" = none
    longest_statement_seconds: float | None  # 0.0 when nothing runs
    longest_transaction_seconds: float | None
    longest_idle_in_transaction_seconds: float | None
    blocked: int | None  # client backends that wait for a lock
    prepared_transactions: int | None = None
    walsenders: int | None = None
    authenticating: int | None = None  # client backends that are logging in; None before 18
    oldest_prepared_seconds: float | None = None  # 0.0 when there is none
    system_identifier: str | None = None  # the same on all copies of one cluster
    folded_applications: int = 0  # distinct names beyond the cap, counted as "__other__"

    @property
    def ordinary_capacity(self) -> int:
        """Slots open to ordinary roles."""
        return (
            self.max_connections - self.superuser_reserved_connections - self.reserved_connections
        )

    @property
    def headroom(self) -> int | None:
        """Ordinary slots that are left; never below zero."""
        return None if self.slots_used is None else max(self.ordinary_capacity - self.slots_used, 0)


@dataclass(frozen=True, slots=True)
class Database:
    """Counters of one database since its statistics were reset.

    Source: https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-DATABASE-VIEW
    The session counters exist since PostgreSQL 14.
    """

    name: str
    connection_limit: int  # -1 none; 0 superusers only; -2 left over from a failed DROP DATABASE
    backends: int
    xact_commit_total: int
    xact_rollback_total: int
    sessions_total: int | None
    sessions_abandoned_total: int | None
    sessions_fatal_total: int | None
    sessions_killed_total: int | None
    active_seconds_total: float | None
    idle_in_transaction_seconds_total: float | None
    stats_reset_at: datetime | None
    connections: int | None = None  # client backends of it right now; what the limit counts
    session_seconds_total: float | None = None  # since we look; without what refused logins add

    @property
    def headroom(self) -> int | None:
        """Connections that its limit leaves; None without a limit, or when not known."""
        if self.connection_limit < 0 or self.connections is None:
            return None
        return max(self.connection_limit - self.connections, 0)


@dataclass(frozen=True, slots=True)
class Role:
    """A role with a CONNECTION LIMIT, and how much of it is used.

    Source: https://www.postgresql.org/docs/current/view-pg-roles.html
    """

    name: str
    connection_limit: int  # 0: it may not log in
    connections: int

    @property
    def headroom(self) -> int:
        """Connections that its limit leaves."""
        return max(self.connection_limit - self.connections, 0)


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool of a pooler: one database and user.

    Source: https://www.pgbouncer.org/usage.html#show-pools
    """

    database: str
    user: str
    client_active: int
    client_waiting: int | None  # None: the pooler does not report its queue
    server_active: int
    server_idle: int
    server_used: int | None
    server_tested: int | None
    server_login: int | None
    maxwait_seconds: float | None  # as reported: 0 for clients that wait at login
    pool_mode: str | None
    pool_size: int | None  # server connections this pool may open; None not known yet
    reserve_pool_size: int | None = None  # more of them, for clients that waited long
    oldest_wait_seconds: float | None = None  # clients at login included; None not known
    process: str | None = None  # which of several pooler processes; None the only one


@dataclass(frozen=True, slots=True)
class PoolDatabase:
    """Counters of one pooler database, and what holds it back.

    xact_seconds_total includes the time clients queued, as PgBouncer counts it. The counters
    are None for a database that is paused or disabled and has no pool.
    Source: https://www.pgbouncer.org/usage.html#show-stats
    """

    name: str
    xact_total: int | None = None
    query_total: int | None = None
    xact_seconds_total: float | None = None
    query_seconds_total: float | None = None
    wait_seconds_total: float | None = None
    received_bytes_total: int | None = None
    sent_bytes_total: int | None = None
    assignments_total: int | None = None  # times a client was given a server; 1.23+
    max_connections: int | None = None  # max_db_connections; None no limit, or not known
    current_connections: int | None = None  # what that limit counts
    paused: bool | None = None
    disabled: bool | None = None


@dataclass(frozen=True, slots=True)
class Link:
    """One client of a pooler, and the backend that works for it right now.

    Source: SHOW CLIENTS and SHOW SERVERS, https://www.pgbouncer.org/usage.html
    """

    client: str  # "10.0.3.7:51512"; "local" for a Unix socket
    client_id: str  # identifies it as long as it is connected
    application: str
    database: str
    user: str
    state: str  # "active", "waiting", …
    wait_seconds: float | None  # waiting clients only: how long they have queued
    connected_at: datetime | None
    backend_pid: int | None  # None: no backend works for it, or not reported
    process: str | None = None


@dataclass(frozen=True, slots=True)
class Pooler:
    """One pooler as a whole.

    Source: https://www.pgbouncer.org/usage.html#show-lists
    """

    version: str  # "1.18.0"
    used_clients: int | None
    login_clients: int | None
    used_servers: int | None
    max_client_conn: int | None
    default_pool_size: int | None
    paused: bool | None  # None where the version cannot tell and no canary looks

    client_active: int = 0  # sums over its pools
    client_waiting: int | None = 0
    server_active: int = 0
    server_idle: int = 0
    maxwait_seconds: float | None = 0.0  # the oldest wait, clients at login included
    product: str = "PgBouncer"
    processes: int = 1  # several behind one port are told apart and summed
    max_db_connections: int | None = None
    query_wait_timeout_seconds: float | None = None
    canary_seconds: float | None = None  # how long a query through the pooler took


@dataclass(frozen=True, slots=True)
class Sample:
    """What one poll said. A poll that failed is a sample too: `up` is false, with the reason.

    at:             when the target was asked; our clock, aware, UTC.
    poll_seconds:   how long the answer took.
    degraded:       what could not be seen although the target answered, in words.
    """

    target: str
    kind: str
    at: datetime
    poll_seconds: float
    up: bool
    failure: Failure | None = None
    reason: str | None = None
    degraded: str | None = None
    server: Server | None = None
    sessions: tuple[Session, ...] | None = None  # None: not asked or hidden; () nobody
    databases: tuple[Database, ...] | None = None  # None: not due in this poll
    roles: tuple[Role, ...] | None = None  # those with a limit; None: not due in this poll
    lock_waits: tuple[LockWait, ...] | None = None  # () nobody waits; None: could not be asked
    pooler: Pooler | None = None
    pools: tuple[Pool, ...] | None = None
    pool_databases: tuple[PoolDatabase, ...] | None = None
    links: tuple[Link, ...] | None = None  # None: not due in this poll
