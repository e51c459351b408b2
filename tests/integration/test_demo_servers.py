"""The demo starts from nothing and leaves nothing, however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal as signals
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from time import monotonic, sleep

import psutil
import psycopg
import pytest

from headroom.demo.keeper import Keeper
from headroom.demo.receiver import Receiver
from headroom.demo.servers import ROOT, Postgres, Process, ServerError, free_port, new_folder

START_SECONDS = 60.0
STOP_SECONDS = 10.0


@pytest.fixture
def folder() -> Iterator[Path]:
    made = new_folder("test-demo")
    yield made
    shutil.rmtree(made, ignore_errors=True)


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline, f"{what}: not within {seconds} s"
        sleep(0.05)


def test_postgresql_starts_answers_and_is_gone_after_the_stop(folder: Path) -> None:
    with Postgres(folder, settings={"max_connections": 17}) as server:
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SHOW max_connections").fetchone() == ("17",)
        processes = [psutil.Process(server.pid)]
        processes += processes[0].children(recursive=True)
        assert len(processes) > 1
    assert not server.running
    assert not [process for process in processes if process.is_running()]


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    with (
        pytest.raises(ServerError, match="max_connections"),
        Postgres(folder, settings={"max_connections": -1}),
    ):
        pass


def test_the_keeper_stops_what_it_was_told_of_and_removes_the_folder(folder: Path) -> None:
    sleeper = Process("sleeper", folder)
    # It ignores the polite signal, so the keeper has to insist.
    sleeper.start(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done"], lambda: True)
    process = psutil.Process(sleeper.pid)
    keeper = Keeper(folder)
    keeper.watch(sleeper.pid, signals.SIGTERM)
    assert process.is_running()
    keeper.close()
    assert not sleeper.running
    assert not folder.exists()


def test_the_receiver_shows_a_slack_message_and_refuses_what_is_none() -> None:
    shown: list[str] = []
    with Receiver(shown.append) as receiver:

        def post(body: bytes) -> tuple[int, bytes]:
            connection = HTTPConnection("127.0.0.1", receiver.port, timeout=5)
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answered = answer.status, answer.read()
            connection.close()
            return answered

        assert post(json.dumps({"text": "Pool full"}).encode()) == (200, b"ok")
        for wrong in (b"", b"[]", b"{}", b"not json", b'{"text": "x", "blocks": [1]}'):
            assert post(wrong) == (400, b"invalid_payload")
    assert shown == ["Pool full"]


class Demo:
    """`headroom demo` as a user starts it, with a folder of temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "headroom", "demo", "--no-browser"),
                *("--scenario", "healthy", "--port", str(self.port)),
            ],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said: list[str] = []

    def wait_until_open(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith("Open http"):
                return
        raise AssertionError("the demo ended:\n" + "".join(self.said))

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def demo(folder: Path) -> Iterator[Demo]:
    started = Demo(folder)
    yield started
    if started.process.poll() is None:
        started.process.terminate()
        started.process.wait(2 * STOP_SECONDS)
    assert started.process.stdout is not None
    started.process.stdout.close()


@pytest.mark.parametrize(
    "signal", [signals.SIGINT, signals.SIGTERM, signals.SIGHUP, signals.SIGKILL]
)
def test_a_demo_that_ends_leaves_no_process_and_no_folder(
    demo: Demo, signal: signals.Signals
) -> None:
    demo.wait_until_open()
    family = demo.family()
    names = " ".join(" ".join(process.cmdline()) for process in family)
    for part in ("postgres", "headroom run", "headroom dashboard", "demo.application"):
        assert part in names
    demo.process.send_signal(signal)
    status = demo.process.wait(STOP_SECONDS)
    assert status == (0 if signal != signals.SIGKILL else -signals.SIGKILL)
    wait_for(
        lambda: not any(process.is_running() for process in family),
        STOP_SECONDS,
        "every process is gone",
    )
    wait_for(lambda: not any(demo.folder.iterdir()), STOP_SECONDS, "its folder is gone")


def test_a_demo_whose_database_dies_says_so_and_ends(demo: Demo) -> None:
    demo.wait_until_open()
    family = demo.family()
    postmaster = next(p for p in family if "-D" in p.cmdline())
    postmaster.send_signal(signals.SIGQUIT)
    assert demo.process.stdout is not None
    said = demo.process.stdout.read()
    assert demo.process.wait(STOP_SECONDS) == 1
    assert "postgresql stopped, so the demo stops" in said
    assert not [process for process in family if process.is_running()]
