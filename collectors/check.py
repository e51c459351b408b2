"""What is missing for a target to be watched well, and the exact statement that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal

from psycopg import AsyncConnection

from collectors.dialects import version_pair
from collectors.errors import CollectError
from collectors.pgbouncer import PgBouncerCollector
from collectors.pgpool import PgpoolCollector
from collectors.postgresql import PostgresqlCollector
from collectors.postgresql_rows import grant, quoted
from collectors.sql import sql
from model.samples import Failure
from model.targets import Target

OLDEST, NEWEST = 13, 18  # major versions of PostgreSQL that Headroom is tested with
OLDEST_PGBOUNCER = (1, 18)
LARGE_ACTIVITY = 256 * 1024 * 1024  # bytes that the server copies for each look at its sessions

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was checked.

    level: "ok" needs nothing; "warning" works, but less well; "error" is not watched.
    fix:   the statement or setting that mends it, or None.
    """

    level: Level
    text: str
    fix: str | None = None


_FIXES: dict[Failure, str] = {
    Failure.UNREACHABLE: "check host and port in the connection string, and that it runs",
    Failure.TIMEOUT: "check firewalls between here and there, or set a longer `timeout`",
    Failure.SLOTS_EXHAUSTED: (
        "start Headroom before the server is full; on PostgreSQL 16 and newer set "
        "reserved_connections = 1 and grant pg_use_reserved_connections to its role"
    ),
    Failure.ROLE_LIMIT: "ALTER ROLE … CONNECTION LIMIT 3;",
    Failure.DATABASE_LIMIT: 'use another database for the monitor, such as "postgres"',
    Failure.AUTHENTICATION: "check user, password, database and pg_hba.conf",
    Failure.PERMISSION: (
        "PgBouncer: add the user to stats_users and RELOAD; "
        "PostgreSQL: GRANT CONNECT ON DATABASE to the role"
    ),
    Failure.PROTOCOL: "check `kind`, host and port of this target",
}


async def check(target: Target) -> list[Remark]:
    """Connect to *target* once and say what is well and what is missing. Never raises."""
    try:
        if target.kind == "pgpool":
            return await _check_pgpool(target)
        if target.is_pooler:
            return await _check_console(target)
        return await _check_postgresql(target)
    except CollectError as error:
        return [Remark("error", error.reason, _FIXES.get(error.failure))]


async def _check_postgresql(target: Target) -> list[Remark]:
    collector = PostgresqlCollector(target)

    async def look(connection: AsyncConnection) -> tuple[Any, ...]:
        assert collector.identity is not None, "introduced before the first question"
        cursor = connection.cursor(binary=True)
        question = sql("check_server", collector.identity.version_num)
        await cursor.execute(question, prepare=False)
        row = await cursor.fetchone()
        assert row is not None, "a SELECT without FROM yields one row"
        return row

    try:
        row = await collector.held.ask(look, monotonic() + target.deadline_seconds)
        known = collector.identity
        assert known is not None, "introduced before the first question"
    finally:
        await collector.close()
    role, sees_all, superuser, read_only, tracks, activity_bytes, reserved, may_use = row
    remarks = [_version_remark(known.version, known.version_num // 10000)]
    if collector.through_proxy:
        remarks.append(
            Remark(
                "warning",
                "the connection goes through a pooler or proxy, so it may queue with the "
                "application when it matters",
                "give the server's own host and port",
            )
        )
    elif not read_only:
        remarks.append(
            Remark(
                "warning",
                "the session is not read-only",
                f"ALTER ROLE {quoted(role)} SET default_transaction_read_only = on;",
            )
        )
    else:
        remarks.append(Remark("ok", "the session is read-only"))
    remarks.append(_privilege_remark(role, sees_all, superuser))
    if not tracks:
        remarks.append(
            Remark(
                "warning",
                "track_activities is off: states and statements of sessions are not known",
                "ALTER SYSTEM SET track_activities = on; SELECT pg_reload_conf();",
            )
        )
    if activity_bytes > LARGE_ACTIVITY:
        remarks.append(
            Remark(
                "warning",
                f"each poll makes the server copy {activity_bytes // 1024**2} MiB "
                "(track_activity_query_size × max_connections)",
                "lower track_activity_query_size, or poll less often",
            )
        )
    if reserved is not None and not superuser and not (reserved and may_use):
        remarks.append(
            Remark(
                "ok",
                "when every slot is taken, a new connection of Headroom is refused; "
                "a reserved connection would let it in",
                f"GRANT pg_use_reserved_connections TO {quoted(role)}; "
                "ALTER SYSTEM SET reserved_connections = 1; (takes a restart)",
            )
        )
    return remarks


def _version_remark(version: str, major: int) -> Remark:
    if OLDEST <= major <= NEWEST:
        return Remark("ok", f"PostgreSQL {version}")
    return Remark(
        "warning",
        f"PostgreSQL {version}: Headroom is tested with PostgreSQL {OLDEST} to {NEWEST}",
    )


def _privilege_remark(role: str, sees_all: bool, superuser: bool) -> Remark:
    if superuser:
        return Remark(
            "warning",
            f'the role "{role}" is a superuser; a monitor needs far less',
            f"CREATE ROLE headroom LOGIN; {grant('headroom')}",
        )
    if not sees_all:
        return Remark(
            "error",
            f'the role "{role}" may not see other sessions, so nothing can be counted',
            grant(role),
        )
    return Remark("ok", f'the role "{role}" sees every session')


async def _check_console(target: Target) -> list[Remark]:
    """Every process of a pooler with a console, then its canary."""
    collector = PgBouncerCollector(target)
    remarks: list[Remark] = []
    try:
        for console in collector.consoles:
            where = "its console" if console.process is None else f"process {console.process}"
            await console.held.ask(console.look, monotonic() + target.deadline_seconds)
            running = console.version
            product = console.speaks.product
            if target.kind == "pgbouncer" and version_pair(running) < OLDEST_PGBOUNCER:
                oldest = ".".join(str(number) for number in OLDEST_PGBOUNCER)
                text = f"PgBouncer {running}: Headroom is tested with {oldest} and newer"
                remarks.append(Remark("warning", text))
            else:
                remarks.append(Remark("ok", f"{product} {running}"))
            remarks.append(Remark("ok", f"{where} answers"))
            if console.settings.get("so_reuseport") == "1" and console.process is None:
                remarks.append(
                    Remark(
                        "warning",
                        "so_reuseport is on: if several processes share this port, only one "
                        "of them is seen",
                        'processes = ["host=/run/pgbouncer/1", "host=/run/pgbouncer/2"]',
                    )
                )
            if not console.speaks.state and target.kind == "pgbouncer" and target.canary is None:
                remarks.append(
                    Remark(
                        "ok",
                        "this version does not say that it is paused; a canary would see it",
                        'canary = "dbname=… user=…"',
                    )
                )
    finally:
        await collector.close()
    return remarks


async def _check_pgpool(target: Target) -> list[Remark]:
    collector = PgpoolCollector(target)
    try:
        seen = await collector.held.ask(collector.look, monotonic() + target.deadline_seconds)
    finally:
        await collector.close()
    remarks = [Remark("ok", f"Pgpool-II {collector.version}")]
    remarks.append(
        Remark(
            "ok",
            f"Headroom's session takes one of its {seen.pooler.max_client_conn} client slots",
        )
    )
    remarks.extend(Remark("warning", text) for text in seen.unwell)
    return remarks
