"""Every number that is stored and drawn: its unit, its source, and how a bucket folds it.

One place, so that charts, exports, /metrics and docs/metrics.md say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fold = Literal["avg", "max", "last"]
"""How many samples become one point of a chart: what hurts is folded by its maximum."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One stored number."""

    name: str
    table: str
    unit: str
    fold: Fold
    help: str
    source: str
    counter: bool = False


def _server(name: str, unit: str, fold: Fold, text: str, source: str) -> Metric:
    return Metric(name, "server_sample", unit, fold, text, source)


_ACTIVITY = "pg_stat_activity"

METRICS: tuple[Metric, ...] = (
    _server(
        "poll_seconds", "s", "max", "How long the answer to one poll took.", "measured by Headroom"
    ),
    _server("max_connections", "slots", "last", "Slots of the server.", "max_connections"),
    _server(
        "superuser_reserved_connections",
        "slots",
        "last",
        "Slots only superusers may take.",
        "superuser_reserved_connections",
    ),
    _server(
        "reserved_connections",
        "slots",
        "last",
        "Slots for roles with pg_use_reserved_connections (16+).",
        "reserved_connections",
    ),
    _server(
        "ordinary_capacity",
        "slots",
        "last",
        "Slots open to ordinary roles.",
        "max_connections − superuser_reserved_connections − reserved_connections",
    ),
    _server("slots_used", "slots", "max", "Client backends, Headroom's own included.", _ACTIVITY),
    _server("active", "sessions", "avg", "Client backends that run a statement.", _ACTIVITY),
    _server("idle", "sessions", "avg", "Client backends that wait for a statement.", _ACTIVITY),
    _server(
        "idle_in_transaction",
        "sessions",
        "avg",
        "Client backends inside a transaction that run nothing.",
        _ACTIVITY,
    ),
    _server(
        "idle_in_transaction_aborted",
        "sessions",
        "avg",
        "The same, after an error in the transaction.",
        _ACTIVITY,
    ),
    _server(
        "other_states",
        "sessions",
        "avg",
        "Client backends in any other state: starting, fastpath function call, disabled.",
        _ACTIVITY,
    ),
    _server(
        "blocked",
        "sessions",
        "max",
        "Client backends that wait for a lock.",
        "wait_event_type = Lock",
    ),
    _server(
        "wait_cpu",
        "sessions",
        "avg",
        "Active client backends without a wait event: on CPU, or not instrumented.",
        _ACTIVITY,
    ),
    _server(
        "wait_lock", "sessions", "avg", "Active client backends that wait for a lock.", _ACTIVITY
    ),
    _server(
        "wait_lwlock",
        "sessions",
        "avg",
        "Active client backends that wait for a lightweight lock.",
        _ACTIVITY,
    ),
    _server("wait_io", "sessions", "avg", "Active client backends that wait for I/O.", _ACTIVITY),
    _server(
        "wait_client",
        "sessions",
        "avg",
        "Active client backends that wait for their client.",
        _ACTIVITY,
    ),
    _server(
        "wait_other",
        "sessions",
        "avg",
        "Active client backends that wait for anything else.",
        _ACTIVITY,
    ),
    _server(
        "longest_statement_seconds",
        "s",
        "max",
        "Age of the oldest running statement.",
        "query_start",
    ),
    _server(
        "longest_transaction_seconds",
        "s",
        "max",
        "Age of the oldest open transaction.",
        "xact_start",
    ),
    _server(
        "longest_idle_in_transaction_seconds",
        "s",
        "max",
        "Longest time a transaction has been open and idle.",
        "state_change",
    ),
    _server(
        "prepared_transactions",
        "transactions",
        "max",
        "Prepared transactions: they hold locks, not slots.",
        "pg_prepared_xacts",
    ),
    _server(
        "walsenders", "connections", "max", "WAL senders: they take no ordinary slot.", _ACTIVITY
    ),
    Metric(
        "poll_seconds",
        "pooler_sample",
        "s",
        "max",
        "How long the answer to one poll took.",
        "measured by Headroom",
    ),
    Metric(
        "used_clients",
        "pooler_sample",
        "clients",
        "max",
        "Client connections of the pooler.",
        "SHOW LISTS used_clients",
    ),
    Metric(
        "login_clients",
        "pooler_sample",
        "clients",
        "max",
        "Clients that are logging in.",
        "SHOW LISTS login_clients",
    ),
    Metric(
        "used_servers",
        "pooler_sample",
        "connections",
        "max",
        "Server connections of the pooler.",
        "SHOW LISTS used_servers",
    ),
    Metric(
        "max_client_conn",
        "pooler_sample",
        "clients",
        "last",
        "Client connections the pooler admits.",
        "SHOW CONFIG max_client_conn",
    ),
    Metric(
        "client_active",
        "pooler_sample",
        "clients",
        "avg",
        "Clients that are linked to a server or idle.",
        "SHOW POOLS cl_active",
    ),
    Metric(
        "client_waiting",
        "pooler_sample",
        "clients",
        "max",
        "Clients that wait for a server connection.",
        "SHOW POOLS cl_waiting",
    ),
    Metric(
        "server_active",
        "pooler_sample",
        "connections",
        "avg",
        "Server connections linked to a client.",
        "SHOW POOLS sv_active",
    ),
    Metric(
        "server_idle",
        "pooler_sample",
        "connections",
        "avg",
        "Server connections ready for a client (sv_idle + sv_used).",
        "SHOW POOLS sv_idle, sv_used",
    ),
    Metric(
        "maxwait_seconds",
        "pooler_sample",
        "s",
        "max",
        "How long the oldest waiting client has waited.",
        "SHOW POOLS maxwait, maxwait_us",
    ),
    Metric(
        "client_active",
        "pool_sample",
        "clients",
        "avg",
        "Clients of this pool that are linked to a server or idle.",
        "SHOW POOLS cl_active",
    ),
    Metric(
        "client_waiting",
        "pool_sample",
        "clients",
        "max",
        "Clients of this pool that wait for a server connection.",
        "SHOW POOLS cl_waiting",
    ),
    Metric(
        "server_active",
        "pool_sample",
        "connections",
        "avg",
        "Server connections of this pool linked to a client.",
        "SHOW POOLS sv_active",
    ),
    Metric(
        "server_idle",
        "pool_sample",
        "connections",
        "avg",
        "Server connections of this pool that are free.",
        "SHOW POOLS sv_idle",
    ),
    Metric(
        "server_used",
        "pool_sample",
        "connections",
        "avg",
        "Free, but idle for longer than server_check_delay.",
        "SHOW POOLS sv_used",
    ),
    Metric(
        "server_tested",
        "pool_sample",
        "connections",
        "avg",
        "Being tested before use.",
        "SHOW POOLS sv_tested",
    ),
    Metric(
        "server_login",
        "pool_sample",
        "connections",
        "max",
        "Logging in to the server.",
        "SHOW POOLS sv_login",
    ),
    Metric(
        "maxwait_seconds",
        "pool_sample",
        "s",
        "max",
        "How long the oldest waiting client of this pool has waited.",
        "SHOW POOLS maxwait, maxwait_us",
    ),
    Metric(
        "pool_size",
        "pool_sample",
        "connections",
        "last",
        "Server connections this pool may open.",
        "SHOW DATABASES pool_size, SHOW CONFIG default_pool_size",
    ),
    Metric(
        "connection_limit",
        "database_sample",
        "slots",
        "last",
        "The database's CONNECTION LIMIT; -1 none.",
        "pg_database.datconnlimit",
    ),
    Metric(
        "backends",
        "database_sample",
        "backends",
        "max",
        "Backends of the database, workers included.",
        "pg_stat_database.numbackends",
    ),
    Metric(
        "xact_commit_total",
        "database_sample",
        "transactions",
        "last",
        "Transactions committed.",
        "pg_stat_database.xact_commit",
        counter=True,
    ),
    Metric(
        "xact_rollback_total",
        "database_sample",
        "transactions",
        "last",
        "Transactions rolled back.",
        "pg_stat_database.xact_rollback",
        counter=True,
    ),
    Metric(
        "sessions_total",
        "database_sample",
        "sessions",
        "last",
        "Sessions established (14+).",
        "pg_stat_database.sessions",
        counter=True,
    ),
    Metric(
        "sessions_abandoned_total",
        "database_sample",
        "sessions",
        "last",
        "Sessions whose client vanished (14+).",
        "pg_stat_database.sessions_abandoned",
        counter=True,
    ),
    Metric(
        "sessions_fatal_total",
        "database_sample",
        "sessions",
        "last",
        "Sessions ended by a fatal error (14+).",
        "pg_stat_database.sessions_fatal",
        counter=True,
    ),
    Metric(
        "sessions_killed_total",
        "database_sample",
        "sessions",
        "last",
        "Sessions an operator ended (14+).",
        "pg_stat_database.sessions_killed",
        counter=True,
    ),
    Metric(
        "active_seconds_total",
        "database_sample",
        "s",
        "last",
        "Time spent running statements, added when each ends (14+).",
        "pg_stat_database.active_time",
        counter=True,
    ),
    Metric(
        "idle_in_transaction_seconds_total",
        "database_sample",
        "s",
        "last",
        "Time spent idle in transaction, added when it ends (14+).",
        "pg_stat_database.idle_in_transaction_time",
        counter=True,
    ),
    Metric(
        "xact_total",
        "pool_database_sample",
        "transactions",
        "last",
        "Transactions pooled.",
        "SHOW STATS total_xact_count",
        counter=True,
    ),
    Metric(
        "query_total",
        "pool_database_sample",
        "statements",
        "last",
        "Statements pooled.",
        "SHOW STATS total_query_count",
        counter=True,
    ),
    Metric(
        "xact_seconds_total",
        "pool_database_sample",
        "s",
        "last",
        "Time in transactions, queueing included.",
        "SHOW STATS total_xact_time",
        counter=True,
    ),
    Metric(
        "query_seconds_total",
        "pool_database_sample",
        "s",
        "last",
        "Time in statements, queueing included.",
        "SHOW STATS total_query_time",
        counter=True,
    ),
    Metric(
        "wait_seconds_total",
        "pool_database_sample",
        "s",
        "last",
        "Time clients waited for a server, added when each is served.",
        "SHOW STATS total_wait_time",
        counter=True,
    ),
    Metric(
        "received_bytes_total",
        "pool_database_sample",
        "bytes",
        "last",
        "Received from clients.",
        "SHOW STATS total_received",
        counter=True,
    ),
    Metric(
        "sent_bytes_total",
        "pool_database_sample",
        "bytes",
        "last",
        "Sent to clients.",
        "SHOW STATS total_sent",
        counter=True,
    ),
)


def metrics_of(table: str) -> dict[str, Metric]:
    """The metrics of one table, by column name."""
    return {metric.name: metric for metric in METRICS if metric.table == table}
