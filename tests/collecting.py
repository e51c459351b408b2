"""What the collectors' integration tests share: targets, polls and waiting for a condition."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import psycopg

from collectors.registry import Collector, collector_for
from headroom.demo.servers import Postgres
from model.samples import Sample
from model.targets import Target

DEADLINE = 1.0  # seconds; the default of a target that is polled every second


def target(dsn: str, kind: str = "postgresql", **given: Any) -> Target:
    return Target(name="t", kind=kind, dsn=dsn, **given)


@asynccontextmanager
async def collecting(dsn: str, kind: str = "postgresql", **given: Any) -> AsyncIterator[Collector]:
    collector = collector_for(target(dsn, kind, **given))
    try:
        yield collector
    finally:
        await collector.close()


async def poll(collector: Collector) -> Sample:
    """One poll, which must end by the deadline and half a second whatever happens."""
    t0 = monotonic()
    sample = await collector.poll(datetime.now(UTC))
    assert monotonic() - t0 < DEADLINE + 0.5
    return sample


async def poll_until(
    collector: Collector, condition: Callable[[Sample], Any], seconds: float = 15.0
) -> list[Sample]:
    """Polls ten times a second until one answers as wished; all of them."""
    samples: list[Sample] = []
    deadline = monotonic() + seconds
    while True:
        samples.append(await poll(collector))
        if condition(samples[-1]):
            return samples
        assert monotonic() < deadline, f"not within {seconds} s; last: {samples[-1]}"
        await asyncio.sleep(0.1)


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 10.0) -> None:
    deadline = monotonic() + seconds
    while not await condition():
        assert monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.02)


def ask(server: Postgres, statement: str) -> list[tuple[Any, ...]]:
    """What a superuser's session of its own answers."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        cursor = admin.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def ours(server: Postgres) -> list[int]:
    """The pids of our sessions on *server*."""
    rows = ask(server, "SELECT pid FROM pg_stat_activity WHERE application_name = 'headroom'")
    return [pid for (pid,) in rows]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process *pid* does nothing at all, like one on a machine that hangs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
