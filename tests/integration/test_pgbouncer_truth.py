"""PgBouncer's truth on a real one: links, limits, pauses, logins, several processes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psycopg
import pytest

from collectors.check import check
from headroom.demo.servers import PgBouncer, Postgres, free_port, pgbouncer_program
from model.samples import Link, Pool, PoolDatabase, Sample
from tests.collecting import ask, collecting, poll, poll_until, stopped, target

pytestmark = pytest.mark.pgbouncer

Start = Callable[..., PgBouncer]


@pytest.fixture
def start(server_folder: Callable[[str], Path], postgres: Postgres) -> Iterator[Start]:
    """Starts PgBouncers in front of "shop"; all are stopped at the end."""
    if pgbouncer_program() is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    with contextlib.ExitStack() as stack:

        def one(database: str = "", **settings: Any) -> PgBouncer:
            folder = server_folder("truth")
            port = settings.pop("port", None)
            if settings.get("unix_socket_dir") == "own":
                settings["unix_socket_dir"] = str(folder)
            databases = {"shop": f"host=127.0.0.1 port={postgres.port} dbname=shop {database}"}
            return stack.enter_context(PgBouncer(folder, databases, port=port, settings=settings))

        yield one


def client(pooler: PgBouncer, application: str = "web", **more: Any) -> psycopg.Connection[Any]:
    dsn = pooler.dsn(user="app", dbname="shop")
    return psycopg.connect(
        dsn, autocommit=True, prepare_threshold=None, application_name=application, **more
    )


def console(pooler: PgBouncer, command: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(
        pooler.dsn(user="pgbouncer"), autocommit=True, prepare_threshold=None
    ) as admin:
        cursor = admin.execute(command.encode())
        return cursor.fetchall() if cursor.description else []


def pool(sample: Sample) -> Pool:
    assert sample.pools, sample
    return next(pool for pool in sample.pools if pool.database == "shop")


def database(sample: Sample) -> PoolDatabase:
    assert sample.pool_databases is not None, sample
    return next(database for database in sample.pool_databases if database.name == "shop")


@contextlib.contextmanager
def waiting(call: Callable[[], Any]) -> Iterator[None]:
    """Something that does not return is under way, and has ended afterwards."""

    def run() -> None:
        with contextlib.suppress(psycopg.Error):
            call()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join(30)
        assert not thread.is_alive()


async def links_of(collector: Any, condition: Callable[[tuple[Link, ...]], Any]) -> dict[str, Link]:
    samples = await poll_until(
        collector, lambda s: s.links is not None and condition(s.links), seconds=20
    )
    return {link.application: link for link in samples[-1].links or ()}


async def test_a_client_s_link_names_the_backend_that_runs_its_statement(
    start: Start, postgres: Postgres
) -> None:
    pooler = start(default_pool_size=2)
    with client(pooler, "busy") as busy, client(pooler, "idle") as idle:
        idle.execute("SELECT 'idle'")
        busy.execute("BEGIN")
        busy.execute("SELECT 'the busy one'")
        async with collecting(pooler.dsn(), "pgbouncer") as collector:
            by_application = await links_of(collector, lambda links: len(links) == 2)
            link = by_application["busy"]
            running = "SELECT pid FROM pg_stat_activity WHERE query = 'SELECT ''the busy one'''"
            assert [(link.backend_pid,)] == ask(postgres, running)
            assert link.client.startswith("127.0.0.1:")
            assert (link.database, link.user, link.state) == ("shop", "app", "active")
            # Its server connection is there and keeps its name, but works for nobody.
            assert by_application["idle"].backend_pid is None
            assert by_application["idle"].state == "idle"
            busy.execute("COMMIT")


async def test_links_are_looked_at_at_once_when_somebody_waits(start: Start) -> None:
    pooler = start(default_pool_size=1)
    async with collecting(pooler.dsn(), "pgbouncer") as collector:
        assert (await poll(collector)).links == ()
        assert (await poll(collector)).links is None  # not due again for some seconds
        with client(pooler, "busy") as busy, client(pooler, "waits") as other:
            busy.execute("BEGIN")
            busy.execute("SELECT 1")
            with waiting(lambda: other.execute("SELECT 2")):
                by_application = await links_of(
                    collector, lambda links: any(link.state == "waiting" for link in links)
                )
                assert by_application["waits"].wait_seconds is not None
                assert by_application["waits"].backend_pid is None
                assert by_application["busy"].backend_pid is not None
                await links_of(
                    collector, lambda links: any((link.wait_seconds or 0) > 1.0 for link in links)
                )
                busy.execute("COMMIT")


async def test_clients_that_wait_at_login_are_timed_although_maxwait_is_zero(
    start: Start, postgres: Postgres
) -> None:
    """Nobody listens where the server should be, so no login gets through."""
    pooler = start(query_wait_timeout=6)
    pooler.databases = {"shop": f"host=127.0.0.1 port={free_port()} dbname=shop"}
    pooler.write_configuration()
    console(pooler, "RELOAD")
    async with collecting(pooler.dsn(), "pgbouncer") as collector:
        with waiting(lambda: client(pooler).close()):
            samples = await poll_until(collector, lambda s: s.pools and pool(s).client_waiting == 1)
            before = pool(samples[-1]).oldest_wait_seconds or 0.0
            assert before < 1.0
            samples = await poll_until(
                collector, lambda s: s.pools and (pool(s).oldest_wait_seconds or 0) > 2.0
            )
            seen = pool(samples[-1])
            assert seen.maxwait_seconds == 0.0
            assert (seen.oldest_wait_seconds or 0) < 6.5
            assert samples[-1].pooler is not None
            assert samples[-1].pooler.maxwait_seconds == seen.oldest_wait_seconds


async def test_limits_and_the_reserve_are_read(start: Start) -> None:
    pooler = start(
        "reserve_pool=3", default_pool_size=4, max_db_connections=2, query_wait_timeout=9
    )
    with client(pooler) as first, client(pooler) as second, client(pooler) as third:
        for one in (first, second):
            one.execute("BEGIN")
            one.execute("SELECT 1")
        async with collecting(pooler.dsn(), "pgbouncer") as collector:
            with waiting(lambda: third.execute("SELECT 2")):
                samples = await poll_until(
                    collector,
                    lambda s: pool(s).client_waiting == 1 and database(s).current_connections == 2,
                )
                whole, seen = samples[-1].pooler, pool(samples[-1])
                assert whole is not None
                assert (seen.pool_size, seen.reserve_pool_size, seen.server_active) == (4, 3, 2)
                assert database(samples[-1]).max_connections == 2
                assert (whole.max_db_connections, whole.query_wait_timeout_seconds) == (2, 9.0)
                first.execute("COMMIT")
                second.execute("COMMIT")


async def test_a_paused_database_is_seen_also_without_counters(start: Start) -> None:
    pooler = start()
    with client(pooler) as one:
        one.execute("SELECT 1")
        async with collecting(pooler.dsn(), "pgbouncer") as collector:
            assert database(await poll(collector)).paused is False
            console(pooler, "PAUSE shop")
            with waiting(lambda: one.execute("SELECT 2")):
                await poll_until(collector, lambda s: database(s).paused)
                console(pooler, "RESUME shop")
            await poll_until(collector, lambda s: database(s).xact_total)
            console(pooler, "KILL shop")  # its row in SHOW STATS is gone now, and it is paused
            async with collecting(pooler.dsn(), "pgbouncer") as another:
                killed = database(await poll(another))
            assert (killed.paused, killed.xact_total) == (True, None)
            console(pooler, "RESUME shop")


async def test_counters_begin_anew_when_a_pool_dies(start: Start) -> None:
    pooler = start()
    async with collecting(pooler.dsn(), "pgbouncer") as collector:
        with client(pooler) as one:
            for _ in range(20):
                one.execute("SELECT 1")
            await poll_until(collector, lambda s: s.pool_databases and database(s).xact_total == 20)
        console(pooler, "KILL shop")
        console(pooler, "RESUME shop")
        with client(pooler) as one:
            one.execute("SELECT 1")
            await poll_until(collector, lambda s: s.pool_databases and database(s).xact_total == 1)


async def test_without_a_canary_a_pause_of_1_18_is_not_reported(start: Start) -> None:
    pooler = start()
    async with collecting(pooler.dsn(), "pgbouncer") as collector:
        sample = await poll(collector)
        assert sample.pooler is not None
        if not sample.pooler.version.startswith("1.18"):
            pytest.skip("this PgBouncer says itself whether it is paused")
        assert (sample.pooler.paused, sample.pooler.canary_seconds) == (None, None)


async def test_a_canary_sees_a_pause_and_its_end(start: Start) -> None:
    pooler = start()
    async with collecting(pooler.dsn(), "pgbouncer", canary="dbname=shop user=app") as collector:
        await poll_until(collector, lambda s: s.pooler.paused is False)
        with client(pooler) as one:
            one.execute("SELECT 1")
            console(pooler, "PAUSE")
            with waiting(lambda: one.execute("SELECT 2")):
                try:
                    samples = await poll_until(collector, lambda s: s.pooler.paused is True)
                    assert (samples[-1].pooler.canary_seconds or 0) >= 2.0
                finally:
                    console(pooler, "RESUME")
        samples = await poll_until(collector, lambda s: s.pooler.paused is False)
        assert samples[-1].degraded is None


async def test_a_full_pool_is_no_pause_to_the_canary(start: Start) -> None:
    pooler = start(default_pool_size=1)
    with client(pooler) as busy:
        busy.execute("BEGIN")
        busy.execute("SELECT 1")
        async with collecting(
            pooler.dsn(), "pgbouncer", canary="dbname=shop user=app"
        ) as collector:
            samples = await poll_until(collector, lambda s: (s.pooler.canary_seconds or 0) > 4.0)
            assert {s.pooler.paused for s in samples if s.pooler} == {None}
            busy.execute("COMMIT")
            await poll_until(collector, lambda s: s.pooler.paused is False)


async def test_a_server_that_is_gone_is_no_pause_to_the_canary(start: Start) -> None:
    pooler = start(query_wait_timeout=8)
    async with collecting(pooler.dsn(), "pgbouncer", canary="dbname=shop user=app") as collector:
        await poll_until(collector, lambda s: s.pooler.paused is False)
        pooler.databases = {"shop": f"host=127.0.0.1 port={free_port()} dbname=shop"}
        pooler.write_configuration()
        console(pooler, "RELOAD")
        with waiting(lambda: client(pooler).execute("SELECT 1")):
            samples = await poll_until(collector, lambda s: (s.pooler.canary_seconds or 0) > 5.0)
        assert True not in {s.pooler.paused for s in samples if s.pooler}


async def test_a_canary_that_is_refused_says_so(start: Start) -> None:
    pooler = start()
    async with collecting(pooler.dsn(), "pgbouncer", canary="dbname=nothing") as collector:
        samples = await poll_until(collector, lambda s: s.degraded)
        assert "canary" in (samples[-1].degraded or "")
        assert samples[-1].up


@pytest.fixture
def twins(start: Start) -> tuple[PgBouncer, PgBouncer]:
    """Two PgBouncers that share one port."""
    port = free_port()
    common = {"so_reuseport": 1, "port": port, "unix_socket_dir": "own", "default_pool_size": 1}
    pair = start(**common), start(**common)
    deadline = monotonic() + 10
    for twin in pair:  # the port alone also answers when only the first one listens
        while not (twin.folder / f".s.PGSQL.{port}").exists():
            assert monotonic() < deadline, twin.last_lines()
            sleep(0.02)
    return pair


async def test_one_port_of_several_processes_is_noticed(
    twins: tuple[PgBouncer, PgBouncer],
) -> None:
    async with collecting(twins[0].dsn(), "pgbouncer") as collector:
        samples = await poll_until(collector, lambda s: s.degraded)
        assert "several PgBouncer processes" in (samples[-1].degraded or "")
        assert "`processes`" in (samples[-1].degraded or "")


async def test_several_processes_are_told_apart_and_summed(
    twins: tuple[PgBouncer, PgBouncer],
) -> None:
    folders = [str(twin.folder) for twin in twins]
    given = [f"host={folder}" for folder in folders]
    with contextlib.ExitStack() as stack:
        clients = []
        for folder, count in zip(folders, (2, 3), strict=True):
            for _ in range(count):
                dsn = f"host={folder} port={twins[0].port} user=app dbname=shop"
                one = stack.enter_context(
                    psycopg.connect(dsn, autocommit=True, prepare_threshold=None)
                )
                one.execute("SELECT 1")
                clients.append(one)
        async with collecting(twins[0].dsn(), "pgbouncer", processes=given) as collector:
            sample = await poll(collector)
            assert sample.pooler is not None
            assert sample.degraded is None
            assert (sample.pooler.processes, sample.pooler.client_active) == (2, 5)
            assert sample.pooler.max_client_conn == 200
            by_process = {pool.process: pool.client_active for pool in sample.pools or ()}
            assert by_process == {folders[0]: 2, folders[1]: 3}
            assert database(sample).xact_total == 5
            links = sample.links or ()
            assert sorted({link.process or "" for link in links}) == sorted(folders)
            assert len({link.client_id for link in links}) == 5
            with stopped(twins[1].pid):
                sample = await poll(collector)
                assert sample.up
                assert f"process {folders[1]} does not answer" in (sample.degraded or "")
                assert sample.pooler is not None
                assert sample.pooler.processes == 1
            clients[0].execute("SELECT 1")
            samples = await poll_until(collector, lambda s: s.pooler.processes == 2)
            assert database(samples[-1]).xact_total == 6


async def test_two_entries_for_one_process_are_noticed(start: Start) -> None:
    pooler = start(unix_socket_dir="own")
    given = [f"host={pooler.folder}", "host=127.0.0.1"]
    async with collecting(pooler.dsn(), "pgbouncer", processes=given) as collector:
        sample = await poll(collector)
        assert "the same one and are counted twice" in (sample.degraded or "")


async def test_every_process_is_checked(twins: tuple[PgBouncer, PgBouncer]) -> None:
    given = [f"host={twin.folder}" for twin in twins]
    remarks = await check(target(twins[0].dsn(), "pgbouncer", processes=given))
    assert sum(remark.text.endswith("answers") for remark in remarks) == 2, remarks
    (one,) = [r for r in await check(target(twins[0].dsn(), "pgbouncer")) if r.level == "warning"]
    assert one.fix is not None
    assert one.fix.startswith("processes = [")
