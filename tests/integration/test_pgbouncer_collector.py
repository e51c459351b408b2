"""A PgBouncer is seen as it is: who waits, for how long, and what the console refuses."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest

from headroom.demo.servers import PgBouncer, Postgres, pgbouncer_program
from model.samples import Failure, Pool, Sample
from tests.collecting import collecting, poll, poll_until, stopped

pytestmark = pytest.mark.pgbouncer


@pytest.fixture
def pooler(server_folder: Callable[[str], Path], postgres: Postgres) -> Iterator[PgBouncer]:
    """A PgBouncer of our own, which knows its users, in front of "shop" with one connection."""
    if pgbouncer_program() is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    folder = server_folder("pooler")
    users = folder / "users.txt"
    users.write_text("".join(f'"{user}" ""\n' for user in ("app", "headroom", "pgbouncer")))
    users.chmod(0o644)
    databases = {"shop": f"host=127.0.0.1 port={postgres.port} dbname=shop user=app"}
    settings = {
        "auth_type": "trust",
        "auth_file": users,
        "default_pool_size": 1,
        "max_client_conn": 50,
        "query_wait_timeout": 30,
    }
    with PgBouncer(folder, databases, settings={k: str(v) for k, v in settings.items()}) as server:
        yield server


def shop(pooler: PgBouncer) -> psycopg.Connection[Any]:
    return psycopg.connect(
        pooler.dsn(user="app", dbname="shop"), autocommit=True, prepare_threshold=None
    )


def pool(sample: Sample) -> Pool:
    assert sample.pools is not None, sample
    return next(pool for pool in sample.pools if pool.database == "shop")


async def test_a_pooler_says_what_it_is_and_what_it_admits(pooler: PgBouncer) -> None:
    async with collecting(pooler.dsn(), "pgbouncer") as collector:
        sample = await poll(collector)
        assert sample.up, sample
        assert sample.pooler is not None
        assert sample.pooler.version[0].isdigit()
        assert (sample.pooler.max_client_conn, sample.pooler.default_pool_size) == (50, 1)
        assert sample.pools == ()  # nobody came yet, and the console is no pool
        for _ in range(10):  # the sixth repetition of a statement is where drivers prepare it
            assert (await poll(collector)).up


async def test_waiters_are_seen_with_how_long_they_wait(pooler: PgBouncer) -> None:
    with shop(pooler) as busy, shop(pooler) as first, shop(pooler) as second:
        first.execute("SELECT 1")
        busy.execute("BEGIN")
        busy.execute("SELECT 1")
        async with collecting(pooler.dsn(), "pgbouncer") as collector:
            waiting = [
                asyncio.create_task(asyncio.to_thread(client.execute, "SELECT 2"))
                for client in (first, second)
            ]
            await poll_until(collector, lambda s: pool(s).client_waiting == 2)
            samples = await poll_until(collector, lambda s: pool(s).maxwait_seconds > 0.3)
            seen = pool(samples[-1])
            assert (seen.server_active, seen.pool_size, seen.user) == (1, 1, "app")
            assert samples[-1].pooler is not None
            assert samples[-1].pooler.client_waiting == 2
            assert samples[-1].pooler.maxwait_seconds == seen.maxwait_seconds
            busy.execute("COMMIT")
            await asyncio.gather(*waiting)
            samples = await poll_until(collector, lambda s: pool(s).client_waiting == 0)
            (counters,) = samples[-1].pool_databases or ()
            assert counters.wait_seconds_total > 0.3
            assert isinstance(counters.query_total, int)


async def test_a_stopped_pooler_costs_one_deadline_and_is_seen_again(pooler: PgBouncer) -> None:
    async with collecting(pooler.dsn(), "pgbouncer") as collector:
        assert (await poll(collector)).up
        with stopped(pooler.pid):
            for _ in range(2):
                sample = await poll(collector)
                assert (sample.up, sample.failure) == (False, Failure.TIMEOUT)
        t0 = monotonic()
        await poll_until(collector, lambda sample: sample.up)
        assert monotonic() - t0 < 5.0


async def test_a_pooler_that_restarts_is_seen_again_soon(pooler: PgBouncer) -> None:
    async with collecting(pooler.dsn(), "pgbouncer") as collector:
        assert (await poll(collector)).up
        await asyncio.to_thread(pooler.stop, signal.SIGTERM)
        samples = await poll_until(collector, lambda sample: not sample.up)
        assert samples[-1].failure is Failure.UNREACHABLE
        await asyncio.to_thread(pooler.start_server)
        t0 = monotonic()
        await poll_until(collector, lambda sample: sample.up)
        assert monotonic() - t0 < 2.5


@pytest.mark.parametrize(
    ("user", "dbname", "failure", "words"),
    [
        ("app", "pgbouncer", Failure.PERMISSION, "stats_users"),
        ("stranger", "pgbouncer", Failure.AUTHENTICATION, "login was refused"),
        ("app", "shop", Failure.PROTOCOL, "dbname=pgbouncer"),
    ],
)
async def test_each_refusal_has_its_name(
    pooler: PgBouncer, user: str, dbname: str, failure: Failure, words: str
) -> None:
    async with collecting(pooler.dsn(user=user, dbname=dbname), "pgbouncer") as collector:
        sample = await poll(collector)
    assert (sample.up, sample.failure) == (False, failure), sample
    assert words in (sample.reason or "")


async def test_a_server_is_not_a_pooler_and_a_pooler_is_not_a_server(
    pooler: PgBouncer, postgres: Postgres
) -> None:
    async with collecting(postgres.dsn(user="headroom"), "pgbouncer") as collector:
        sample = await poll(collector)
        assert sample.failure is Failure.PROTOCOL
        assert 'kind = "postgresql"' in (sample.reason or "")
    async with collecting(pooler.dsn(), "postgresql") as collector:
        sample = await poll(collector)
        assert sample.failure is Failure.PROTOCOL
        assert 'kind = "pgbouncer"' in (sample.reason or "")


async def test_a_server_seen_through_a_pooler_keeps_its_sessions_as_they_were(
    pooler: PgBouncer,
) -> None:
    """What we set would stay behind on a connection that the application uses next."""
    async with collecting(pooler.dsn(user="app", dbname="shop"), "postgresql") as collector:
        for _ in range(7):
            sample = await poll(collector)
            assert sample.up, sample
            assert "pooler or proxy" in (sample.degraded or "")
        with shop(pooler) as client:
            row = client.execute("SHOW default_transaction_read_only").fetchone()
            assert row == ("off",)


async def test_a_pooler_that_admits_nobody_else_still_admits_us(pooler: PgBouncer) -> None:
    with contextlib.ExitStack() as stack:
        async with collecting(pooler.dsn(), "pgbouncer") as collector:
            assert (await poll(collector)).up
            for _ in range(49):
                stack.enter_context(shop(pooler))
            with pytest.raises(psycopg.OperationalError, match="no more connections allowed"):
                shop(pooler)
            sample = await poll(collector)
            assert sample.pooler is not None
            assert sample.pooler.used_clients >= 50
