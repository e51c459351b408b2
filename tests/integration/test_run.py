"""`headroom run` as a process, against real servers, told to a real receiver."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from headroom.demo.servers import PgBouncer, Postgres
from model.config import load
from store import latest
from store.database import Store
from store.export import export
from tests.lab import Receiver, Run, command, full_pool, wait_until, write_config


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serve() as serving:
        yield serving


@contextmanager
def transaction(postgres: Postgres, name: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of the application that holds a transaction open."""
    dsn = postgres.dsn(user="app", dbname="shop")
    with psycopg.connect(dsn, application_name=name) as connection:
        connection.execute("SELECT 'a secret'")
        yield connection


def by_name(entries: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in entries}


def ours(postgres: Postgres) -> list[tuple[Any, ...]]:
    with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
        return admin.execute(
            "SELECT pid, state, xact_start FROM pg_stat_activity "
            "WHERE application_name = 'headroom'"
        ).fetchall()


def test_status_counts_as_the_server_does(
    tmp_path: Path, postgres: Postgres, pgbouncer: PgBouncer
) -> None:
    config = write_config(tmp_path, postgres, pgbouncer)
    with Run(config) as run, transaction(postgres, "checkout"):
        shop = wait_until(
            lambda: next(
                (e for e in run.status() if (e["sessions"] or {}).get("idle in transaction")), None
            )
        )
        with psycopg.connect(postgres.dsn(), autocommit=True) as admin:
            assert wait_until(
                lambda: (
                    by_name(run.status())["shop"]["slots_used"]
                    == admin.execute(
                        "SELECT count(*) FROM pg_stat_activity "
                        "WHERE backend_type = 'client backend'"
                    ).fetchone()[0]
                )  # type: ignore[index]
            )
        assert shop["ordinary_capacity"] == 27
        assert shop["up"] is True
        assert shop["role"] == "primary"
        assert shop["server_version"].startswith("18")
        assert shop["waiters"] is None  # a server cannot know
        pool = by_name(run.status())["shop-pool"]
        assert (pool["up"], pool["waiters"], pool["slots_used"]) == (True, 0, None)
        printed = run.command("status", "--json")
        assert by_name(json.loads(printed.stdout)).keys() == {"shop", "shop-pool"}


def test_one_server_sees_one_connection_of_ours_never_in_a_transaction(
    tmp_path: Path, postgres: Postgres
) -> None:
    with Run(write_config(tmp_path, postgres)) as run:
        first = run.status()[0]["as_of"]
        seen: set[int] = set()
        while run.status()[0]["as_of"] == first or len(seen) == 0:
            rows = ours(postgres)
            assert len(rows) == 1
            assert rows[0][1] in ("idle", "active")
            seen.update(row[0] for row in rows)
        assert len(seen) == 1  # held, not opened again for every poll


def test_it_stops_within_five_seconds_and_leaves_nothing_open(
    tmp_path: Path, postgres: Postgres
) -> None:
    config = write_config(tmp_path, postgres)
    with Run(config) as run:
        assert run.terminate() < 5
    wait_until(lambda: not ours(postgres))
    with Store(load(config, {}).store.url) as store, store.read() as connection:
        assert export(connection, "sessions", None, None, None)["ended_at"].notna().all()


def test_it_stops_within_five_seconds_while_a_poll_hangs(
    tmp_path: Path, postgres: Postgres
) -> None:
    with Run(write_config(tmp_path, postgres)) as run:
        (pid, *_), *_ = ours(postgres)
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: run.status()[0]["up"] is False)
            assert run.terminate(signal.SIGINT) < 5
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.pgbouncer
def test_clients_that_wait_reach_the_webhook_with_who_and_what_to_do(
    tmp_path: Path, postgres: Postgres, pgbouncer: PgBouncer, receiver: Receiver
) -> None:
    config = write_config(tmp_path, postgres, pgbouncer, receiver)
    with Run(config) as run, full_pool(pgbouncer, holders=2, waiters=3) as began:
        first = wait_until(lambda: next(iter(receiver.received), None), what="a message")
        assert first.at - began < 5
        body = first.body
        assert body["rule"] == "pool_waiters"
        assert body["target"] == "shop-pool"
        assert body["labels"] == {"database": "shop", "user": "app"}
        assert body["culprit"]["application"] == "checkout"
        assert body["culprit"]["state"] == "idle in transaction"
        assert body["link"].startswith("http://localhost:8501")
        listed = json.loads(run.command("alerts", "--json").stdout)
        assert {
            "rule", "target", "labels", "state", "since", "value", "limit", "severity", "summary"
        } <= set(listed[0])  # fmt: skip
        assert listed[0]["state"] == "firing"


def test_kill_9_loses_no_message_and_repeats_none_more_than_once(
    tmp_path: Path, postgres: Postgres, receiver: Receiver
) -> None:
    extra = "[rules.idle_in_transaction]\nwarning_seconds = 0.5\nkeep_firing_for = '0s'\n"
    config = write_config(tmp_path, postgres, None, receiver, extra)
    with Run(config) as run:
        receiver.answers[:] = [503]  # the first try fails, so there is something to keep
        with transaction(postgres, "checkout"):
            wait_until(lambda: not receiver.answers, what="the first try")
            os.kill(run.pid, signal.SIGKILL)
            run.__exit__()
            run.start()
            wait_until(lambda: receiver.received, what="the message, from the outbox")
        reasons = [r.body["reason"] for r in receiver.received]
        wait_until(lambda: any(r.body["reason"] == "resolved" for r in receiver.received))
        assert reasons[0] == "firing"
        ids = [received.headers["idempotency-key"] for received in receiver.received]
        assert max(ids.count(key) for key in ids) <= 2
    with Store(load(config, {}).store.url) as store, store.read() as connection:
        runs = latest.gaps(connection, datetime(2020, 1, 1, tzinfo=UTC), datetime.now(UTC))
        assert len(runs) == 1  # the time between the kill and the next start


def test_kills_at_random_moments_lose_no_message_and_keep_their_order(
    tmp_path: Path, postgres: Postgres, receiver: Receiver
) -> None:
    """The oracle is the receiver: every firing alert is told once (twice at most for a kill),
    its end too, and never the end before the beginning."""
    chance = random.Random(20260130)
    extra = "[rules.idle_in_transaction]\nwarning_seconds = 0.3\nkeep_firing_for = '0s'\n"
    config = write_config(tmp_path, postgres, None, receiver, extra)
    kills = 5
    with Run(config) as run:
        for _ in range(kills):
            receiver.answers[:] = chance.choices([200, 503], k=2)
            told = len(receiver.received)
            with transaction(postgres, "checkout"):
                time.sleep(chance.uniform(0.0, 1.5))  # the moment of the kill, not a wait
                os.kill(run.pid, signal.SIGKILL)
                run.__exit__()
                run.start()
                wait_until(
                    lambda: any(r.body["reason"] == "firing" for r in receiver.received[told:]),  # noqa: B023
                    30,
                    "a message that it fires",
                )
            wait_until(
                lambda: any(r.body["reason"] == "resolved" for r in receiver.received[told:]),  # noqa: B023
                30,
                "a message that it is over",
            )
    ids = [received.headers["idempotency-key"] for received in receiver.received]
    assert max(ids.count(key) for key in ids) <= 2
    assert len(ids) - len(set(ids)) <= kills
    by_alert: dict[str, list[str]] = {}
    for received in receiver.received:
        reasons = by_alert.setdefault(received.body["alert_id"], [])
        if received.body["reason"] not in reasons:
            reasons.append(received.body["reason"])
    assert set(map(tuple, by_alert.values())) == {("firing", "resolved")}


def test_a_second_run_on_the_same_store_refuses(tmp_path: Path, postgres: Postgres) -> None:
    config = write_config(tmp_path, postgres)
    with Run(config) as run:
        second = run.command("run")
        assert second.returncode == 1
        assert "another `headroom run` writes here" in second.stderr


def test_a_taken_port_is_named(tmp_path: Path, postgres: Postgres) -> None:
    config = write_config(tmp_path, postgres, extra='[store]\nurl = "sqlite:///other.db"\n')
    with Run(config):
        other = tmp_path / "second.toml"
        other.write_text(config.read_text().replace("other.db", "second.db"))
        second = command("run", "--config", str(other))
        assert second.returncode == 1
        assert "cannot listen on 127.0.0.1:" in second.stderr


def test_healthz_and_metrics_answer(tmp_path: Path, postgres: Postgres) -> None:
    with Run(write_config(tmp_path, postgres)) as run:
        healthy = httpx.get(f"{run.url}/healthz")
        assert (healthy.status_code, healthy.json()["status"]) == (200, "ok")
        text = httpx.get(f"{run.url}/metrics").text
        assert 'headroom_target_up{target="shop"} 1.0' in text
        assert 'headroom_polls_missed_total{target="shop"} 0.0' in text


def test_a_target_that_is_gone_is_said_and_the_other_goes_on(
    tmp_path: Path, postgres: Postgres
) -> None:
    extra = '[[target]]\nname = "gone"\nkind = "postgresql"\ndsn = "host=127.0.0.1 port=1"\n'
    with Run(write_config(tmp_path, postgres, extra=extra)) as run:
        gone = wait_until(lambda: by_name(run.status())["gone"])
        assert gone["up"] is False
        assert gone["reason"]
        assert gone["slots_used"] is None
        assert by_name(run.status())["shop"]["up"] is True


def test_once_check_and_export_speak(tmp_path: Path, postgres: Postgres) -> None:
    config = write_config(tmp_path, postgres)
    seen = command("once", "--config", str(config), "--json")
    assert seen.returncode == 0
    assert json.loads(seen.stdout)[0]["server"]["max_connections"] == 30
    assert command("check", "--config", str(config)).returncode == 0
    assert "no such store yet" in command("status", "--config", str(config)).stderr
    with Run(config) as run:
        csv = run.command("export", "--table", "servers", "--since", "1m").stdout
        assert csv.splitlines()[0].startswith("target,at,up,")
        assert len(csv.splitlines()) > 1
        rows = json.loads(run.command("export", "--table", "servers", "--format", "json").stdout)
        assert rows[0]["target"] == "shop"


def test_check_names_the_grant_that_is_missing(tmp_path: Path, postgres: Postgres) -> None:
    path = tmp_path / "headroom.toml"
    dsn = postgres.dsn(user="nobody_special", dbname="shop")
    path.write_text(f'[[target]]\nname = "shop"\nkind = "postgresql"\ndsn = "{dsn}"\n')
    checked = command("check", "--config", str(path))
    assert checked.returncode == 1
    assert "GRANT pg_monitor TO" in checked.stdout
    assert "nobody_special" in checked.stdout


def test_a_down_target_makes_once_fail(tmp_path: Path) -> None:
    path = tmp_path / "headroom.toml"
    path.write_text('[[target]]\nname = "x"\nkind = "postgresql"\ndsn = "host=127.0.0.1 port=1"\n')
    once = command("once", "--config", str(path))
    assert once.returncode == 1
    assert "DOWN" in once.stdout


def test_notify_test_reports_every_channel(
    tmp_path: Path, postgres: Postgres, receiver: Receiver
) -> None:
    config = write_config(tmp_path, postgres, None, receiver)
    assert command("notify-test", "--config", str(config)).returncode == 0
    assert receiver.received[0].body["reason"] == "test"
    receiver.answers.append(404)
    refused = command("notify-test", "--config", str(config), "--channel", "hook")
    assert refused.returncode == 1
    assert "FAILED" in refused.stdout


def test_a_config_mistake_ends_with_status_2(tmp_path: Path) -> None:
    path = tmp_path / "headroom.toml"
    path.write_text("[[target]]\nnam = 'x'\n")
    checked = command("check", "--config", str(path), "--offline")
    assert checked.returncode == 2
    assert f"{path}:2: target[0].nam: unknown setting" in checked.stderr
