"""Real servers for every test that wants one. Started once a session, stopped at its end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from headroom.demo.servers import PgBouncer, Postgres, new_folder, pgbouncer_program


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Callable[[str], Path]]:
    """Makes folders that the servers' unprivileged user owns; removed at the end."""
    folders: list[Path] = []

    def make(name: str) -> Path:
        folders.append(new_folder(f"test-{name}"))
        return folders[-1]

    yield make
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(server_folder: Callable[[str], Path]) -> Iterator[Postgres]:
    """A PostgreSQL with 30 slots (3 for superusers), a database "shop", and the roles
    "app" (a login), "headroom" (pg_monitor) and "nobody_special" (no privilege)."""
    settings = {"max_connections": 30, "superuser_reserved_connections": 3}
    with Postgres(server_folder("postgres"), settings=settings) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as admin:
            admin.execute("CREATE ROLE app LOGIN")
            admin.execute("CREATE ROLE headroom LOGIN IN ROLE pg_monitor")
            admin.execute("CREATE ROLE nobody_special LOGIN")
            admin.execute("CREATE DATABASE shop OWNER app")
        yield server


@pytest.fixture(scope="session")
def pgbouncer(server_folder: Callable[[str], Path], postgres: Postgres) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode in front of "shop", two server connections a pool."""
    if pgbouncer_program() is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    databases = {"shop": f"host=127.0.0.1 port={postgres.port} dbname=shop"}
    settings = {"default_pool_size": 2, "max_client_conn": 100}
    with PgBouncer(server_folder("pgbouncer"), databases, settings=settings) as server:
        yield server
