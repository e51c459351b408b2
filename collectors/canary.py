"""A query that is sent through the pooler, to see what its clients see.

Only if the target has a `canary`. PgBouncer before 1.19 does not say that it is paused;
there a client that gets no answer is the only sign. The query runs beside the polls and
never delays one.

Needs: a role that may log in to a database behind the pooler; no privilege.
Cost:  SELECT 1 on one connection that is held (in session mode: opened each time), every
       15 seconds; every two while clients wait and no server works for them. While it gets no
       answer it is one more client in the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import Any

from psycopg import AsyncConnection

from collectors.cadence import Cadence
from collectors.connection import HeldConnection, Manner
from collectors.errors import CollectError
from model.samples import Failure
from model.targets import Target

EVERY = 15.0  # seconds between two queries
AGAIN = 2.0  # seconds between two queries while clients wait and no server works for them
PATIENCE = 30.0  # seconds until a query is given up and asked anew
APPLICATION_NAME = "headroom-canary"  # not "headroom": a server connection keeps the name

_MANNER = Manner(
    prepare_threshold=None, overrides={"options": "", "application_name": APPLICATION_NAME}
)


class Canary:
    """Asks SELECT 1 through one pooler, beside its polls.

    database: what it asks through.
    trouble:  why it cannot ask, in words; None while it can.
    """

    def __init__(self, target: Target, database: str) -> None:
        # A target of its own, because a query may take longer than a poll.
        patient = target.model_copy(update={"timeout": PATIENCE})
        self._held = HeldConnection(patient, _MANNER, _nothing_to_check)
        self.database = database
        self.trouble: str | None = None
        self._run: asyncio.Task[None] | None = None
        self._cadence = Cadence(EVERY, AGAIN)
        self._unanswered_since: float | None = None
        self._took: float | None = None

    def look(self, now: float, *, keep: bool, urgent: bool) -> None:
        """Send the query if it is time to.

        keep: hold the connection afterwards. urgent: there are signs of a pause.
        """
        if self._run is not None and not self._run.done():
            return
        if self._cadence.due(now, urgent=urgent or self._unanswered_since is not None):
            self._cadence.asked(now)
            self._unanswered_since = self._unanswered_since or now
            self._run = asyncio.create_task(self._ask(keep), name="canary")

    def unanswered(self, now: float) -> float:
        """Seconds since the query was sent that has no answer yet; 0 when all have one."""
        return 0.0 if self._unanswered_since is None else now - self._unanswered_since

    def seconds(self, now: float) -> float | None:
        """How long the last answer took, or how long it is being waited for; None not known."""
        waited = self.unanswered(now)
        return max(waited, self._took or 0.0) if waited else self._took

    @property
    def answered(self) -> bool:
        """Whether the last query was answered."""
        return self._unanswered_since is None and self._took is not None

    async def close(self) -> None:
        """Give up what runs, and close the connection."""
        if self._run is not None:
            self._run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({self._run}, timeout=1.0)
        await self._held.close()

    async def _ask(self, keep: bool) -> None:
        t0 = monotonic()
        try:
            await self._held.ask(_select, t0 + PATIENCE)
        except CollectError as error:
            if error.failure is Failure.TIMEOUT:
                return  # it may be a pause, and is asked again
            self.trouble, self._took = error.reason, None
        else:
            self.trouble, self._took = None, monotonic() - t0
        self._unanswered_since = None
        if not keep:
            await self._held.close()


async def _select(connection: AsyncConnection[Any]) -> None:
    await connection.execute("SELECT 1")


async def _nothing_to_check(connection: AsyncConnection[Any]) -> None:
    """Whatever lets us in will do."""
