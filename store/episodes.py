"""Snapshots folded into episodes: sessions, lock waits, links of clients to backends.

An episode is a stretch in which something stayed the same: of a session, its state,
transaction and statement. It is one row from beginning to end instead of one row a second.
`started_at <= t < ended_at` answers who was there at t.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from model.samples import Link, LockWait, Session

LONGEST = timedelta(hours=1)
"""An episode is cut after this long, so that a lookup of a past moment has a bounded range
to read. An idle session costs one row an hour."""

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Episode(Generic[T]):
    """One open episode of something, as it was when the episode began."""

    what: T
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Fold(Generic[K, T]):
    """What one more snapshot did to the open episodes."""

    open: dict[K, Episode[T]]
    began: tuple[Episode[T], ...]
    ended: tuple[Episode[T], ...]


def fold(
    before: Mapping[K, Episode[T]],
    snapshot: Iterable[T],
    at: datetime,
    *,
    identity: Callable[[T], K],
    same: Callable[[T, T], bool],
) -> Fold[K, T]:
    """Add one *snapshot* taken at *at* to the episodes that were open *before* it.

    identity: whose episode it is; same: whether it goes on.
    """
    after: dict[K, Episode[T]] = {}
    began: list[Episode[T]] = []
    ended: list[Episode[T]] = []
    for item in snapshot:
        key = identity(item)
        if key in after:  # the server's view is not atomic; it may show a pid twice
            continue
        episode = before.get(key)
        if episode is not None and same(episode.what, item) and at - episode.started_at < LONGEST:
            after[key] = episode
            continue
        if episode is not None:
            ended.append(episode)
        after[key] = Episode(item, at)
        began.append(after[key])
    ended.extend(episode for key, episode in before.items() if key not in after)
    return Fold(after, tuple(began), tuple(ended))


def session_identity(session: Session) -> tuple[int, datetime]:
    """A pid alone is reused."""
    return (session.pid, session.backend_start)


def same_session(a: Session, b: Session) -> bool:
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


def wait_identity(wait: LockWait) -> tuple[int, datetime]:
    """A session waits for one lock at a time."""
    return (wait.pid, wait.backend_start)


def same_wait(a: LockWait, b: LockWait) -> bool:
    """Whether it is still the same wait: for the same lock, behind the same sessions."""
    return (a.lock_type, a.mode, a.relation, a.blocked_by, a.root) == (
        b.lock_type,
        b.mode,
        b.relation,
        b.blocked_by,
        b.root,
    )


def link_identity(link: Link) -> str:
    """The pooler's own name for its client."""
    return link.client_id


def same_link(a: Link, b: Link) -> bool:
    """Whether the client has the same state and the same backend."""
    return (a.state, a.backend_pid, a.application) == (b.state, b.backend_pid, b.application)
