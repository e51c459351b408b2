"""`headroom up` is two processes that end with it, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from headroom.demo.servers import ROOT, free_port
from tests.lab import command, wait_until

SECONDS = 60.0  # on a busy machine


class Up:
    """`headroom up` as somebody starts it in a terminal; its target need not answer."""

    def __init__(self, folder: Path) -> None:
        self.http, self.dashboard = free_port(), free_port()
        config = folder / "headroom.toml"
        config.write_text(
            f'[http]\nlisten = "127.0.0.1:{self.http}"\n'
            '[[target]]\nname = "shop"\nkind = "postgresql"\n'
            f'dsn = "host=127.0.0.1 port={free_port()} dbname=shop"\n'
        )
        self.log = folder / "up.log"
        arguments = ["up", "--config", str(config), "--port", str(self.dashboard)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headroom", *arguments],
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def children(self) -> list[psutil.Process]:
        assert self.process.poll() is None, self.log.read_text()
        return psutil.Process(self.process.pid).children(recursive=True)

    def wait_until_both_answer(self) -> None:
        for port in (self.http, self.dashboard):
            wait_until(lambda port=port: self.answers(port), SECONDS, self.log.read_text())

    def answers(self, port: int) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    started = Up(tmp_path)
    children: list[psutil.Process] = []
    try:
        children = wait_until(lambda: len(c := started.children()) == 2 and c, SECONDS)
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()
        for child in children:
            if child.is_running():
                child.kill()


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name
)
def test_both_parts_end_with_it_however_it_ends(up: Up, number: signal.Signals) -> None:
    up.wait_until_both_answer()
    children = up.children()
    assert len(children) == 2
    up.process.send_signal(number)
    status = up.process.wait(SECONDS)
    assert status == (0 if number != signal.SIGKILL else -signal.SIGKILL), up.log.read_text()
    wait_until(lambda: not [c for c in children if c.is_running()], SECONDS, "a part is left")
    assert "Traceback" not in up.log.read_text()


def test_a_kill_before_the_parts_have_begun_their_work_leaves_none(up: Up) -> None:
    children = up.children()
    up.process.kill()
    up.process.wait()
    wait_until(lambda: not [c for c in children if c.is_running()], SECONDS, "a part is left")


def test_when_one_part_ends_the_other_one_ends_too(up: Up) -> None:
    up.wait_until_both_answer()
    children = up.children()
    next(c for c in children if "run" in c.cmdline()).kill()
    assert up.process.wait(SECONDS) != 0
    assert not [child for child in children if child.is_running()]
    assert "headroom run ended with status -9" in up.log.read_text()


@pytest.mark.parametrize("name", ["dashboard", "up", "demo"])
@pytest.mark.parametrize("port", ["0", "99999", "-1", "http"])
def test_a_port_that_is_none_is_refused_in_one_sentence(name: str, port: str) -> None:
    done = command(name, "--port", port)
    assert done.returncode == 2
    assert done.stderr.endswith(f"argument --port: {port!r} is not a TCP port (1 to 65535)\n")


@pytest.mark.parametrize("module", ["argparse", "pydantic", "model.alerting", "model.config"])
def test_ctrl_c_while_it_still_imports_prints_no_traceback(module: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "headroom", "status", "--help"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    with process.stderr as lines:
        for line in lines:
            said.append(line)
            if line.split("|")[-1].strip() == module:
                process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) in {-signal.SIGINT, 0}  # 0: the signal came too late
    assert "Traceback" not in "".join(said)
