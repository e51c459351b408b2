"""Roll-ups: minutes of samples, hours of minutes; repaired after a gap; read where they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from model.config import StoreSettings
from model.samples import Pool, PoolDatabase, Role, Sample
from store import latest, retention, runs, tables, windows
from store.append import Appender
from store.database import Store
from store.rollup import roll_up
from store.size import store_size, used_bytes
from store.tables import ROLLUPS, pool_database_sample, server_sample
from tests.unit.test_episodes import SESSION
from tests.unit.test_store import SERVER, T0, after, down, seen

HOURS = 3


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(f"sqlite:///{tmp_path}/headroom.db") as opened:
        opened.migrate()
        yield opened


def fill(store: Store, samples: Sequence[Sample]) -> None:
    Appender(store).append(samples)


def active(seconds: float, number: int) -> Sample:
    server = replace(SERVER, states={"active": number}, slots_used=number)
    return replace(seen(seconds), server=server)


def rows(store: Store, resolution: int) -> list[dict[str, Any]]:
    table = ROLLUPS[server_sample]
    query = select(table).where(table.c.resolution == resolution).order_by(table.c.at)
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def test_a_minute_has_minimum_average_maximum_and_how_many_polls_had_an_answer(
    store: Store,
) -> None:
    fill(store, [active(0, 2), active(1, 4), down(2), active(3, 9), active(60, 1)])
    roll_up(store, after(66))
    (minute,) = rows(store, 60)
    assert (minute["at"], minute["polls"], minute["up"]) == (T0, 4, 3)
    assert (minute["active_min"], minute["active_avg"], minute["active_max"]) == (2, 5.0, 9)
    assert minute["ordinary_capacity"] == 25


def test_a_minute_is_not_rolled_up_before_it_is_over(store: Store) -> None:
    fill(store, [active(0, 1)])
    assert roll_up(store, after(62)) == 0
    assert roll_up(store, after(65)) > 0
    assert roll_up(store, after(66)) == 0


def test_an_hour_counts_each_minute_as_often_as_it_had_an_answer(store: Store) -> None:
    fill(store, [active(s, 10) for s in range(9)] + [active(60, 20)])
    roll_up(store, after(3700))
    (hour,) = rows(store, 3600)
    assert (hour["active_avg"], hour["active_min"], hour["active_max"]) == (11.0, 10, 20)
    assert (hour["polls"], hour["up"]) == (10, 10)


def test_samples_that_arrive_late_are_rolled_up_again(store: Store) -> None:
    fill(store, [active(0, 2)])
    roll_up(store, after(7300))
    fill(store, [active(30, 4)])
    roll_up(store, after(7301))
    assert [row["active_avg"] for row in rows(store, 60)] == [3.0]
    assert [row["active_avg"] for row in rows(store, 3600)] == [3.0]


def test_a_window_says_which_resolution_it_used_and_agrees_with_the_samples(store: Store) -> None:
    fill(store, [active(s, s % 60) for s in range(0, HOURS * 3600, 5)])
    roll_up(store, after(HOURS * 3600 + 10))
    with store.read() as connection:
        for points, resolution in ((3000, 5.0), (180, 60.0), (30, 600.0), (3, 3600.0)):
            window = windows.server_window(connection, "shop", T0, after(HOURS * 3600), points)
            assert window.resolution_seconds == resolution
            assert set(window.columns["ordinary_capacity"]) == {25}
            if resolution >= 60:
                assert set(window.columns["active"]) == {27.5}  # the mean of 0, 5, … 55
                assert set(window.columns["slots_used"]) == {55}  # the peak


def test_the_last_minutes_come_from_samples_until_they_are_rolled_up(store: Store) -> None:
    fill(store, [active(s, 1) for s in range(0, 600, 10)] + [active(601, 9)])
    roll_up(store, after(606))
    with store.read() as connection:
        window = windows.server_window(connection, "shop", T0, after(660), 11)
    assert window.columns["slots_used"] == [1] * 10 + [9]


def test_what_was_forgotten_in_full_is_still_there_by_the_minute(store: Store) -> None:
    fill(store, [active(s, 3) for s in range(0, 7200, 10)])
    roll_up(store, after(7210))
    keep = StoreSettings(keep_samples="1h")  # type: ignore[arg-type]
    retention.forget(store, after(7200), keep)
    with store.read() as connection:
        old = windows.server_window(connection, "shop", T0, after(600), 6000)
        new = windows.server_window(connection, "shop", after(6600), after(7200), 6000)
    assert (old.resolution_seconds, old.columns["slots_used"]) == (60.0, [3] * 10)
    assert (new.resolution_seconds, len(new.at)) == (1.0, 60)


def test_each_resolution_is_kept_as_long_as_it_is_told(store: Store) -> None:
    fill(store, [active(s, 3) for s in range(0, 4 * 3600, 60)])
    roll_up(store, after(4 * 3600 + 10))
    keep = StoreSettings(keep_samples="1m", keep_minutes="1h", keep_hours="1d")  # type: ignore[arg-type]
    retention.forget(store, after(4 * 3600), keep)
    assert [row["at"] for row in rows(store, 60)] == [
        after(s) for s in range(3 * 3600, 4 * 3600, 60)
    ]
    assert len(rows(store, 3600)) == 4


def test_a_store_that_is_too_big_lets_the_oldest_samples_go(store: Store) -> None:
    fill(store, [active(s, 3) for s in range(0, 5 * 3600, 2)])
    roll_up(store, after(5 * 3600 + 10))
    before = used_bytes(store)
    keep = StoreSettings().model_copy(update={"max_size": before // 2})
    retention.forget(store, after(5 * 3600), keep)
    assert used_bytes(store) <= before // 2
    with store.read() as connection:
        kept = windows.server_window(connection, "shop", after(4 * 3600), after(5 * 3600), 3600)
    assert len(kept.at) == 1800  # the newest are the last to go
    assert len(rows(store, 60)) == 300


def test_counters_keep_their_last_value_also_after_a_reset(store: Store) -> None:
    def counted(seconds: float, total: int) -> Sample:
        counters = PoolDatabase("shop", total, 0, 0.0, 0.0, 0.0, 0, 0)
        sample = Sample("pool", "pgbouncer", after(seconds), 0.001, up=True)
        return replace(sample, pool_databases=(counters,))

    fill(store, [counted(0, 500), counted(30, 7), counted(60, 9)])
    roll_up(store, after(130))
    table = ROLLUPS[pool_database_sample]
    with store.read() as connection:
        values = connection.execute(select(table.c.xact_total).order_by(table.c.at)).scalars()
        assert list(values) == [7, 9]


def test_the_size_is_forecast_from_how_fast_it_grew(store: Store) -> None:
    assert store_size(store, 86400.0, 10**12).forecast_bytes is None
    fill(store, [active(s, 3) for s in range(600)])
    size = store_size(store, timedelta(days=1).total_seconds(), 10**12)
    assert size.bytes_per_day is not None
    assert size.forecast_bytes == pytest.approx(size.used_bytes * 86400 / 599)
    capped = store_size(store, timedelta(days=1).total_seconds(), size.used_bytes + 1)
    assert capped.forecast_bytes == size.used_bytes + 1


def test_late_samples_do_not_destroy_what_forgotten_ones_became(store: Store) -> None:
    fill(store, [active(s, 50) for s in range(180)])
    roll_up(store, after(3700))
    keep = StoreSettings(keep_samples="60s", keep_minutes="1h", keep_hours="1d")  # type: ignore[arg-type]
    retention.forget(store, after(300), keep)
    for late in (30.5, 31.5):  # the first is the oldest that is kept when the second arrives
        fill(store, [active(late, 1)])
        roll_up(store, after(3700))
    assert [(row["polls"], row["slots_used_max"]) for row in rows(store, 60)] == [(60, 50)] * 3
    retention.forget(store, after(7000), keep)  # now the minutes are gone too
    fill(store, [active(32.5, 1)])
    roll_up(store, after(7000))
    assert [(row["polls"], row["slots_used_max"]) for row in rows(store, 3600)] == [(180, 50)]


def test_a_sample_of_a_clock_that_was_years_behind_costs_no_step_for_every_hour(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, [active(s, 3) for s in range(180)])
    roll_up(store, after(200))
    fill(store, [active(-30 * 365 * 86400, 3)])
    writes = []
    write = store.write
    monkeypatch.setattr(store, "write", lambda **how: writes.append(how) or write(**how))
    assert roll_up(store, after(200)) >= 4
    assert len(writes) < 10


@pytest.mark.parametrize(
    ("start", "points", "resolution"),
    [
        (0, 720, 3600),  # a minute fits, but minutes are gone: hours
        (0, 6, 3600),
        (20 * 3600, 720, 60),  # here there still are minutes
        (23.5 * 3600, 7200, 1),  # and here samples
    ],
)
def test_a_window_is_read_from_what_still_has_its_beginning(
    store: Store, start: float, points: int, resolution: float
) -> None:
    fill(store, [active(s, 3) for s in range(0, 24 * 3600, 30)])
    roll_up(store, after(24 * 3600 + 10))
    keep = StoreSettings(keep_samples="1h", keep_minutes="6h", keep_hours="1d")  # type: ignore[arg-type]
    retention.forget(store, after(24 * 3600), keep)
    with store.read() as connection:
        end = min(start + points * max(resolution / 2, 1), 24 * 3600)
        window = windows.server_window(connection, "shop", after(start), after(end), points)
        whole = windows.server_window(connection, "shop", after(start), after(24 * 3600), points)
    assert whole.at[0] == int(after(start).timestamp() * 1000)
    assert window.at[0] == int(after(start).timestamp() * 1000)
    assert window.resolution_seconds == resolution or points == 6


def test_retention_can_be_broken_off_and_goes_on_the_next_time(store: Store) -> None:
    fill(store, [active(s, 3) for s in range(5 * retention.STEP)])
    answers = iter([True, True, False])
    keep = StoreSettings(keep_samples="1m")  # type: ignore[arg-type]
    gone = retention.forget(store, after(10**5), keep, lambda: next(answers, False))
    assert gone == 2 * retention.STEP
    assert retention.forget(store, after(10**5), keep) >= 3 * retention.STEP


def test_retention_looks_before_it_locks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transaction of its own only for rows that go: who writes is never kept waiting."""
    fill(store, [active(s, 3) for s in range(60)])
    writes = []
    write = store.write
    monkeypatch.setattr(store, "write", lambda **how: writes.append(how) or write(**how))
    assert retention.forget(store, after(60), StoreSettings()) == 0
    assert writes == []


def test_names_of_which_nothing_is_left_are_retired_and_may_come_back(store: Store) -> None:
    def pooled(seconds: float) -> Sample:
        counters = PoolDatabase("shop", 1, 0, 0.0, 0.0, 0.0, 0, 0)
        pool = Pool("shop", "app", 5, 3, 2, 0, 0, 0, 0, 1.25, "transaction", 2)
        sample = Sample("pool", "pgbouncer", after(seconds), 0.001, up=True)
        return replace(sample, pool_databases=(counters,), pools=(pool,))

    def names() -> list[int]:
        kinds = (tables.target, tables.pool, tables.database, tables.role)
        with store.read() as connection:
            return [
                connection.execute(select(func.count()).select_from(t)).scalar_one() for t in kinds
            ]

    appender = Appender(store)
    role = replace(active(0, 3), roles=(Role("app", 3, 1),))
    appender.append([pooled(0), role])
    roll_up(store, after(7300))
    keep = StoreSettings(keep_samples="1m", keep_minutes="1h", keep_hours="1d")  # type: ignore[arg-type]
    retention.forget(store, after(20 * 3600), keep)
    assert names() == [2, 1, 1, 1]  # the hour is still there
    appender.append([active(3 * 86400, 3)])
    retention.forget(store, after(3 * 86400), keep)
    assert names() == [1, 0, 0, 0]
    appender.append([pooled(3 * 86400 + 1)])  # by the same process, which knew their numbers
    assert names() == [2, 1, 1, 0]
    with store.read() as connection:
        found = windows.pool_windows(connection, "pool", after(3 * 86400), after(4 * 86400), 9)
    assert list(found) == ["shop/app"]


def test_texts_go_when_no_episode_has_them_and_stay_while_one_does(store: Store) -> None:
    def texts() -> list[str]:
        query = select(tables.statement.c.text).order_by(tables.statement.c.text)
        with store.read() as connection:
            return list(connection.execute(query).scalars())

    def runs(seconds: float, *statements: str) -> Sample:
        sessions = tuple(replace(SESSION, pid=i, statement=s) for i, s in enumerate(statements))
        return replace(active(seconds, 1), sessions=sessions)

    appender = Appender(store)
    appender.append([runs(0, "SELECT 1", "SELECT 2"), runs(1, "SELECT 1")])
    appender.append([runs(s, "SELECT 1") for s in range(600, 9 * 3600, 600)])
    keep = StoreSettings(keep_samples="1h")  # type: ignore[arg-type]
    retention.forget(store, after(9 * 3600), keep)
    assert texts() == ["SELECT 1"]
    appender.append([down(s) for s in range(9 * 3600, 40 * 3600, 3600)])
    retention.forget(store, after(40 * 3600), keep)
    assert texts() == ["SELECT 1"]  # nobody knows that it ended
    appender.append([runs(40 * 3600)])
    retention.forget(store, after(50 * 3600), keep)
    assert texts() == []


def test_runs_are_forgotten_but_not_the_one_before_a_gap_that_is_still_seen(store: Store) -> None:
    for begin, end in ((0, 10), (20, 30), (7000, 7100)):
        runs.end(store, runs.begin(store, after(begin)), after(end))
    keep = StoreSettings(keep_samples="1h")  # type: ignore[arg-type]
    retention.forget(store, after(7200), keep)
    with store.read() as connection:
        assert latest.gaps(connection, T0, after(7050)) == [(after(30), after(7000))]
