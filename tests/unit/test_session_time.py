"""The session time of a database, without the 27 years that a refused login adds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from collectors.session_time import SessionTime

T0 = datetime(2030, 1, 1, tzinfo=UTC)
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def leap(at: datetime) -> float:
    """What PostgreSQL adds for a login that it refuses at *at*, in ms."""
    return (at - EPOCH).total_seconds() * 1000


@pytest.mark.parametrize(
    ("deltas", "seconds", "sentence"),
    [
        ([4229.0], 4.229, "an honest delta is kept"),
        ([leap(T0)], 0.0, "one refused login adds nothing"),
        ([leap(T0 - timedelta(seconds=3)) + 9000.0], 6.0, "what is real stays, within the delay"),
        ([5 * leap(T0) + 250.0], 0.25, "five of them"),
        ([1e11], 1e8, "three years at once are believed: sessions that were idle for long"),
        ([100.0, leap(T0), 100.0], 0.2, "the counter goes on"),
    ],
)
def test_leaps_are_taken_out(deltas: list[float], seconds: float, sentence: str) -> None:
    mended, raw = SessionTime(), 3 * leap(T0) + 17.0
    assert mended.total(5, raw, None, T0) == 0.0
    for delta in deltas:
        raw += delta
        total = mended.total(5, raw, None, T0)
    assert total == pytest.approx(seconds, abs=1e-3), sentence


def test_a_counter_that_begins_anew_does_not_fall() -> None:
    mended = SessionTime()
    totals = [
        mended.total(5, raw, reset, T0)
        for raw, reset in ((1000.0, None), (3000.0, None), (500.0, None), (900.0, T0), (1900.0, T0))
    ]
    assert totals == [0.0, 2.0, 2.0, 2.0, 3.0]


def test_databases_have_counters_of_their_own_and_none_before_14() -> None:
    mended = SessionTime()
    assert mended.total(5, None, None, T0) is None
    mended.total(5, 0.0, None, T0)
    mended.total(6, 0.0, None, T0)
    assert mended.total(5, 1000.0, None, T0) == 1.0
    assert mended.total(6, 0.0, None, T0) == 0.0
