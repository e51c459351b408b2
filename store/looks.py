"""When we looked, and which episodes were there at that moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Table, and_, literal, or_, select

from store.episodes import LONGEST

_LOOKED = timedelta(seconds=10)  # after a poll; so long it stands for what was there


@dataclass(frozen=True, slots=True)
class Look:
    """A moment at which what was there is known.

    skew:  the server's clock minus ours then; 0 for a pooler.
    usual: how far the look was from the one before.
    """

    moment: datetime
    skew: timedelta
    usual: timedelta


def last_look(
    connection: Connection, samples: Table, target_id: int, at: datetime | None
) -> Look | None:
    """The last good poll of a target, or *at* if that poll still stands for it.

    None when nobody looked at that time: what the last look saw says nothing about later.
    """
    skew = samples.c.clock_skew_seconds if "clock_skew_seconds" in samples.c else literal(0.0)
    query = (
        select(samples.c.at, skew.label("skew"))
        .where(samples.c.target_id == target_id, samples.c.up)
        .order_by(samples.c.at.desc())
        .limit(2)
    )
    rows = connection.execute(query if at is None else query.where(samples.c.at <= at)).all()
    if not rows:
        return None
    last = rows[0].at
    usual = (last - rows[1].at) if len(rows) > 1 else timedelta(0)
    if at is not None and at - last > max(_LOOKED, 3 * usual):
        return None
    return Look(last if at is None else at, timedelta(seconds=rows[0].skew or 0.0), usual)


def there(episodes: Table, target_id: int, moment: datetime) -> ColumnElement[bool]:
    """The condition for the episodes of a target that went on at *moment*."""
    return and_(
        episodes.c.target_id == target_id,
        episodes.c.started_at <= moment,
        episodes.c.started_at > moment - LONGEST - timedelta(minutes=1),
        # Those who were there when we were stopped have ended since, but were still there.
        or_(episodes.c.ended_at.is_(None), episodes.c.ended_at > moment),
    )
