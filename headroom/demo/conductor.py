"""The demo's hold on its application: a child process that plays one scenario at a time."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Condition, Thread
from time import monotonic
from typing import Any

from headroom.demo.servers import ROOT, ServerError, last_lines

READY_SECONDS = 60.0
STOP_SECONDS = 5.0  # until an application that does not end is killed

OnEnded = Callable[[str, Mapping[str, int]], None]


class Conductor:
    """Starts the application, tells it what to play, and hears what it met.

    on_ended: called with a scenario and {error text: count} when it was cleaned up.
    """

    name = "application"

    def __init__(self, folder: Path, on_ended: OnEnded | None = None) -> None:
        self.on_start: Callable[[int], None] | None = None  # as in servers.Process
        self.log = folder / "application.log"
        self._on_ended = on_ended
        self._process: subprocess.Popen[str] | None = None
        self._changed = Condition()
        self._ready = False
        self._playing: str | None = None

    @property
    def pid(self) -> int:
        """The process id of the running application."""
        assert self._process is not None, "the application is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def last_lines(self) -> str:
        """The end of its log."""
        return last_lines(self.log)

    def start(self, server_port: int, pooler_port: int | None) -> None:
        """Start it and wait until its users have come. Raises ServerError."""
        command = [sys.executable, "-m", "headroom.demo.application"]
        command += ["--server-port", str(server_port)]
        if pooler_port is not None:
            command += ["--pooler-port", str(pooler_port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                text=True,
                start_new_session=True,
            )
        if self.on_start is not None:
            self.on_start(self._process.pid)
        Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self._wait(lambda: self._ready, READY_SECONDS, "did not get ready")

    def play(self, scenario: str) -> None:
        """Tell it what to play next; it cleans up first. Returns at once."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # whoever looks at `running` learns of it
            self._process.stdin.write(f"{scenario}\n")
            self._process.stdin.flush()

    def wait_until_playing(self, scenario: str, seconds: float) -> None:
        """Return when *scenario* has begun. Raises ServerError after *seconds*."""
        self._wait(lambda: self._playing == scenario, seconds, f"did not begin {scenario}")

    def stop(self) -> None:
        """End it: its input ends, it gives its connections back. Killed after STOP_SECONDS."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._hear(json.loads(line))
        with self._changed:
            self._changed.notify_all()

    def _hear(self, event: dict[str, Any]) -> None:
        with self._changed:
            if event["event"] == "ready":
                self._ready = True
            elif event["event"] == "started":
                self._playing = event["scenario"]
            self._changed.notify_all()
        if event["event"] == "ended" and self._on_ended is not None:
            self._on_ended(event["scenario"], event["failures"])

    def _wait(self, condition: Callable[[], bool], seconds: float, problem: str) -> None:
        deadline = monotonic() + seconds
        with self._changed:
            while not condition():
                if not self.running:
                    raise ServerError(f"{self.name} stopped:\n{self.last_lines()}")
                if monotonic() > deadline:
                    raise ServerError(f"{self.name} {problem} in {seconds:.0f} s")
                self._changed.wait(0.2)
