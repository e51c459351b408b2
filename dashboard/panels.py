"""Every chart: what it shows, in which unit, from which rows, against which limit. Pure.

Pages, routes and pictures draw from these definitions alone, so a chart means the same
everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from model.rules import IdleInTransaction, LongStatement, Rules
from model.targets import POOLERS

# Okabe and Ito's palette, which people with colour-blindness can tell apart. Its orange and
# vermilion are left out: red and amber mean trouble here and nothing else.
SKY = "#56B4E9"
GREEN = "#009E73"
PURPLE = "#CC79A7"
YELLOW = "#F0E442"
BLUE = "#0072B2"
GREY = "#999999"
_READABLE = 3.0  # contrast that WCAG 1.4.11 asks of what must be seen to understand a chart


def on_white(colour: str) -> str:
    """*colour*, "#rrggbb", darkened until it can be seen on white; its hue stays.

    >>> on_white("#56B4E9"), on_white("#F0E442")
    ('#3e82a8', '#9e962c')
    """
    parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    factor = 0.72
    while True:
        darker = "#" + "".join(f"{round(part * factor):02x}" for part in parts)
        if contrast(darker, "#ffffff") >= _READABLE:
            return darker
        factor -= 0.02


def both_themes(colour: str) -> str:
    """*colour* as CSS that suits the light and the dark theme."""
    return f"light-dark({on_white(colour)}, {colour})"


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21 (WCAG 2.2).

    >>> round(contrast("#000000", "#ffffff"))
    21
    """
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


POOL_COLOURS = (SKY, GREEN, PURPLE, YELLOW, BLUE, GREY)

Unit = Literal["count", "seconds", "per_second"]
Role = Literal["limit", "warning", "critical"]


class Rows(StrEnum):
    """Which rows of the store a panel is drawn from."""

    SERVER = "server"  # server_sample of a postgresql target
    RATES = "rates"  # database_sample, as rates
    POOLER = "pooler"  # pooler_sample, one frame a pooler
    POOLS = "pools"  # pool_sample: every series of the panel once a pool


TABLES = {
    Rows.SERVER: "server_sample",
    Rows.POOLER: "pooler_sample",
    Rows.POOLS: "pool_sample",
}


@dataclass(frozen=True, slots=True)
class Series:
    """One line or area. Its value is the sum of *columns*; of *first*, the first known one."""

    label: str
    columns: tuple[str, ...]
    colour: str
    first: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """A dashed line. stretch: the axis always reaches it, so that headroom can be seen.

    column: its value is the newest one of that column; otherwise it is *value*.
    """

    label: str
    role: Role
    column: str | None = None
    value: float | None = None
    stretch: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart."""

    name: str
    title: str
    note: str
    unit: Unit
    rows: Rows
    series: tuple[Series, ...]
    stacked: bool = False
    limits: tuple[Limit, ...] = ()
    band: tuple[str, str] | None = None  # columns: a light band from one to the other


OLDEST_WAIT = ("oldest_wait_seconds", "maxwait_seconds")
"""Columns of a pool, better one first: PgBouncer's own maxwait is 0 for clients at login."""


def first_known(values: Iterable[float | None]) -> float | None:
    """The first of *values* that is known."""
    return next((value for value in values if value is not None), None)


_PANELS = (
    Panel(
        name="connections",
        title="Connections by state",
        note="client backends",
        unit="count",
        rows=Rows.SERVER,
        stacked=True,
        series=(
            Series("active", ("active",), SKY),
            Series(
                "idle in transaction",
                ("idle_in_transaction", "idle_in_transaction_aborted"),
                PURPLE,
            ),
            Series("idle", ("idle",), GREY),
            Series("other", ("other_states",), YELLOW),
        ),
        limits=(Limit("ordinary capacity", "limit", column="ordinary_capacity", stretch=True),),
        band=("ordinary_capacity", "max_connections"),
    ),
    Panel(
        name="waiters",
        title="Clients waiting",
        note="in the pooler, per pool",
        unit="count",
        rows=Rows.POOLS,
        series=(Series("", ("client_waiting",), SKY),),
    ),
    Panel(
        name="oldest_wait",
        title="Oldest wait",
        note="per pool",
        unit="seconds",
        rows=Rows.POOLS,
        series=(Series("", OLDEST_WAIT, SKY, first=True),),
    ),
    Panel(
        name="statements",
        title="Longest running",
        note="age",
        unit="seconds",
        rows=Rows.SERVER,
        series=(
            Series("statement", ("longest_statement_seconds",), SKY),
            Series("transaction", ("longest_transaction_seconds",), GREEN),
            Series("idle in transaction", ("longest_idle_in_transaction_seconds",), PURPLE),
        ),
    ),
    Panel(
        name="waits",
        title="Active sessions by wait",
        note="what they wait for",
        unit="count",
        rows=Rows.SERVER,
        stacked=True,
        series=(
            Series("CPU", ("wait_cpu",), GREEN),
            Series("IO", ("wait_io",), BLUE),
            Series("Lock", ("wait_lock",), PURPLE),
            Series("LWLock", ("wait_lwlock",), YELLOW),
            Series("Client", ("wait_client",), SKY),
            Series("other", ("wait_other",), GREY),
        ),
    ),
    Panel(
        name="throughput",
        title="Throughput",
        note="all databases",
        unit="per_second",
        rows=Rows.RATES,
        series=(
            Series("commits", ("xact_commit_per_second",), GREEN),
            Series("rollbacks", ("xact_rollback_per_second",), PURPLE),
            Series("new sessions", ("sessions_per_second",), SKY),
        ),
    ),
    Panel(
        name="clients",
        title="Clients and servers",
        note="of the pooler",
        unit="count",
        rows=Rows.POOLER,
        series=(
            Series("clients connected", ("used_clients",), BLUE),
            Series("clients served", ("client_active",), SKY),
            Series("clients waiting", ("client_waiting",), PURPLE),
            Series("servers busy", ("server_active",), GREEN),
            Series("servers free", ("server_idle",), GREY),
        ),
        limits=(Limit("max_client_conn", "limit", column="max_client_conn"),),
    ),
)

PANELS: dict[str, Panel] = {panel.name: panel for panel in _PANELS}
DEFAULT: dict[str, tuple[str, ...]] = {
    "postgresql": ("connections", "waiters", "statements", "oldest_wait", "waits", "throughput"),
    **dict.fromkeys(POOLERS, ("waiters", "oldest_wait", "clients")),
}
"""The panels of a target's page by its kind, most telling first."""


def choose(kind: str, names: str | None, *, pooled: bool) -> tuple[Panel, ...]:
    """The panels called *names* (comma-separated), or all that suit a target of *kind*.

    pooled: whether a pooler is known, in front of it or it itself.
    Raises ValueError that says which ones there are.
    """
    fitting = [n for n in DEFAULT[kind] if pooled or PANELS[n].rows is not Rows.POOLS]
    if not names:
        return tuple(PANELS[name] for name in fitting)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    wrong = [name for name in wanted if name not in DEFAULT[kind]]
    if wrong or not wanted:
        raise ValueError(
            f"{(wrong or ['nothing'])[0][:40]!r} is not a panel of a {kind} target; "
            f"choose from {', '.join(DEFAULT[kind])}"
        )
    return tuple(PANELS[name] for name in dict.fromkeys(wanted))


def limits_of(panel: Panel, rules: Rules) -> tuple[Limit, ...]:
    """The panel's limit lines, with those of the alert rules where they apply."""
    if panel.name == "statements":
        return (*panel.limits, *_age_limits(rules))
    if panel.name == "oldest_wait" and rules.pool_waiters.enabled:
        waiters = rules.pool_waiters
        return (
            *panel.limits,
            Limit("warning", "warning", value=waiters.warning_seconds, stretch=True),
            Limit("critical", "critical", value=waiters.critical_seconds),
        )
    return panel.limits


def _age_limits(rules: Rules) -> tuple[Limit, ...]:
    """Those of statements and of idle transactions; one line where they are the same."""
    named: dict[str, LongStatement | IdleInTransaction] = {
        "statement": rules.long_statement,
        "idle in transaction": rules.idle_in_transaction,
    }
    found: dict[tuple[Role, float], list[str]] = {}
    for name, rule in named.items():
        if rule.enabled:
            found.setdefault(("warning", rule.warning_seconds), []).append(name)
            found.setdefault(("critical", rule.critical_seconds), []).append(name)
    return tuple(
        Limit(f"{', '.join(names)}: {role}", role, value=value)
        for (role, value), names in found.items()
    )
