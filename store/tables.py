"""The tables.

Every row that belongs to a target carries target_id, so that a distributed store can
split by it. `at` is our clock.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from model.metrics import metrics_of
from store.kept import Instant, ServerInstant

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _poll_columns() -> list[Column[Any]]:
    """What every poll says, whatever it polled."""
    return [
        Column("target_id", Integer, nullable=False),
        Column("at", Instant, nullable=False),
        Column("up", Boolean, nullable=False),
        Column("failure", Text),
        Column("reason", Text),
        Column("degraded", Text),
        Column("poll_seconds", Float, nullable=False),
    ]


POLL_COLUMNS = tuple(column.name for column in _poll_columns())
"""Their names."""


target = Table(
    "target",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
)

server_sample = Table(
    "server_sample",
    metadata,
    *_poll_columns(),
    Column("version", Text),
    Column("role", Text),
    Column("started_at", ServerInstant),
    Column("clock_skew_seconds", Float),
    *(
        Column(name, Integer)
        for name in (
            "max_connections",
            "superuser_reserved_connections",
            "reserved_connections",
            "ordinary_capacity",
            "slots_used",
            "active",
            "idle",
            "idle_in_transaction",
            "idle_in_transaction_aborted",
            "other_states",
            "blocked",
            "wait_cpu",
            "wait_lock",
            "wait_lwlock",
            "wait_io",
            "wait_client",
            "wait_other",
            "prepared_transactions",
            "walsenders",
            "authenticating",
            "folded_applications",
        )
    ),
    Column("longest_statement_seconds", Float),
    Column("longest_transaction_seconds", Float),
    Column("longest_idle_in_transaction_seconds", Float),
    Column("oldest_prepared_seconds", Float),
    Column("system_identifier", Text),
    PrimaryKeyConstraint("target_id", "at"),
    sqlite_with_rowid=False,
)

pooler_sample = Table(
    "pooler_sample",
    metadata,
    *_poll_columns(),
    Column("version", Text),
    *(
        Column(name, Integer)
        for name in (
            "used_clients",
            "login_clients",
            "used_servers",
            "max_client_conn",
            "default_pool_size",
            "client_active",
            "client_waiting",
            "server_active",
            "server_idle",
            "max_db_connections",
            "processes",
        )
    ),
    Column("product", Text),
    Column("paused", Boolean),
    Column("maxwait_seconds", Float),
    Column("canary_seconds", Float),
    Column("query_wait_timeout_seconds", Float),
    PrimaryKeyConstraint("target_id", "at"),
    sqlite_with_rowid=False,
)

pool = Table(
    "pool",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("target_id", Integer, nullable=False),
    Column("database", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("process", Text, nullable=False, server_default=""),  # "" where there is only one
    UniqueConstraint("target_id", "database", "user", "process"),
)

pool_sample = Table(
    "pool_sample",
    metadata,
    Column("target_id", Integer, nullable=False),
    Column("pool_id", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    *(
        Column(name, Integer)
        for name in (
            "client_active",
            "client_waiting",
            "server_active",
            "server_idle",
            "server_used",
            "server_tested",
            "server_login",
            "pool_size",
            "reserve_pool_size",
        )
    ),
    Column("maxwait_seconds", Float),
    Column("oldest_wait_seconds", Float),
    Column("pool_mode", Text),
    PrimaryKeyConstraint("target_id", "pool_id", "at"),
    sqlite_with_rowid=False,
)

pool_database_sample = Table(
    "pool_database_sample",
    metadata,
    Column("target_id", Integer, nullable=False),
    Column("database_id", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    *(
        Column(name, BigInteger)
        for name in (
            "xact_total",
            "query_total",
            "assignments_total",
            "received_bytes_total",
            "sent_bytes_total",
        )
    ),
    *(Column(name, Integer) for name in ("max_connections", "current_connections")),
    *(Column(name, Boolean) for name in ("paused", "disabled")),
    *(
        Column(name, Float)
        for name in ("xact_seconds_total", "query_seconds_total", "wait_seconds_total")
    ),
    PrimaryKeyConstraint("target_id", "database_id", "at"),
    sqlite_with_rowid=False,
)

database = Table(
    "database",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("target_id", Integer, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("target_id", "name"),
)

database_sample = Table(
    "database_sample",
    metadata,
    Column("target_id", Integer, nullable=False),
    Column("database_id", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("connection_limit", Integer),
    Column("connections", Integer),
    Column("backends", Integer),
    *(
        Column(name, BigInteger)
        for name in (
            "xact_commit_total",
            "xact_rollback_total",
            "sessions_total",
            "sessions_abandoned_total",
            "sessions_fatal_total",
            "sessions_killed_total",
        )
    ),
    Column("session_seconds_total", Float),
    Column("active_seconds_total", Float),
    Column("idle_in_transaction_seconds_total", Float),
    Column("stats_reset_at", ServerInstant),
    PrimaryKeyConstraint("target_id", "database_id", "at"),
    sqlite_with_rowid=False,
)

statement = Table(
    "statement",
    metadata,
    # A hash of the text, so that two processes that see the same text agree without asking.
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    # When an episode with it last began, within an hour; so that nobody has to look through
    # the episodes to find out that a text is not used any more.
    Column("used_at", Instant, nullable=False, server_default="0"),
    Column("text", Text, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("target_id", Integer, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("backend_start", ServerInstant, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant),  # NULL while it goes on
    Column("database", Text),
    Column("role", Text),
    Column("application", Text, nullable=False),
    Column("client", Text),
    Column("state", Text),
    Column("wait_event_type", Text),  # when the episode began
    Column("wait_event", Text),
    Column("xact_start", ServerInstant),
    Column("query_start", ServerInstant),
    Column("state_change", ServerInstant),
    Column("statement_id", BigInteger),
    Column("blocked_by", Text),  # pids, comma-separated, when the episode began
    # Ordered by time: an episode is cut after store.episodes.LONGEST, so the sessions of any
    # past moment stand in one short stretch of the table.
    PrimaryKeyConstraint("target_id", "started_at", "pid", "backend_start"),
    sqlite_with_rowid=False,
)
Index("ix_session_open", session.c.target_id, sqlite_where=text("ended_at IS NULL"))

lock_wait = Table(
    "lock_wait",
    metadata,
    # One row for one wait of one session, from when it was first seen until it was over.
    Column("target_id", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("backend_start", ServerInstant, nullable=False),
    Column("ended_at", Instant),
    Column("blocked_by", Text, nullable=False),  # pids, comma-separated; 0: prepared transaction
    Column("root", Integer),
    Column("depth", Integer, nullable=False),
    Column("soft", Boolean, nullable=False),
    Column("lock_type", Text),
    Column("mode", Text),
    Column("relation", Text),
    Column("waited_seconds", Float, nullable=False),  # before it was first seen
    PrimaryKeyConstraint("target_id", "started_at", "pid", "backend_start"),
    sqlite_with_rowid=False,
)
Index("ix_lock_wait_open", lock_wait.c.target_id, sqlite_where=text("ended_at IS NULL"))

client_link = Table(
    "client_link",
    metadata,
    # One row for as long as a pooler's client has the same state and the same backend.
    Column("target_id", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("ended_at", Instant),
    Column("client", Text, nullable=False),
    Column("application", Text, nullable=False),
    Column("database", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("waited_seconds", Float),  # before it was first seen
    Column("connected_at", ServerInstant),
    Column("backend_pid", Integer),
    Column("process", Text),
    PrimaryKeyConstraint("target_id", "started_at", "client_id"),
    sqlite_with_rowid=False,
)
Index("ix_client_link_open", client_link.c.target_id, sqlite_where=text("ended_at IS NULL"))

role = Table(
    "role",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("target_id", Integer, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("target_id", "name"),
)

role_sample = Table(
    "role_sample",
    metadata,
    # Only roles that have a CONNECTION LIMIT.
    Column("target_id", Integer, nullable=False),
    Column("role_id", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("connection_limit", Integer),
    Column("connections", Integer),
    PrimaryKeyConstraint("target_id", "role_id", "at"),
    sqlite_with_rowid=False,
)

alert = Table(
    "alert",
    metadata,
    Column("id", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("labels", Text, nullable=False),  # JSON object, keys sorted
    Column("state", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("since", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("fired_at", Instant),
    Column("resolved_at", Instant),
    Column("notified_at", Instant),
    Column("notified_severity", Text),
    Column("told", Text),  # the channels that heard of it, as JSON
    Column("no_data_since", Instant),
    Column("clear_since", Instant),
    Column("finding", Text, nullable=False),  # JSON of the latest finding
)
Index("ix_alert_state", alert.c.state)
Index("ix_alert_target_since", alert.c.target, alert.c.since)

outbox = Table(
    "outbox",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),  # order within an alert
    Column("id", Text, nullable=False, unique=True),  # the notice and its channel
    Column("alert_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("payload", Text, nullable=False),  # JSON of the notice
    Column("created_at", Instant, nullable=False),
    Column("next_attempt_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("sent_at", Instant),
    Column("dead_at", Instant),  # given up, after alerts.retry_for or a permanent refusal
)
Index(
    "ix_outbox_open",
    outbox.c.channel,
    outbox.c.seq,
    sqlite_where=text("sent_at IS NULL AND dead_at IS NULL"),
)

verdict = Table(
    "verdict",
    metadata,
    Column("target_id", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("layer", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("severity", Text),
    Column("detail", Text, nullable=False),  # JSON: evidence, advice, culprit
    PrimaryKeyConstraint("target_id", "at"),
    sqlite_with_rowid=False,
)

run = Table(
    "run",
    metadata,
    # One row per life of `headroom run`; the time between two rows is a gap of ours.
    Column("id", Integer, primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("stopped_at", Instant),  # NULL: still running, or killed
)


def _rollup(table: Table, *identity: str) -> Table:
    """The roll-up of a sample table: one row a minute or hour instead of one a poll.

    polls: how many samples there are in it; up: how many of them had an answer.
    A gauge has its minimum, average and maximum, so that a peak survives; a limit and a
    counter have their last value.
    """
    columns: list[Column[Any]] = [Column(name, Integer, nullable=False) for name in identity]
    for metric in metrics_of(table.name).values():
        kind = table.c[metric.name].type
        if metric.fold == "last":
            columns.append(Column(metric.name, kind))
        else:
            columns.append(Column(f"{metric.name}_min", kind))
            columns.append(Column(f"{metric.name}_avg", Float))
            columns.append(Column(f"{metric.name}_max", kind))
    if "stats_reset_at" in table.c:
        columns.append(Column("stats_reset_at", ServerInstant))
    return Table(
        table.name.replace("_sample", "_rollup"),
        metadata,
        Column("resolution", Integer, nullable=False),  # seconds: 60 or 3600
        Column("at", Instant, nullable=False),  # when the minute or hour begins
        Column("polls", Integer, nullable=False),
        Column("up", Integer, nullable=False),
        *columns,
        PrimaryKeyConstraint(*identity[:1], "resolution", *identity[1:], "at"),
        sqlite_with_rowid=False,
    )


ROLLUPS: dict[Table, Table] = {
    server_sample: _rollup(server_sample, "target_id"),
    pooler_sample: _rollup(pooler_sample, "target_id"),
    pool_sample: _rollup(pool_sample, "target_id", "pool_id"),
    pool_database_sample: _rollup(pool_database_sample, "target_id", "database_id"),
    database_sample: _rollup(database_sample, "target_id", "database_id"),
    role_sample: _rollup(role_sample, "target_id", "role_id"),
}
"""The roll-up of every sample table."""

spool_state = Table(
    "spool_state",
    metadata,
    # One row: how much of the spool is in the store. Written with what was taken from it, so
    # that a crash in between takes nothing twice.
    Column("id", Integer, primary_key=True),
    Column("segment", Integer, nullable=False),
    Column("offset", Integer, nullable=False),
)

retired_state = Table(
    "retired_state",
    metadata,
    # One row: when retention last deleted names, so that nobody goes on using their numbers.
    Column("id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
)

rollup_state = Table(
    "rollup_state",
    metadata,
    # How far samples are rolled up; a late sample sets it back, and the stretch is done again.
    Column("name", Text, primary_key=True),
    Column("until", Instant, nullable=False),
)

SAMPLE_TABLES: tuple[Table, ...] = (
    server_sample,
    pooler_sample,
    pool_sample,
    pool_database_sample,
    database_sample,
    role_sample,
)

EPISODE_TABLES: tuple[Table, ...] = (session, lock_wait, client_link)
