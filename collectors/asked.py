"""Questions that a server did not answer: said in the sample, and asked again later."""

from __future__ import annotations

from time import monotonic

import psycopg
from psycopg import errors as pg

ASK_AGAIN = 30.0  # seconds before a question that a locked catalog refused is asked again

REFUSED = (pg.LockNotAvailable, pg.QueryCanceled, pg.InsufficientPrivilege)
"""What costs one question and not the poll."""


class Asked:
    """Which side questions are open, and why some got no answer."""

    def __init__(self) -> None:
        self._trouble: dict[str, str] = {}
        self._not_before: dict[str, float] = {}

    def may(self, question: str) -> bool:
        """Whether *question* may be asked now."""
        return monotonic() >= self._not_before.get(question, 0.0)

    def answered(self, question: str) -> None:
        """*question* got its answer."""
        if self._trouble:
            self._trouble.pop(question, None)
            self._not_before.pop(question, None)

    def refused(self, question: str, what: str, error: psycopg.Error, again: float) -> None:
        """*question* about *what* got no answer; ask it again in *again* seconds."""
        if isinstance(error, pg.LockNotAvailable):
            why = "a catalog is locked"
        elif isinstance(error, pg.InsufficientPrivilege):
            why = "the role may not"
        else:
            why = "not answered in time"
        self._trouble[question] = f"{what} could not be read ({why})"
        self._not_before[question] = monotonic() + again

    def reasons(self) -> list[str]:
        """What could not be read, in words."""
        return list(self._trouble.values())

    def forget(self) -> None:
        """A new connection: everything may be asked again."""
        self._trouble.clear()
        self._not_before.clear()
