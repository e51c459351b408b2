"""The script that Streamlit runs for every visit: page set-up and navigation."""

from __future__ import annotations

import sys
from pathlib import Path

# `streamlit run dashboard/app.py` puts this folder on the path, not the one above it.
if (root := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, root)

import streamlit as st

from dashboard.views import overview, target
from dashboard.views.page import STYLE, page_icon

st.set_page_config(
    page_title="Headroom",
    page_icon=page_icon(),
    layout="wide",
    initial_sidebar_state="collapsed",
)
st.html(STYLE)
target_page = st.Page(target.show, title="Target", icon=":material/monitoring:", url_path="target")
overview_page = st.Page(
    lambda: overview.show(target_page), title="Overview", icon=":material/dashboard:", default=True
)
st.navigation([overview_page, target_page], position="top").run()
