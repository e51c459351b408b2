"""Snapshots of sessions folded into episodes.

An episode is a stretch of one session with the same state, transaction and statement:
one row from beginning to end instead of one row a second. `started_at <= t < ended_at`
answers who was connected at t.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from model.samples import Session

LONGEST = timedelta(hours=1)
"""An episode is cut after this long, so that a lookup of a past moment has a bounded range
to read. An idle session costs one row an hour."""

Identity = tuple[int, datetime]
"""(pid, backend_start)"""


@dataclass(frozen=True, slots=True)
class Episode:
    """One open episode."""

    session: Session
    started_at: datetime

    @property
    def identity(self) -> Identity:
        """Whose episode it is."""
        return (self.session.pid, self.session.backend_start)


@dataclass(frozen=True, slots=True)
class Fold:
    """What one more snapshot did to the open episodes."""

    open: dict[Identity, Episode]
    began: tuple[Episode, ...]
    ended: tuple[Episode, ...]


def fold(before: Mapping[Identity, Episode], snapshot: Iterable[Session], at: datetime) -> Fold:
    """Add one *snapshot* taken at *at* to the episodes that were open *before* it."""
    after: dict[Identity, Episode] = {}
    began: list[Episode] = []
    ended: list[Episode] = []
    for session in snapshot:
        identity = (session.pid, session.backend_start)
        if identity in after:  # the server's view is not atomic; it may show a pid twice
            continue
        episode = before.get(identity)
        goes_on = (
            episode is not None
            and _same(episode.session, session)
            and at - episode.started_at < LONGEST
        )
        if episode is not None and goes_on:
            after[identity] = episode
            continue
        if episode is not None:
            ended.append(episode)
        after[identity] = Episode(session, at)
        began.append(after[identity])
    ended.extend(episode for identity, episode in before.items() if identity not in after)
    return Fold(after, tuple(began), tuple(ended))


def _same(a: Session, b: Session) -> bool:
    """Whether nothing that makes an episode changed between two snapshots.

    An idle session is the same although it worked in between: what it did was shorter than
    a poll. Who is blocked by whom is part of it, since that is what is looked for later.
    """
    if a.state != b.state or a.application != b.application or a.role != b.role:
        return False
    if a.state == "idle":
        return True
    return (
        a.xact_start == b.xact_start
        and a.query_start == b.query_start
        and a.statement == b.statement
        and a.blocked_by == b.blocked_by
    )
