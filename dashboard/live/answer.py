"""One answer to a live chart: all of a range, or only what is new since its cursor.

The cursor is opaque to the browser and says what it has: which series, which limits and
marks, and the newest sample of every frame. Whatever is not recognised in it (another width,
a new pool, a restart of ours, a laptop that slept) is answered in full, so a chart heals by
asking again.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection

from dashboard.charts import Frame, drawing, limit_lines, resolution_of, values_of
from dashboard.live.frames import Plan, Source, plan, read, sources_of, strangers
from dashboard.panels import Panel, limits_of
from dashboard.span import Span, parse_span
from dashboard.words import visible
from model.config import Config
from model.targets import Target
from store.kept import from_ms, to_ms
from store.latest import alerts_between, gaps
from store.windows import bucket_seconds

OVERLAP = 8  # points read before the cursor, so that a gap is recognised as one
_REMEMBERED = 512  # shapes; one that was forgotten costs one answer in full

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cursor:
    """What a browser has.

    shape:  which series, in which order; extras: which limits and marks.
    newest: epoch milliseconds of every frame's newest sample; None where it has none.
    """

    shape: str
    extras: str
    newest: tuple[int | None, ...]

    def __str__(self) -> str:
        newest = "_".join("" if at is None else str(at) for at in self.newest)
        return f"{self.shape}-{self.extras}-{newest}"

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """The inverse of str; None for what is not one of ours."""
        try:
            shape, extras, newest = text.split("-")
            return cls(shape, extras, tuple(int(at) if at else None for at in newest.split("_")))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a chart asks for.

    params: what says the range (dashboard.span). points: its width, one a pixel.
    cursor: what it has; None when it has nothing.
    """

    target: Target
    panels: tuple[Panel, ...]
    params: tuple[tuple[str, str], ...]
    points: int
    cursor: Cursor | None

    def span(self, now: datetime) -> Span:
        """The range, seen from *now*. Raises ValueError."""
        return parse_span(dict(self.params), now)


class Answers:
    """Builds answers for one configuration. Remembers which series browsers have."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._shapes: OrderedDict[str, tuple[Source, ...]] = OrderedDict()

    def build(self, connection: Connection, wish: Wish, now: datetime) -> Answer | None:
        """The answer; None when the chart already has everything."""
        span = wish.span(now)
        if wish.cursor is not None and span.grows:
            answer = self._delta(connection, wish, wish.cursor, span)
            if answer != {}:
                return None if answer is None else answer | {"now": to_ms(now)}
        return self._full(connection, wish, span) | {"now": to_ms(now)}

    def _full(self, connection: Connection, wish: Wish, span: Span) -> Answer:
        found = [
            read(connection, source, span.start, span.end, wish.points)
            for source in sources_of(wish.panels, wish.target, self._config)
        ]
        sources, frames = tuple(s for s, _ in found), [f for _, f in found]
        planned = plan(wish.panels, sources)
        bucket = bucket_seconds(span.start, span.end, wish.points)
        drawings, lists = _drawings(planned, frames)
        shape = _shape(wish, sources, drawings, bucket)
        self._remember(shape, sources)
        for drawn, (panel, entries) in zip(drawings, planned, strict=True):
            coarsest = max((frames[number].resolution for _, number in entries), default=1.0)
            drawn["resolution"] = resolution_of(panel, coarsest)
        extras = self._extras(connection, planned, frames, wish, span)
        newest = tuple(frame.newest for frame in frames)
        return {
            "cursor": str(Cursor(shape, _hash(extras), newest)),
            "full": True,
            "live": span.grows,
            "from": to_ms(span.start),
            "to": to_ms(span.end),
            "bucket": bucket,
            "panels": drawings,
            "frames": [
                {
                    "x": frame.x,
                    "y": y,
                    "newest": frame.newest,
                    "target": source.target,
                    "stale_after": source.stale_after_seconds + pause(bucket),
                }
                for source, frame, y in zip(sources, frames, lists, strict=True)
            ],
            **extras,
        }

    def _delta(
        self, connection: Connection, wish: Wish, cursor: Cursor, span: Span
    ) -> Answer | None:
        """What is new since *cursor*; None when nothing is, {} when only a full answer helps."""
        sources = self._shapes.get(cursor.shape)
        if sources is None or len(sources) != len(cursor.newest):
            return {}
        bucket = bucket_seconds(span.start, span.end, wish.points)
        planned = plan(wish.panels, sources)
        frames: list[Frame] = []
        for source, newest in zip(sources, cursor.newest, strict=True):
            if newest is not None and newest < to_ms(span.start):
                return {}
            frame = _tail(connection, source, span, bucket, newest)
            if strangers(source, frame) or (newest is None and frame.newest is not None):
                return {}
            frames.append(frame)
        drawings, lists = _drawings(planned, frames)
        if _shape(wish, sources, drawings, bucket) != cursor.shape:
            return {}
        extras = self._extras(connection, planned, frames, wish, span)
        fresh = [
            frame.newest is not None and frame.newest != newest
            for frame, newest in zip(frames, cursor.newest, strict=True)
        ]
        if not any(fresh) and _hash(extras) == cursor.extras:
            return None
        after = tuple(
            frame.newest if new else newest
            for frame, newest, new in zip(frames, cursor.newest, fresh, strict=True)
        )
        answer: Answer = {
            "cursor": str(Cursor(cursor.shape, _hash(extras), after)),
            "frames": [
                {"x": frame.x, "y": y, "newest": frame.newest} if new else None
                for frame, y, new in zip(frames, lists, fresh, strict=True)
            ],
        }
        return answer | extras if _hash(extras) != cursor.extras else answer

    def _extras(
        self, connection: Connection, planned: Plan, frames: list[Frame], wish: Wish, span: Span
    ) -> Answer:
        """Limits by panel, and what happened: alerts, and times when nobody watched."""
        empty = Frame([], {}, None)
        limits = {}
        for panel, entries in planned:
            frame = frames[entries[0][1]] if entries else empty
            limits[panel.name] = limit_lines(panel, limits_of(panel, self._config.rules), frame)
        target = wish.target.name
        names = {target, *(t.name for t in self._config.poolers_of(target))}
        marks = [
            {
                "at": to_ms(alert.fired_at),
                "text": visible(f"{alert.key.rule}: {alert.finding.summary}"),
                "severity": alert.severity.value,
            }
            for alert in alerts_between(connection, span.start, span.end)
            if alert.key.target in names and alert.fired_at is not None
        ][:50]
        # A beginning outside the range is 0: it would move with the clock, and every answer
        # would be a new one.
        unwatched = [
            [0 if a <= span.start else to_ms(a), to_ms(b)]
            for a, b in gaps(connection, span.start, span.end)
            if b - a > timedelta(seconds=2)
        ]
        return {"limits": limits, "marks": marks, "unwatched": unwatched}

    def _remember(self, shape: str, sources: tuple[Source, ...]) -> None:
        self._shapes[shape] = sources
        self._shapes.move_to_end(shape)
        while len(self._shapes) > _REMEMBERED:
            self._shapes.popitem(last=False)


def pause(bucket: int) -> float:
    """Seconds between two answers of a chart whose points are *bucket* seconds long: a
    point of a day's chart need not be redrawn every second."""
    return 0.0 if bucket <= 10 else min(bucket / 4, 10.0)


def _tail(
    connection: Connection, source: Source, span: Span, bucket: int, newest: int | None
) -> Frame:
    """The points from the one that *newest* belongs to, in buckets as long as the chart's."""
    if newest is None:
        newest = to_ms(span.start)
    size = bucket * 1000
    first = newest if bucket == 1 else newest - newest % size
    step = max(size, math.ceil(1000 * source.stale_after_seconds / 3))
    start = max(first - OVERLAP * step, to_ms(span.start))
    end = to_ms(span.end)
    if bucket > 1:
        # Whole buckets, so that the store comes to the same length again.
        start, end = start - start % size, end + size - end % size
    points = max(math.ceil((end - start) / size), 1)
    _, frame = read(connection, source, from_ms(start), from_ms(end), points)
    return frame.since(first)


def _drawings(
    planned: Plan, frames: list[Frame]
) -> tuple[list[Answer], list[list[list[float | None]]]]:
    """The drawing of every panel, and for every frame the lists that its places point to."""
    lists: list[list[list[float | None]]] = [[] for _ in frames]
    drawings = []
    for panel, entries in planned:
        traces = []
        for series, number in entries:
            lists[number].append(values_of(series, frames[number]))
            traces.append((series, (number, len(lists[number]) - 1)))
        drawings.append(drawing(panel, traces))
    return drawings, lists


def _shape(wish: Wish, sources: tuple[Source, ...], drawings: list[Answer], bucket: int) -> str:
    """What a cursor's data belong to. Of which target they are is part of it: the charts of
    two servers look alike."""
    whose = [[source.rows, source.target] for source in sources]
    return _hash([wish.target.name, whose, drawings, bucket, wish.params])


def _hash(thing: Any) -> str:
    return f"{zlib.crc32(orjson.dumps(thing)):x}"
