"""Rates and times from a pooler's counters: true in a steady state, silent over a reset."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from model.config import StoreSettings
from model.samples import Database, PoolDatabase, Pooler, Sample
from store.append import Appender
from store.database import Store
from store.kept import to_ms
from store.rates import COLUMNS, database_rates, pool_database_rates
from store.retention import forget
from store.rollup import roll_up

T0 = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'headroom.db'}")
    made.migrate()
    yield made
    made.close()


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def counted(
    seconds: float, xact: int | None, xact_time: float | None = 0.0, wait: float = 0.0, **more: Any
) -> Sample:
    counters = PoolDatabase(
        "shop",
        xact_total=xact,
        query_total=None if xact is None else 2 * xact,
        xact_seconds_total=xact_time,
        wait_seconds_total=None if xact is None else wait,
        **more,
    )
    pooler = Pooler("1.18.0", 1, 0, 1, 100, 20, None)
    return Sample(
        "pool", "pgbouncer", after(seconds), 0.001, True, pooler=pooler, pool_databases=(counters,)
    )


def rates(store: Store, *samples: Sample, end: float = 60.0, points: int = 600) -> list[Any]:
    if samples:
        Appender(store).append(samples)
    with store.read() as connection:
        windows = pool_database_rates(connection, "pool", T0, after(end), points)
    if not windows:
        return []
    window = windows["shop"]
    return [tuple(window.columns[name][i] for name in COLUMNS) for i in range(len(window.at))]


def test_service_time_is_without_the_time_in_the_queue(store: Store) -> None:
    """A hundred transactions of 25 ms each, which waited 75 ms each before."""
    found = rates(store, counted(0, 1000, 500.0, 100.0), counted(1, 1100, 510.0, 107.5))
    assert found == [pytest.approx((100.0, 200.0, 0.025, 0.075))]


def test_the_wait_is_that_of_an_assignment_where_these_are_counted(store: Store) -> None:
    found = rates(
        store,
        counted(0, 0, 0.0, 0.0, assignments_total=0),
        counted(1, 100, 10.0, 7.5, assignments_total=50),
    )
    assert found == [pytest.approx((100.0, 200.0, 0.025, 0.15))]


@pytest.mark.parametrize(
    ("what", "samples", "expected"),
    [
        ("nothing happened", [counted(0, 5), counted(1, 5)], [(0.0, 0.0, None, None)]),
        (
            "the pool died",
            [counted(0, 500, 9.0), counted(1, 3, 0.1), counted(2, 4, 0.2)],
            [(None,) * 4, (1.0, 2.0, pytest.approx(0.1), 0.0)],
        ),
        (
            "reset, and one counter is higher again",
            [counted(0, 10, 9.0, 8.0), counted(1, 11, 0.5, 0.1)],
            [(None,) * 4],
        ),
        (
            "a database that is paused has no counters",
            [counted(0, 10), counted(1, None, None), counted(2, 12)],
            [(None,) * 4, (None,) * 4],
        ),
        (
            "transaction times are not measured",
            [counted(0, 0, None), counted(1, 10, None, 1.0)],
            [(10.0, 20.0, None, 0.1)],
        ),
        (
            "those who waited have not ended",
            [counted(0, 0), counted(1, 10, 1.0, 5.0)],
            [(10.0, 20.0, None, 0.5)],
        ),
        ("one row says nothing", [counted(0, 10)], []),
    ],
)
def test_what_cannot_be_said_is_not_said(
    store: Store, what: str, samples: list[Sample], expected: list[Any]
) -> None:
    assert rates(store, *samples) == expected, what


def test_no_rate_is_worked_out_across_a_gap(store: Store) -> None:
    """It may have restarted there, and have counted further since than it had before."""
    early = [counted(at, 10 * at) for at in range(5)]
    late = [counted(at, 100_000 + 10 * at) for at in range(30, 35)]
    found = rates(store, *early, *late)
    assert {row[0] for row in found} == {10.0, None}
    assert sum(row[0] is None for row in found) == 1  # the mark of the gap


def test_long_stretches_are_read_from_roll_ups(store: Store) -> None:
    samples = [counted(at, 5 * at, 0.1 * at, 0.05 * at) for at in range(0, 7200, 5)]
    Appender(store).append(samples)
    roll_up(store, after(7200))
    found = rates(store, end=7200, points=60)
    known = [row for row in found if row[0] is not None]
    assert len(known) > 50
    for row in known:
        assert row == pytest.approx((5.0, 10.0, 0.01, 0.01), rel=0.1)


def served(seconds: float, commits: int, reset: datetime | None = None) -> Sample:
    databases = tuple(
        Database(name, -1, 3, commits, 0, commits, 0, 0, 0, 0.0, 0.0, reset)
        for name in ("shop", "blog")
    )
    return Sample("shop", "postgresql", after(seconds), 0.001, True, databases=databases)


def test_a_servers_rates_are_read_from_roll_ups_when_the_samples_are_gone(store: Store) -> None:
    Appender(store).append([served(at, 5 * at) for at in range(0, 4 * 3600, 30)])
    roll_up(store, after(4 * 3600 + 10))
    with store.read() as connection:
        before = database_rates(connection, "shop", after(600), after(4 * 3600), 240)
    keep = StoreSettings(keep_samples="1h", keep_minutes="2h", keep_hours="1d")  # type: ignore[arg-type]
    forget(store, after(4 * 3600), keep)
    with store.read() as connection:
        hours = database_rates(connection, "shop", T0, after(4 * 3600), 240)
        minutes = database_rates(connection, "shop", after(9000), after(10800), 30)
    assert before.resolution_seconds == minutes.resolution_seconds == 60
    for window in (before, minutes):  # two databases of five commits a second each
        values = window.columns["xact_commit_per_second"]
        assert values == [pytest.approx(10.0)] * len(values)
    assert hours.resolution_seconds == 3600
    assert hours.columns["xact_commit_per_second"] == [pytest.approx(10.0)] * 3


@pytest.mark.parametrize("rolled", [False, True])
def test_a_point_stands_where_its_bucket_begins(store: Store, rolled: bool) -> None:
    Appender(store).append([served(at + 3.25, 5 * at) for at in range(0, 900, 5)])
    if rolled:
        roll_up(store, after(920))
    with store.read() as connection:
        for points, size in ((90, 10), (15, 60)):
            window = database_rates(connection, "shop", after(300), after(900), points * 2 // 3)
            assert window.resolution_seconds == size
            assert window.at == [to_ms(after(at)) for at in range(300, 900, size)]
            assert window.newest is not None
            assert window.newest >= window.at[-1]


def test_no_rate_of_a_server_is_worked_out_across_a_gap(store: Store) -> None:
    Appender(store).append([served(at, 5 * at) for at in (0, 5, 10, 15, 600, 605, 610, 615)])
    with store.read() as connection:
        window = database_rates(connection, "shop", T0, after(700), 700)
    assert window.columns["xact_commit_per_second"] == [10.0] * 3 + [None] + [10.0] * 3
