"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "alert",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("fired_at", sa.BigInteger(), nullable=True),
        sa.Column("resolved_at", sa.BigInteger(), nullable=True),
        sa.Column("notified_at", sa.BigInteger(), nullable=True),
        sa.Column("notified_severity", sa.Text(), nullable=True),
        sa.Column("no_data_since", sa.BigInteger(), nullable=True),
        sa.Column("clear_since", sa.BigInteger(), nullable=True),
        sa.Column("finding", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert")),
    )
    op.create_index("ix_alert_state", "alert", ["state"], unique=False)
    op.create_index("ix_alert_target_since", "alert", ["target", "since"], unique=False)
    op.create_table(
        "database",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_database")),
        sa.UniqueConstraint("target_id", "name", name=op.f("uq_database_target_id_name")),
    )
    op.create_table(
        "database_sample",
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("database_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("connection_limit", sa.Integer(), nullable=True),
        sa.Column("backends", sa.Integer(), nullable=True),
        sa.Column("xact_commit_total", sa.BigInteger(), nullable=True),
        sa.Column("xact_rollback_total", sa.BigInteger(), nullable=True),
        sa.Column("sessions_total", sa.BigInteger(), nullable=True),
        sa.Column("sessions_abandoned_total", sa.BigInteger(), nullable=True),
        sa.Column("sessions_fatal_total", sa.BigInteger(), nullable=True),
        sa.Column("sessions_killed_total", sa.BigInteger(), nullable=True),
        sa.Column("active_seconds_total", sa.Float(), nullable=True),
        sa.Column("idle_in_transaction_seconds_total", sa.Float(), nullable=True),
        sa.Column("stats_reset_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("target_id", "database_id", "at", name=op.f("pk_database_sample")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outbox",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("alert_id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_attempt_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("dead_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outbox")),
        sa.UniqueConstraint("id", name=op.f("uq_outbox_id")),
    )
    op.create_index(
        "ix_outbox_open",
        "outbox",
        ["channel", "seq"],
        unique=False,
        sqlite_where=sa.text("sent_at IS NULL AND dead_at IS NULL"),
    )
    op.create_table(
        "pool",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("database", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pool")),
        sa.UniqueConstraint(
            "target_id", "database", "user", name=op.f("uq_pool_target_id_database_user")
        ),
    )
    op.create_table(
        "pool_database_sample",
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("database_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("xact_total", sa.BigInteger(), nullable=True),
        sa.Column("query_total", sa.BigInteger(), nullable=True),
        sa.Column("received_bytes_total", sa.BigInteger(), nullable=True),
        sa.Column("sent_bytes_total", sa.BigInteger(), nullable=True),
        sa.Column("xact_seconds_total", sa.Float(), nullable=True),
        sa.Column("query_seconds_total", sa.Float(), nullable=True),
        sa.Column("wait_seconds_total", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint(
            "target_id", "database_id", "at", name=op.f("pk_pool_database_sample")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pool_sample",
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("pool_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("client_active", sa.Integer(), nullable=True),
        sa.Column("client_waiting", sa.Integer(), nullable=True),
        sa.Column("server_active", sa.Integer(), nullable=True),
        sa.Column("server_idle", sa.Integer(), nullable=True),
        sa.Column("server_used", sa.Integer(), nullable=True),
        sa.Column("server_tested", sa.Integer(), nullable=True),
        sa.Column("server_login", sa.Integer(), nullable=True),
        sa.Column("pool_size", sa.Integer(), nullable=True),
        sa.Column("maxwait_seconds", sa.Float(), nullable=True),
        sa.Column("pool_mode", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("target_id", "pool_id", "at", name=op.f("pk_pool_sample")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pooler_sample",
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("up", sa.Boolean(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("degraded", sa.Text(), nullable=True),
        sa.Column("poll_seconds", sa.Float(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("used_clients", sa.Integer(), nullable=True),
        sa.Column("login_clients", sa.Integer(), nullable=True),
        sa.Column("used_servers", sa.Integer(), nullable=True),
        sa.Column("max_client_conn", sa.Integer(), nullable=True),
        sa.Column("default_pool_size", sa.Integer(), nullable=True),
        sa.Column("client_active", sa.Integer(), nullable=True),
        sa.Column("client_waiting", sa.Integer(), nullable=True),
        sa.Column("server_active", sa.Integer(), nullable=True),
        sa.Column("server_idle", sa.Integer(), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=True),
        sa.Column("maxwait_seconds", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("target_id", "at", name=op.f("pk_pooler_sample")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("stopped_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    op.create_table(
        "server_sample",
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("up", sa.Boolean(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("degraded", sa.Text(), nullable=True),
        sa.Column("poll_seconds", sa.Float(), nullable=False),
        sa.Column("version", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("clock_skew_seconds", sa.Float(), nullable=True),
        sa.Column("max_connections", sa.Integer(), nullable=True),
        sa.Column("superuser_reserved_connections", sa.Integer(), nullable=True),
        sa.Column("reserved_connections", sa.Integer(), nullable=True),
        sa.Column("ordinary_capacity", sa.Integer(), nullable=True),
        sa.Column("slots_used", sa.Integer(), nullable=True),
        sa.Column("active", sa.Integer(), nullable=True),
        sa.Column("idle", sa.Integer(), nullable=True),
        sa.Column("idle_in_transaction", sa.Integer(), nullable=True),
        sa.Column("idle_in_transaction_aborted", sa.Integer(), nullable=True),
        sa.Column("other_states", sa.Integer(), nullable=True),
        sa.Column("blocked", sa.Integer(), nullable=True),
        sa.Column("wait_cpu", sa.Integer(), nullable=True),
        sa.Column("wait_lock", sa.Integer(), nullable=True),
        sa.Column("wait_lwlock", sa.Integer(), nullable=True),
        sa.Column("wait_io", sa.Integer(), nullable=True),
        sa.Column("wait_client", sa.Integer(), nullable=True),
        sa.Column("wait_other", sa.Integer(), nullable=True),
        sa.Column("prepared_transactions", sa.Integer(), nullable=True),
        sa.Column("walsenders", sa.Integer(), nullable=True),
        sa.Column("longest_statement_seconds", sa.Float(), nullable=True),
        sa.Column("longest_transaction_seconds", sa.Float(), nullable=True),
        sa.Column("longest_idle_in_transaction_seconds", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("target_id", "at", name=op.f("pk_server_sample")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "session",
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("backend_start", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("database", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("application", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("wait_event_type", sa.Text(), nullable=True),
        sa.Column("wait_event", sa.Text(), nullable=True),
        sa.Column("xact_start", sa.BigInteger(), nullable=True),
        sa.Column("query_start", sa.BigInteger(), nullable=True),
        sa.Column("state_change", sa.BigInteger(), nullable=True),
        sa.Column("statement_id", sa.BigInteger(), nullable=True),
        sa.Column("blocked_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint(
            "target_id", "started_at", "pid", "backend_start", name=op.f("pk_session")
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_session_open",
        "session",
        ["target_id"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "statement",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_statement")),
    )
    op.create_table(
        "target",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_target")),
        sa.UniqueConstraint("name", name=op.f("uq_target_name")),
    )
    op.create_table(
        "verdict",
        sa.Column("target_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("target_id", "at", name=op.f("pk_verdict")),
        sqlite_with_rowid=False,
    )
