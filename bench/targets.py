"""One process, many targets at 1 s: CPU, memory, lateness; and 20 of 25 that never answer."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import select

from bench.lab import cpu_seconds, quantile, report
from headroom.demo.servers import Postgres, free_port, new_folder
from model.config import load
from store import tables
from store.database import Store
from store.kept import to_ms
from tests.lab import Run

COUNTS = (1, 50, 200)
SERVERS = 4
DATABASES = 5  # of each server
SECONDS = 30


def main() -> None:
    """Measure and report."""
    figures: dict[str, object] = {}
    with ExitStack() as stack:
        dsns = [dsn for _ in range(SERVERS) for dsn in _server(stack)]
        for count in COUNTS:
            chosen = {f"t{number}": dsns[number % len(dsns)] for number in range(count)}
            figures[f"{count:3d} targets"] = _watch(chosen, chosen)
        deaf = stack.enter_context(_deaf())
        good = {f"good{number}": dsns[number] for number in range(5)}
        hung = {f"hung{number}": f"host=127.0.0.1 port={deaf} user=x" for number in range(20)}
        figures["5 targets beside 20 that never answer"] = _watch({**good, **hung}, good)
    report("targets", figures)


def _server(stack: ExitStack) -> list[str]:
    folder = new_folder("bench-targets")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    server = stack.enter_context(Postgres(folder, settings={"max_connections": 150}))
    names = [f"shop{number}" for number in range(DATABASES)]
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE ROLE headroom LOGIN IN ROLE pg_monitor")
        for name in names:
            admin.execute(f"CREATE DATABASE {name}")
    return [server.dsn(user="headroom", dbname=name) for name in names]


@contextmanager
def _deaf() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in taken:
            connection.close()


def _watch(targets: dict[str, str], judged: dict[str, str]) -> str:
    """Watch *targets* for a while; the lateness is that of *judged*."""
    folder = Path(tempfile.mkdtemp(prefix="headroom-bench-targets-"))
    try:
        text = f'[http]\nlisten = "127.0.0.1:{free_port()}"\n'
        for name, dsn in targets.items():
            text += f'[[target]]\nname = "{name}"\nkind = "postgresql"\ndsn = "{dsn}"\n'
        config = folder / "headroom.toml"
        config.write_text(text)
        with Run(config) as run:
            time.sleep(10)  # imports, connections and caches are not what is measured
            process = psutil.Process(run.pid)
            cpu, began = cpu_seconds(run.pid), time.time()
            time.sleep(SECONDS)
            cpu = (cpu_seconds(run.pid) - cpu) / SECONDS
            rss = process.memory_info().rss
        late, polls = _lateness(config, list(judged), 1000 * began)
        return (
            f"{100 * cpu:5.1f} % of a core, {rss / 1e6:4.0f} MB, {polls} polls, "
            f"p50 {quantile(late, 0.5):.0f} ms and p99 {quantile(late, 0.99):.0f} ms late"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lateness(config: Path, names: Sequence[str], since: float) -> tuple[list[float], int]:
    """How much later than its usual place in the second each poll began, in ms."""
    sample, target = tables.server_sample, tables.target
    late: list[float] = []
    with Store(load(config, {}).store.url) as store, store.read() as connection:
        for name in names:
            rows = connection.execute(
                select(sample.c.at)
                .join(target, target.c.id == sample.c.target_id)
                .where(target.c.name == name)
            ).scalars()
            phases = [to_ms(at) % 1000 for at in rows if to_ms(at) >= since]
            middle = sorted(phases)[len(phases) // 2]
            around = [(phase - middle + 500) % 1000 - 500 for phase in phases]
            late.extend(offset - min(around) for offset in around)
    return late, len(late)
