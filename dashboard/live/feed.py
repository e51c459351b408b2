"""Notices new rows in the store, once for everybody who waits.

SQLite counts the commits of other connections (PRAGMA data_version); reading that number
costs some 0.1 ms. It is read only while somebody waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from store.database import Store, StoreError

_log = logging.getLogger(__name__)
CHECK_EVERY = 0.1  # seconds; half of it is the average delay that it adds


class Feed:
    """Counts the changes of one store. Lives on one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._connection: Connection | None = None
        self._seen: int | None = None
        self._waiting = 0
        self._checker: asyncio.Task[None] | None = None
        self._bell = asyncio.Event()
        self.changes = 0
        self.closed = False

    async def changed(self, since: int, timeout: float) -> bool:
        """Wait until `changes` has left *since* behind; False after *timeout* seconds or when
        the feed was closed. Read `changes` before you read the store, then nothing is missed.
        """
        self._waiting += 1
        if self._checker is None or self._checker.done():
            self._checker = asyncio.create_task(self._check())
        try:
            async with asyncio.timeout(timeout):
                while self.changes == since and not self.closed:
                    await self._bell.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return not self.closed

    def close(self) -> None:
        """Send everybody home who waits."""
        self.closed = True
        self._ring()

    async def stop(self) -> None:
        """Close, and let go of the store."""
        self.close()
        if self._checker is not None:
            self._checker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checker
        self._disconnect()

    async def _check(self) -> None:
        while self._waiting and not self.closed:
            version = self._version()
            if version != self._seen:
                self._seen = version
                self.changes += 1
                self._ring()
            await asyncio.sleep(CHECK_EVERY)

    def _version(self) -> int | None:
        """The store's number; None while there is no store."""
        try:
            if self._connection is None:
                if not self._store.path.exists():
                    return None
                self._connection = self._store.connect()
            return self._store.data_version(self._connection)
        except (SQLAlchemyError, StoreError) as error:
            _log.warning("cannot watch the store: %s", error)
            self._disconnect()
            return None

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._connection.close()
        self._connection = None

    def _ring(self) -> None:
        self._bell.set()
        self._bell = asyncio.Event()
