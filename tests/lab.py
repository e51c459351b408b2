"""A lab for tests and benchmarks: `headroom run` as a process, and a receiver for its messages."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psycopg

from headroom.demo.servers import PgBouncer, Postgres, free_port

ROOT = Path(__file__).resolve().parents[1]
READY_SECONDS = 60.0  # for clients to connect, on a busy machine
_T = TypeVar("_T")


def wait_until(condition: Callable[[], _T], seconds: float = 15.0, what: str = "") -> _T:
    """What *condition* returns as soon as that is true. Fails after *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what or condition}")
        time.sleep(0.02)


@dataclass
class Received:
    """One request that reached the receiver. at: time.time()."""

    at: float
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Receiver:
    """An HTTP endpoint that we send to: keeps what comes, answers what `answers` says.

    answers: status codes for the next requests; 200 when it is empty.
    """

    answers: list[int] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def serve(self) -> Iterator[Receiver]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                at = time.time()
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status == 200:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    receiver.received.append(Received(at, headers, json.loads(body)))
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_address[1]}/"
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def write_config(
    folder: Path,
    postgres: Postgres,
    pgbouncer: PgBouncer | None = None,
    receiver: Receiver | None = None,
    extra: str = "",
) -> Path:
    """A configuration for these servers. Returns its path."""
    text = f"""
[http]
listen = "127.0.0.1:{free_port()}"
[[target]]
name = "shop"
kind = "postgresql"
dsn = "{postgres.dsn(user="headroom", dbname="shop")}"
"""
    if pgbouncer:
        text += f"""
[[target]]
name = "shop-pool"
kind = "pgbouncer"
dsn = "{pgbouncer.dsn()}"
serves = ["shop"]
"""
    if receiver:
        text += f"""
[[channel]]
name = "hook"
kind = "webhook"
url = "{receiver.url}"
"""
    path = folder / "headroom.toml"
    path.write_text(text + extra)
    return path


class Run:
    """`headroom run` as a process of its own."""

    def __init__(self, config: Path) -> None:
        self.config = config
        for line in config.read_text().splitlines():
            if line.startswith("listen"):
                self.url = "http://" + line.split('"')[1]
        self.log = config.parent / "run.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Run:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until every target was polled."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "headroom", "run", "--config", str(self.config)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: all(t["as_of"] for t in self.status()) if self.status() else False)

    def status(self) -> list[dict[str, Any]]:
        """GET /api/v1/status; empty while it does not answer."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            answer = httpx.get(f"{self.url}/api/v1/status", timeout=5)
        except httpx.TransportError:
            return []
        return list(answer.json()) if answer.status_code == 200 else []

    def terminate(self, number: int = signal.SIGTERM) -> float:
        """Stop it. Returns how long that took, in seconds."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(number)
        self._process.wait(20)
        return time.monotonic() - began

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another command of ours on the same configuration."""
        return command(arguments[0], "--config", str(self.config), *arguments[1:])


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m headroom …`, from the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "headroom", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def full_pool(pgbouncer: PgBouncer, *, holders: int, waiters: int) -> Iterator[float]:
    """*holders* clients keep a transaction open through the pooler, then *waiters* queue.

    Yields time.time() of the moment when the first waiter began to wait.
    """
    stop = threading.Event()
    held = threading.Barrier(holders + 1)
    began: list[float] = []
    threads = [threading.Thread(target=_hold, args=(pgbouncer, held, stop)) for _ in range(holders)]
    queue = [threading.Thread(target=_queue, args=(pgbouncer, began)) for _ in range(waiters)]
    started: list[threading.Thread] = []

    def start(some: list[threading.Thread]) -> None:
        for thread in some:
            thread.start()
            started.append(thread)

    try:
        start(threads)
        held.wait(READY_SECONDS)
        start(queue)
        wait_until(lambda: began, what="a waiter")
        yield began[0]
    finally:
        # Also when not all of them got ready: nobody waits for the others then.
        stop.set()
        held.abort()
        for thread in started:
            thread.join()


def _connect(pgbouncer: PgBouncer) -> psycopg.Connection[Any]:
    return psycopg.connect(
        pgbouncer.dsn(user="app", dbname="shop"),
        application_name="checkout",
        prepare_threshold=None,
    )


def _hold(pgbouncer: PgBouncer, held: threading.Barrier, stop: threading.Event) -> None:
    with _connect(pgbouncer) as connection:
        connection.execute("SELECT 1")
        with suppress(threading.BrokenBarrierError):
            held.wait(READY_SECONDS)
        stop.wait(120)


def _queue(pgbouncer: PgBouncer, began: list[float]) -> None:
    with _connect(pgbouncer) as connection:
        began.append(time.time())
        connection.execute("SELECT 1")
