"""The store's outbox as the courier wants it: asynchronous, in notices instead of rows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from alerts.deliver import Parcel
from alerts.evaluate import Decision
from alerts.notice_json import notice_from_json, notice_to_json
from store import alert_log
from store.alert_log import OutboxRow
from store.database import Store

_T = TypeVar("_T")
_log = logging.getLogger("headroom.alerts")


class StoreOutbox:
    """The outbox of one store. Its calls run in one thread of their own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")

    async def due(self, channel: str, at: datetime, limit: int) -> list[Parcel]:
        """Messages of *channel* that may be tried now, oldest first. Raises StoreError."""

        def read() -> list[OutboxRow]:
            with self._store.read() as connection:
                return alert_log.due(connection, channel, at, limit)

        parcels = []
        for row in await self._do(read):
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
        return parcels

    async def sent(self, parcel_id: str, at: datetime) -> None:
        """The receiver has it."""
        await self._do(lambda: alert_log.mark_sent(self._store, parcel_id, at))

    async def failed(
        self,
        parcel_id: str,
        at: datetime,  # noqa: ARG002  the courier's word; the row keeps the next try
        error: str,
        next_attempt_at: datetime,
    ) -> None:
        """It was refused for now."""
        await self._do(
            lambda: alert_log.mark_failed(self._store, parcel_id, error, next_attempt_at)
        )

    async def dead(self, parcel_id: str, at: datetime, error: str) -> None:
        """It is given up."""
        await self._do(lambda: alert_log.mark_dead(self._store, parcel_id, error, at))

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
