"""Points in time as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from headroom.moments import parse_moment

T0 = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", T0 - timedelta(minutes=10)),
        ("1h30m", T0 - timedelta(minutes=90)),
        ("2029-12-31T23:59:05Z", T0 - timedelta(seconds=55)),
        ("2029-12-31T23:59:05", T0 - timedelta(seconds=55)),  # no zone: UTC
        ("2030-01-01T01:00:00+01:00", T0),
    ],
)
def test_a_moment_is_a_duration_ago_or_a_time(text: str, moment: datetime) -> None:
    assert parse_moment(text, T0) == moment


def test_anything_else_says_what_is_allowed() -> None:
    with pytest.raises(ValueError, match="neither a duration"):
        parse_moment("yesterday", T0)
