"""Polls that cost too much come less often, and come back when they are cheap again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from collectors.stretch import LOOKS, Stretch


def after(interval: float, costs: Sequence[float], looks: int = LOOKS) -> list[float]:
    """The interval after *looks* polls of each cost."""
    stretch = Stretch(interval)
    seen = []
    for cost in costs:
        for _ in range(looks):
            stretch.observe(cost)
        seen.append(stretch.interval)
    return seen


@pytest.mark.parametrize(
    ("interval", "costs", "intervals", "sentence"),
    [
        (1, [0.19], [1], "a fifth of the interval is allowed"),
        (1, [0.25], [2], "a little more doubles it"),
        (1, [0.7], [4], "as often as it takes"),
        (1, [0.25, 0.15], [2, 2], "not so cheap that it would stay cheap: no change"),
        (1, [0.25, 0.09], [2, 1], "well below a fifth of the shorter interval: back"),
        (1, [0.7, 0.05, 0.05], [4, 2, 1], "back step by step"),
        (1, [30.0], [60], "never longer than a minute"),
        (300, [200.0], [300], "a long interval is not made longer"),
        (0.2, [0.05], [0.4], "short intervals too"),
    ],
)
def test_the_interval_follows_the_cost(
    interval: float, costs: list[float], intervals: list[float], sentence: str
) -> None:
    assert after(interval, costs) == intervals, sentence


def test_a_few_slow_polls_are_no_reason() -> None:
    stretch = Stretch(1.0)
    changes = [stretch.observe(0.9 if number % 3 == 0 else 0.01) for number in range(60)]
    assert not any(changes)


def test_it_says_so_only_while_it_is_stretched() -> None:
    stretch = Stretch(1.0)
    assert stretch.words(0.5) is None
    assert [stretch.observe(0.31) for _ in range(LOOKS)].count(True) == 1
    assert stretch.words(0.31) == ("polled every 2 s instead of 1 s, because a poll takes 0.31 s")
