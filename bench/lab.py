"""Servers and processes to measure, and how to measure them."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from headroom.demo.servers import PgBouncer, Postgres, new_folder

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Lab:
    """A PostgreSQL, a PgBouncer with two server connections in front, and a folder."""

    folder: Path
    postgres: Postgres
    pgbouncer: PgBouncer


@contextmanager
def lab(max_connections: int = 100) -> Iterator[Lab]:
    """Real servers, gone afterwards."""
    with ExitStack() as stack:
        folders = [new_folder("bench-pg"), new_folder("bench-pool"), Path(tempfile.mkdtemp())]
        for folder in folders:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        settings = {"max_connections": max_connections}
        postgres = stack.enter_context(Postgres(folders[0], settings=settings))
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            admin.execute("CREATE ROLE app LOGIN")
            admin.execute("CREATE ROLE headroom LOGIN IN ROLE pg_monitor")
            admin.execute("CREATE DATABASE shop OWNER app")
        databases = {"shop": f"host=127.0.0.1 port={postgres.port} dbname=shop"}
        pooler = PgBouncer(folders[1], databases, settings={"default_pool_size": 2})
        yield Lab(folders[2], postgres, stack.enter_context(pooler))


@contextmanager
def clients(postgres: Postgres, count: int, *, busy: int = 2) -> Iterator[None]:
    """*count* sessions of an application: *busy* of them run short statements all the time."""
    stop = threading.Event()
    dsn = postgres.dsn(user="app", dbname="shop")
    connections = [psycopg.connect(dsn, application_name="checkout") for _ in range(count)]

    def work(connection: psycopg.Connection[Any]) -> None:
        while not stop.wait(0.05):
            connection.execute("SELECT count(*) FROM pg_class")
            connection.commit()

    threads = [threading.Thread(target=work, args=(c,)) for c in connections[:busy]]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for connection in connections:
            connection.close()


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used, in seconds."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def quantile(values: Sequence[float], q: float) -> float:
    """The value below which a share *q* of *values* lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(round(q * (len(ordered) - 1)), len(ordered) - 1)]


def report(name: str, figures: dict[str, object]) -> None:
    """Print figures and keep them in bench/results/."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
    width = max(len(key) for key in figures)
    print(f"\n{name}")
    for key, value in figures.items():
        print(f"  {key:<{width}}  {value}")
