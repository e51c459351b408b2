"""What is known of every target right now, as JSON. None where it is not known, never 0."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from model.alerting import Verdict
from model.config import Config
from model.moments import iso
from model.targets import Target
from store import latest
from store.database import Store
from store.latest import TargetNow

_STATES = {
    "active": "active",
    "idle": "idle",
    "idle_in_transaction": "idle in transaction",
    "idle_in_transaction_aborted": "idle in transaction (aborted)",
    "other_states": "other",
}


def status(store: Store, config: Config, now: datetime) -> list[dict[str, Any]]:
    """One entry a configured target, in the order of the file. Raises StoreError."""
    with store.read() as connection:
        known = {target.name: target for target in latest.targets_now(connection)}
    return [_entry(target, known.get(target.name), now) for target in config.targets]


def _entry(target: Target, seen: TargetNow | None, now: datetime) -> dict[str, Any]:
    at = seen.at if seen else None
    age = None if at is None else max((now - at).total_seconds(), 0.0)
    columns = seen.columns if seen else {}
    slots_used, capacity = columns.get("slots_used"), columns.get("ordinary_capacity")
    left = None if slots_used is None or capacity is None else max(capacity - slots_used, 0)
    return {
        "name": target.name,
        "kind": target.kind,
        "up": seen.up if seen else None,
        "reason": (seen.reason or seen.degraded) if seen else "not polled yet",
        "as_of": None if at is None else iso(at),
        "age_seconds": None if age is None else round(age, 3),
        "stale": age is None or age > target.stale_after_seconds,
        "server_version": seen.version if seen else None,
        "role": seen.role if seen else None,
        "slots_used": slots_used,
        "ordinary_capacity": capacity,
        "headroom": left,
        "sessions": _sessions(columns),
        "waiters": columns.get("client_waiting") if target.is_pooler else None,
        "oldest_wait_seconds": columns.get("maxwait_seconds") if target.is_pooler else None,
        "longest_statement_seconds": columns.get("longest_statement_seconds"),
        "longest_transaction_seconds": columns.get("longest_transaction_seconds"),
        "verdict": _verdict(seen.verdict if seen else None),
    }


def _sessions(columns: Any) -> dict[str, int] | None:
    if columns.get("active") is None:
        return None
    return {state: columns[name] for name, state in _STATES.items()}


def _verdict(verdict: Verdict | None) -> dict[str, Any]:
    if verdict is None:
        return {"layer": None, "cause": None, "sentence": None}
    return {"layer": verdict.layer, "cause": verdict.cause, "sentence": verdict.sentence}
