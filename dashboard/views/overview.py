"""Overview: is anything wrong, and where? Every system, worst first."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from dashboard import cards
from dashboard.live.component import live_board
from dashboard.panels import PANELS, choose
from dashboard.shape import Health, Status, System, kept, systems
from dashboard.source import Source
from dashboard.span import DEFAULT_RANGE, parse_span
from dashboard.views.page import read_or_say, source_or_stop
from dashboard.words import literal, old, plural
from store.database import StoreError
from store.latest import alerts_now, targets_now
from store.size import store_size

REFRESH = 2  # seconds
_ON_A_ROW = 3  # cards


def show(target_page: Any) -> None:
    """The page. *target_page* is where a card leads."""
    source = source_or_stop()
    _fleet(source, target_page)
    servers = [t for t in source.config.targets if t.kind == "postgresql"]
    if len(servers) == 1:
        # One server leaves room for what most people would click at next.
        pooled = bool(source.config.poolers_of(servers[0].name))
        panels = choose("postgresql", None, pooled=pooled)
        first = [p for p in panels if p.name in ("connections", "waiters", "statements")]
        span = parse_span({"range": DEFAULT_RANGE}, datetime.now(UTC))
        live_board(servers[0].name, first or [PANELS["connections"]], span, key="overview-board")
    _footer(source)


@st.fragment(run_every=REFRESH)
def _fleet(source: Source, target_page: Any) -> None:
    now = datetime.now(UTC)
    found = read_or_say(
        source, lambda c: systems(source.config, targets_now(c), alerts_now(c), now)
    )
    if found is None:
        return
    _verdict(found, source)
    width = min(len(found), _ON_A_ROW)
    for first in range(0, len(found), width):
        row = found[first : first + width]
        for column, system in zip(st.columns(width, gap="small"), row, strict=False):
            with column, st.container(border=True, key=f"card-{system.name}", height="stretch"):
                st.page_link(
                    target_page,
                    label=literal(system.name),
                    query_params={"target": system.name},
                )
                st.html(cards.card(system, said=len(found) > 1))


@st.fragment(run_every=60)
def _footer(source: Source) -> None:
    """How much is kept, and how far back."""
    keep = source.config.store
    with contextlib.suppress(StoreError):  # the page above has said it
        size = store_size(source.store, keep.keep_samples, keep.max_size)
        st.caption(kept(size, datetime.now(UTC)))


def _verdict(found: list[System], source: Source) -> None:
    """The sentence of the worst system, or that all is well."""
    worst = found[0].health
    troubled = [s for s in found if s.health.status is not Status.OK]
    asides = _age(found)
    if not troubled:
        sentence = (
            worst.sentence if len(found) == 1 else f"All {plural(len(found), 'system')} are well."
        )
        st.html(cards.banner(Health(Status.OK, sentence, evidence=worst.evidence), asides))
        return
    if len(found) > 1:
        asides.insert(0, f"{len(troubled)} of {len(found)} systems need attention")
    st.html(cards.banner(worst, asides))
    if all(s.health.status in (Status.STALE, Status.WAITING) for s in found):
        st.code(f"python -m headroom run --config {source.path.name}", language="bash")


def _age(found: list[System]) -> list[str]:
    """How old the data are: of several systems those of the oldest, by its name."""
    ages = [(age, s.name) for s in found if (age := s.oldest_age_seconds) is not None]
    if not ages:
        return []
    age, name = max(ages)
    return [f"data {old(age)}" if len(found) == 1 else f"oldest data: {name}, {old(age)}"]
