"""A tick in the first column of a table, which stays with its thing while rows move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st


@dataclass(frozen=True, slots=True)
class Tick:
    """What st.dataframe needs for it.

    key:      of the widget.
    default:  its `selection_default`.
    on_select: keeps what was ticked.
    """

    key: str
    default: Any
    on_select: Callable[[], None]


def ticked(table: str) -> str | None:
    """What is ticked in *table*."""
    kept: str | None = st.session_state.get(_place(table))
    return kept


def forget_ticks(*tables: str) -> None:
    """Nothing is ticked any more: the tables are about something else now."""
    for table in tables:
        st.session_state.pop(_place(table), None)


def tick(table: str, things: Sequence[str]) -> Tick:
    """The tick of *table*, whose rows are *things*."""
    kept = ticked(table)
    place = things.index(kept) if kept in things else None
    # The tick belongs to a row, and the thing may have moved to another one: then the table
    # is a new one, with its tick where the thing is now.
    key = table if place is None else f"{table}-{kept}-{place}"

    def chosen() -> None:
        picked = st.session_state[key]["selection"]["rows"]
        st.session_state[_place(table)] = things[picked[0]] if picked else None

    return Tick(key, {"selection": {"rows": [] if place is None else [place]}}, chosen)


def _place(table: str) -> str:
    return f"chosen-{table}"
