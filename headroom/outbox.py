"""The store's outbox as the courier wants it; and what is said while the store is away.

Messages of a decision that the store does not take are held in memory and sent from there.
When the decision is written at last, what has been sent is marked so in the same
transaction.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from alerts.deliver import Parcel
from alerts.evaluate import Decision
from alerts.notice_json import notice_from_json, notice_to_json
from store import alert_log
from store.alert_log import OutboxRow, Progress
from store.database import Store, StoreError

_T = TypeVar("_T")
_log = logging.getLogger("headroom.alerts")


class StoreOutbox:
    """The outbox of one store. Its calls run in one thread of their own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._held: dict[str, tuple[OutboxRow, Progress]] = {}  # only in memory so far
        self._open: dict[str, set[str]] = {}  # channel -> alerts that wait in the store
        self._lock = threading.Lock()  # hold() and release() come from the writer's thread

    def hold(self, rows: Iterable[OutboxRow]) -> None:
        """The store does not take these now: send them from memory."""
        with self._lock:
            for row in rows:
                self._held.setdefault(row.id, (row, Progress()))

    def progress(self, rows: Iterable[OutboxRow]) -> dict[str, Progress]:
        """What has become of those of *rows* that are held."""
        with self._lock:
            return {row.id: self._held[row.id][1] for row in rows if row.id in self._held}

    def release(self, rows: Iterable[OutboxRow]) -> dict[str, Progress]:
        """The store has these: forget them here. Returns what had become of them."""
        with self._lock:
            gone = {row.id: self._held.pop(row.id) for row in rows if row.id in self._held}
        return {message_id: progress for message_id, (_, progress) in gone.items()}

    async def due(self, channel: str, at: datetime, limit: int) -> list[Parcel]:
        """Messages of *channel* that may be tried now, oldest first."""

        def read() -> list[OutboxRow]:
            with self._store.read() as connection:
                self._open[channel] = alert_log.open_alerts(connection, channel)
                return alert_log.due(connection, channel, at, limit)

        try:
            rows = await self._do(read)
        except StoreError:
            rows = []  # the writer says that the store is away; memory goes on
        parcels = []
        for row in [*rows, *self._held_due(channel, at)]:
            try:
                notice = notice_from_json(row.payload)
            except (KeyError, TypeError, ValueError, AssertionError) as error:
                # One unreadable row must not keep back all that come after it.
                _log.error("message %s cannot be read and is given up: %s", row.id, error)
                await self.dead(row.id, at, f"cannot be read: {error}")
                continue
            parcels.append(
                Parcel(id=row.id, notice=notice, attempts=row.attempts, created_at=row.created_at)
            )
        return parcels[:limit]

    async def sent(self, parcel_id: str, at: datetime) -> None:
        """The receiver has it. Raises StoreError."""
        if not self._note(parcel_id, sent_at=at):
            await self._do(lambda: alert_log.mark_sent(self._store, parcel_id, at))

    async def failed(
        self,
        parcel_id: str,
        at: datetime,  # noqa: ARG002  the courier's word; the row keeps the next try
        error: str,
        next_attempt_at: datetime,
    ) -> None:
        """It was refused for now. Raises StoreError."""
        if not self._note(parcel_id, last_error=error, next_attempt_at=next_attempt_at):
            await self._do(
                lambda: alert_log.mark_failed(self._store, parcel_id, error, next_attempt_at)
            )

    async def dead(self, parcel_id: str, at: datetime, error: str) -> None:
        """It is given up. Raises StoreError."""
        if not self._note(parcel_id, last_error=error, dead_at=at):
            await self._do(lambda: alert_log.mark_dead(self._store, parcel_id, error, at))

    def _held_due(self, channel: str, at: datetime) -> list[OutboxRow]:
        """Held messages that may be tried; of an alert only the first that is not done.

        None of an alert that has an earlier message in the store: "resolved" must not overtake
        a "firing" that waits there for its next try.
        """
        found = []
        with self._lock:
            busy = set(self._open.get(channel, ()))
            for row, progress in self._held.values():
                done = progress.sent_at or progress.dead_at
                if row.channel != channel or done or row.alert_id in busy:
                    continue
                busy.add(row.alert_id)
                if (progress.next_attempt_at or row.next_attempt_at) <= at:
                    found.append(replace(row, attempts=progress.attempts))
        return found

    def _note(self, parcel_id: str, **changes: Any) -> bool:
        """Note what became of a held message; False when it is not held."""
        with self._lock:
            if parcel_id not in self._held:
                return False
            row, progress = self._held[parcel_id]
            attempts = progress.attempts + 1
            self._held[parcel_id] = (row, replace(progress, attempts=attempts, **changes))
        return True

    async def _do(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def outbox_rows(decision: Decision) -> list[OutboxRow]:
    """The messages of a decision as rows, in the order they were decided."""
    return [
        OutboxRow(
            id=f"{notice.id}:{channel}",
            alert_id=notice.alert_id,
            channel=channel,
            payload=notice_to_json(notice),
            created_at=notice.at,
            next_attempt_at=notice.at,
        )
        for channel, notice in decision.notices
    ]
