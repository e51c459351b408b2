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
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from alerts.deliver import Parcel
from alerts.evaluate import Decision
from alerts.notice_json import notice_from_json, notice_to_json
from store import alert_log
from store.alert_log import OutboxRow
from store.database import Store, StoreError

_T = TypeVar("_T")
_log = logging.getLogger("headroom.alerts")


@dataclass(slots=True)
class _Held:
    """A message that is only in memory."""

    row: OutboxRow
    next_attempt_at: datetime
    attempts: int = 0
    done_at: datetime | None = None  # sent, or given up


class StoreOutbox:
    """The outbox of one store. Its calls run in one thread of their own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()  # hold() and release() come from the writer's thread

    def hold(self, rows: Iterable[OutboxRow]) -> None:
        """The store does not take these now: send them from memory."""
        with self._lock:
            for row in rows:
                self._held.setdefault(row.id, _Held(row, row.next_attempt_at))

    def done(self, rows: Iterable[OutboxRow]) -> dict[str, datetime]:
        """Which of *rows* have been sent from memory, and when."""
        with self._lock:
            found = {row.id: self._held[row.id].done_at for row in rows if row.id in self._held}
        return {key: at for key, at in found.items() if at is not None}

    def release(self, rows: Iterable[OutboxRow]) -> None:
        """The store has these: forget them here."""
        with self._lock:
            for row in rows:
                self._held.pop(row.id, None)

    async def due(self, channel: str, at: datetime, limit: int) -> list[Parcel]:
        """Messages of *channel* that may be tried now, oldest first."""

        def read() -> list[OutboxRow]:
            with self._store.read() as connection:
                return alert_log.due(connection, channel, at, limit)

        try:
            rows = await self._do(read)
        except StoreError:
            rows = []  # the writer says that the store is away; memory goes on
        parcels = []
        for row in [*rows, *self._held_due(channel, at, {row.alert_id for row in rows})]:
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
        if not self._finish_held(parcel_id, at):
            await self._do(lambda: alert_log.mark_sent(self._store, parcel_id, at))

    async def failed(
        self,
        parcel_id: str,
        at: datetime,  # noqa: ARG002  the courier's word; the row keeps the next try
        error: str,
        next_attempt_at: datetime,
    ) -> None:
        """It was refused for now. Raises StoreError."""
        with self._lock:
            held = self._held.get(parcel_id)
            if held is not None:
                held.attempts += 1
                held.next_attempt_at = next_attempt_at
                return
        await self._do(
            lambda: alert_log.mark_failed(self._store, parcel_id, error, next_attempt_at)
        )

    async def dead(self, parcel_id: str, at: datetime, error: str) -> None:
        """It is given up. Raises StoreError."""
        if not self._finish_held(parcel_id, at):
            await self._do(lambda: alert_log.mark_dead(self._store, parcel_id, error, at))

    def _held_due(self, channel: str, at: datetime, busy: set[str]) -> list[OutboxRow]:
        """Held messages that may be tried; of an alert only its first one that is not done."""
        found = []
        with self._lock:
            for held in self._held.values():
                row = held.row
                if row.channel != channel or held.done_at is not None or row.alert_id in busy:
                    continue
                busy.add(row.alert_id)
                if held.next_attempt_at <= at:
                    found.append(row)
        return found

    def _finish_held(self, parcel_id: str, at: datetime) -> bool:
        with self._lock:
            held = self._held.get(parcel_id)
            if held is not None:
                held.done_at = at
        return held is not None

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
