"""Every chart is defined once, from columns that exist, in colours that mean one thing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from dashboard.charts import (
    Frame,
    drawing,
    frame_of_pools,
    limit_lines,
    pool_series,
    resolution_of,
    values_of,
)
from dashboard.panels import (
    DEFAULT,
    PANELS,
    POOL_COLOURS,
    TABLES,
    Limit,
    Rows,
    Series,
    choose,
    contrast,
    limits_of,
    on_white,
)
from model.metrics import metrics_of
from model.rules import Rules
from model.targets import Kind
from store.windows import Window


@pytest.mark.parametrize("panel", PANELS.values(), ids=lambda p: p.name)
def test_a_panel_reads_only_columns_that_are_stored(panel) -> None:
    if panel.rows is Rows.RATES:
        return
    stored = metrics_of(TABLES[panel.rows])
    columns = [name for series in panel.series for name in series.columns]
    columns += [limit.column for limit in panel.limits if limit.column]
    columns += panel.band or ()
    assert [name for name in columns if name not in stored] == []


@pytest.mark.parametrize("panel", PANELS.values(), ids=lambda p: p.name)
def test_the_series_of_a_panel_have_colours_of_their_own(panel) -> None:
    colours = [series.colour for series in panel.series]
    assert len(set(colours)) == len(colours)


def test_a_state_has_the_same_colour_on_every_panel() -> None:
    by_label = {s.label: s.colour for s in PANELS["connections"].series}
    statements = {s.label: s.colour for s in PANELS["statements"].series}
    assert statements["idle in transaction"] == by_label["idle in transaction"]


@pytest.mark.parametrize(
    ("kind", "names", "pooled", "expected"),
    [
        ("postgresql", None, True, DEFAULT["postgresql"]),
        ("postgresql", None, False, ("connections", "statements", "waits", "throughput")),
        ("postgresql", "waits, connections,waits", True, ("waits", "connections")),
        ("pgbouncer", None, True, ("waiters", "oldest_wait", "clients")),
    ],
)
def test_panels_are_chosen_by_name_or_by_what_the_target_is(kind, names, pooled, expected) -> None:
    assert tuple(p.name for p in choose(kind, names, pooled=pooled)) == expected


@pytest.mark.parametrize("names", ["nonsense", "clients", ","])
def test_a_wrong_panel_is_an_error_that_lists_the_right_ones(names) -> None:
    with pytest.raises(ValueError, match="choose from connections, waiters"):
        choose("postgresql", names, pooled=True)


def test_the_limits_of_the_rules_are_drawn_unless_the_rule_is_off() -> None:
    panel = PANELS["oldest_wait"]
    assert [limit.value for limit in limits_of(panel, Rules())] == [0.5, 5.0]
    assert limits_of(panel, Rules.model_validate({"pool_waiters": {"enabled": False}})) == ()


@pytest.mark.parametrize(
    ("rules", "lines"),
    [
        (
            {},
            {
                "statement, idle in transaction: warning": 60.0,
                "statement, idle in transaction: critical": 300.0,
            },
        ),
        (
            {"idle_in_transaction": {"critical_seconds": 120.0}},
            {
                "statement, idle in transaction: warning": 60.0,
                "statement: critical": 300.0,
                "idle in transaction: critical": 120.0,
            },
        ),
        (
            {"long_statement": {"enabled": False}},
            {"idle in transaction: warning": 60.0, "idle in transaction: critical": 300.0},
        ),
    ],
)
def test_a_limit_line_names_the_curves_that_it_is_for(rules, lines) -> None:
    found = limits_of(PANELS["statements"], Rules.model_validate(rules))
    assert {limit.label: limit.value for limit in found} == lines


def test_a_limit_is_the_newest_known_value_of_its_column() -> None:
    frame = Frame([1, 2, 3], {"ordinary_capacity": [97, 95, None], "max_connections": [100] * 3}, 3)
    found = limit_lines(PANELS["connections"], PANELS["connections"].limits, frame)
    assert found["lines"][0]["y"] == 95
    assert found["band"] == [95, 100]


def test_a_limit_that_is_not_known_is_not_drawn() -> None:
    assert limit_lines(
        PANELS["connections"], [Limit("x", "limit", column="gone")], Frame([], {}, None)
    ) == {"lines": []}


def test_a_sum_of_columns_is_unknown_only_where_all_of_them_are() -> None:
    frame = Frame([1, 2, 3], {"a": [1, None, None], "b": [2.5, 2, None]}, 3)
    assert values_of(Series("both", ("a", "b"), "#fff"), frame) == [3.5, 2, None]


def test_zero_stays_zero_and_unknown_stays_unknown() -> None:
    frame = Frame([1, 2], {"a": [0.0, None]}, 2)
    assert values_of(Series("a", ("a",), "#fff"), frame) == [0, None]


def test_pools_share_one_axis_and_a_pool_that_was_not_listed_has_no_value_there() -> None:
    frame = frame_of_pools(
        {
            "shop/app": Window([1000, 2000], {"client_waiting": [0, 4]}, 1.0, 2000),
            "shop/jobs": Window([2000], {"client_waiting": [1]}, 1.0, 2000),
        },
        ("client_waiting",),
    )
    assert frame.x == [1000, 2000]
    assert frame.columns["shop/jobs client_waiting"] == [None, 1]


def test_the_pools_beyond_the_first_are_put_together() -> None:
    window = Window([1], {"client_waiting": [2], "maxwait_seconds": [3.0]}, 1.0, 1)
    frame = frame_of_pools(
        dict.fromkeys(("a/x", "b/x", "c/x"), window),
        ("client_waiting", "maxwait_seconds"),
        rest=("b/x", "c/x"),
    )
    rest = pool_series(PANELS["waiters"], ("a/x",), ("b/x", "c/x"), "")[-1]
    assert rest.label == "2 more pools"
    assert values_of(rest, frame) == [4]
    oldest = pool_series(PANELS["oldest_wait"], ("a/x",), ("b/x", "c/x"), "")[-1]
    assert values_of(oldest, frame) == [3]


def test_a_hostile_name_cannot_turn_its_legend_around() -> None:
    series = Series("shop\u202e/app", ("x",), "#ffffff")
    assert drawing(PANELS["waiters"], [(series, (0, 0))])["traces"][0]["name"] == "shop�/app"


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_target_has_panels(kind) -> None:
    assert choose(kind, None, pooled=True)


def mixed(colour: str, background: str, share: float) -> str:
    """*colour* over *background*, of which a *share* is seen."""
    pairs = [(int(colour[i : i + 2], 16), int(background[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


FOLDER = Path(__file__).resolve().parents[2] / "dashboard"
STYLE = (FOLDER / "style.css").read_text(encoding="utf-8")
BACKGROUNDS = ("#ffffff", "#0e1117")  # light, dark
STATUSES = re.findall(r"--hd-(\w+): light-dark\((#\w+), (#\w+)\)", STYLE)


@pytest.mark.parametrize(("name", "light", "dark"), STATUSES)
def test_a_badge_can_be_read_in_both_themes(name, light, dark) -> None:
    share = re.search(r"hd-badge { background: color-mix\(in srgb, currentColor (\d+)%", STYLE)
    assert share is not None
    for colour, background in zip((light, dark), BACKGROUNDS, strict=True):
        behind = mixed(colour, background, int(share[1]) / 100)
        assert contrast(colour, behind) >= 4.5, (name, colour)


def test_the_badges_of_charts_can_be_read_in_both_themes() -> None:
    script = (FOLDER / "live" / "live_chart.js").read_text(encoding="utf-8")
    pairs = re.findall(r'dark \? "(#\w{6})" : "(#\w{6})"', script)
    assert len(pairs) == 2
    for dark, light in pairs:
        for colour, background in zip((light, dark), BACKGROUNDS, strict=True):
            assert contrast(colour, mixed(colour, background, 0.12)) >= 4.5


@pytest.mark.parametrize("name", ["style.css", "live/live_chart.css"])
def test_quiet_text_can_still_be_read(name) -> None:
    css = (FOLDER / name).read_text(encoding="utf-8")
    quiet = [line for line in css.splitlines() if "opacity" in line and "font" in line]
    for line in quiet:
        for share in re.findall(r"opacity: (\.\d+)", line):
            for text, background in zip(("#1b2230", "#e6e9ef"), BACKGROUNDS, strict=True):
                assert contrast(mixed(text, background, float(share)), background) >= 4.5, line


@pytest.mark.parametrize("colour", POOL_COLOURS)
def test_a_line_can_be_seen_in_both_themes(colour) -> None:
    assert contrast(on_white(colour), BACKGROUNDS[0]) >= 3
    assert contrast(colour, BACKGROUNDS[1]) >= 3


def test_folded_points_say_what_they_are() -> None:
    assert resolution_of(PANELS["connections"], 60) == "1 min averages"
    assert resolution_of(PANELS["statements"], 60) == "1 min peaks"
    assert resolution_of(PANELS["oldest_wait"], 1) == ""
