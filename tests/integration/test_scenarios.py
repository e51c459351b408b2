"""Each scenario makes its trouble for real, as the servers see it, and cleans up after itself."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any

import psycopg
import pytest

from headroom.demo.conductor import Conductor
from headroom.demo.servers import PgBouncer, Postgres, new_folder, pgbouncer_program
from headroom.demo.stage import POOLER_SETTINGS, SERVER_SETTINGS, create_roles

ORDINARY = 55  # 60 connections − 3 for superusers − 2 reserved
OF_TROUBLE = ("flash-sale", "invoices", "stocktaking", "thumbnails", "fn-%")
SECONDS = 90.0  # on a busy machine of two cores
pytestmark = pytest.mark.timeout(400)  # more than its deadlines together


@dataclass
class Stage:
    """Real servers, a real application, and an observer of each."""

    application: Conductor
    server: psycopg.Connection[Any]
    pooler: psycopg.Connection[Any] | None
    failures: dict[str, dict[str, int]] = field(default_factory=dict)

    def value(self, query: str) -> Any:
        row = self.server.execute(query.encode()).fetchone()
        return row[0] if row else None

    def sessions(self, condition: str) -> int:
        count: int = self.value(
            f"SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND {condition}"
        )
        return count

    def pool(self) -> dict[str, int]:
        """The row of SHOW POOLS of the application's pool."""
        assert self.pooler is not None
        cursor = self.pooler.execute("SHOW POOLS")
        names = [column.name for column in cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        return next((row for row in rows if row["database"] == "shop"), {})

    def play(self, scenario: str) -> None:
        self.application.play(scenario)
        self.application.wait_until_playing(scenario, SECONDS)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        deadline = monotonic() + SECONDS
        while not condition():
            assert self.application.running, self.application.last_lines()
            assert monotonic() < deadline, f"{what}: not within {SECONDS} s"
            sleep(0.05)

    def expect_health(self) -> None:
        """Everything of the trouble is gone, and requests are served."""
        self.play("healthy")
        # Server connections of the pooler keep the name of whom they served last.
        self.wait_for(lambda: self.trouble_left() == 0, "the trouble's sessions are gone")
        if self.pooler is not None:
            self.wait_for(lambda: self.pool().get("cl_waiting", 0) == 0, "nobody waits")
        orders = "SELECT max(id) FROM orders"
        before = self.value(orders)
        self.wait_for(lambda: self.value(orders) > before, "checkouts are served")

    def trouble_left(self) -> int:
        names = " OR ".join(f"application_name LIKE '{name}'" for name in OF_TROUBLE)
        pooled = "application_name = 'flash-sale' AND state = 'idle'" if self.pooler else "false"
        return self.sessions(f"({names}) AND NOT ({pooled})")


@contextlib.contextmanager
def set_up(with_pooler: bool) -> Iterator[Stage]:
    folder = new_folder("test-scenarios")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        server = stack.enter_context(Postgres(folder, settings=SERVER_SETTINGS))
        create_roles(server)
        pooler = None
        if with_pooler:
            databases = {"shop": f"host=127.0.0.1 port={server.port} dbname=shop"}
            pooler = stack.enter_context(PgBouncer(folder, databases, settings=POOLER_SETTINGS))
        failures: dict[str, dict[str, int]] = {}
        application = Conductor(folder, lambda name, texts: failures.update({name: dict(texts)}))
        stack.callback(application.stop)
        application.start(server.port, pooler.port if pooler else None)
        # A superuser's connection, opened early: it also sees a server that is full.
        observer = stack.enter_context(psycopg.connect(server.dsn(dbname="shop"), autocommit=True))
        console = None
        if pooler is not None:
            console = stack.enter_context(
                psycopg.connect(pooler.dsn(), autocommit=True, prepare_threshold=None)
            )
        yield Stage(application, observer, console, failures)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if pgbouncer_program() is None:
        pytest.skip("needs PgBouncer: apt-get install pgbouncer")
    with set_up(with_pooler=True) as built:
        yield built


@pytest.fixture(scope="module")
def stage_without_pooler() -> Iterator[Stage]:
    with set_up(with_pooler=False) as built:
        yield built


def slots_used(stage: Stage) -> int:
    used: int = stage.value(
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    )
    return used


def test_healthy_serves_requests_with_few_connections(stage: Stage) -> None:
    stage.expect_health()
    for service in ("checkout", "catalog", "reporting"):
        stage.wait_for(
            lambda name=service: stage.sessions(f"application_name = '{name}'") > 0, service
        )
    assert slots_used(stage) < ORDINARY / 2


def test_small_pool_makes_clients_wait_while_the_server_has_headroom(stage: Stage) -> None:
    stage.play("small-pool")
    stage.wait_for(lambda: stage.pool().get("cl_waiting", 0) >= 20, "twenty clients wait")
    stage.wait_for(lambda: stage.pool()["maxwait"] >= 2, "the oldest waits for two seconds")
    pool = stage.pool()
    assert pool["sv_active"] == POOLER_SETTINGS["default_pool_size"]
    assert slots_used(stage) < ORDINARY / 2
    # Steadily: from now on no look at the pool finds a short queue.
    until = monotonic() + 3.0
    while monotonic() < until:
        pool = stage.pool()
        assert pool["maxwait"] + pool["maxwait_us"] / 1e6 > 0.5
        sleep(0.2)
    stage.expect_health()


def test_leak_grows_the_number_of_sessions_idle_in_transaction(stage: Stage) -> None:
    leaked = "application_name = 'invoices' AND state = 'idle in transaction'"
    stage.play("leak")
    stage.wait_for(lambda: stage.sessions(leaked) >= 3, "three leaked")
    stage.wait_for(lambda: stage.sessions(leaked) >= 7, "seven leaked")
    oldest = stage.value(
        f"SELECT max(now() - xact_start) > interval '3 s' FROM pg_stat_activity WHERE {leaked}"
    )
    assert oldest, "the first one is still held"
    stage.expect_health()


def test_slow_builds_a_chain_of_waiting_sessions(stage: Stage) -> None:
    stage.play("slow")
    root = "SELECT pid FROM pg_stat_activity WHERE application_name = 'stocktaking'"
    behind = (
        "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0 "
        f"AND {{}} (pg_blocking_pids(pid) && ARRAY({root}))"
    )
    stage.wait_for(lambda: stage.value(behind.format("")) > 0, "somebody waits for the stocktaking")
    stage.wait_for(lambda: stage.value(behind.format("NOT")) > 0, "somebody waits for a waiter")
    assert stage.sessions(
        "application_name = 'stocktaking' AND state = 'active' AND query LIKE '%pg_sleep%'"
    )
    t0 = monotonic()
    stage.expect_health()
    assert monotonic() - t0 < 25.0, "a statement of half a minute is cancelled, not waited for"


def test_churn_opens_a_session_for_every_request(stage: Stage) -> None:
    sessions = "SELECT sessions FROM pg_stat_database WHERE datname = 'shop'"
    stage.play("churn")
    before, t0 = stage.value(sessions), monotonic()
    stage.wait_for(lambda: stage.value(sessions) >= before + 200, "200 sessions more")
    assert 200 / (monotonic() - t0) > 20, "sessions a second"
    assert slots_used(stage) < ORDINARY / 2
    stage.expect_health()


def test_serverless_bursts_into_the_limit(stage: Stage) -> None:
    burst = (
        "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM pg_stat_activity "
        "WHERE application_name LIKE 'fn-%' GROUP BY split_part(application_name, '-', 2)) AS b"
    )
    stage.play("serverless")
    stage.wait_for(lambda: stage.value(burst) >= 30, "thirty functions are connected at once")
    stage.wait_for(lambda: slots_used(stage) >= ORDINARY, "every ordinary slot is used")
    stage.expect_health()
    assert any("remaining connection slots" in text for text in stage.failures["serverless"])


def test_without_a_pooler_the_small_pool_queues_inside_the_application(
    stage_without_pooler: Stage,
) -> None:
    stage = stage_without_pooler
    stage.play("small-pool")
    held = "application_name = 'flash-sale' AND state = 'idle in transaction'"
    stage.wait_for(lambda: stage.sessions(held) == 4, "all four connections are held")
    assert stage.sessions("application_name = 'flash-sale'") == 4
    stage.expect_health()


def test_when_the_application_ends_it_leaves_no_session(stage_without_pooler: Stage) -> None:
    stage = stage_without_pooler
    stage.play("leak")
    stage.wait_for(lambda: stage.sessions("application_name = 'invoices'") >= 2, "two leaked")
    stage.application.stop()
    deadline = monotonic() + SECONDS
    while stage.sessions("true") and monotonic() < deadline:
        sleep(0.05)
    assert stage.sessions("true") == 0
