"""Where the demo's PgBouncer comes from: the system has it, or gets it, or does without."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from headroom.demo.servers import ROOT, pgbouncer_program

_INSTALL_SECONDS = 300.0


def find_or_install(say: Callable[[str], None]) -> str | None:
    """The pgbouncer program, or None after saying how to get it.

    On Debian and Ubuntu root gets the system's package, announced in one line. Everybody
    else is told the exact command for their system.
    """
    if program := pgbouncer_program():
        return program
    process = subprocess.Popen(  # noqa: S603
        ["/bin/sh", str(ROOT / ".ci" / "system-packages"), "pgbouncer"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C shall not leave a package half installed
    )
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            say(line.rstrip())
    process.wait(_INSTALL_SECONDS)
    program = pgbouncer_program()
    if program is None:
        say("The demo goes on without a pooler: the application connects directly.")
    return program
