"""Several processes behind one port are one pooler whose parts can be told."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from collectors import processes
from model.samples import PoolDatabase, Pooler
from model.targets import Target
from tests.alert_samples import pool


def counted(xact: int, name: str = "shop") -> PoolDatabase:
    return PoolDatabase(name, xact_total=xact, xact_seconds_total=xact / 10)


def totals(counters: processes.Counters, **answers: int) -> int | None:
    found = counters.add({process: [counted(xact)] for process, xact in answers.items()})
    return found[0].xact_total if found else None


def test_sums_begin_with_what_was_counted_before() -> None:
    counters = processes.Counters()
    assert totals(counters, a=100, b=50) == 150
    assert totals(counters, a=110, b=50) == 160


@pytest.mark.parametrize(
    ("what", "polls", "expected"),
    [
        ("one restarts", [{"a": 100, "b": 50}, {"a": 3, "b": 50}], 153),
        ("one is away", [{"a": 100, "b": 50}, {"a": 110}], 160),
        ("and comes back", [{"a": 100, "b": 50}, {"a": 110}, {"a": 110, "b": 90}], 160),
        (
            "and goes on",
            [{"a": 100, "b": 50}, {"a": 110}, {"a": 110, "b": 90}, {"a": 110, "b": 95}],
            165,
        ),
        ("one is first seen later", [{"a": 100}, {"a": 100, "b": 900}], 100),
    ],
)
def test_a_process_that_restarts_or_goes_away_is_no_jump(
    what: str, polls: list[dict[str, int]], expected: int
) -> None:
    counters = processes.Counters()
    assert [totals(counters, **answers) for answers in polls][-1] == expected, what


def test_a_database_that_is_first_used_counts_from_zero() -> None:
    counters = processes.Counters()
    counters.add({"a": [counted(5, "shop")]})
    found = counters.add({"a": [counted(5, "shop"), counted(7, "jobs")]})
    assert {database.name: database.xact_total for database in found} == {"shop": 5, "jobs": 7}


def test_what_one_process_does_not_report_is_not_summed() -> None:
    counters = processes.Counters()
    (found,) = counters.add({"a": [counted(5)], "b": [counted(6)]})
    assert found.assignments_total is None
    assert (found.paused, found.max_connections) == (None, None)


def test_limits_add_up_and_one_paused_process_is_a_pause() -> None:
    first = Pooler("1.18.0", 5, 0, 2, 100, 20, False, client_active=5, client_waiting=1)
    second = Pooler("1.18.0", 11, 1, 4, 100, 20, True, client_active=11, client_waiting=0)
    pools = [pool(1, 2.0, process="1"), pool(0, 0.0, process="2")]
    whole = processes.summed([first, second], pools)
    assert (whole.processes, whole.used_clients, whole.max_client_conn) == (2, 16, 200)
    assert (whole.client_active, whole.client_waiting, whole.maxwait_seconds) == (16, 1, 2.0)
    assert (whole.default_pool_size, whole.paused, whole.version) == (20, True, "1.18.0")


def test_a_process_is_reached_by_what_differs() -> None:
    target = Target(
        name="p",
        kind="pgbouncer",
        dsn=SecretStr("host=db port=6432 user=headroom password=s3cret dbname=pgbouncer"),
    )
    reached = processes.reached_by(target, SecretStr("host=/run/pgbouncer/1"))
    assert reached.dsn is not None
    parameters = conninfo_to_dict(reached.dsn.get_secret_value())
    assert parameters["host"] == "/run/pgbouncer/1"
    assert (parameters["port"], parameters["password"]) == ("6432", "s3cret")
    assert "s3cret" not in repr(reached)


def test_parameters_that_cannot_be_read_are_left_to_the_connection_to_refuse() -> None:
    target = Target(name="p", kind="pgbouncer", dsn=SecretStr("host=db"))
    reached = processes.reached_by(target, SecretStr("what is this"))
    assert reached.dsn == SecretStr("what is this")
    assert processes.label(SecretStr("what is this"), 2) == "2"
