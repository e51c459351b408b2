"""The tables of a page, from what the store says. Pure.

Names and statements come from outside: they go into dataframes, which show them as text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from dashboard import words
from dashboard.panels import OLDEST_WAIT, first_known
from dashboard.shape import over_seconds
from model.alerting import Alert, AlertState
from model.targets import CONSOLES, Target
from store.latest import SessionRow, TargetNow
from store.links import ChainRow
from store.locks import LockRow

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler


def _numbers(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """*table* with *names* as numbers, also where all are unknown: else they read "None"."""
    return table.astype({name: float for name in names if name in table.columns})


def ages_in_words(table: pd.DataFrame, *names: str, unknown: str = "") -> Styler:
    """*table*, whose columns *names* (s) are read as words and still sorted as numbers.
    unknown: stands for a number that is not known."""

    def said(value: object) -> str:
        if not isinstance(value, float):
            return str(value)
        return unknown if math.isnan(value) else f"{value:.0f}"

    def aged(value: object) -> str:
        if not isinstance(value, float) or math.isnan(value):
            return unknown
        return words.age(value)

    return table.style.format(
        {name: aged if name in names else said for name in map(str, table.columns)}
    )


def session_table(rows: Iterable[SessionRow], *, everyone: bool, limit: int = 200) -> pd.DataFrame:
    """Sessions, longest first, one row each; unless *everyone*, only those that do something
    or hold a transaction open, which come first.

    Columns: bar (s; the age of those), age (s), state, wait, transaction (s), application,
    role, database, client, pid, blocked by, statement; and `session`, which identifies the row.
    """
    import pandas as pd  # noqa: PLC0415  only pages need it

    wanted = [row for row in rows if everyone or _matters(row)]
    wanted.sort(key=lambda row: (not _matters(row), -session_age(row), row.pid))
    table = pd.DataFrame(
        [
            {
                "bar": round(session_age(row), 1) if _matters(row) else None,
                "age": None if _unknown(row) else round(session_age(row), 1),
                "state": words.visible(row.state or words.UNKNOWN),
                "wait": wait_of(row),
                "transaction": None if row.xact_seconds is None else round(row.xact_seconds, 1),
                "application": words.visible(row.application),
                "role": words.visible(row.role or ""),
                "database": words.visible(row.database or ""),
                "client": words.visible(row.client or ""),
                "pid": row.pid,
                "blocked by": ", ".join(str(pid) for pid in row.blocked_by),
                "statement": words.visible(row.statement or ""),
                "session": session_key(row),
            }
            for row in wanted[:limit]
        ],
        columns=list(SESSION_COLUMNS),
    )
    return _numbers(table, "bar", "age", "transaction")


SESSION_COLUMNS = (
    "bar",
    "age",
    "state",
    "wait",
    "transaction",
    "application",
    "role",
    "database",
    "client",
    "pid",
    "blocked by",
    "statement",
    "session",
)


def session_age(row: SessionRow) -> float:
    """Seconds a session has done what it does: run its statement, hold its transaction open,
    or wait for work."""
    if row.statement_seconds is not None:
        return max(row.statement_seconds, 0.0)
    if row.xact_seconds is not None:
        return max(row.xact_seconds, 0.0)
    return max(row.state_seconds or 0.0, 0.0)


def _unknown(row: SessionRow) -> bool:
    """Whether nobody can say how long it has been what it is."""
    return row.statement_seconds is None and row.xact_seconds is None and row.state_seconds is None


def session_key(row: SessionRow) -> str:
    """What identifies a session: pids are reused."""
    return f"{row.pid}@{row.backend_start.isoformat()}"


def wait_of(row: SessionRow) -> str:
    """What an active session waits for. Without a wait event it is on CPU, or not measured."""
    if row.wait_event_type is None:
        return "CPU" if row.state == "active" else ""
    return words.visible(f"{row.wait_event_type}: {row.wait_event or words.UNKNOWN}")


def _matters(row: SessionRow) -> bool:
    return row.state == "active" or row.xact_seconds is not None


def pool_table(target: Target, seen: TargetNow) -> pd.DataFrame:
    """The pools of a pooler as it was last seen, longest queue first. What it does not report
    is empty; "process" is there when it has several."""
    import pandas as pd  # noqa: PLC0415  only pages need it

    console = CONSOLES.get(target.kind, frozenset())
    pools = [pool for pool in seen.pools if pool["database"] not in console]
    several = any(pool.get("process") for pool in pools)
    pools.sort(key=lambda p: (-(p["client_waiting"] or 0), p["database"], p["user"]))
    table = pd.DataFrame(
        [
            {
                "database": words.visible(str(pool["database"])),
                "user": words.visible(str(pool["user"])),
                **({"process": words.visible(pool.get("process") or "")} if several else {}),
                "clients waiting": pool["client_waiting"],
                "oldest wait": first_known(pool.get(name) for name in OLDEST_WAIT),
                "clients served": pool["client_active"],
                "servers busy": pool["server_active"],
                "servers free": pool["server_idle"],
                "pool size": pool["pool_size"],
                "mode": pool["pool_mode"] or words.UNKNOWN,
            }
            for pool in pools
        ]
    )
    counts = ("clients waiting", "clients served", "servers busy", "servers free", "pool size")
    return _numbers(table, *counts, "oldest wait")


def alert_table(alerts: Iterable[Alert], at: datetime) -> pd.DataFrame:
    """Alerts with their sentence: firing ones first, of these what is over last; then the
    newest. `alert` is the id of the row's alert."""
    import pandas as pd  # noqa: PLC0415  only pages need it

    ordered = sorted(
        alerts,
        key=lambda a: (
            a.state is not AlertState.FIRING,
            a.clear_since is not None,
            -a.since.timestamp(),
        ),
    )
    return pd.DataFrame(
        [
            {
                "state": _state(alert, at),
                "severity": alert.severity.value,
                "rule": alert.key.rule,
                "since": alert.since,
                "lasted": words.whole(((alert.resolved_at or at) - alert.since).total_seconds()),
                "what": words.visible(alert.finding.summary),
                "do first": words.visible(alert.finding.advice),
                "alert": alert.id,
            }
            for alert in ordered
        ]
    )


def _state(alert: Alert, at: datetime) -> str:
    if alert.resolved_at is not None:
        return "resolved"
    ended = over_seconds(alert, at)
    return alert.state.value if ended is None else f"over for {words.whole(ended)}"


_STATES = ("active", "idle in transaction", "idle")


def group_table(rows: Iterable[SessionRow]) -> pd.DataFrame:
    """Sessions counted by database, role and application, the largest group first.

    Columns: database, role, application, all, and one for each state that matters.
    """
    import pandas as pd  # noqa: PLC0415  only pages need it

    groups: dict[tuple[str, str, str], Counter[str]] = {}
    for row in rows:
        who = (row.database or "", row.role or "", row.application)
        state = (row.state or "").removesuffix(" (aborted)")
        groups.setdefault(who, Counter())[state if state in _STATES else "other"] += 1
    names = ("database", "role", "application")
    found = [
        dict(zip(names, map(words.visible, who), strict=True))
        | {"all": counts.total()}
        | {state: counts[state] for state in (*_STATES, "other")}
        for who, counts in groups.items()
    ]
    found.sort(key=lambda group: (-int(group["all"]), *(group[name] for name in names)))
    return pd.DataFrame(found, columns=[*names, "all", *_STATES, "other"])


def blocking_table(waits: Sequence[LockRow], sessions: Iterable[SessionRow]) -> pd.DataFrame:
    """Who waits for whom as a tree: a root, and indented below it those who wait for it.

    Columns: who (pid, indented), waits (s; none for a root), for, state, application, role,
    statement.
    """
    import pandas as pd  # noqa: PLC0415  only pages need it

    by_pid = {session.pid: session for session in sessions}
    table = pd.DataFrame(
        [_tree_row(pid, depth, wait, by_pid.get(pid)) for pid, depth, wait in _tree(waits)],
        columns=["who", "waits", "for", "state", "application", "role", "statement"],
    )
    return _numbers(table, "waits")


def _tree(waits: Sequence[LockRow]) -> list[tuple[int, int, LockRow | None]]:
    """Every pid once with its depth, each after the one that it waits for. Cycles are cut."""
    waiting = {wait.pid: wait for wait in waits}
    children: dict[int, list[int]] = {}
    for wait in waits:
        # Behind several, it is drawn below the one that is nearest to its root.
        parent = min(
            wait.blocked_by,
            key=lambda pid: waiting[pid].depth if pid in waiting else 0,
            default=wait.root if wait.root is not None else wait.pid,
        )
        children.setdefault(parent, []).append(wait.pid)
    found: list[tuple[int, int, LockRow | None]] = []
    done: set[int] = set()
    roots = [pid for pid in children if pid not in waiting]
    for root in (*roots, *waiting):  # what is left after the roots is in a cycle
        ahead = [(root, 0)]
        while ahead:
            pid, depth = ahead.pop()
            if pid in done:
                continue
            done.add(pid)
            found.append((pid, depth, waiting.get(pid)))
            ahead += [(child, depth + 1) for child in reversed(children.get(pid, []))]
    return found


def _tree_row(
    pid: int, depth: int, wait: LockRow | None, session: SessionRow | None
) -> dict[str, object]:
    who = "prepared transaction" if pid == 0 else str(pid)
    state = session.state if session is not None else None
    return {
        "who": f"{'    ' * (depth - 1)}└ {who}" if depth else who,
        "waits": None if wait is None else round(wait.wait_seconds, 1),
        "for": "" if wait is None else _lock(wait),
        "state": words.visible(state or ("" if pid == 0 else words.UNKNOWN)),
        "application": words.visible(session.application if session else ""),
        "role": words.visible((session.role or "") if session else ""),
        "statement": words.visible((session.statement or "") if session else ""),
    }


def _lock(wait: LockRow) -> str:
    """ "relation public.orders, AccessExclusiveLock"; says who only queues."""
    what = " ".join(part for part in (wait.lock_type, wait.relation) if part) or words.UNKNOWN
    parts = [what, wait.mode, "queues behind a waiter" if wait.soft else None]
    return words.visible(", ".join(part for part in parts if part))


def chain_table(rows: Iterable[ChainRow], limit: int = 200) -> pd.DataFrame:
    """Clients of poolers, each with the backend that works for it. Who neither waits nor has
    a backend is left out."""
    import pandas as pd  # noqa: PLC0415  only pages need it

    wanted = [row for row in rows if row.link.backend_pid is not None or _queues(row)]
    table = pd.DataFrame(
        [
            {
                "client": words.visible(row.link.client),
                "application": words.visible(row.link.application),
                "pool": words.visible(row.pool),
                "waits": None if not _queues(row) else round(row.link.wait_seconds or 0.0, 1),
                "backend": row.link.backend_pid,
                "state": words.visible((row.session.state or "") if row.session else ""),
                "transaction": None
                if row.session is None or row.session.xact_seconds is None
                else round(row.session.xact_seconds, 1),
                "blocked by": _blockers(row.blocked_by),
                "statement": words.visible((row.session.statement or "") if row.session else ""),
            }
            for row in wanted[:limit]
        ],
        columns=list(CHAIN_COLUMNS),
    )
    return _numbers(table, "waits", "backend", "transaction")


CHAIN_COLUMNS = (
    "client",
    "application",
    "pool",
    "waits",
    "backend",
    "state",
    "transaction",
    "blocked by",
    "statement",
)


def _queues(row: ChainRow) -> bool:
    return row.link.wait_seconds is not None or row.link.state == "waiting"


def _blockers(pids: Iterable[int]) -> str:
    return ", ".join(str(pid) if pid else "prepared transaction" for pid in pids)
