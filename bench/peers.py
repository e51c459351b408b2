"""What watching costs the server, beside the peers, in one run.

CPU time, to the nanosecond, of the backends that work for a monitor: those that its role has
opened. *n* client backends are connected, a tenth of them in a transaction, none does anything.

Peers: prometheus-postgres-exporter and pg_activity, as Debian packages them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bench.lab import lab, report
from headroom.demo.servers import Postgres, free_port
from tests.lab import Run, wait_until, write_config

BACKENDS = (20, 100, 1000)
SECONDS = 60  # of every measurement; four scrapes at 15 s
Monitor = Callable[[Path, Postgres], AbstractContextManager[None]]


def main() -> None:
    """Measure and report."""
    figures: dict[str, object] = {}
    with lab(max_connections=max(BACKENDS) + 30) as servers, ExitStack() as clients:
        here = 0
        for wanted in BACKENDS:
            _connect(clients, servers.postgres, here, wanted)
            here = wanted
            for name, monitor in MONITORS.items():
                with monitor(servers.folder, servers.postgres):
                    time.sleep(3)  # connecting is not what is measured
                    spent = _spent(servers.postgres) * 60 / SECONDS
                key = f"{wanted:4d} backends, {name}"
                figures[key] = f"{1000 * spent:7.1f} ms CPU a minute"
                print(f"  {key}: {figures[key]}", flush=True)
    report("peers", figures)


@contextmanager
def _headroom(folder: Path, postgres: Postgres) -> Iterator[None]:
    (folder / "ours").mkdir(exist_ok=True)
    with Run(write_config(folder / "ours", postgres)):
        yield


def _exporter(every: float) -> Monitor:
    @contextmanager
    def monitor(folder: Path, postgres: Postgres) -> Iterator[None]:  # noqa: ARG001
        program = shutil.which("prometheus-postgres-exporter")
        if program is None:
            sys.exit("needs it: apt-get install prometheus-postgres-exporter")
        port = free_port()
        dsn = f"postgresql://headroom@127.0.0.1:{postgres.port}/shop?sslmode=disable"
        scraper = (
            "import sys, time, urllib.request as r\n"
            "while True: r.urlopen(sys.argv[1]).read(); time.sleep(float(sys.argv[2]))"
        )
        url = f"http://127.0.0.1:{port}/metrics"
        exporter = subprocess.Popen(
            [program, f"--web.listen-address=127.0.0.1:{port}"],
            env={**os.environ, "DATA_SOURCE_NAME": dsn},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: _answers(port))
        scraping = subprocess.Popen([sys.executable, "-c", scraper, url, str(every)])
        try:
            yield
        finally:
            for process in (scraping, exporter):
                process.kill()
                process.wait()

    return monitor


@contextmanager
def _pg_activity(folder: Path, postgres: Postgres) -> Iterator[None]:  # noqa: ARG001
    program = shutil.which("pg_activity")
    if program is None:
        sys.exit("needs it: apt-get install pg-activity")
    # It wants a terminal, and somebody who reads what it draws.
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    where = ["-h", "127.0.0.1", "-p", str(postgres.port), "-U", "headroom", "-d", "shop"]
    process = subprocess.Popen(
        [program, *where, "--refresh", "2"],
        stdin=its,
        stdout=its,
        stderr=its,
        env={**os.environ, "TERM": "xterm"},
        start_new_session=True,
    )
    os.close(its)
    reader = threading.Thread(target=_read_all, args=(ours,))
    reader.start()
    try:
        yield
        assert process.poll() is None, "pg_activity ended"
    finally:
        process.kill()
        process.wait()
        reader.join()
        os.close(ours)


def _read_all(terminal: int) -> None:
    with contextlib.suppress(OSError):  # the terminal's way to say that nobody writes any more
        while os.read(terminal, 65536):
            pass


MONITORS: dict[str, Monitor] = {
    "Headroom at 1 s": _headroom,
    "postgres_exporter at 15 s": _exporter(15.0),
    "postgres_exporter at 1 s": _exporter(1.0),
    "pg_activity at 2 s": _pg_activity,
}


def _connect(clients: ExitStack, postgres: Postgres, here: int, wanted: int) -> None:
    dsn = postgres.dsn(user="app", dbname="shop")
    for number in range(here, wanted):
        connection = clients.enter_context(
            psycopg.connect(dsn, application_name=f"app-{number % 7}")
        )
        connection.execute("SELECT 'some text', count(*) FROM pg_class")
        if number % 10:
            connection.commit()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def _spent(postgres: Postgres) -> float:
    """CPU seconds that the monitor's backends use in SECONDS."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        before = _cpu(admin)
        time.sleep(SECONDS)
        return sum(used - before.get(pid, 0.0) for pid, used in _cpu(admin).items())


def _cpu(admin: psycopg.Connection[Any]) -> dict[int, float]:
    """CPU seconds of every backend of the monitors' role."""
    rows = admin.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'headroom'").fetchall()
    return {
        pid: int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9 for (pid,) in rows
    }
