"""Some questions are asked seldom, soon when it matters, and less often when they cost."""

from __future__ import annotations

import pytest

from collectors.cadence import Cadence


@pytest.mark.parametrize(
    ("what", "cost", "after", "urgent", "due"),
    [
        ("not yet", 0.0, 11.9, False, False),
        ("as a rule", 0.0, 12.0, False, True),
        ("soon when it matters", 0.0, 1.0, True, True),
        ("but not at once again", 0.0, 0.9, True, False),
        ("100 clients cost 0.4 ms", 0.0004, 1.0, True, True),
        ("5,000 clients cost 20 ms", 0.020, 1.9, True, False),
        ("and are looked at every two seconds", 0.020, 2.0, True, True),
        ("a very slow answer also stretches the rule", 0.5, 49.0, False, False),
    ],
)
def test_when_a_question_is_due(
    what: str, cost: float, after: float, urgent: bool, due: bool
) -> None:
    cadence = Cadence(usually=12.0, at_least=1.0)
    assert cadence.due(100.0)
    cadence.asked(100.0, cost)
    assert cadence.due(100.0 + after, urgent=urgent) is due, what


def test_a_new_connection_begins_anew() -> None:
    cadence = Cadence(12.0, 1.0)
    cadence.asked(100.0)
    cadence.begin()
    assert cadence.due(100.1)
