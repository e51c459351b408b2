"""Stops what the demo left behind when the demo itself was killed.

Servers run in sessions of their own, so a kill -9 of the demo would leave them running. The
keeper is one more child that holds the end of a pipe: when the demo ends, however it ends,
the pipe ends, and the keeper stops every process it was told of, then every server that
runs in the folder (one it was not told of yet, or the helpers of initdb), and removes the
folder. (Commands of ours end by themselves, headroom/ending.py; servers do not.)

Each line of its standard input is "PID SIGNAL": stop this process with that signal.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal as signals
import subprocess
import sys
import time
from pathlib import Path

import psutil

from headroom.demo.servers import ROOT

STOP_SECONDS = 5.0  # until a process that ignores its signal is killed
# Not everything that runs in the folder: somebody may have gone there with a shell.
_SERVERS = frozenset({"initdb", "postgres", "pgbouncer"})


class Keeper:
    """The demo's side: starts the keeper and tells it whom to stop."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "headroom.demo.keeper", str(folder.resolve())],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,  # the terminal's Ctrl-C and hang-up are not for it
            text=True,
        )

    @property
    def pid(self) -> int:
        """The keeper's process id."""
        return self._process.pid

    def watch(self, pid: int, signal: int) -> None:
        """Have the process *pid* stopped by *signal* if the demo dies."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a demo without a keeper still stops by itself
            self._process.stdin.write(f"{pid} {signal}\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End the keeper, which stops and removes what is still there."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(4 * STOP_SECONDS)


def main() -> None:
    """Wait until standard input ends; then clean up."""
    for number in (signals.SIGINT, signals.SIGTERM, signals.SIGHUP):
        signals.signal(number, signals.SIG_IGN)
    kept: list[tuple[psutil.Process, int]] = []
    for line in sys.stdin:
        pid, signal = line.split()
        # psutil remembers when a process started, so a number that the system has given
        # to another process since is not signalled.
        with contextlib.suppress(psutil.Error):
            kept.append((psutil.Process(int(pid)), int(signal)))
    _stop(kept[::-1])
    folder = Path(os.fsdecode(sys.argv[1]))
    for _ in range(2):  # a server that was just being started may still have written
        _stop([(process, signals.SIGINT) for process in _servers_in(folder)])
        shutil.rmtree(folder, ignore_errors=True)


def _stop(processes: list[tuple[psutil.Process, int]]) -> None:
    """Send each its signal; kill those, and children of theirs, that still run then."""
    left = []
    for process, signal in processes:
        with contextlib.suppress(psutil.Error):
            left += [process, *process.children(recursive=True)]
            process.resume()
            process.send_signal(signal)
    for process in _wait(left):
        with contextlib.suppress(psutil.Error):
            process.kill()
    _wait(left)


def _servers_in(folder: Path) -> list[psutil.Process]:
    """Servers whose working directory is *folder* or below it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() in _SERVERS and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


def _wait(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run after STOP_SECONDS. One that only its parent has to reap is gone."""
    deadline = time.monotonic() + STOP_SECONDS
    while running := [process for process in processes if _runs(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return running


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


if __name__ == "__main__":
    main()
