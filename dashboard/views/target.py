"""One target: what is wrong, how much room is left, and who is connected."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import streamlit as st
from sqlalchemy import Connection

from dashboard import cards
from dashboard.live.component import live_board
from dashboard.panels import choose
from dashboard.shape import (
    Health,
    System,
    figures,
    is_old,
    status_of,
    system_of,
    systems,
)
from dashboard.source import Source
from dashboard.span import Span
from dashboard.tables import ages_in_words, alert_table, chain_table, pool_table
from dashboard.views.page import read_or_say, source_or_stop
from dashboard.views.sessions import TICKS as SESSION_TICKS
from dashboard.views.sessions import show_sessions
from dashboard.views.tick import forget_ticks, tick, ticked
from dashboard.views.time_range import chosen_span, range_picker, viewer_zone
from dashboard.words import UNKNOWN, age, clock, literal, sentence, visible
from model.alerting import Alert
from model.targets import Target
from store.latest import (
    TargetNow,
    alerts_between,
    alerts_now,
    target_now,
    targets_now,
    verdicts_between,
)
from store.links import ChainRow, chain

REFRESH = 2  # seconds
ALERT_TICKS = "alert"
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
    pooled = target.is_pooler or bool(source.config.poolers_of(target.name))
    live_board(target.name, choose(target.kind, None, pooled=pooled), span, key="board")
    if not target.is_pooler:
        show_sessions(source, target.name, span, now)
    elif span.live:
        _pools(source, target)
    if span.live:
        _chain(source, target)
    _alerts(source, target, span)


def _chosen(source: Source, now: datetime) -> Target | None:
    """The target in the URL; without one, the worst, which the URL then names."""
    name = st.query_params.get("target")
    if name is None:
        found = read_or_say(
            source, lambda c: systems(source.config, targets_now(c), alerts_now(c), now)
        )
        if found is None:
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
        forget_ticks(SESSION_TICKS, ALERT_TICKS)

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

    def ask(connection: Connection) -> System:
        seen = {t.name: t for t in targets_now(connection)}
        return system_of(source.config, target, seen, alerts_now(connection), now)

    system = read_or_say(source, ask)
    if system is None:
        return
    _verdict(system.health, [cards.meta(system)])
    if system.degraded:
        st.warning(literal(system.degraded))
    st.html(cards.figure_row(figures(system, source.config.rules)))


def _head_then(source: Source, target: Target, span: Span) -> None:
    """The verdicts of the past: the worst one of the range, and when it began."""
    verdicts = read_or_say(source, lambda c: verdicts_between(c, target.name, span.start, span.end))
    if verdicts is None:
        return
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
    now = datetime.now(UTC)

    def ask(connection: Connection) -> tuple[TargetNow | None, TargetNow | None]:
        seen = target_now(connection, target.name)
        if seen is None or seen.up or seen.good_at is None:
            return seen, seen
        return seen, target_now(connection, target.name, seen.good_at)

    found = read_or_say(source, ask)
    if found is None:
        return
    seen, good = found
    table = None if good is None else pool_table(target, good)
    reason = None
    if seen is not None and is_old(target, seen, now):
        reason = "nobody has polled since"
    elif seen is not None and not seen.up:
        reason = seen.reason or "the last poll got no answer"
    when = f" as last seen {clock(good.at)}" if reason and good is not None and good.at else ""
    st.markdown(f"**Pools{when}, longest queue first**")
    if table is None or table.empty:
        st.caption(f"No pool has been seen. {target.product} lists a pool once a client used it.")
        return
    if reason:
        st.caption(literal(sentence(f"Not known now: {reason}")))
    st.dataframe(
        ages_in_words(table, "oldest wait", unknown=UNKNOWN),
        hide_index=True,
        key="pools",
        placeholder=UNKNOWN,
    )


@st.fragment(run_every=REFRESH)
def _chain(source: Source, target: Target) -> None:
    """Which client of a pooler has which backend, where poolers tell."""
    config = source.config
    pairs = (
        [(target.name, server) for server in target.serves]
        if target.is_pooler
        else [(pooler.name, target.name) for pooler in config.poolers_of(target.name)]
    )

    now = datetime.now(UTC)

    def known(connection: Connection, name: str) -> bool:
        seen = target_now(connection, name)
        return seen is not None and bool(seen.up) and not is_old(config.target(name), seen, now)

    def ask(connection: Connection) -> list[tuple[bool, list[ChainRow]]]:
        # A pid means nothing beyond its server; that of another one is not a match.
        return [
            (all(known(connection, name) for name in pair), chain(connection, *pair))
            for pair in pairs
        ]

    found = read_or_say(source, ask) or []
    table = chain_table(row for _, rows in found for row in rows)
    if table.empty:
        return
    fresh = all(current for current, rows in found if rows)
    when = "as seen within the last seconds" if fresh else "as last seen; not known now"
    st.markdown(f"**Client → pool → backend** :small[{when}]")
    number = st.column_config.NumberColumn
    st.dataframe(
        ages_in_words(table, "waits", "transaction"),
        hide_index=True,
        key="chain",
        placeholder="",
        height=min(38 + 35 * len(table), 320),
        column_config={
            "waits": number("waits", width=90),
            "backend": number("backend", format="%d", width="small"),
            "transaction": number("in transaction", width=110),
            "statement": st.column_config.TextColumn("statement (masked)", width="large"),
        },
    )


@st.fragment(run_every=5)
def _alerts(source: Source, target: Target, span: Span) -> None:
    now = datetime.now(UTC)
    start, end = (span.start, span.end) if not span.live else (min(now - _RECENT, span.start), now)
    names = {target.name, *(p.name for p in source.config.poolers_of(target.name))}

    def ask(connection: Connection) -> list[Alert]:
        found = alerts_between(connection, start, end)
        known = {alert.id for alert in found}
        found += [a for a in alerts_now(connection) if span.live and a.id not in known]
        return [alert for alert in found if alert.key.target in names]

    found = read_or_say(source, ask)
    if found is None:
        return
    title = f"last {age((end - start).total_seconds())}" if span.live else "of this range"
    st.markdown(f"**Alerts** :small[{title}]")
    if not found:
        st.caption("None.")
        return
    table = alert_table(found, now)
    mark = tick(ALERT_TICKS, table["alert"].tolist())
    config = st.column_config
    st.dataframe(
        table,
        hide_index=True,
        key=mark.key,
        column_order=[str(name) for name in table.columns if name != "alert"],
        height=min(38 + 35 * len(table), 420),
        on_select=mark.on_select,
        selection_mode="single-row",
        selection_default=mark.default,
        column_config={
            "since": config.DatetimeColumn(
                format="MMM D, HH:mm:ss", timezone=viewer_zone().key, width=120
            ),
            "what": config.TextColumn("what", width="large"),
            "do first": config.TextColumn("do first", width="large"),
        },
    )
    chosen = next((alert for alert in found if alert.id == ticked(ALERT_TICKS)), None)
    if chosen is not None:
        _alert_text(chosen)


def _alert_text(alert: Alert) -> None:
    """All that an alert says; a row of a table has no room for it."""
    finding = alert.finding
    with st.container(border=True):
        st.text(visible(finding.summary))
        st.text(f"Do first: {visible(finding.advice)}")
        for line in finding.evidence:
            st.text(visible(line))
