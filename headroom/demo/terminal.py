"""What the demo says, line by line, from several threads."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from datetime import datetime
from threading import Lock
from typing import TextIO

_WIDTH = 100
_LABEL = 12


class Terminal:
    """Prints whole lines. Text from outside cannot move the cursor or change colours."""

    def __init__(
        self, out: TextIO | None = None, now: Callable[[], datetime] = datetime.now
    ) -> None:
        self._out = out or sys.stdout
        self._now = now
        self._lock = Lock()

    def say(self, text: str = "") -> None:
        """Print *text* as it is."""
        self._print([printable(line) for line in text.split("\n")])

    def tell(self, label: str, text: str) -> None:
        """Print *text* with the time and a label before it, wrapped below itself."""
        head = f"{self._now():%H:%M:%S}  {label:<{_LABEL}}"
        indent = " " * len(head)
        lines = [
            wrapped
            for line in text.split("\n")
            for wrapped in textwrap.wrap(
                printable(line),
                _WIDTH - len(indent),
                break_on_hyphens=False,
                break_long_words=False,
            )
        ]
        first, *rest = lines or [""]
        self._print([head + first, *(indent + line for line in rest)])

    def _print(self, lines: list[str]) -> None:
        with self._lock:
            try:
                self._out.write("\n".join(lines) + "\n")
                self._out.flush()
            except (BrokenPipeError, OSError):
                # The terminal is gone or the pipe was closed: nobody reads, the demo goes on.
                return


def printable(text: str) -> str:
    """*text* on one line, without control characters.

    >>> printable("a\\x1b[31mb")
    'a�[31mb'
    """
    return "".join(c if c.isprintable() else " " if c in "\n\t" else "�" for c in text)
