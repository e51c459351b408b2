"""When to ask again what need not be asked in every poll."""

from __future__ import annotations

SHARE = 0.01  # of the target's time that one question may cost


class Cadence:
    """Seldom as a rule, soon when it matters, and less often when the answer is expensive.

    usually:  seconds between two looks when nothing happens.
    at_least: seconds between two looks however much it matters.
    """

    def __init__(self, usually: float, at_least: float) -> None:
        self._usually = usually
        self._at_least = at_least
        self._next = 0.0  # monotonic
        self._soonest = 0.0

    def due(self, now: float, *, urgent: bool = False) -> bool:
        """Whether to ask at *now* (monotonic)."""
        return now >= (self._soonest if urgent else self._next)

    def asked(self, now: float, cost: float = 0.0) -> None:
        """It was asked at *now*, and the answer took *cost* seconds."""
        rest = cost / SHARE
        self._next = now + max(self._usually, rest)
        self._soonest = now + max(self._at_least, rest)

    def begin(self) -> None:
        """Ask at once, whatever was known: the connection is a new one."""
        self._next = self._soonest = 0.0
