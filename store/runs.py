"""The lives of `headroom run`: what lies between two of them is a gap of our own making."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import insert, update

from store import tables
from store.database import Store


def begin(store: Store, at: datetime) -> int:
    """A run begins at *at*. Returns its number."""
    with store.write(durable=True) as connection:
        made = connection.execute(
            insert(tables.run).values(started_at=at, seen_at=at)
        ).inserted_primary_key
        assert made is not None
        return int(made[0])


def seen(store: Store, run_id: int, at: datetime) -> None:
    """The run is alive at *at*."""
    with store.write(durable=False) as connection:
        connection.execute(update(tables.run).where(tables.run.c.id == run_id).values(seen_at=at))


def end(store: Store, run_id: int, at: datetime) -> None:
    """The run stops in good order at *at*."""
    with store.write(durable=True) as connection:
        connection.execute(
            update(tables.run).where(tables.run.c.id == run_id).values(seen_at=at, stopped_at=at)
        )
