"""The whole collector against every PostgreSQL major that can be had here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path

import psycopg
import pytest

from collectors.check import check
from headroom.demo.servers import Postgres
from model.samples import Server
from tests.collecting import ask, collecting, ours, poll, poll_until, target, until
from tests.servers import MAJORS, binaries, standby_of, with_roles


@pytest.fixture(scope="module", params=MAJORS, ids=lambda major: f"PostgreSQL {major}")
def server(
    request: pytest.FixtureRequest, server_folder: Callable[[str], Path]
) -> Iterator[Postgres]:
    """A server of one major, with thirty slots, prepared transactions, and a limited role."""
    where = binaries(request.param, server_folder)
    settings = {"max_connections": 30, "max_prepared_transactions": 2, "wal_level": "replica"}
    folder = server_folder(f"major-{request.param}")
    with Postgres(folder, binaries=where, settings=settings) as running:
        with_roles(running)
        ask(running, "CREATE DATABASE shop OWNER app CONNECTION LIMIT 12")
        ask(running, "ALTER ROLE app CONNECTION LIMIT 9")
        ask(running, "CREATE TABLE stock (id int PRIMARY KEY, n int); GRANT ALL ON stock TO app")
        ask(running, "INSERT INTO stock VALUES (1, 1)")
        yield running


def major(server: Postgres) -> int:
    return int(ask(server, "SHOW server_version_num")[0][0]) // 10000


async def test_everything_that_a_server_tells_is_seen(server: Postgres) -> None:
    with (
        psycopg.connect(server.dsn(user="app", dbname="shop"), application_name="shop") as app,
        psycopg.connect(server.dsn(), autocommit=True) as admin,
    ):
        app.execute("SELECT 'secret'")
        admin.execute("BEGIN")
        admin.execute("UPDATE stock SET n = 2")
        admin.execute("PREPARE TRANSACTION 'forgotten'")
        async with collecting(server.dsn(user="headroom", dbname="shop")) as collector:
            sample = await poll(collector)
            assert sample.up, sample
            assert sample.degraded is None
            seen = sample.server
            assert seen is not None
            version = seen.version_num // 10000
            not_told = {"authenticating"} if version < 18 else set()
            for field in fields(Server):
                value = getattr(seen, field.name)
                assert (value is None) == (field.name in not_told), (field.name, value)
            assert seen.version.startswith(f"{version}.")
            assert (seen.role, seen.ordinary_capacity) == ("primary", 27)
            assert (seen.slots_used, seen.prepared_transactions) == (3, 1)
            assert seen.states == {"idle in transaction": 1, "idle": 1}
            assert seen.oldest_prepared_seconds is not None
            identifier = ask(server, "SELECT system_identifier FROM pg_control_system()")
            assert seen.system_identifier == str(identifier[0][0])
            statements = {session.statement for session in sample.sessions or ()}
            assert "SELECT ?" in statements
            assert [(r.name, r.connection_limit, r.connections) for r in sample.roles or ()] == [
                ("app", 9, 1)
            ]
            shop = next(d for d in sample.databases or () if d.name == "shop")
            assert (shop.connection_limit, shop.connections) == (12, 2)  # app's and ours
            told = version >= 14
            assert (shop.sessions_total is not None) is told
            assert (shop.session_seconds_total is not None) is told
            assert (shop.active_seconds_total is not None) is told
        admin.execute("ROLLBACK PREPARED 'forgotten'")


async def test_who_waits_for_a_lock_is_seen_with_the_table(server: Postgres) -> None:
    dsn = server.dsn(user="app")
    with (
        psycopg.connect(dsn) as holder,
        psycopg.connect(dsn, autocommit=True) as waiter,
        psycopg.connect(dsn, autocommit=True) as second,
    ):
        holder.execute("UPDATE stock SET n = 3 WHERE id = 1")
        update = "UPDATE stock SET n = 4 WHERE id = 1"
        tasks = [asyncio.create_task(asyncio.to_thread(waiter.execute, update))]
        async with collecting(server.dsn(user="headroom")) as collector:
            await poll_until(collector, lambda s: s.server.blocked == 1)
            tasks.append(asyncio.create_task(asyncio.to_thread(second.execute, update)))
            samples = await poll_until(collector, lambda s: len(s.lock_waits or ()) == 2)
            first, then = samples[-1].lock_waits or ()
            root = holder.info.backend_pid
            assert (first.pid, first.blocked_by) == (waiter.info.backend_pid, (root,))
            assert (first.root, first.depth, first.soft) == (root, 1, False)
            assert (first.lock_type, first.mode) == ("transactionid", "ShareLock")
            assert (then.root, then.depth, then.lock_type) == (root, 2, "tuple")
            assert {first.relation, then.relation} == {"public.stock"}
            assert 0 <= first.wait_seconds < 10
            holder.rollback()
            await asyncio.gather(*tasks)
            samples = await poll_until(collector, lambda s: s.lock_waits == ())
            assert samples[-1].degraded is None


async def test_refused_logins_do_not_make_the_session_time_leap(server: Postgres) -> None:
    if major(server) < 14:
        pytest.skip("there is no session_time before PostgreSQL 14")
    ask(server, "DROP DATABASE IF EXISTS tight")
    ask(server, "CREATE DATABASE tight CONNECTION LIMIT 0")

    async def leapt() -> bool:
        counter = "SELECT session_time FROM pg_stat_database WHERE datname = 'tight'"
        return bool(ask(server, counter)[0][0] > 3 * 8e11)

    async with collecting(server.dsn(user="headroom")) as collector:
        assert (await poll(collector)).databases is not None
        for _ in range(4):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(server.dsn(user="app", dbname="tight"))
        await until(leapt)
        collector._side_due["databases"] = 0.0  # type: ignore[attr-defined]
        sample = await poll(collector)
        tight = next(d for d in sample.databases or () if d.name == "tight")
        assert (tight.connection_limit, tight.headroom, tight.connections) == (0, 0, 0)
        assert tight.session_seconds_total is not None
        assert tight.session_seconds_total < 60
        assert tight.sessions_fatal_total is not None
        assert tight.sessions_fatal_total >= 4
        ask(server, "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'tight'")
        collector._side_due["databases"] = 0.0  # type: ignore[attr-defined]
        sample = await poll(collector)
        tight = next(d for d in sample.databases or () if d.name == "tight")
        assert (tight.connection_limit, tight.headroom) == (-2, None)


async def test_check_knows_the_version(server: Postgres) -> None:
    remarks = await check(target(server.dsn(user="headroom")))
    assert remarks[0].text.startswith(f"PostgreSQL {major(server)}.")
    assert {remark.level for remark in remarks} == {"ok"}


async def test_a_crowd_is_counted_exactly(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collectors.crowd.BEGINS", 6)
    monkeypatch.setattr("collectors.crowd.ENDS", 4)
    async with collecting(server.dsn(user="headroom")) as collector:
        with contextlib.ExitStack() as stack:
            crowd = [
                stack.enter_context(psycopg.connect(server.dsn(user="app"), autocommit=True))
                for _ in range(8)
            ]
            assert (await poll(collector)).up
            assert collector.crowd.active  # type: ignore[attr-defined]
            crowd[0].execute("BEGIN")
            crowd[1].close()
            sample = (await poll_until(collector, lambda s: s.server.slots_used == 8))[-1]
            assert sample.degraded is None
            assert sample.server is not None
            assert sample.server.states == {"idle": 6, "idle in transaction": 1}
            states = {session.pid: session.state for session in sample.sessions or ()}
            assert states == {
                connection.info.backend_pid: "idle in transaction" if not number else "idle"
                for number, connection in enumerate(crowd)
                if number != 1
            }


async def test_a_standby_is_seen_as_one_and_its_promotion_at_the_next_poll(
    server: Postgres, server_folder: Callable[[str], Path]
) -> None:
    with standby_of(server, server_folder(f"standby-{server.port}")) as standby:

        async def streams() -> bool:
            rows = ask(server, "SELECT count(*) FROM pg_stat_replication")
            return bool(rows[0][0])

        await until(streams)
        async with (
            collecting(standby.dsn(user="headroom")) as collector,
            collecting(server.dsn(user="headroom")) as of_primary,
        ):
            sample = await poll(collector)
            assert sample.up, sample
            assert sample.degraded is None
            assert sample.server is not None
            assert sample.server.role == "standby"
            primary = (await poll(of_primary)).server
            assert primary is not None
            assert (primary.role, primary.walsenders) == ("primary", 1)
            assert primary.system_identifier == sample.server.system_identifier
            pids = ours(standby)
            ask(standby, "SELECT pg_promote()")
            sample = await poll(collector)  # over the same connection
            assert sample.up, sample
            assert sample.server is not None
            assert sample.server.role == "primary"
            assert ours(standby) == pids
            # Two primaries of one cluster: both values tell it.
            primary = (await poll(of_primary)).server
            assert primary is not None
            assert (primary.role, primary.system_identifier) == (
                "primary",
                sample.server.system_identifier,
            )
