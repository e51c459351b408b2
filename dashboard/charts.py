"""Panels and their data as the JSON that the live chart draws. Pure.

A frame is the data of one kind of rows of one target, shared by the panels drawn from it:
x in epoch milliseconds, one list a column, None where there is no value. A drawing says how
a panel uses frames: Plotly traces without their data, each with its place [frame, list].
Colours of text, grid and status are the theme's, so the browser adds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dashboard.panels import POOL_COLOURS, TABLES, Limit, Panel, Rows, Series, first_known, on_white
from dashboard.words import age, plural, visible
from model.metrics import METRICS
from store.windows import Window

Values = list[float | None]
REST = "\0rest"  # stands for the pools that share one line; no pool can be called so


@dataclass(frozen=True, slots=True)
class Frame:
    """The data behind one or more panels.

    newest:     epoch milliseconds of the newest raw sample; None when there is none.
    resolution: seconds that one point stands for; 1 is a sample.
    """

    x: list[int]
    columns: dict[str, Values]
    newest: int | None
    resolution: float = 1.0

    def since(self, at: int) -> Frame:
        """Only the points from *at* (epoch milliseconds) on."""
        first = next((i for i, x in enumerate(self.x) if x >= at), len(self.x))
        return Frame(self.x[first:], {k: v[first:] for k, v in self.columns.items()}, self.newest)

    def last(self, column: str) -> float | None:
        """The newest value of *column* that is known."""
        return next((v for v in reversed(self.columns.get(column, ())) if v is not None), None)


def frame_of(window: Window) -> Frame:
    """A window as it is."""
    return Frame(window.at, window.columns, window.newest, window.resolution_seconds)


def frame_of_pools(
    windows: Mapping[str, Window], columns: Sequence[str], rest: Sequence[str] = ()
) -> Frame:
    """The windows of one pooler's pools over one common x; columns are "pool column".

    A pool that a poll did not mention has no value there: PgBouncer forgets idle pools.
    The pools in *rest* are put together: their counts are summed, of ages the highest is kept.
    """
    x = sorted({at for window in windows.values() for at in window.at})
    merged: dict[str, Values] = {}
    for pool, window in windows.items():
        place = {at: i for i, at in enumerate(window.at)}
        for column in columns:
            values = window.columns[column]
            merged[key(pool, column)] = [values[place[at]] if at in place else None for at in x]
    for column in columns if rest else ():
        shared = [merged.pop(key(pool, column)) for pool in rest if pool in windows]
        fold = max if column.endswith("_seconds") else sum
        merged[key(REST, column)] = [
            fold(known) if (known := [v for v in at if v is not None]) else None
            for at in zip(*shared, strict=True)
        ] or [None] * len(x)
    newest = [window.newest for window in windows.values() if window.newest is not None]
    coarsest = max((window.resolution_seconds for window in windows.values()), default=1.0)
    return Frame(x, merged, max(newest, default=None), coarsest)


def key(pool: str, column: str) -> str:
    """The name of a pool's column in a frame."""
    return f"{pool} {column}"


def pool_series(
    panel: Panel, pools: Sequence[str], rest: Sequence[str], prefix: str
) -> tuple[Series, ...]:
    """The panel's one series, once a pool, and once more for the rest of them."""
    only = panel.series[0]

    def line(label: str, pool: str, colour: str) -> Series:
        columns = tuple(key(pool, column) for column in only.columns)
        return replace(only, label=prefix + label, columns=columns, colour=colour)

    lines = [line(p, p, POOL_COLOURS[i % len(POOL_COLOURS)]) for i, p in enumerate(pools)]
    if rest:
        lines.append(line(plural(len(rest), "more pool"), REST, POOL_COLOURS[-1]))
    return tuple(lines)


def values_of(series: Series, frame: Frame) -> Values:
    """The series' values, of its columns together; None where all of them are unknown."""
    columns = [frame.columns[name] for name in series.columns if name in frame.columns]
    if not columns:
        return [None] * len(frame.x)
    if series.first:
        return [_short(first_known(at)) for at in zip(*columns, strict=True)]
    return [
        _short(sum(known)) if (known := [v for v in at if v is not None]) else None
        for at in zip(*columns, strict=True)
    ]


def drawing(panel: Panel, traces: Sequence[tuple[Series, tuple[int, int]]]) -> dict[str, Any]:
    """How *panel* is drawn; each series with its place (frame, list) in the answer."""
    return {
        "name": panel.name,
        "title": panel.title,
        "note": panel.note,
        "unit": panel.unit,
        "stacked": panel.stacked,
        "nothing": "not reported" if panel.rows is Rows.POOLS else "no answer in this range",
        "traces": [_trace(panel, series) | {"place": list(place)} for series, place in traces],
    }


def resolution_of(panel: Panel, seconds: float) -> str:
    """What one point of the panel is, where it is not a sample.

    >>> from dashboard.panels import PANELS
    >>> resolution_of(PANELS["connections"], 60.0), resolution_of(PANELS["statements"], 300.0)
    ('1 min averages', '5 min peaks')
    """
    if seconds <= 1:
        return ""
    folds = {
        metric.fold
        for name in (column for series in panel.series for column in series.columns)
        for metric in METRICS
        if metric.name == name and metric.table == TABLES.get(panel.rows)
    }
    folded = {frozenset({"max"}): "peaks", frozenset({"avg", "max"}): "averages; peaks kept"}
    return f"{age(seconds)} {folded.get(frozenset(folds), 'averages')}"


def limit_lines(panel: Panel, limits: Sequence[Limit], frame: Frame) -> dict[str, Any]:
    """The panel's dashed lines and its band, as far as their values are known."""
    found: dict[str, Any] = {"lines": []}
    for limit in limits:
        value = limit.value if limit.column is None else frame.last(limit.column)
        if value is not None:
            found["lines"].append(
                {
                    "y": _short(value),
                    "label": limit.label,
                    "role": limit.role,
                    "stretch": limit.stretch,
                }
            )
    if panel.band is not None:
        low, high = (frame.last(column) for column in panel.band)
        if low is not None and high is not None and high > low:
            found["band"] = [_short(low), _short(high)]
    return found


def _trace(panel: Panel, series: Series) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": visible(series.label),
        # Of the dark theme and of the light one; the browser knows which it is.
        "colours": [series.colour, on_white(series.colour)],
    }
    if panel.stacked:
        return trace | {"stackgroup": "all", "line": {"width": 0}}
    return trace | {"line": {"width": 1.6}, "connectgaps": False}


def _short(value: float | None) -> float | None:
    """Three decimals are more than a pixel can show; the rest would only be bytes."""
    if value is None:
        return None
    return int(value) if value == int(value) else round(value, 3)
