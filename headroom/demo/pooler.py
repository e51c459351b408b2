"""Where the demo's PgBouncer comes from: the system has it, or gets it, or does without."""

from __future__ import annotations

import contextlib
import os
import signal as signals
import subprocess
from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

from headroom.demo.servers import ROOT, pgbouncer_program

_INSTALLER = ROOT / ".ci" / "system-packages"
_INSTALL_SECONDS = 300.0
_WITHOUT = "The demo goes on without a pooler: the application connects directly."


def find_or_install(say: Callable[[str], None], stop: Event) -> str | None:
    """The pgbouncer program, or None after saying how to get it, or when *stop* is set.

    On Debian and Ubuntu root gets the system's package, announced in one line. Everybody
    else is told the exact command for their system.
    """
    if program := pgbouncer_program():
        return program
    process = subprocess.Popen(  # noqa: S603
        ["/bin/sh", str(_INSTALLER), "pgbouncer"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C shall not leave a package half installed
    )
    reader = Thread(target=_read, args=(process, say), daemon=True)
    reader.start()
    deadline = monotonic() + _INSTALL_SECONDS
    while process.poll() is None:
        if stop.wait(0.1):
            say(
                "Stopping. The installation of PgBouncer is not interrupted: it ends by itself "
                f"in the background (process {process.pid})."
            )
            return None
        if monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signals.SIGTERM)
            say(f"PgBouncer could not be installed in {_INSTALL_SECONDS:.0f} s. {_WITHOUT}")
            return None
    reader.join(1.0)
    program = pgbouncer_program()
    if program is None:
        say(_WITHOUT)
    return program


def _read(process: subprocess.Popen[str], say: Callable[[str], None]) -> None:
    """Say what it prints, until it ends."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            say(line.rstrip())
    process.wait()
