"""What the store says as systems, figures and tables. Pure.

A system is a PostgreSQL target with the poolers in front of it: the unit people think in.
None is "not known" everywhere; it is never shown as zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from dashboard import words
from model.alerting import Alert, AlertState, Severity
from model.config import Config
from model.rules import Rules
from model.targets import Target
from store.latest import SessionRow, TargetNow

if TYPE_CHECKING:
    import pandas as pd

CONSOLE_DATABASE = "pgbouncer"  # where Headroom itself asks; nobody's work


class Status(StrEnum):
    """How something is. The value is the word that people read."""

    OK = "ok"
    WAITING = "no data yet"
    WARNING = "warning"
    STALE = "stale"
    CRITICAL = "critical"
    DOWN = "down"

    @property
    def rank(self) -> int:
        """Higher is worse."""
        return list(Status).index(self)


@dataclass(frozen=True, slots=True)
class Health:
    """How one target is, in one sentence. age_seconds: of its newest data."""

    status: Status
    sentence: str
    advice: str | None = None
    evidence: tuple[str, ...] = ()
    age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class PoolerLine:
    """One pooler of a system."""

    name: str
    health: Health
    version: str | None
    waiters: int | None
    oldest_wait_seconds: float | None
    clients_served: int | None
    servers_busy: int | None
    servers: int | None


@dataclass(frozen=True, slots=True)
class System:
    """One card of the overview.

    poolers: those in front of it; of a pooler, itself.
    states: client backends by state, in the chart's order; None where hidden or down.
    waiters: clients that wait in its poolers; None without a pooler that answers.
    """

    name: str
    kind: str
    health: Health
    version: str | None = None
    role: str | None = None
    slots_used: int | None = None
    ordinary_capacity: int | None = None
    max_connections: int | None = None
    states: Mapping[str, int] | None = None
    waiters: int | None = None
    oldest_wait_seconds: float | None = None
    longest_statement_seconds: float | None = None
    longest_transaction_seconds: float | None = None
    blocked: int | None = None
    degraded: str | None = None
    poolers: tuple[PoolerLine, ...] = ()
    alerts: tuple[Alert, ...] = ()

    @property
    def headroom(self) -> int | None:
        """Ordinary slots that are left."""
        if self.slots_used is None or self.ordinary_capacity is None:
            return None
        return max(self.ordinary_capacity - self.slots_used, 0)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its name. note says what to compare it with."""

    label: str
    value: str
    note: str
    status: Status = Status.OK


_FULL = ("slots_exhausted", "role_limit", "database_limit")  # model.samples.Failure


def health_of(
    target: Target, seen: TargetNow | None, alerts: Iterable[Alert], at: datetime
) -> Health:
    """How *target* is at *at*. Old data are stale whatever they say."""
    if seen is None or seen.at is None:
        return Health(
            Status.WAITING, f"{target.name}: no data yet; the first poll is still to come."
        )
    age = max((at - seen.at).total_seconds(), 0.0)
    if age > stale_after(target):
        since = words.age(float(round(age)))
        return Health(
            Status.STALE,
            f"{target.name}: no new data for {since} — is “headroom run” running?",
            age_seconds=age,
        )
    return _judged(seen, alerts, at, age) if seen.up else _unseen(target, seen, age)


def _unseen(target: Target, seen: TargetNow, age: float) -> Health:
    """How a target is that gave no answer, or refused us."""
    verdict, reason = seen.verdict, seen.reason or "no reason was given"
    if seen.failure in _FULL:  # full is not down: it answers, and says that it is full
        told = verdict if verdict is not None and verdict.cause == "full_refused" else None
        sentence = told.sentence if told else f"{target.name} is full: {reason}"
        return Health(Status.CRITICAL, sentence, told.advice if told else None, (reason,), age)
    end = "" if reason.endswith((".", "?", "!")) else "."
    advice = verdict.advice if verdict is not None and verdict.layer == "target" else None
    return Health(
        Status.DOWN, f"{target.name} does not answer: {reason}{end}", advice, age_seconds=age
    )


def _judged(seen: TargetNow, alerts: Iterable[Alert], at: datetime, age: float) -> Health:
    """How a target is that answers: its verdict, and what fires."""
    firing = [a for a in alerts if a.state is AlertState.FIRING]
    # What keeps firing although its finding is gone is no longer how things are.
    over = tuple(
        f"Over since {words.age(max((at - a.clear_since).total_seconds(), 0.0))}: "
        f"{a.finding.summary}."
        for a in firing
        if a.clear_since is not None
    )
    firing = [a for a in firing if a.clear_since is None]
    worst = max(firing, key=lambda a: a.severity.rank, default=None)
    verdict = seen.verdict
    severities = [a.severity for a in firing]
    if verdict is not None and verdict.severity is not None:
        severities.append(verdict.severity)
    status = status_of(max(severities, key=lambda s: s.rank, default=None))
    if verdict is not None and (verdict.severity is not None or worst is None):
        return Health(status, verdict.sentence, verdict.advice, (*verdict.evidence, *over), age)
    if worst is not None:
        finding = worst.finding
        return Health(status, finding.summary, finding.advice, finding.evidence, age)
    return Health(status, _calm(seen), age_seconds=age)


def stale_after(target: Target) -> float:
    """Seconds after which the data of *target* are old: three polls missed, and a while."""
    return max(5.0, 3 * target.interval + target.deadline_seconds)


def fresh(target: Target, seen: TargetNow, at: datetime) -> bool:
    """Whether the last poll of *target* is recent and was answered."""
    recent = seen.at is not None and (at - seen.at).total_seconds() <= stale_after(target)
    return bool(seen.up) and recent


def status_of(severity: Severity | None) -> Status:
    """The status that a verdict's severity means."""
    if severity is None:
        return Status.OK
    return Status.CRITICAL if severity is Severity.CRITICAL else Status.WARNING


def _calm(seen: TargetNow) -> str:
    """What to say when nobody judged yet."""
    capacity, used = seen.columns.get("ordinary_capacity"), seen.columns.get("slots_used")
    if capacity is not None and used is not None:
        return f"{seen.name}: {words.count(max(capacity - used, 0))} of {capacity} slots are free."
    waiting = seen.columns.get("client_waiting")
    if waiting is not None:
        return f"{seen.name}: {words.plural(waiting, 'client')} waiting."
    return f"{seen.name} answers."


def systems(
    config: Config, seen: Sequence[TargetNow], alerts: Sequence[Alert], at: datetime
) -> list[System]:
    """All systems of the configuration, worst first, then by name."""
    by_name = {now.name: now for now in seen}
    found = [
        system_of(config, target, by_name, alerts, at)
        for target in config.targets
        if target.kind == "postgresql" or not target.serves
    ]
    return sorted(found, key=lambda s: (-s.health.status.rank, s.name))


def system_of(
    config: Config,
    target: Target,
    seen: Mapping[str, TargetNow],
    alerts: Sequence[Alert],
    at: datetime,
) -> System:
    """One target with the poolers in front of it."""
    own = (target,) if target.kind == "pgbouncer" else ()
    poolers = own or config.poolers_of(target.name)
    lines = tuple(_pooler_line(p, seen.get(p.name), alerts, at) for p in poolers)
    names = {target.name, *(p.name for p in poolers)}
    health = health_of(target, seen.get(target.name), _of(alerts, {target.name}), at)
    for line in lines:
        # The server's sentence stands, unless a pooler is worse off.
        if line.health.status.rank > health.status.rank:
            health = line.health
    now = seen.get(target.name)
    columns = now.columns if now is not None else {}
    waiting = [line.waiters for line in lines if line.waiters is not None]
    waits = [w for line in lines if (w := line.oldest_wait_seconds) is not None]
    return System(
        name=target.name,
        kind=target.kind,
        health=health,
        version=now.version if now else None,
        role=now.role if now else None,
        slots_used=columns.get("slots_used"),
        ordinary_capacity=columns.get("ordinary_capacity"),
        max_connections=columns.get("max_connections"),
        states=_states(columns),
        waiters=sum(waiting) if waiting else None,
        oldest_wait_seconds=max(waits, default=None),
        longest_statement_seconds=columns.get("longest_statement_seconds"),
        longest_transaction_seconds=columns.get("longest_transaction_seconds"),
        blocked=columns.get("blocked"),
        degraded=now.degraded if now else None,
        poolers=lines,
        alerts=tuple(a for a in _of(alerts, names) if a.state is AlertState.FIRING),
    )


def _of(alerts: Iterable[Alert], names: set[str]) -> list[Alert]:
    return [alert for alert in alerts if alert.key.target in names]


def _states(columns: Mapping[str, int | None]) -> Mapping[str, int] | None:
    if columns.get("active") is None:
        return None
    in_transaction = ("idle_in_transaction", "idle_in_transaction_aborted")
    return {
        "active": columns.get("active") or 0,
        "idle in transaction": sum(columns.get(name) or 0 for name in in_transaction),
        "idle": columns.get("idle") or 0,
        "other": columns.get("other_states") or 0,
    }


def _pooler_line(
    target: Target, seen: TargetNow | None, alerts: Sequence[Alert], at: datetime
) -> PoolerLine:
    columns = seen.columns if seen is not None else {}
    busy, free = columns.get("server_active"), columns.get("server_idle")
    return PoolerLine(
        name=target.name,
        health=health_of(target, seen, _of(alerts, {target.name}), at),
        version=seen.version if seen else None,
        waiters=columns.get("client_waiting"),
        oldest_wait_seconds=columns.get("maxwait_seconds"),
        clients_served=columns.get("client_active"),
        servers_busy=busy,
        servers=None if busy is None or free is None else busy + free,
    )


def figures(system: System, rules: Rules) -> list[Figure]:
    """The row of numbers on top of a target's page."""
    found: list[Figure] = []
    if system.kind == "postgresql":
        used, capacity = system.slots_used, system.ordinary_capacity
        ratio = used / capacity if used is not None and capacity else None
        slots = rules.slots_low
        states = system.states or {}
        found += [
            Figure(
                "Connections",
                f"{words.count(used)} / {words.count(capacity)}",
                f"{words.count(system.headroom)} left for ordinary roles",
                _graded(ratio, slots.warning_ratio, slots.critical_ratio),
            ),
            Figure("Active", words.count(states.get("active")), "run a statement"),
            Figure(
                "Idle in transaction",
                words.count(states.get("idle in transaction")),
                "hold a connection",
            ),
            Figure("Blocked", words.count(system.blocked), "wait for a lock"),
        ]
    waiters = rules.pool_waiters
    found += [
        Figure(
            "Clients waiting",
            words.count(system.waiters),
            f"oldest {words.age(system.oldest_wait_seconds)}"
            if system.waiters is not None
            else "no pooler seen",
            _graded(system.oldest_wait_seconds, waiters.warning_seconds, waiters.critical_seconds),
        )
    ]
    if system.kind == "pgbouncer":
        line = system.poolers[0]
        found += [
            Figure(
                "Clients served", words.count(line.clients_served), "linked to a server or idle"
            ),
            Figure(
                "Servers busy",
                f"{words.count(line.servers_busy)} / {words.count(line.servers)}",
                "server connections",
            ),
        ]
    if system.kind == "postgresql":
        statement = rules.long_statement
        found += [
            Figure(
                "Longest statement",
                words.age(system.longest_statement_seconds),
                "running now",
                _graded(
                    system.longest_statement_seconds,
                    statement.warning_seconds,
                    statement.critical_seconds,
                ),
            ),
            Figure(
                "Longest transaction", words.age(system.longest_transaction_seconds), "open now"
            ),
        ]
    return found


def _graded(value: float | None, warning: float, critical: float) -> Status:
    if value is None or value < warning:
        return Status.OK
    return Status.CRITICAL if value >= critical else Status.WARNING


def session_table(rows: Iterable[SessionRow], *, everyone: bool, limit: int = 200) -> pd.DataFrame:
    """Sessions, longest first, one row each; unless *everyone*, only those that do something
    or hold a transaction open.

    Columns: age (s), state, wait, transaction (s), application, role, database, client, pid,
    blocked by, statement; and `session`, which identifies the row.
    """
    import pandas as pd  # noqa: PLC0415  only pages need it

    wanted = [row for row in rows if everyone or _matters(row)]
    wanted.sort(key=lambda row: (-session_age(row), row.pid))
    return pd.DataFrame(
        [
            {
                "age": round(session_age(row), 1),
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


SESSION_COLUMNS = (
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


def pool_table(seen: TargetNow) -> pd.DataFrame:
    """The pools of a pooler as it was last seen, longest queue first."""
    import pandas as pd  # noqa: PLC0415  only pages need it

    pools = [pool for pool in seen.pools if pool["database"] != CONSOLE_DATABASE]
    pools.sort(key=lambda p: (-(p["client_waiting"] or 0), p["database"], p["user"]))
    return pd.DataFrame(
        [
            {
                "database": words.visible(str(pool["database"])),
                "user": words.visible(str(pool["user"])),
                "clients waiting": pool["client_waiting"],
                "oldest wait": pool["maxwait_seconds"],
                "clients served": pool["client_active"],
                "servers busy": pool["server_active"],
                "servers free": pool["server_idle"],
                "pool size": pool["pool_size"],
                "mode": pool["pool_mode"] or words.UNKNOWN,
            }
            for pool in pools
        ]
    )


def alert_table(alerts: Iterable[Alert], at: datetime) -> pd.DataFrame:
    """Alerts with their sentence, firing ones first, then the newest."""
    import pandas as pd  # noqa: PLC0415  only pages need it

    ordered = sorted(
        alerts,
        key=lambda a: (a.state is not AlertState.FIRING, -(a.fired_at or a.since).timestamp()),
    )
    return pd.DataFrame(
        [
            {
                "state": "resolved" if alert.resolved_at is not None else alert.state.value,
                "severity": alert.severity.value,
                "rule": alert.key.rule,
                "since": alert.fired_at or alert.since,
                "lasted": words.age(
                    max(
                        (
                            (alert.resolved_at or at) - (alert.fired_at or alert.since)
                        ).total_seconds(),
                        0,
                    )
                ),
                "what": words.visible(alert.finding.summary),
                "do first": words.visible(alert.finding.advice),
            }
            for alert in ordered
        ]
    )
