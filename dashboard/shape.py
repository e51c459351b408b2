"""What the store says as systems and figures. Pure; dashboard/tables.py has the tables.

A system is a PostgreSQL target with the poolers in front of it: the unit people think in.
None is "not known" everywhere; it is never shown as zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dashboard import words
from model.alerting import Alert, AlertState, Severity
from model.config import Config
from model.rules import Rules
from model.targets import POOLERS, PRODUCTS, Target
from store.latest import TargetNow
from store.size import StoreSize


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
    product: str
    health: Health
    old: bool
    version: str | None
    used_clients: int | None
    max_client_conn: int | None
    waiters: int | None
    oldest_wait_seconds: float | None
    clients_served: int | None
    servers_busy: int | None
    servers: int | None


@dataclass(frozen=True, slots=True)
class AlertLine:
    """One firing alert. over_seconds: how long its trouble has been over; None while it is
    not, for an alert keeps firing for a while (keep_firing_for)."""

    rule: str
    severity: Severity
    summary: str
    over_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class System:
    """One card of the overview.

    poolers: those in front of it; of a pooler, itself.
    states: client backends by state, in the chart's order; None where hidden or down.
    waiters: clients that wait in its poolers; None without a pooler that answers.
    health:  of the worst of them all; age_seconds and old are of the target alone, since the
             data of a pooler may be fresh where those of its server are not.
    alerts:  those that fire, the one to read first on top.
    """

    name: str
    kind: str
    health: Health
    age_seconds: float | None = None
    old: bool = False
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
    alerts: tuple[AlertLine, ...] = ()

    @property
    def is_pooler(self) -> bool:
        """Whether it is a pooler that belongs to no server we know."""
        return self.kind in POOLERS

    @property
    def product(self) -> str:
        """What people call it."""
        return next((name for kind, name in PRODUCTS.items() if kind == self.kind), self.kind)

    @property
    def oldest_age_seconds(self) -> float | None:
        """The age of what is oldest in it."""
        ages = [self.age_seconds, *(line.health.age_seconds for line in self.poolers)]
        return max((age for age in ages if age is not None), default=None)

    @property
    def headroom(self) -> int | None:
        """Ordinary slots that are left."""
        if self.slots_used is None or self.ordinary_capacity is None:
            return None
        return max(self.ordinary_capacity - self.slots_used, 0)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its name. note says what to compare it with; old: it is no longer true."""

    label: str
    value: str
    note: str
    status: Status = Status.OK
    old: bool = False


_SILENT = (Status.WAITING, Status.STALE, Status.DOWN)  # nothing was said just now
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
    if is_old(target, seen, at):
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
    advice = verdict.advice if verdict is not None and verdict.layer == "target" else None
    return Health(
        Status.DOWN,
        words.sentence(f"{target.name} does not answer: {reason}"),
        advice,
        age_seconds=age,
    )


def _judged(seen: TargetNow, alerts: Iterable[Alert], at: datetime, age: float) -> Health:
    """How a target is that answers: its verdict, and what fires."""
    firing = [a for a in alerts if a.state is AlertState.FIRING]
    # What keeps firing although its finding is gone is no longer how things are.
    over = tuple(
        words.sentence(f"Over for {words.whole(ended)}: {a.finding.summary}")
        for a in firing
        if (ended := over_seconds(a, at)) is not None
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


def over_seconds(alert: Alert, at: datetime) -> float | None:
    """How long the trouble of a firing *alert* has been over; None while it is not."""
    if alert.state is not AlertState.FIRING or alert.clear_since is None:
        return None
    return max((at - alert.clear_since).total_seconds(), 0.0)


def alert_lines(alerts: Iterable[Alert], at: datetime) -> tuple[AlertLine, ...]:
    """Those that fire, worst first. Of equals a target that is down comes first, since it
    explains the others; then the newest. What is over comes last."""
    firing = [alert for alert in alerts if alert.state is AlertState.FIRING]
    firing.sort(
        key=lambda a: (
            a.clear_since is not None,
            -a.severity.rank,
            a.key.rule != "target_down",
            -a.since.timestamp(),
        )
    )
    return tuple(
        AlertLine(a.key.rule, a.severity, a.finding.summary, over_seconds(a, at)) for a in firing
    )


def is_old(target: Target, seen: TargetNow | None, at: datetime) -> bool:
    """Whether what is known of *target* is no longer how things are: nobody polls it."""
    if seen is None or seen.at is None:
        return False
    return (at - seen.at).total_seconds() > target.stale_after_seconds


def not_known(target: Target, seen: TargetNow | None, at: datetime) -> str | None:
    """Why nobody can say who is connected to *target* at *at*; None when it is known."""
    if seen is None or seen.at is None:
        return "it had not been polled yet"
    if is_old(target, seen, at):
        return f"nobody had polled for {words.age(float(round((at - seen.at).total_seconds())))}"
    if not seen.up:
        return seen.reason or "the last poll got no answer"
    if seen.columns.get("active") is None:
        return seen.degraded or "the server does not show its sessions to Headroom's role"
    return None


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
    own = (target,) if target.is_pooler else ()
    poolers = own or config.poolers_of(target.name)
    lines = tuple(_pooler_line(p, seen.get(p.name), alerts, at) for p in poolers)
    names = {target.name, *(p.name for p in poolers)}
    now = seen.get(target.name)
    health = health_of(target, now, _of(alerts, {target.name}), at)
    age = health.age_seconds
    for line in lines:
        # The server's sentence stands, unless a pooler is worse off.
        if line.health.status.rank > health.status.rank:
            health = line.health
    columns = now.columns if now is not None else {}
    waiting = [line.waiters for line in lines if line.waiters is not None]
    waits = [w for line in lines if (w := line.oldest_wait_seconds) is not None]
    return System(
        name=target.name,
        kind=target.kind,
        health=health,
        age_seconds=age,
        old=is_old(target, now, at),
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
        alerts=alert_lines(_of(alerts, names), at),
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
        product=target.product,
        health=health_of(target, seen, _of(alerts, {target.name}), at),
        old=is_old(target, seen, at),
        used_clients=columns.get("used_clients"),
        max_client_conn=columns.get("max_client_conn"),
        version=seen.version if seen else None,
        waiters=columns.get("client_waiting"),
        oldest_wait_seconds=columns.get("maxwait_seconds"),
        clients_served=columns.get("client_active"),
        servers_busy=busy,
        servers=None if busy is None or free is None else busy + free,
    )


def kept(size: StoreSize, now: datetime) -> str:
    """One line about the store: how big it is and will be, and how far back it goes."""
    parts = [f"Store {words.size(size.used_bytes)}"]
    if size.forecast_bytes is not None:
        parts.append(f"about {words.size(size.forecast_bytes)} when samples begin to be forgotten")
    if size.oldest_at is not None:
        back = max((now - size.oldest_at).total_seconds(), 0.0)
        parts.append(f"oldest sample {words.age(float(round(back)))} ago")
    return " · ".join(parts)


def figures(system: System, rules: Rules) -> list[Figure]:
    """The row of numbers on top of a target's page."""
    queue = _queue(system, rules)
    if system.is_pooler:
        return [queue, *_pooler_figures(system.poolers[0])]
    states, old = system.states or {}, system.old
    used, capacity = system.slots_used, system.ordinary_capacity
    ratio = used / capacity if used is not None and capacity else None
    slots, statement = rules.slots_low, rules.long_statement
    longest = system.longest_statement_seconds
    return [
        Figure(
            "Connections",
            f"{words.count(used)} / {words.count(capacity)}",
            f"{words.count(system.headroom)} left for ordinary roles",
            _graded(ratio, slots.warning_ratio, slots.critical_ratio),
            old,
        ),
        Figure("Active", words.count(states.get("active")), "run a statement", old=old),
        Figure(
            "Idle in transaction",
            words.count(states.get("idle in transaction")),
            "hold a connection",
            old=old,
        ),
        Figure("Blocked", words.count(system.blocked), "wait for a lock", old=old),
        queue,
        Figure(
            "Longest statement",
            words.age(longest),
            "running now",
            _graded(longest, statement.warning_seconds, statement.critical_seconds),
            old,
        ),
        Figure(
            "Longest transaction",
            words.age(system.longest_transaction_seconds),
            "open now",
            old=old,
        ),
    ]


def _queue(system: System, rules: Rules) -> Figure:
    """Who waits in the poolers."""
    limits, oldest = rules.pool_waiters, system.oldest_wait_seconds
    note = f"oldest {words.age(oldest)}"
    if system.waiters is None:
        told = any(line.health.status not in _SILENT for line in system.poolers)
        note = "not reported" if told else "no pooler seen"
    return Figure(
        "Clients waiting",
        words.count(system.waiters),
        note,
        _graded(oldest, limits.warning_seconds, limits.critical_seconds),
        any(line.old for line in system.poolers),
    )


def _pooler_figures(line: PoolerLine) -> list[Figure]:
    """The numbers of one pooler, beside its queue."""
    used, limit = line.used_clients, line.max_client_conn
    left = None if used is None or limit is None else max(limit - used, 0)
    return [
        Figure(
            "Client connections",
            f"{words.count(used)} / {words.count(limit)}",
            f"{words.count(left)} left of max_client_conn",
            old=line.old,
        ),
        Figure(
            "Clients served",
            words.count(line.clients_served),
            "linked to a server or idle",
            old=line.old,
        ),
        Figure(
            "Servers busy",
            f"{words.count(line.servers_busy)} / {words.count(line.servers)}",
            "server connections",
            old=line.old,
        ),
    ]


def _graded(value: float | None, warning: float, critical: float) -> Status:
    if value is None or value < warning:
        return Status.OK
    return Status.CRITICAL if value >= critical else Status.WARNING
