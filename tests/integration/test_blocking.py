"""Lock waits of real sessions: chains, queues, hot rows and prepared transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headroom.demo.servers import Postgres
from model.samples import LockWait, Sample
from tests.collecting import ask, collecting, poll, poll_until
from tests.servers import with_roles


@pytest.fixture(scope="module")
def server(server_folder: Callable[[str], Path]) -> Iterator[Postgres]:
    """A server with room for many waiters."""
    settings = {"max_connections": 120, "max_prepared_transactions": 2, "deadlock_timeout": "30s"}
    with Postgres(server_folder("blocking"), settings=settings) as running:
        with_roles(running)
        ask(running, "CREATE DATABASE shop OWNER app")
        with psycopg.connect(running.dsn(user="app", dbname="shop"), autocommit=True) as app:
            app.execute("CREATE SCHEMA sales; CREATE TABLE sales.orders (id int, n int)")
            app.execute("INSERT INTO sales.orders SELECT g, 0 FROM generate_series(1, 9) g")
        yield running


class Crew:
    """Sessions of the application, each with a thread that it may wait in."""

    def __init__(self, server: Postgres, stack: ExitStack) -> None:
        self._dsn = server.dsn(user="app", dbname="shop")
        self._stack = stack
        self._threads: list[threading.Thread] = []

    def session(self) -> psycopg.Connection[Any]:
        return self._stack.enter_context(psycopg.connect(self._dsn))

    def wait(self, connection: psycopg.Connection[Any], statement: str) -> int:
        """Let it run a statement that waits. Its pid."""

        def run() -> None:
            connection.execute(statement.encode())
            connection.rollback()

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()
        return connection.info.backend_pid

    def join(self) -> None:
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


@pytest.fixture
def crew(server: Postgres) -> Iterator[Crew]:
    with ExitStack() as stack:
        yield Crew(server, stack)


def waits(sample: Sample) -> dict[int, LockWait]:
    return {wait.pid: wait for wait in sample.lock_waits or ()}


async def test_nobody_waits(server: Postgres) -> None:
    async with collecting(server.dsn(user="headroom", dbname="shop")) as collector:
        assert (await poll(collector)).lock_waits == ()
        assert collector.locks.blocking_calls == 0  # type: ignore[attr-defined]


async def test_a_chain_of_three_has_its_root_and_depths(server: Postgres, crew: Crew) -> None:
    sessions = [crew.session() for _ in range(4)]
    for number, session in enumerate(sessions):
        session.execute("UPDATE sales.orders SET n = 1 WHERE id = %s", [number + 1])
    root, *others = (session.info.backend_pid for session in sessions)
    async with collecting(server.dsn(user="headroom", dbname="shop")) as collector:
        for number, session in enumerate(sessions[1:]):
            crew.wait(session, f"UPDATE sales.orders SET n = 2 WHERE id = {number + 1}")
        sample = (await poll_until(collector, lambda s: len(s.lock_waits) == 3))[-1]
        found = waits(sample)
        assert [(found[pid].root, found[pid].depth) for pid in others] == [
            (root, 1),
            (root, 2),
            (root, 3),
        ]
        assert [found[pid].blocked_by for pid in others] == [(root,), (others[0],), (others[1],)]
        assert {wait.relation for wait in found.values()} == {"sales.orders"}
        assert not any(wait.soft for wait in found.values())
        of_session = {s.pid: s.blocked_by for s in sample.sessions or ()}
        assert of_session[others[1]] == (others[0],)
        sessions[0].rollback()
        crew.join()
        assert (await poll_until(collector, lambda s: s.lock_waits == ()))[-1].up


async def test_selects_behind_an_alter_wait_softly_and_the_idle_holder_is_the_root(
    server: Postgres, crew: Crew
) -> None:
    holder = crew.session()
    holder.execute("SELECT * FROM sales.orders")
    async with collecting(server.dsn(user="headroom", dbname="shop")) as collector:
        alter = crew.wait(crew.session(), "ALTER TABLE sales.orders ADD COLUMN late int")
        await poll_until(collector, lambda s: len(s.lock_waits) == 1)
        readers = [crew.wait(crew.session(), "SELECT * FROM sales.orders") for _ in range(3)]
        found = waits((await poll_until(collector, lambda s: len(s.lock_waits) == 4))[-1])
        root = holder.info.backend_pid
        first = found[alter]
        assert (first.blocked_by, first.root, first.depth, first.soft) == ((root,), root, 1, False)
        assert (first.lock_type, first.mode) == ("relation", "AccessExclusiveLock")
        for pid in readers:
            wait = found[pid]
            assert (wait.blocked_by, wait.root, wait.depth) == ((alter,), root, 2)
            assert wait.soft
            assert (wait.mode, wait.relation) == ("AccessShareLock", "sales.orders")
        holder.rollback()
        crew.join()


async def test_a_forgotten_prepared_transaction_is_the_root(server: Postgres, crew: Crew) -> None:
    with crew.session() as forgetful:
        forgetful.execute("UPDATE sales.orders SET n = 3 WHERE id = 7")
        forgetful.execute("PREPARE TRANSACTION 'forgotten'")
    async with collecting(server.dsn(user="headroom", dbname="shop")) as collector:
        pid = crew.wait(crew.session(), "UPDATE sales.orders SET n = 4 WHERE id = 7")
        sample = (await poll_until(collector, lambda s: len(s.lock_waits) == 1))[-1]
        wait = waits(sample)[pid]
        assert (wait.blocked_by, wait.root, wait.depth) == ((0,), 0, 1)
        assert sample.server is not None
        assert sample.server.prepared_transactions == 1
        assert sample.server.oldest_prepared_seconds is not None
        assert 0 < sample.server.oldest_prepared_seconds < 30
        with psycopg.connect(server.dsn(dbname="shop"), autocommit=True) as admin:
            admin.execute("ROLLBACK PREPARED 'forgotten'")
        crew.join()


async def test_a_table_of_another_database_is_told_by_its_number(
    server: Postgres, crew: Crew
) -> None:
    holder = crew.session()
    holder.execute("LOCK TABLE sales.orders")
    (oid,) = holder.execute("SELECT 'sales.orders'::regclass::oid").fetchone() or (0,)
    async with collecting(server.dsn(user="headroom")) as collector:
        pid = crew.wait(crew.session(), "SELECT * FROM sales.orders")
        sample = (await poll_until(collector, lambda s: len(s.lock_waits) == 1))[-1]
        assert waits(sample)[pid].relation == str(oid)
        holder.rollback()
        crew.join()


async def test_eighty_waiters_of_one_row_cost_few_calls_and_have_one_root(
    server: Postgres, crew: Crew
) -> None:
    holder = crew.session()
    holder.execute("UPDATE sales.orders SET n = 5 WHERE id = 9")
    async with collecting(server.dsn(user="headroom", dbname="shop")) as collector:
        pids = {
            crew.wait(crew.session(), "UPDATE sales.orders SET n = 6 WHERE id = 9")
            for _ in range(80)
        }
        await poll_until(collector, lambda s: s.server.blocked == 80)
        calls = collector.locks.blocking_calls  # type: ignore[attr-defined]
        sample = (await poll_until(collector, lambda s: len(s.lock_waits) == 80))[-1]
        found = waits(sample)
        assert found.keys() == pids
        assert {wait.root for wait in found.values()} == {holder.info.backend_pid}
        assert sorted(wait.depth for wait in found.values()) == [1] + [2] * 79
        assert sum(len(wait.blocked_by) for wait in found.values()) == 80
        assert {wait.relation for wait in found.values()} == {"sales.orders"}
        assert sample.poll_seconds < 0.2
        for _ in range(20):
            await poll(collector)
        # More than fifty wait, so nobody is asked about one by one any more.
        assert collector.locks.blocking_calls == calls  # type: ignore[attr-defined]
        holder.rollback()
        crew.join()


async def test_the_locks_are_looked_at_once_a_second_though_polls_come_faster(
    server: Postgres, crew: Crew
) -> None:
    holder = crew.session()
    holder.execute("LOCK TABLE sales.orders")
    async with collecting(server.dsn(user="headroom", dbname="shop")) as collector:
        pid = crew.wait(crew.session(), "SELECT * FROM sales.orders")
        await poll_until(collector, lambda s: len(s.lock_waits) == 1)
        calls = collector.locks.blocking_calls  # type: ignore[attr-defined]
        for _ in range(20):
            assert waits(await poll(collector)).keys() == {pid}
        assert collector.locks.blocking_calls <= calls + 1  # type: ignore[attr-defined]
        holder.rollback()
        crew.join()


async def test_parallel_workers_wait_in_their_leaders_name(server: Postgres, crew: Crew) -> None:
    setup = crew.session()
    setup.execute("CREATE TABLE IF NOT EXISTS sales.big AS SELECT g FROM generate_series(1, 9) g")
    setup.commit()
    holder, reader = crew.session(), crew.session()
    holder.execute("SELECT pg_advisory_lock(77)")
    for setting in ("force_parallel_mode", "debug_parallel_query"):
        reader.execute("SELECT set_config(name, 'on', false) FROM pg_settings WHERE name = %s",
                       [setting])  # fmt: skip
    reader.execute(
        "CREATE OR REPLACE FUNCTION sales.block() RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(77); RETURN 1; END $$"
    )
    reader.commit()
    async with collecting(server.dsn(user="headroom", dbname="shop")) as collector:
        pid = crew.wait(reader, "SELECT sales.block() FROM sales.big LIMIT 1")
        sample = (await poll_until(collector, lambda s: len(s.lock_waits) == 1))[-1]
        wait = waits(sample)[pid]
        assert wait.blocked_by == (holder.info.backend_pid,)
        leader = next(s for s in sample.sessions or () if s.pid == pid)
        assert leader.wait_event_type == "IPC"  # not the leader waits for the lock
        assert sample.server is not None
        assert sample.server.slots_used == len(sample.sessions or ()) + 1
        holder.execute("SELECT pg_advisory_unlock(77)")
        crew.join()
