"""`headroom demo` as somebody new sees it: one command, a browser, and a message."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, expect

from headroom.demo.servers import ROOT, free_port, new_folder, pgbouncer_program
from tests.acceptance.charts import BOARD, DRAWN, after_updates, newest, x_range, zoom
from tests.lab import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.pgbouncer, pytest.mark.timeout(600)]
ARTIFACTS = ROOT / "artifacts"
SECONDS = 90.0  # until anything is there, on a busy machine of two cores


class Demo:
    """The demo as a process, and what it printed.

    folder: for its temporary files, so that nobody else's are taken for its own.
    """

    def __init__(self, scenario: str, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.lines: list[str] = []
        arguments = ["--scenario", scenario, "--no-browser", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headroom", "demo", *arguments],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def printed(self, pattern: str) -> None:
        def found() -> bool:
            assert self.process.poll() is None, "the demo ended"
            return re.search(pattern, self.output) is not None

        wait_until(found, SECONDS, f"{pattern!r} was not printed")

    def stop(self, number: int = signal.SIGINT) -> float:
        """Ctrl-C. Returns the seconds until it was over."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return time.monotonic() - began


@pytest.fixture
def demo() -> Iterator[Demo]:
    if pgbouncer_program() is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    folder = new_folder("test-acceptance")
    folder.chmod(0o755)
    running = Demo("small-pool", folder)
    try:
        yield running
        if running.process.poll() is None:
            running.stop(signal.SIGTERM)
    finally:
        print(running.output)  # pytest shows it when the test failed
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_one_command_shows_the_queue_in_a_browser_and_in_a_message(
    demo: Demo, browser: Browser
) -> None:
    demo.printed(r"Open http://localhost:\d+")
    assert [folder.name[:14] for folder in demo.folder.iterdir()] == ["headroom-demo-"]
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{demo.port}/target?target=shop&range=5m")
    page.wait_for_selector(DRAWN)

    # It moves, and keeps its zoom while it does.
    first = newest(page)
    wait_until(lambda: newest(page) > first, SECONDS, "the chart does not move")
    zoom(page)
    zoomed = x_range(page)
    after_updates(page, 3)
    assert x_range(page) == zoomed
    page.locator('[data-panel="connections"] .nsewdrag').dblclick()
    page.wait_for_selector(f'{BOARD}[data-zoomed="false"]')

    # The trouble is on the screen: where the queue is, and because of whom.
    banner = page.locator(".hd-banner").first
    expect(banner).to_contain_text("for pool shop/app", timeout=SECONDS * 1000)
    expect(banner).to_contain_text("flash-sale", timeout=SECONDS * 1000)
    waiters = """() => Math.max(...document.querySelector(
        '[data-panel="waiters"] .js-plotly-plot').data.flatMap(t => t.y.filter(y => y !== null)))"""
    wait_until(lambda: page.evaluate(waiters) > 0, SECONDS, "no waiters in the chart")
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=str(ARTIFACTS / "small-pool-target.png"), full_page=True)

    # And in the message: the pool, the culprit, a link to that moment.
    demo.printed(r"Slack .*shop-pool")
    demo.printed(r"clients? waits? for a connection to pool shop/app")
    demo.printed(r"http://localhost:\d+/target\?target=shop-pool&from=")
    link = re.findall(r"http://localhost:\d+/target\?\S+", demo.output)[0]
    page.goto(link.replace("localhost", "127.0.0.1"))
    page.wait_for_selector('[data-panel="waiters"] .js-plotly-plot .main-svg')
    page.goto(f"http://127.0.0.1:{demo.port}/")
    expect(page.locator(".hd-banner").first).to_contain_text(
        "for pool shop/app", timeout=SECONDS * 1000
    )
    page.screenshot(path=str(ARTIFACTS / "small-pool-overview.png"), full_page=True)
    context.close()

    # Ctrl-C ends all of it.
    children = family(demo.process)
    assert len(children) > 5
    assert demo.stop() < SECONDS
    wait_until(lambda: not [child for child in children if child.is_running()], SECONDS)
    assert demo.process.returncode == 0
    assert list(demo.folder.iterdir()) == []
