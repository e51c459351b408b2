"""A store for the dashboard's tests: filled row by row, through the tables alone."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, update

from model.alerting import Alert, AlertKey, AlertState, Culprit, Finding, Severity, finding_to_json
from model.config import Config, load
from store import tables
from store.database import Store

CONFIG = """
[store]
url = "sqlite:///headroom.db"
[dashboard]
url = "http://localhost:8501"
[[target]]
name = "shop"
kind = "postgresql"
dsn = "host=127.0.0.1 dbname=shop"
[[target]]
name = "shop-pool"
kind = "pgbouncer"
dsn = "host=127.0.0.1 port=6432 dbname=pgbouncer"
serves = ["shop"]
"""
SHOP, POOLER = 1, 2  # target ids
HOSTILE = "<img src=x onerror=alert(1)>](javascript:alert(1))\u202e"


def write_config(folder: Path, text: str = CONFIG) -> Path:
    """A configuration file in *folder*."""
    path = folder / "headroom.toml"
    path.write_text(text, encoding="utf-8")
    return path


def loaded(folder: Path, text: str = CONFIG) -> Config:
    return load(write_config(folder, text), {})


OTHERS = """
[[target]]
name = "billing"
kind = "postgresql"
dsn = "host=127.0.0.1 dbname=billing"
"""  # a second server, in addition to CONFIG
BILLING = 3


class Filler:
    """Puts rows into a store."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(f"sqlite:///{folder / 'headroom.db'}")
        self.store.migrate()
        with self.store.write(durable=False) as c:
            if c.execute(tables.target.select()).first() is None:
                rows = [(SHOP, "shop", "postgresql"), (POOLER, "shop-pool", "pgbouncer")]
                names = ("id", "name", "kind")
                c.execute(insert(tables.target), [dict(zip(names, r, strict=True)) for r in rows])
                for number, user in enumerate(("app", "reports"), start=1):
                    row = {"id": number, "target_id": POOLER, "database": "shop", "user": user}
                    c.execute(insert(tables.pool).values(row))
                c.execute(insert(tables.database).values(id=1, target_id=SHOP, name="shop"))

    def target(self, number: int, name: str, kind: str) -> None:
        """One more target."""
        with self.store.write(durable=False) as c:
            c.execute(insert(tables.target).values(id=number, name=name, kind=kind))

    def server(self, at: datetime, **changed: Any) -> None:
        self.servers([(at, changed)])

    def servers(self, rows: list[tuple[datetime, dict[str, Any]]]) -> None:
        usual = {
            "target_id": SHOP,
            "up": True,
            "poll_seconds": 0.003,
            "version": "18.6",
            "role": "primary",
            "clock_skew_seconds": 0.0,
            "max_connections": 100,
            "superuser_reserved_connections": 3,
            "reserved_connections": 0,
            "ordinary_capacity": 97,
            "slots_used": 31,
            "active": 8,
            "idle": 20,
            "idle_in_transaction": 2,
            "idle_in_transaction_aborted": 0,
            "other_states": 1,
            "blocked": 0,
            "wait_cpu": 5,
            "wait_lock": 0,
            "wait_lwlock": 0,
            "wait_io": 2,
            "wait_client": 1,
            "wait_other": 0,
            "longest_statement_seconds": 0.4,
            "longest_transaction_seconds": 1.1,
            "longest_idle_in_transaction_seconds": 0.7,
        }
        with self.store.write(durable=False) as c:
            c.execute(insert(tables.server_sample), [usual | v | {"at": at} for at, v in rows])

    def server_down(self, at: datetime, reason: str, failure: str = "unreachable") -> None:
        values = {"up": False, "failure": failure, "reason": reason, "poll_seconds": 1.0}
        with self.store.write(durable=False) as c:
            c.execute(insert(tables.server_sample).values(target_id=SHOP, at=at, **values))

    def pooler(self, at: datetime, waiting: int = 0, oldest: float = 0.0) -> None:
        self.poolers([(at, waiting, oldest)])

    def poolers(self, rows: list[tuple[datetime, int, float]]) -> None:
        whole, pools = [], []
        for at, waiting, oldest in rows:
            values = {"client_active": 14, "client_waiting": waiting, "maxwait_seconds": oldest}
            servers = {"server_active": 8 if waiting else 3, "server_idle": 0 if waiting else 5}
            common = {"target_id": POOLER, "at": at} | values | servers
            poll = {"up": True, "poll_seconds": 0.002, "version": "1.18.0", "used_clients": 20}
            rest = {"used_servers": 8, "max_client_conn": 100, "default_pool_size": 8}
            whole.append(common | poll | rest)
            for number in (1, 2):
                mine = {"pool_id": number, "pool_size": 8, "pool_mode": "transaction"}
                mine |= {"client_waiting": waiting if number == 1 else 0}
                mine |= {"maxwait_seconds": oldest if number == 1 else 0.0}
                pools.append(common | mine)
        with self.store.write(durable=False) as c:
            c.execute(insert(tables.pooler_sample), whole)
            c.execute(insert(tables.pool_sample), pools)

    def counters(self, rows: list[tuple[datetime, int]]) -> None:
        """Rows of database counters: when, and transactions committed until then."""
        with self.store.write(durable=False) as c:
            for at, commits in rows:
                totals = {"xact_commit_total": commits, "xact_rollback_total": commits // 50}
                totals |= {"sessions_total": commits // 100}
                row = {"target_id": SHOP, "database_id": 1, "at": at, "backends": 30} | totals
                c.execute(insert(tables.database_sample).values(row))

    def session(self, pid: int, started_at: datetime, **changed: Any) -> None:
        text = changed.pop("statement", "UPDATE orders SET status = $1 WHERE id = $2")
        row = {
            "target_id": SHOP,
            "pid": pid,
            "backend_start": started_at - timedelta(minutes=5),
            "started_at": started_at,
            "database": "shop",
            "role": "app",
            "application": "checkout",
            "client": "10.0.3.7:51512",
            "state": "active",
            "query_start": started_at,
            "xact_start": started_at,
            "state_change": started_at,
            "statement_id": hash(text) % 2**31,
        } | changed
        with self.store.write(durable=False) as c:
            known = tables.statement.select().where(tables.statement.c.id == row["statement_id"])
            if row["statement_id"] is not None and c.execute(known).first() is None:
                c.execute(insert(tables.statement).values(id=row["statement_id"], text=text))
            c.execute(insert(tables.session).values(row))

    def end_sessions(self, at: datetime) -> None:
        with self.store.write(durable=False) as c:
            open_ = tables.session.c.ended_at.is_(None)
            c.execute(update(tables.session).where(open_).values(ended_at=at))

    def verdict(
        self, at: datetime, sentence: str, severity: Severity | None, target_id: int = SHOP
    ) -> None:
        detail = {
            "evidence": ["8 of 8 server connections are busy.", "66 slots of the server are free."],
            "advice": "Raise pool_size of shop/app, or find what holds its connections.",
            "culprit": None,
        }
        row = {
            "target_id": target_id,
            "at": at,
            "layer": "pooler" if severity else "none",
            "cause": "pool_full" if severity else "calm",
            "sentence": sentence,
            "severity": severity.value if severity else None,
            "detail": json.dumps(detail if severity else {"evidence": []}),
        }
        with self.store.write(durable=False) as c:
            c.execute(insert(tables.verdict).values(row))

    def alert(
        self, at: datetime, summary: str, severity: Severity, target: str = "shop-pool"
    ) -> None:
        found = alert(at, summary, severity, target)
        row = {
            "id": found.id,
            "rule": found.key.rule,
            "target": target,
            "labels": "{}",
            "state": found.state.value,
            "severity": severity.value,
            "since": at,
            "last_seen_at": at,
            "fired_at": at,
            "told": "[]",
            "finding": json.dumps(finding_to_json(found.finding)),
        }
        with self.store.write(durable=False) as c:
            c.execute(insert(tables.alert).values(row))


def alert(at: datetime, summary: str, severity: Severity, target: str) -> Alert:
    """An alert that fires since *at*."""
    culprit = Culprit(4711, "checkout", "app", "shop", None, "active", 6.1, "SELECT 1")
    finding = Finding(
        rule="pool_waiters",
        target=target,
        labels=(),
        severity=severity,
        value=6.1,
        limit=5.0,
        unit="s",
        summary=summary,
        advice="Look at who holds the pool's connections.",
        culprit=culprit,
    )
    key = AlertKey("pool_waiters", target, ())
    name = f"{target}-{at.timestamp()}"
    return Alert(name, key, AlertState.FIRING, severity, at, at, finding, fired_at=at)
