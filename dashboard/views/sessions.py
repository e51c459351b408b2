"""Who is connected, longest first: now, or at a moment of the past."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from dashboard.shape import SESSION_COLUMNS, fresh, session_key, session_table
from dashboard.source import Source
from dashboard.span import Span, parse_moment
from dashboard.views.time_range import viewer_zone
from dashboard.words import age, clock, literal, plural, visible
from model.moments import iso
from store.database import StoreError
from store.latest import SessionRow, sessions_at, target_now

REFRESH = 2  # seconds
_KEPT = "chosen-session"


def show_sessions(source: Source, target: str, span: Span) -> None:
    """The section. A live range shows the present; a fixed one a moment of it."""
    if span.live:
        _live(source, target)
    else:
        _past(source, target, span)


@st.fragment(run_every=REFRESH)
def _live(source: Source, target: str) -> None:
    _section(source, target, None)


def _past(source: Source, target: str, span: Span) -> None:
    zone = viewer_zone()
    try:
        moment = parse_moment(st.query_params["at"]) if "at" in st.query_params else span.end
    except ValueError as error:
        st.warning(literal(str(error)))
        moment = span.end
    moment = min(max(moment, span.start), span.end)
    # A slider's steps are whole seconds, as the polls are.
    local = [m.astimezone(zone).replace(tzinfo=None) for m in (span.start, span.end, moment)]
    st.session_state["moment"] = local[2]

    def moved() -> None:
        chosen: datetime = st.session_state["moment"]
        st.query_params["at"] = iso(chosen.replace(tzinfo=zone).astimezone(UTC))

    st.slider(
        f"Sessions at ({zone.key})",
        local[0],
        local[1],
        step=pd.Timedelta(seconds=1).to_pytimedelta(),
        format="MMM D, HH:mm:ss",
        key="moment",
        on_change=moved,
    )
    _section(source, target, moment)


def _section(source: Source, target: str, at: datetime | None) -> None:
    try:
        with source.store.read() as connection:
            rows = sessions_at(connection, target, at)
            seen = target_now(connection, target) if at is None else None
    except StoreError as error:
        st.error(literal(f"The store cannot be read: {error}"))
        return
    title, toggle = st.columns([4, 1], vertical_alignment="center")
    everyone = toggle.toggle("All sessions", key="all-sessions", help="Also those that are idle")
    table = session_table(rows, everyone=everyone)
    when = "now" if at is None else f"at {clock(at)}"
    if seen is not None and not fresh(source.config.target(target), seen, datetime.now(UTC)):
        when = f"as last seen {clock(seen.good_at)}" if seen.good_at else "now"
    title.markdown(
        f"**Sessions {when}, longest first** :small[{plural(len(table), 'row')} of "
        f"{plural(len(rows), 'session')}]"
    )
    if table.empty:
        st.caption(
            "Nobody runs a statement or holds a transaction open." if rows else "No session."
        )
    else:
        _table(table)
    _detail(rows)


def _table(table: pd.DataFrame) -> None:
    longest = max(float(table["age"].max()), 1.0)
    config = st.column_config

    def chosen() -> None:
        picked = st.session_state["sessions"]["selection"]["rows"]
        st.session_state[_KEPT] = table["session"].iloc[picked[0]] if picked else None

    st.dataframe(
        table,
        key="sessions",
        hide_index=True,
        height=min(38 + 35 * len(table), 420),
        column_order=SESSION_COLUMNS[:-1],
        on_select=chosen,
        selection_mode="single-row",
        column_config={
            "age": config.ProgressColumn(
                "age",
                format="%.1f s",
                min_value=0.0,
                max_value=longest,
                width=130,
                color="primary",
            ),
            "transaction": config.NumberColumn("in transaction", format="%.1f s", width=110),
            "pid": config.NumberColumn("pid", format="%d", width="small"),
            "application": config.TextColumn("application", width=130),
            "statement": config.TextColumn("statement (masked)", width="large"),
        },
    )


def _detail(rows: Sequence[SessionRow]) -> None:
    """The chosen session. It stays the same one while the table moves around it."""
    kept = st.session_state.get(_KEPT)
    if not kept:
        return
    row = next((row for row in rows if session_key(row) == kept), None)
    with st.container(border=True):
        if row is None:
            st.caption(f"The session with pid {kept.split('@')[0]} is gone.")
            return
        facts = [
            f"pid {row.pid}",
            row.state or "state unknown",
            f"in transaction for {age(row.xact_seconds)}" if row.xact_seconds is not None else "",
            f"connected for {age(row.session_seconds)}",
            f"blocked by {', '.join(map(str, row.blocked_by))}" if row.blocked_by else "",
        ]
        st.text(" · ".join(fact for fact in facts if fact))
        who = (row.application, row.role, row.database, row.client)
        st.text(" · ".join(visible(part) for part in who if part))
        if row.statement:
            st.code(row.statement, language="sql", wrap_lines=True)
