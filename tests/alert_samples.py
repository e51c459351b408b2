"""Samples, sessions and findings as the alerts' tests need them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from alerts.view import View, Window
from model.alerting import Culprit, Finding, Notice, Reason, Severity, labels
from model.samples import Failure, Pool, PoolDatabase, Pooler, Sample, Server, Session
from model.targets import Target

T0 = datetime(2030, 1, 1, tzinfo=UTC)
SHOP = Target(name="shop", kind="postgresql")
POOL = Target(name="shop-pool", kind="pgbouncer", serves=("shop",))


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def session(pid: int, state: str = "active", age: float = 0.0, **changed: Any) -> Session:
    """A session that has been in *state* for *age* seconds, in a transaction of that age."""
    values: dict[str, Any] = {
        "pid": pid,
        "backend_start": T0,
        "database": "shop",
        "role": "app",
        "application": "checkout",
        "client": "10.0.3.7:51512",
        "state": state,
        "wait_event_type": None,
        "wait_event": None,
        "xact_start": None,
        "query_start": None,
        "state_change": None,
        "statement": None if state == "idle" else "UPDATE cart SET total = $1",
        "session_seconds": 3600.0,
        "xact_seconds": None if state == "idle" else age,
        "statement_seconds": age if state == "active" else None,
        "state_seconds": age,
    }
    return Session(**{**values, **changed})


def server_sample(
    at: float = 0.0,
    sessions: tuple[Session, ...] | None = (),
    *,
    slots_used: int | None = 12,
    hidden: bool = False,
) -> Sample:
    """An answer of the server "shop": 100 slots, 97 of them ordinary."""
    server = Server(
        version="18.6",
        version_num=180006,
        role="primary",
        started_at=T0,
        clock_skew_seconds=0.0,
        max_connections=100,
        superuser_reserved_connections=3,
        reserved_connections=0,
        slots_used=slots_used,
        states=None if hidden else {},
        waits=None if hidden else {},
        longest_statement_seconds=None,
        longest_transaction_seconds=None,
        longest_idle_in_transaction_seconds=None,
        blocked=0,
    )
    return Sample("shop", "postgresql", after(at), 0.002, True, server=server, sessions=sessions)


def pool(waiting: int | None = 0, maxwait: float = 0.0, **changed: Any) -> Pool:
    """The pool shop/app: 20 server connections, all in use."""
    values: dict[str, Any] = {
        "database": "shop",
        "user": "app",
        "client_active": 20,
        "client_waiting": waiting,
        "server_active": 20,
        "server_idle": 0,
        "server_used": 0,
        "server_tested": 0,
        "server_login": 0,
        "maxwait_seconds": maxwait,
        "pool_mode": "transaction",
        "pool_size": 20,
    }
    return Pool(**{**values, **changed})


def pool_sample(
    at: float = 0.0,
    *pools: Pool,
    paused: bool | None = None,
    product: str = "PgBouncer",
    database: PoolDatabase | None = None,
    clients: int = 44,
) -> Sample:
    """An answer of the pooler "shop-pool"."""
    return Sample(
        "shop-pool",
        "pgbouncer",
        after(at),
        0.001,
        True,
        pooler=Pooler("1.18.0", clients, 0, 20, 100, 20, paused, product=product),
        pools=tuple(pools),
        pool_databases=() if database is None else (database,),
    )


def failed(
    at: float, failure: Failure, target: Target = SHOP, reason: str | None = "refused"
) -> Sample:
    """A poll that failed."""
    return Sample(target.name, target.kind, after(at), 1.0, False, failure, reason)


def window(*samples: Sample) -> Window:
    made = Window()
    for sample in samples:
        made.add(sample)
    return made


def view(target: Target, *samples: Sample, **related: Window) -> View:
    """What a rule sees after *samples*; related windows by name, with _ for -."""
    others = {name.replace("_", "-"): made for name, made in related.items()}
    return View(target, window(*samples), others)


def finding(severity: Severity = Severity.WARNING, value: float = 1.0, **changed: Any) -> Finding:
    values: dict[str, Any] = {
        "rule": "pool_waiters",
        "target": "shop-pool",
        "labels": labels(database="shop", user="app"),
        "severity": severity,
        "value": value,
        "limit": 0.5,
        "unit": "s",
        "summary": "24 clients wait for a connection to pool shop/app",
        "advice": "Fix the client of pid 4711.",
        "culprit": Culprit(
            4711, "checkout", "app", "shop", "10.0.3.7:51512", "active", 6.1, "SELECT $1"
        ),
        "evidence": ("The pool's sessions on the server: 12 idle in transaction, 8 active.",),
    }
    return Finding(**{**values, **changed})


def notice(reason: Reason = Reason.FIRING, made: Finding | None = None, **changed: Any) -> Notice:
    values: dict[str, Any] = {
        "id": "n1",
        "alert_id": "a1",
        "reason": reason,
        "at": after(7),
        "finding": made or finding(),
        "since": T0,
        "link": "http://localhost:8501/target?target=shop-pool",
        "resolved_at": after(192) if reason is Reason.RESOLVED else None,
        "verdict": "24 clients wait 6.1 s for pool shop/app.",
    }
    return Notice(**{**values, **changed})
