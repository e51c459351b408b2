"""Who is connected, longest first: now, or at a moment of the past."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st
from sqlalchemy import Connection

from dashboard.shape import not_known
from dashboard.source import Source
from dashboard.span import Span, parse_moment
from dashboard.tables import (
    SESSION_COLUMNS,
    ages_in_words,
    blocking_table,
    group_table,
    session_key,
    session_table,
)
from dashboard.views.page import read_or_say
from dashboard.views.tick import tick, ticked
from dashboard.views.time_range import viewer_zone
from dashboard.words import age, clock, literal, plural, sentence, visible
from model.moments import iso
from store.latest import SessionRow, TargetNow, sessions_at, target_now
from store.locks import LockRow, lock_waits_at

REFRESH = 2  # seconds
_SECOND = timedelta(seconds=1)
TICKS = "session"


def show_sessions(source: Source, target: str, span: Span, now: datetime) -> None:
    """The section. A live range shows the present; a fixed one a moment of it."""
    if span.live:
        _live(source, target)
    else:
        _past(source, target, span, now)


@st.fragment(run_every=REFRESH)
def _live(source: Source, target: str) -> None:
    _section(source, target, None)


def _past(source: Source, target: str, span: Span, now: datetime) -> None:
    end = max(min(span.end, now), span.start)  # nobody has seen what is still to come
    try:
        moment = parse_moment(st.query_params["at"]) if "at" in st.query_params else end
    except ValueError as error:
        st.warning(literal(str(error)))
        moment = end
    moment = min(max(moment, span.start), end)
    if end - span.start >= _SECOND:
        _slider(span.start, end, moment)
    _section(source, target, moment)


def _slider(start: datetime, end: datetime, moment: datetime) -> None:
    """Seconds since *start*, said as the viewer's clock said them then. It keeps that offset
    to the end: when clocks are put back, an hour is not there twice."""
    zone = viewer_zone()
    offset = fixed_offset(zone, start)

    def local(at: datetime) -> datetime:
        return at.astimezone(offset).replace(tzinfo=None)

    st.session_state["moment"] = local(moment)

    def moved() -> None:
        chosen: datetime = st.session_state["moment"]
        st.query_params["at"] = iso(chosen.replace(tzinfo=offset))

    st.slider(
        f"Sessions at ({zone.key}, {offset.tzname(None)})",
        local(start),
        local(end),
        step=_SECOND,
        format="MMM D, HH:mm:ss",
        key="moment",
        on_change=moved,
    )


def fixed_offset(zone: ZoneInfo, at: datetime) -> timezone:
    """What *zone* is ahead of UTC at *at*."""
    return timezone(at.astimezone(zone).utcoffset() or timedelta(0))


Seen = tuple[TargetNow | None, str | None, list[SessionRow], list[LockRow]]


def _section(source: Source, target: str, at: datetime | None) -> None:
    moment = at or datetime.now(UTC)

    def ask(connection: Connection) -> Seen:
        seen = target_now(connection, target, at)
        reason = not_known(source.config.target(target), seen, moment)
        # What was last seen then; ages are those of that time.
        when = at if reason is None or seen is None else seen.good_at
        if at is not None and when is None:
            return seen, reason, [], []
        then = None if at is None else when
        rows = sessions_at(connection, target, then)
        return seen, reason, rows, lock_waits_at(connection, target, then)

    found = read_or_say(source, ask)
    if found is None:
        return
    seen, reason, rows, waits = found
    title, toggle = st.columns([4, 1], vertical_alignment="center")
    everyone = toggle.toggle("All sessions", key="all-sessions", help="Also those that are idle")
    table = session_table(rows, everyone=everyone)
    when = "now" if at is None else f"at {clock(at)}"
    if reason is not None:
        good_at = seen.good_at if seen is not None else None
        when = f"as last seen {clock(good_at)}" if good_at and rows else when
    title.markdown(
        f"**Sessions {when}, longest first** :small[{plural(len(table), 'row')} of "
        f"{plural(len(rows), 'session')}]"
        if rows or reason is None
        else f"**Sessions {when}**"
    )
    if reason is not None:
        st.caption(literal(sentence(f"Not known: {reason}")))
    elif table.empty:
        st.caption(
            "Nobody runs a statement or holds a transaction open." if rows else "No session."
        )
    if not table.empty:
        _table(table)
    _detail(rows)
    if waits:
        _blocking(waits, rows)
    if rows:
        with st.expander("By database, role and application"):
            st.dataframe(group_table(rows), hide_index=True, key="groups")


def _table(table: pd.DataFrame) -> None:
    longest = max(float(table["bar"].fillna(0).max()), 1.0)
    config = st.column_config
    mark = tick(TICKS, table["session"].tolist())
    st.dataframe(
        ages_in_words(table, "age", "transaction"),
        key=mark.key,
        hide_index=True,
        height=min(38 + 35 * len(table), 420),
        column_order=SESSION_COLUMNS[:-1],
        on_select=mark.on_select,
        selection_mode="single-row",
        placeholder="",
        selection_default=mark.default,
        column_config={
            "bar": config.ProgressColumn(
                "",
                help="Age, beside the others that run or hold a transaction open",
                format=" ",
                min_value=0.0,
                max_value=longest,
                width=80,
                color="primary",
            ),
            "age": config.NumberColumn("age", width=90),
            "transaction": config.NumberColumn("in transaction", width=110),
            "state": config.TextColumn("state", width=130),
            "pid": config.NumberColumn("pid", format="%d", width="small"),
            "application": config.TextColumn("application", width=130),
            "statement": config.TextColumn("statement (masked)", width="large"),
        },
    )


def _detail(rows: Sequence[SessionRow]) -> None:
    """The chosen session. It stays the same one while the table moves around it."""
    kept = ticked(TICKS)
    if not kept:
        return
    row = next((row for row in rows if session_key(row) == kept), None)
    with st.container(border=True):
        if row is None:
            st.caption(f"The session with pid {kept.split('@')[0]} is gone.")
            return
        facts = [
            f"pid {row.pid}",
            visible(row.state or "state unknown"),
            f"in transaction for {age(row.xact_seconds)}" if row.xact_seconds is not None else "",
            f"connected for {age(row.session_seconds)}",
            f"blocked by {', '.join(map(str, row.blocked_by))}" if row.blocked_by else "",
        ]
        st.text(" · ".join(fact for fact in facts if fact))
        who = (row.application, row.role, row.database, row.client)
        st.text(" · ".join(visible(part) for part in who if part))
        if row.statement:
            st.code(visible(row.statement), language="sql", wrap_lines=True)


def _blocking(waits: Sequence[LockRow], rows: Sequence[SessionRow]) -> None:
    st.markdown(f"**Who waits for whom** :small[{plural(len(waits), 'session')} blocked]")
    config = st.column_config
    table = blocking_table(waits, rows)
    st.dataframe(
        ages_in_words(table, "waits"),
        hide_index=True,
        key="blocking",
        placeholder="",
        height=min(38 + 35 * len(table), 320),
        column_config={
            "waits": config.NumberColumn("waits", width=90),
            "for": config.TextColumn("for", width=300),
            "statement": config.TextColumn("statement (masked)", width="large"),
        },
    )
