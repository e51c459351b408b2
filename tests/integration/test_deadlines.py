"""No poll takes longer than its deadline, whatever the other side does."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from collectors import resolve
from collectors.registry import collector_for
from collectors.schedule import Schedule
from headroom.demo.servers import Postgres
from model.samples import Failure, Sample
from model.targets import Target
from tests.collecting import ask, collecting, ours, poll, poll_until, stopped, target, until


@pytest.fixture(scope="module")
def server(server_folder: Callable[[str], Path]) -> Iterator[Postgres]:
    """A server of our own, because we stop its processes."""
    with Postgres(server_folder("stopped"), settings={"max_connections": 20}) as server:
        ask(server, "CREATE ROLE headroom LOGIN IN ROLE pg_monitor")
        yield server


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def test_a_stopped_backend_costs_one_poll(server: Postgres) -> None:
    async with collecting(server.dsn(user="headroom")) as collector:
        assert (await poll(collector)).up
        (pid,) = ours(server)
        with stopped(pid):
            sample = await poll(collector)  # ends by the deadline and half a second
            assert (sample.up, sample.failure) == (False, Failure.TIMEOUT)
            assert 0.9 <= sample.poll_seconds < 1.0  # before the next one is due
            assert (await poll(collector)).up  # over a connection of its own
            assert len(ours(server)) == 2  # the stopped one cannot end yet

        async def one_left() -> bool:
            return len(ours(server)) == 1

        await until(one_left)
        assert (await poll(collector)).up


async def test_a_stopped_postmaster_costs_no_poll_more_than_its_deadline(
    server: Postgres,
) -> None:
    async with collecting(server.dsn(user="headroom")) as collector:
        before = open_files()
        with stopped(server.pid):
            samples = [await poll(collector) for _ in range(7)]
            assert {sample.failure for sample in samples} == {Failure.TIMEOUT}
            assert all(sample.reason for sample in samples)
            assert open_files() <= before + 2  # one attempt at a time
        back = await poll_until(collector, lambda sample: sample.up, seconds=20)
        assert len(ours(server)) == 1, back


async def test_a_held_connection_outlives_a_stopped_postmaster(server: Postgres) -> None:
    async with collecting(server.dsn(user="headroom")) as collector:
        assert (await poll(collector)).up
        with stopped(server.pid):
            assert (await poll(collector)).up


async def test_a_listener_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        async with collecting(f"host=127.0.0.1 port={port} user=x dbname=x") as collector:
            sample = await poll(collector)
            assert sample.failure is Failure.TIMEOUT


async def test_a_listener_that_speaks_something_else_is_not_this_kind() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as web:
        port = web.sockets[0].getsockname()[1]
        async with collecting(f"host=127.0.0.1 port={port} user=x dbname=x") as collector:
            sample = await poll(collector)
            assert sample.failure is Failure.PROTOCOL, sample


async def test_nobody_listens() -> None:
    async with collecting("host=127.0.0.1 port=1 user=x dbname=x") as collector:
        sample = await poll(collector)
        assert sample.failure is Failure.UNREACHABLE
        assert "nothing listens there" in (sample.reason or "")


async def test_a_stalled_name_server_costs_no_poll_more_than_its_deadline(
    server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    stall = threading.Event()

    def stalled(host: str) -> list[str]:
        stall.wait(30)
        return ["127.0.0.1"]

    monkeypatch.setattr(resolve.RESOLVER, "_lookup", stalled)
    dsn = f"host=db.invalid port={server.port} user=headroom dbname=postgres"
    try:
        async with collecting(dsn) as collector:
            sample = await poll(collector)
            assert sample.failure is Failure.TIMEOUT
            stall.set()
            await poll_until(collector, lambda sample: sample.up)
    finally:
        stall.set()


async def test_a_hung_target_leaves_the_others_and_the_end_alone(server: Postgres) -> None:
    samples: list[Sample] = []
    good = Target(name="good", kind="postgresql", dsn=server.dsn(user="headroom"), interval="200ms")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        hung = [
            Target(
                name=f"hung-{number}",
                kind="postgresql",
                dsn=f"host=127.0.0.1 port={port} user=x dbname=x",
                interval="200ms",
            )
            for number in range(20)
        ]
        schedule = Schedule([good, *hung], samples.append)
        await schedule.start()

        async def seen() -> bool:
            return sum(sample.target == "good" for sample in samples) >= 12

        await until(seen)
        t0 = monotonic()
        await schedule.stop()
        assert monotonic() - t0 < 2.0
    of_good = [sample for sample in samples if sample.target == "good"]
    assert all(sample.up for sample in of_good)
    assert schedule.stats().missed_total["good"] == 0
    assert {s.failure for s in samples if s.target != "good"} <= {Failure.TIMEOUT}


async def test_closing_in_the_middle_of_an_attempt_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        collector = collector_for(target(f"host=127.0.0.1 port={port} user=x dbname=x"))
        before = open_files()
        await poll(collector)
        assert open_files() > before
        await collector.close()

        async def closed() -> bool:
            return open_files() <= before

        await until(closed)
