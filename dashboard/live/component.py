"""Mounts the live chart on a page: once a page, with as many panels as the page wants."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

import streamlit as st

from dashboard.live import assets
from dashboard.panels import Panel
from dashboard.span import Span

# Streamlit sends this text again with every update, so it only fetches the real script.
_LOADER = """export default c => {
  let stop, gone = false;
  import(new URL(c.data.script, location.origin).href).then(
    m => { if (!gone) stop = m.mount(c); },
    () => { c.parentElement.textContent = "The charts could not be loaded. Reload the page."; });
  return () => { gone = true; if (stop) stop(); };
}"""

_mount = st.components.v2.component("headroom_live_chart", js=_LOADER, isolate_styles=False)


def live_board(target: str, panels: Sequence[Panel], span: Span, *, key: str) -> None:
    """Draw *panels* of *target* over *span*; they move by themselves when the span does.

    The same *key* is the same board: it is updated in place, and its zoom is kept.
    """
    query = {"target": target, "panels": ",".join(p.name for p in panels), **span.params()}
    _mount(
        key=key,
        data={
            "script": assets.SCRIPT,
            "style": assets.STYLE,
            "plotly": assets.PLOTLY,
            "source": f"/live/series?{urlencode(query)}",
            "live": span.live,
            "grows": span.grows,
            "panels": [{"name": p.name, "title": p.title} for p in panels],
        },
    )
