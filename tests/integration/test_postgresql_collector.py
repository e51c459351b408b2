"""A PostgreSQL is seen as it is: slots, states, waits, blockers, and what is hidden."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest

from headroom.demo.servers import Postgres
from model.samples import Failure, Sample, Session
from tests.collecting import ask, collecting, ours, poll, poll_until, until


@pytest.fixture
def shop(postgres: Postgres) -> Iterator[psycopg.Connection[Any]]:
    """A session of the application."""
    dsn = postgres.dsn(user="app", dbname="shop")
    with psycopg.connect(dsn, autocommit=True, application_name="shop") as connection:
        yield connection


def watcher(postgres: Postgres, user: str = "headroom") -> str:
    return postgres.dsn(user=user, dbname="shop")


def session(sample: Sample, pid: int) -> Session:
    assert sample.sessions is not None, sample
    return next(session for session in sample.sessions if session.pid == pid)


async def test_the_server_says_what_it_is_and_how_many_slots_are_left(
    postgres: Postgres, shop: psycopg.Connection[Any]
) -> None:
    async with collecting(watcher(postgres)) as collector:
        sample = await poll(collector)
        server = sample.server
        assert sample.up, sample
        assert server is not None
        assert (server.version_num // 10000, server.role) == (18, "primary")
        assert (server.max_connections, server.ordinary_capacity) == (30, 27)
        assert server.headroom == 27 - server.slots_used
        assert abs(server.clock_skew_seconds) < 0.5
        assert server.prepared_transactions == 0
        # Our own session takes a slot and is nobody that we watch.
        assert server.slots_used == 1 + sum(server.states.values())
        assert server.slots_used == len(sample.sessions) + 1
        assert not any(s.application == "headroom" for s in sample.sessions)


async def test_states_transactions_and_masked_statements(
    postgres: Postgres, shop: psycopg.Connection[Any]
) -> None:
    pid = shop.info.backend_pid
    async with collecting(watcher(postgres)) as collector:
        idle = session(await poll(collector), pid)
        assert (idle.state, idle.statement, idle.xact_start) == ("idle", None, None)
        assert (idle.database, idle.role, idle.application) == ("shop", "app", "shop")
        assert idle.client is not None
        assert idle.client.startswith("127.0.0.1:")

        shop.execute("BEGIN")
        shop.execute("SELECT 'hunter2'")
        sample = await poll(collector)
        waiting = session(sample, pid)
        assert waiting.state == "idle in transaction"
        assert waiting.statement == "SELECT ?"
        assert waiting.xact_seconds is not None
        assert waiting.xact_seconds >= 0
        assert sample.server is not None
        assert sample.server.states["idle in transaction"] >= 1
        assert sample.server.longest_transaction_seconds >= waiting.xact_seconds
        assert waiting.backend_start == idle.backend_start
        shop.execute("ROLLBACK")


async def test_a_running_statement_has_an_age(
    postgres: Postgres, shop: psycopg.Connection[Any]
) -> None:
    sleep = asyncio.create_task(asyncio.to_thread(shop.execute, "SELECT pg_sleep(1.5)"))
    async with collecting(watcher(postgres)) as collector:
        samples = await poll_until(
            collector, lambda s: session(s, shop.info.backend_pid).state == "active"
        )
        samples += await poll_until(
            collector, lambda s: (s.server.longest_statement_seconds or 0) > 0.2
        )
    running = session(samples[-1], shop.info.backend_pid)
    assert running.statement == "SELECT pg_sleep(?)"
    assert running.statement_seconds is not None
    assert (running.wait_event_type, running.wait_event) == ("Timeout", "PgSleep")
    assert samples[-1].server is not None
    assert samples[-1].server.waits == {"Timeout": 1}
    await sleep


async def test_a_session_that_waits_says_who_is_in_its_way(postgres: Postgres) -> None:
    dsn = postgres.dsn(user="app", dbname="shop")
    with (
        psycopg.connect(dsn) as holder,
        psycopg.connect(dsn, autocommit=True) as waiter,
    ):
        holder.execute("SELECT pg_advisory_xact_lock(7)")
        task = asyncio.create_task(
            asyncio.to_thread(waiter.execute, "SELECT pg_advisory_xact_lock(7)")
        )
        async with collecting(watcher(postgres)) as collector:
            samples = await poll_until(collector, lambda s: s.server.blocked == 1)
            blocked = session(samples[-1], waiter.info.backend_pid)
            assert blocked.blocked_by == (holder.info.backend_pid,)
            assert blocked.wait_event_type == "Lock"
            assert session(samples[-1], holder.info.backend_pid).blocked_by == ()
            holder.rollback()
            await task
            await poll_until(collector, lambda s: s.server.blocked == 0)


async def test_counters_of_databases_come_every_few_seconds(postgres: Postgres) -> None:
    async with collecting(watcher(postgres)) as collector:
        first = await poll(collector)
        second = await poll(collector)
    assert first.databases is not None
    database = next(database for database in first.databases if database.name == "shop")
    assert database.connection_limit == -1
    assert database.xact_commit_total > 0
    assert database.sessions_total is not None
    assert second.databases is None


async def test_a_new_role_is_named_in_the_poll_that_first_sees_it(postgres: Postgres) -> None:
    async with collecting(watcher(postgres)) as collector:
        await poll(collector)
        ask(postgres, 'CREATE ROLE "späti" LOGIN')
        try:
            with psycopg.connect(postgres.dsn(user="späti", dbname="postgres")) as late:
                late.execute("SELECT 1")
                seen = session(await poll(collector), late.info.backend_pid)
                assert (seen.role, seen.database) == ("späti", "postgres")
        finally:
            ask(postgres, 'DROP ROLE "späti"')


async def test_without_the_privilege_nothing_is_counted_and_the_grant_is_named(
    postgres: Postgres, shop: psycopg.Connection[Any]
) -> None:
    async with collecting(watcher(postgres, "nobody_special")) as collector:
        sample = await poll(collector)
    assert sample.up
    assert sample.server is not None
    assert sample.server.slots_used is None
    assert sample.server.states is None
    assert sample.sessions is None
    assert sample.degraded is not None
    assert 'GRANT pg_monitor TO "nobody_special";' in sample.degraded
    assert sample.server.max_connections == 30


async def test_our_session_is_one_named_read_only_and_never_in_a_transaction(
    postgres: Postgres,
) -> None:
    async with collecting(watcher(postgres)) as collector:
        await poll(collector)
        (pid,) = ours(postgres)
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            seen: set[tuple[Any, ...]] = set()
            deadline = monotonic() + 2.0

            async def keep_polling() -> None:
                while monotonic() < deadline:
                    await poll(collector)

            polling = asyncio.create_task(keep_polling())
            while not polling.done():
                rows = await asyncio.to_thread(
                    lambda: admin.execute(
                        "SELECT pid, state FROM pg_stat_activity "
                        "WHERE application_name = 'headroom'"
                    ).fetchall()
                )
                assert len(rows) == 1
                seen.update(rows)
            await polling
        assert seen <= {(pid, "idle"), (pid, "active")}

        async def settings(connection: psycopg.AsyncConnection[Any]) -> Any:
            cursor = await connection.execute(
                "SELECT current_setting('default_transaction_read_only'), "
                "current_setting('search_path'), current_setting('statement_timeout'), "
                "current_setting('lock_timeout'), current_setting('transaction_read_only')"
            )
            return await cursor.fetchone()

        answer = await collector.held.ask(settings, monotonic() + 1)  # type: ignore[attr-defined]
        assert answer == ("on", "pg_catalog, pg_temp", "900ms", "200ms", "on")


async def test_bytes_of_no_encoding_do_not_cost_the_poll(postgres: Postgres) -> None:
    ask(
        postgres,
        "CREATE DATABASE raw TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    try:
        dsn = postgres.dsn(user="app", dbname="raw")
        with psycopg.connect(dsn, client_encoding="latin1") as latin:
            latin.execute("SELECT 1 AS \"Größe\", 'Grüße'".encode("latin1"))
            async with collecting(postgres.dsn(user="headroom", dbname="raw")) as collector:
                sample = await poll(collector)
                assert sample.up, sample
                statement = session(sample, latin.info.backend_pid).statement
                assert statement == 'SELECT ? AS "Gr\ufffd\ufffde", ?'
            async with collecting(watcher(postgres)) as collector:
                assert (await poll(collector)).up
    finally:
        ask(postgres, "DROP DATABASE raw WITH (FORCE)")


@pytest.mark.parametrize("catalog", ["pg_database", "pg_authid"])
async def test_a_locked_catalog_degrades_the_poll_and_counts_stay(
    postgres: Postgres, catalog: str
) -> None:
    async with collecting(watcher(postgres)) as collector:
        assert (await poll(collector)).up
        # Time for the counters again, and names to ask for again.
        collector._side_due = {"databases": 0.0, "roles": 0.0}  # type: ignore[attr-defined]
        collector._names.forget()  # type: ignore[attr-defined]
        with psycopg.connect(postgres.dsn()) as admin:
            admin.execute(f"LOCK TABLE pg_catalog.{catalog}".encode())
            sample = await poll(collector)
            assert sample.up, sample
            assert sample.server is not None
            assert sample.server.slots_used == 2
            assert sample.sessions is not None
            assert sample.degraded is not None
            assert "a catalog is locked" in sample.degraded
            admin.rollback()


@pytest.fixture
def small(server_folder: Callable[[str], Path]) -> Iterator[Postgres]:
    """A server with six slots, one of them for superusers and one reserved."""
    settings = {
        "max_connections": 6,
        "superuser_reserved_connections": 1,
        "reserved_connections": 1,
        "max_wal_senders": 2,
        "autovacuum": "off",
    }
    with Postgres(server_folder("small"), settings=settings) as server:
        ask(server, "CREATE ROLE app LOGIN")
        ask(server, "CREATE ROLE headroom LOGIN IN ROLE pg_monitor")
        yield server


async def test_a_full_server_is_still_seen_and_a_newcomer_is_told_why_it_stays_out(
    small: Postgres,
) -> None:
    held = small.dsn(user="headroom")
    async with collecting(held) as collector, collecting(held) as newcomer:
        assert (await poll(collector)).up
        with contextlib.ExitStack() as stack:
            for _ in range(3):  # with ours, all four ordinary slots
                stack.enter_context(psycopg.connect(small.dsn(user="app")))
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(small.dsn(user="app"))
            # The refused login takes a slot until its process is gone.
            *_, sample = await poll_until(collector, lambda s: s.server.slots_used == 4)
            assert sample.server is not None
            assert sample.server.headroom == 0

            refused = await poll(newcomer)
            assert (refused.up, refused.failure) == (False, Failure.SLOTS_EXHAUSTED)
            assert refused.reason is not None
            assert "only reserved slots are left" in refused.reason

            # While we wait for the next attempt every poll still says why.
            again = await poll(newcomer)
            assert again.failure is Failure.SLOTS_EXHAUSTED
            stack.enter_context(psycopg.connect(small.dsn()))
            stack.enter_context(psycopg.connect(small.dsn()))
            reasons = await poll_until(newcomer, lambda s: "every slot is taken" in s.reason, 30)
            assert any("next attempt in" in sample.reason for sample in [again, *reasons])
            assert (await poll(collector)).up
        await poll_until(newcomer, lambda sample: sample.up, seconds=40)


@pytest.mark.parametrize(
    ("prepare", "user", "dbname", "failure", "words"),
    [
        ("ALTER ROLE app CONNECTION LIMIT 0", "app", "postgres", Failure.ROLE_LIMIT, "role"),
        (
            "CREATE DATABASE tight CONNECTION LIMIT 0",
            "app",
            "tight",
            Failure.DATABASE_LIMIT,
            "database",
        ),
        ("SELECT 1", "stranger", "postgres", Failure.AUTHENTICATION, "does not exist"),
        ("SELECT 1", "app", "nowhere", Failure.AUTHENTICATION, "does not exist"),
        (
            "REVOKE CONNECT ON DATABASE template1 FROM PUBLIC",
            "app",
            "template1",
            Failure.PERMISSION,
            "CONNECT",
        ),
    ],
)
async def test_each_refusal_has_its_name(
    small: Postgres, prepare: str, user: str, dbname: str, failure: Failure, words: str
) -> None:
    ask(small, prepare)
    async with collecting(small.dsn(user=user, dbname=dbname)) as collector:
        sample = await poll(collector)
    assert (sample.up, sample.failure) == (False, failure), sample
    assert words in (sample.reason or "")


async def test_a_password_and_a_connection_string_show_nowhere(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for dsn in (
        f"host=127.0.0.1 port={postgres.port} user=stranger password=hunter2 dbname=shop",
        "postgresql://app:hunter2@127.0.0.1:1/shop",
        "host=127.0.0.1 hunter2",
        "postgresql://app@/shop?hunter2=1",
    ):
        async with collecting(dsn) as collector:
            sample = await poll(collector)
        assert not sample.up
        assert "hunter2" not in repr(sample) + repr(collector) + caplog.text


async def test_a_session_that_was_terminated_is_replaced_within_the_poll(
    postgres: Postgres,
) -> None:
    async with collecting(watcher(postgres)) as collector:
        await poll(collector)
        (pid,) = ours(postgres)
        ask(postgres, f"SELECT pg_terminate_backend({pid})")

        async def gone() -> bool:
            return not ours(postgres)

        await until(gone)
        assert (await poll(collector)).up
        (new,) = ours(postgres)
        assert new != pid


@pytest.mark.parametrize("how", [2, 3], ids=["fast", "immediate"])  # SIGINT, SIGQUIT
async def test_a_server_that_restarts_is_seen_again_soon(small: Postgres, how: int) -> None:
    async with collecting(small.dsn(user="headroom")) as collector:
        first = await poll(collector)
        await asyncio.to_thread(small.stop, how)
        down = await poll_until(collector, lambda sample: not sample.up)
        assert down[-1].failure in {Failure.UNREACHABLE, Failure.NOT_AVAILABLE}
        await asyncio.to_thread(small.start_server)
        t0 = monotonic()
        back = await poll_until(collector, lambda sample: sample.up)
        assert monotonic() - t0 < 2.5
        assert back[-1].server is not None
        assert first.server is not None
        assert back[-1].server.started_at > first.server.started_at


async def test_through_a_unix_socket_a_client_is_local(small: Postgres) -> None:
    dsn = f"host={small.folder} port={small.port} user=headroom dbname=postgres"
    with psycopg.connect(dsn) as local:
        async with collecting(dsn) as collector:
            assert session(await poll(collector), local.info.backend_pid).client == "local"


async def test_a_slip_of_the_pen_in_an_option_is_named() -> None:
    async with collecting("host=127.0.0.1 pasword=hunter2") as collector:
        sample = await poll(collector)
    assert sample.reason is not None
    assert "did you mean 'password', not 'pasword'?" in sample.reason
    assert "hunter2" not in sample.reason
