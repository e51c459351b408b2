"""Roll-ups: minutes of samples, hours of minutes; repaired after a gap; read where they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from model.config import StoreSettings
from model.samples import PoolDatabase, Sample
from store import retention, windows
from store.append import Appender
from store.database import Store
from store.rollup import roll_up
from store.size import store_size, used_bytes
from store.tables import ROLLUPS, pool_database_sample, server_sample
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
