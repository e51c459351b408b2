"""A Pgpool-II is seen as it is: which children are busy, and for whom."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from collectors.check import check
from headroom.demo.servers import PgBouncer, Postgres, Process, free_port
from model.samples import Failure, Sample
from tests.collecting import ask, collecting, poll, poll_until, target

PROGRAM = shutil.which("pgpool") or shutil.which("pgpool", path="/usr/sbin")
CHILDREN = 4


@pytest.fixture(scope="module")
def pgpool(server_folder: Callable[[str], Path], postgres: Postgres) -> Iterator[int]:
    """A Pgpool-II in front of the server; its port."""
    if PROGRAM is None:
        pytest.skip("needs Pgpool-II: apt-get install pgpool2")
    folder, port = server_folder("pgpool"), free_port()
    settings: dict[str, object] = {
        "listen_addresses": "'127.0.0.1'",
        "port": port,
        "socket_dir": f"'{folder}'",
        "pcp_listen_addresses": "'127.0.0.1'",
        "pcp_port": free_port(),
        "pcp_socket_dir": f"'{folder}'",
        "pid_file_name": f"'{folder}/pgpool.pid'",
        "logdir": f"'{folder}'",
        "backend_clustering_mode": "'raw'",
        "backend_hostname0": "'127.0.0.1'",
        "backend_port0": postgres.port,
        "num_init_children": CHILDREN,
        "max_pool": 2,
        "enable_pool_hba": "off",
        "sr_check_period": 0,
        "health_check_period": 0,
        "failover_on_backend_error": "off",
    }
    file = folder / "pgpool.conf"
    file.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))

    def ready() -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", port)) == 0

    process = Process("pgpool", folder)
    process.start([PROGRAM, "-n", "-f", str(file)], ready)
    yield port
    process.stop()


def dsn(port: int, user: str = "headroom", dbname: str = "postgres") -> str:
    return f"host=127.0.0.1 port={port} user={user} dbname={dbname}"


def shop(port: int) -> psycopg.Connection[Any]:
    return psycopg.connect(dsn(port, "app", "shop"), autocommit=True, prepare_threshold=None)


def app_pools(sample: Sample) -> list[tuple[int, int, int]]:
    return [
        (pool.client_active, pool.server_active, pool.server_idle)
        for pool in sample.pools or ()
        if (pool.database, pool.user) == ("shop", "app")
    ]


async def test_busy_children_and_their_backends_are_counted(
    pgpool: int, postgres: Postgres
) -> None:
    async with collecting(dsn(pgpool), "pgpool") as collector:
        sample = await poll(collector)
        assert sample.up, sample
        whole = sample.pooler
        assert whole is not None
        assert (whole.product, whole.max_client_conn) == ("Pgpool-II", CHILDREN)
        assert whole.version[0].isdigit()
        assert whole.used_clients == 1  # ourselves
        assert sample.degraded is None
        with shop(pgpool) as one, shop(pgpool) as two:
            one.execute("BEGIN")
            two.execute("SELECT 1")
            samples = await poll_until(collector, lambda s: app_pools(s) == [(2, 2, 0)])
            assert samples[-1].pooler is not None
            assert samples[-1].pooler.used_clients == 3
            async with collecting(dsn(pgpool), "pgpool") as another:  # which looks at links at once
                links = (await poll(another)).links or ()
            backends = {link.backend_pid for link in links if link.user == "app"}
            rows = ask(postgres, "SELECT pid FROM pg_stat_activity WHERE usename = 'app'")
            assert backends == {pid for (pid,) in rows}
            assert "idle in transaction" in {link.state for link in links}
        # A child keeps its connections when its client has gone.
        await poll_until(collector, lambda s: app_pools(s) == [(0, 0, 2)])


async def test_what_pgpool_does_not_report_is_not_zero(pgpool: int) -> None:
    with shop(pgpool):
        async with collecting(dsn(pgpool), "pgpool") as collector:
            sample = await poll(collector)
    assert sample.pooler is not None
    assert (sample.pooler.client_waiting, sample.pooler.maxwait_seconds) == (None, None)
    assert (sample.pooler.login_clients, sample.pooler.paused) == (None, None)
    for pool in sample.pools or ():
        assert (pool.client_waiting, pool.maxwait_seconds, pool.pool_size) == (None, None, None)
        assert (pool.server_used, pool.server_login) == (None, None)


async def test_a_session_that_is_held_sees_pgpool_full(pgpool: int) -> None:
    async with collecting(dsn(pgpool), "pgpool") as collector:
        assert (await poll(collector)).up
        clients = [shop(pgpool) for _ in range(CHILDREN - 1)]
        try:
            sample = await poll(collector)
            assert sample.pooler is not None
            assert sample.pooler.used_clients == sample.pooler.max_client_conn
            async with collecting(dsn(pgpool), "pgpool") as late:
                assert (await poll(late)).failure is Failure.TIMEOUT  # it queues, like everybody
        finally:
            for client in clients:
                client.close()


async def test_a_server_is_no_pgpool(postgres: Postgres, pgbouncer: PgBouncer) -> None:
    for wrong in (postgres.dsn(user="headroom"), pgbouncer.dsn()):
        async with collecting(wrong, "pgpool") as collector:
            sample = await poll(collector)
        assert (sample.up, sample.failure) == (False, Failure.PROTOCOL)
        assert "not Pgpool-II" in (sample.reason or "")


async def test_pgpool_is_checked(pgpool: int) -> None:
    remarks = await check(target(dsn(pgpool), "pgpool"))
    assert {remark.level for remark in remarks} == {"ok"}
    assert "one of its 4 client slots" in remarks[1].text


@pytest.mark.parametrize("kind", ["pgcat", "odyssey"])
async def test_pgbouncer_is_neither_pgcat_nor_odyssey(pgbouncer: PgBouncer, kind: str) -> None:
    async with collecting(pgbouncer.dsn(), kind) as collector:
        sample = await poll(collector)
    assert (sample.up, sample.failure) == (False, Failure.PROTOCOL)
    assert "PgBouncer" in (sample.reason or "")
