"""How our processes end: by a signal, in order; and never later than whoever started them.

A parent that is killed cannot stop its children. So a child of ours holds the reading end of
a pipe as its standard input and its parent the writing end: when the parent ends, however it
ends, the input ends, and the child ends itself. (Linux could do it with PR_SET_PDEATHSIG;
this works everywhere.)
"""

from __future__ import annotations

import contextlib
import os
import signal as signals
import subprocess
import sys
import time
from collections.abc import Iterator
from threading import Event, Thread
from typing import Any

VARIABLE = "HEADROOM_ENDS_WITH_PARENT"  # set for a child whose input is such a pipe
LEAVE_WITHIN = 8.0  # seconds after the parent's end; `run` needs 5 at most


@contextlib.contextmanager
def set_by_signals(stop: Event) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal set *stop*; none of them interrupts the clean-up."""

    def on_signal(*_: object) -> None:
        stop.set()

    numbers = [signals.SIGINT, signals.SIGTERM]
    if signals.getsignal(signals.SIGHUP) != signals.SIG_IGN:  # nohup means it
        numbers.append(signals.SIGHUP)
    before = {number: signals.signal(number, on_signal) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signals.signal(number, handler)


def with_us() -> dict[str, Any]:
    """Arguments of subprocess.Popen for a `headroom` command that ends when we do."""
    return {"stdin": subprocess.PIPE, "env": {**os.environ, VARIABLE: "1"}}


def end_with_parent() -> None:
    """Stop this process, as SIGTERM does, once its parent is gone; nothing without VARIABLE."""
    if os.environ.pop(VARIABLE, None) is not None:
        Thread(target=_end_after_parent, name="ends with parent", daemon=True).start()


def _end_after_parent() -> None:
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass  # nobody writes
    os.kill(os.getpid(), signals.SIGTERM)
    time.sleep(LEAVE_WITHIN)
    os._exit(1)
