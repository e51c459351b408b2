"""What all pages have: style, icon, and what to say when there is nothing to show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import streamlit as st
from sqlalchemy import Connection

from dashboard import source
from dashboard.words import literal
from model.config import ConfigError
from store.database import StoreError

T = TypeVar("T")
_HERE = Path(__file__).resolve().parents[1]

STYLE = f"<style>{(_HERE / 'style.css').read_text(encoding='utf-8')}</style>"


def page_icon() -> str:
    """The icon of the browser's tab, from our own files."""
    return str(_HERE / "icon.svg")


def source_or_stop() -> source.Source:
    """What the page reads from; or the page says what is missing and what to do, and ends."""
    try:
        found = source.opened()
    except ConfigError as error:
        st.error("The configuration cannot be used.")
        st.code(str(error), language=None)
        st.stop()
    if not found.config.targets:
        st.info("Nothing is watched yet. Name a server in the configuration:")
        st.code(
            '[[target]]\nname = "shop"\nkind = "postgresql"\n'
            'dsn = "host=127.0.0.1 port=5432 user=headroom dbname=shop"',
            language="toml",
        )
        st.stop()
    try:
        found.ready()
    except StoreError as error:
        nothing_yet(found, str(error))
        st.stop()
    return found


def read_or_say(source: source.Source, ask: Callable[[Connection], T]) -> T | None:
    """What *ask* finds in the store; None when it cannot be read, and the page says so."""
    try:
        with source.store.read() as connection:
            return ask(connection)
    except StoreError as error:
        st.error(literal(f"The store cannot be read: {error}"))
        return None


def nothing_yet(found: source.Source, reason: str) -> None:
    """The page of a fresh installation: the one command that is missing."""
    st.info("Headroom has not collected anything yet. Start it, and this page fills by itself:")
    st.code(f"python -m headroom run --config {found.path.name}", language="bash")
    st.caption(literal(f"{reason}. Or see it work first: make demo"))
    _again()


@st.fragment(run_every=2)
def _again() -> None:
    """Look again until there is a store."""
    try:
        source.opened().ready()
    except (StoreError, ConfigError):
        return
    st.rerun()
