"""How big the store is, and how big it will be."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from store import spans, tables
from store.database import Store

_YOUNG = 60.0  # seconds of samples; less says nothing about growth


@dataclass(frozen=True, slots=True)
class StoreSize:
    """used_bytes:     of the file, without what is free in it.
    bytes_per_day:  how fast samples fill it; None when it is too young to say.
    forecast_bytes: its size once the oldest samples begin to be forgotten; None as above.
    oldest_at:      the oldest sample.
    """

    used_bytes: int
    bytes_per_day: float | None
    forecast_bytes: float | None
    oldest_at: datetime | None


def store_size(store: Store, keep_samples: float, max_size: int) -> StoreSize:
    """The size now, and when samples of *keep_samples* seconds are kept. Raises StoreError."""
    with store.read() as connection:
        used = _used(connection)
        polls = (tables.server_sample, tables.pooler_sample)
        firsts = [spans.oldest(connection, table) for table in polls]
        lasts = [spans.newest(connection, table) for table in polls]
    oldest = min((at for at in firsts if at is not None), default=None)
    newest = max((at for at in lasts if at is not None), default=None)
    seconds = 0.0 if oldest is None or newest is None else (newest - oldest).total_seconds()
    if seconds < _YOUNG:
        return StoreSize(used, None, None, oldest)
    a_day = used / seconds * 86400
    forecast = max(min(a_day * keep_samples / 86400, float(max_size)), float(used))
    return StoreSize(used, a_day, forecast, oldest)


def used_bytes(store: Store) -> int:
    """Bytes of the file that are in use. Raises StoreError."""
    with store.read() as connection:
        return _used(connection)


def _used(connection: Connection) -> int:
    page = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    count = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    return int(page * (count - free))
