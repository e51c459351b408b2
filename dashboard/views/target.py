"""One target: what is wrong, how much room is left, and who is connected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st

from dashboard import cards
from dashboard.live.component import live_board
from dashboard.panels import choose
from dashboard.shape import (
    Health,
    Status,
    alert_table,
    figures,
    pool_table,
    status_of,
    system_of,
    systems,
)
from dashboard.source import Source
from dashboard.span import Span
from dashboard.views.page import source_or_stop
from dashboard.views.sessions import show_sessions
from dashboard.views.time_range import chosen_span, range_picker, viewer_zone
from dashboard.words import clock, literal
from model.targets import Target
from store.database import StoreError
from store.latest import alerts_between, alerts_now, target_now, targets_now, verdicts_between

REFRESH = 2  # seconds
_RECENT = timedelta(hours=24)  # how far back alerts are listed beside a short live range


def show() -> None:
    """The page."""
    source = source_or_stop()
    now = datetime.now(UTC)
    target = _chosen(source, now)
    if target is None:
        return
    span = chosen_span(now)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="tools"):
        _target_picker(source, target)
        st.space("stretch")
        range_picker(span)
    if span.live:
        _head(source, target)
    else:
        _head_then(source, target, span)
    pooled = target.kind == "pgbouncer" or bool(source.config.poolers_of(target.name))
    live_board(target.name, choose(target.kind, None, pooled=pooled), span, key="board")
    if target.kind == "postgresql":
        show_sessions(source, target.name, span)
    elif span.live:
        _pools(source, target)
    _alerts(source, target, span)


def _chosen(source: Source, now: datetime) -> Target | None:
    """The target in the URL; without one, the worst, which the URL then names."""
    name = st.query_params.get("target")
    if name is None:
        try:
            with source.store.read() as connection:
                found = systems(source.config, targets_now(connection), alerts_now(connection), now)
        except StoreError as error:
            st.error(literal(f"The store cannot be read: {error}"))
            return None
        name = found[0].name if found else source.config.targets[0].name
        st.query_params["target"] = name
    try:
        return source.config.target(name)
    except KeyError:
        st.warning(literal(f"No target is called {name[:100]!r}. The configuration has these:"))
        for target in source.config.targets:
            st.text(target.name)
        return None


def _target_picker(source: Source, target: Target) -> None:
    names = [t.name for t in source.config.targets]
    st.session_state["target-picker"] = target.name

    def moved() -> None:
        st.query_params["target"] = st.session_state["target-picker"]
        st.session_state.pop("chosen-session", None)

    st.selectbox(
        "Target",
        names,
        key="target-picker",
        on_change=moved,
        label_visibility="collapsed",
        width=240,
    )


@st.fragment(run_every=REFRESH)
def _head(source: Source, target: Target) -> None:
    """Verdict and figures of the present."""
    now = datetime.now(UTC)
    try:
        with source.store.read() as connection:
            seen = {t.name: t for t in targets_now(connection)}
            system = system_of(source.config, target, seen, alerts_now(connection), now)
    except StoreError as error:
        st.error(literal(f"The store cannot be read: {error}"))
        return
    _verdict(system.health, [cards.meta(system)])
    if system.degraded:
        st.warning(literal(system.degraded))
    old = system.health.status is Status.STALE
    st.html(cards.figure_row(figures(system, source.config.rules), old=old))


def _head_then(source: Source, target: Target, span: Span) -> None:
    """The verdicts of the past: the worst one of the range, and when it began."""
    with source.store.read() as connection:
        verdicts = verdicts_between(connection, target.name, span.start, span.end)
    if not verdicts:
        st.caption("No verdict was kept for this range.")
        return
    began, worst = max(verdicts, key=lambda pair: pair[1].severity.rank if pair[1].severity else 0)
    status = Health(status_of(worst.severity), worst.sentence, worst.advice, worst.evidence)
    _verdict(status, [f"since {clock(began)}"])


def _verdict(health: Health, asides: list[str]) -> None:
    st.html(cards.banner(health, asides))


@st.fragment(run_every=REFRESH)
def _pools(source: Source, target: Target) -> None:
    with source.store.read() as connection:
        seen = target_now(connection, target.name)
    st.markdown("**Pools, longest queue first**")
    table = None if seen is None else pool_table(seen)
    if table is None or table.empty:
        st.caption("No pool has been seen. PgBouncer lists a pool once a client used it.")
        return
    seconds = st.column_config.NumberColumn("oldest wait", format="%.2f s")
    st.dataframe(table, hide_index=True, key="pools", column_config={"oldest wait": seconds})


@st.fragment(run_every=5)
def _alerts(source: Source, target: Target, span: Span) -> None:
    now = datetime.now(UTC)
    start, end = (span.start, span.end) if not span.live else (min(now - _RECENT, span.start), now)
    names = {target.name, *(p.name for p in source.config.poolers_of(target.name))}
    try:
        with source.store.read() as connection:
            found = [a for a in alerts_between(connection, start, end) if a.key.target in names]
            if span.live:
                known = {alert.id for alert in found}
                found += [
                    a for a in alerts_now(connection) if a.key.target in names and a.id not in known
                ]
    except StoreError as error:
        st.error(literal(f"The store cannot be read: {error}"))
        return
    st.markdown("**Alerts** :small[of this range]" if not span.live else "**Alerts** :small[24 h]")
    if not found:
        st.caption("None.")
        return
    st.dataframe(
        alert_table(found, now),
        hide_index=True,
        key="alerts",
        column_config={
            "since": st.column_config.DatetimeColumn(
                format="MMM D, HH:mm:ss", timezone=viewer_zone().key
            )
        },
    )
