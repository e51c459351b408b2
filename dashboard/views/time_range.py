"""The range of a page and its links. The URL is the only place where the range is kept, so
a copied address always shows what its sender saw."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from dashboard.span import DEFAULT_RANGE, RANGES, Span, parse_span
from dashboard.words import literal
from model.moments import iso

_KEYS = ("range", "from", "to", "at")


def viewer_zone() -> ZoneInfo:
    """The zone that the viewer's browser names; UTC where it names none we know."""
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def chosen_span(now: datetime) -> Span:
    """The range in the URL; one that cannot be read is said and replaced by the default."""
    try:
        return parse_span(st.query_params, now)
    except ValueError as error:
        st.warning(literal(f"The range in this address cannot be used: {error}."))
        return parse_span({"range": DEFAULT_RANGE}, now)


def range_picker(span: Span) -> None:
    """Buttons for the moving ranges, a form for one that stands still, and links."""
    # The widget shows what the URL says, also after the browser's Back.
    st.session_state["range-picker"] = span.range
    st.segmented_control(
        "Range",
        list(RANGES),
        key="range-picker",
        on_change=_moved,
        label_visibility="collapsed",
    )
    zone = viewer_zone()
    label = "From – to" if span.live else f"{_short(span.start, zone)} – {_short(span.end, zone)}"
    with st.popover(label, icon=":material/date_range:"):
        _form(span, zone)
    with st.popover("Link", icon=":material/link:"):
        _links(span)


def _form(span: Span, zone: ZoneInfo) -> None:
    """What is typed stays while the page moves on: the fields are filled once for a range."""
    place = "-".join(span.params().values())
    given = {f"from-{place}": span.start, f"to-{place}": span.end}
    for key, at in given.items():
        st.session_state.setdefault(key, f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}")
    with st.form(f"range-{place}", border=False):
        st.caption(f"Times in {zone.key}, or with an offset as logs have them: 03:12:05+02:00")
        for label, key in zip(("From", "To"), given, strict=True):
            st.text_input(label, key=key)
        if not st.form_submit_button("Show", type="primary"):
            return
    try:
        start, end = (typed_moment(st.session_state[key], zone) for key in given)
    except ValueError as error:
        st.warning(literal(str(error)))
        return
    if start >= end:
        st.warning("The range must begin before it ends.")
        return
    set_params({"from": iso(start), "to": iso(end)})
    st.rerun()


def typed_moment(text: str, zone: ZoneInfo) -> datetime:
    """A moment as people type it, in *zone* unless it has an offset. Raises ValueError."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text.strip()[:40]!r} is not a moment; write it like 2030-01-01 03:12:05"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)


def _links(span: Span) -> None:
    st.caption("This view, as it stands still: it shows the same tomorrow.")
    still = Span(span.start, span.end, None)
    st.code(_address(still), language=None, wrap_lines=True)
    if span.live:
        st.caption("This view, live.")
        st.code(_address(span), language=None, wrap_lines=True)


def _address(span: Span) -> str:
    kept = {k: v for k, v in st.query_params.items() if k not in _KEYS}
    moment = {"at": st.query_params["at"]} if "at" in st.query_params and not span.live else {}
    base = (st.context.url or "").split("?")[0]
    return f"{base}?{urlencode({**kept, **span.params(), **moment})}"


def _short(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%b %d %H:%M:%S}"


def _moved() -> None:
    name = st.session_state.get("range-picker")
    set_params({"range": name or DEFAULT_RANGE})


def set_params(params: Mapping[str, str]) -> None:
    """Put a range into the URL, and take the old one out."""
    for key in _KEYS:
        if key not in params and key in st.query_params:
            del st.query_params[key]
    st.query_params.update(params)
