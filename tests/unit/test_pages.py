"""Every page in every situation: no exception, and the right sentence."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import insert
from streamlit.testing.v1 import AppTest

from dashboard import source
from dashboard.views import sessions, time_range
from dashboard.views import target as target_view
from model.alerting import Severity
from model.targets import Kind
from store import tables
from store.database import Store, StoreError
from tests.filled_store import CONFIG, HOSTILE, POOLER, SHOP, Filler, write_config
from tests.pages import (
    SECOND,
    TARGET,
    down,
    healthy,
    migrated,
    moment,
    now,
    on_fire,
    overview,
    said,
    stale,
    target,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a configuration that the pages read."""
    monkeypatch.setenv(source.CONFIG_VARIABLE, str(write_config(tmp_path)))
    yield tmp_path
    source.opened().store.close()


SITUATIONS = [
    (healthy, "Nobody waits."),
    (on_fire, "24 clients wait"),
    (down, "shop does not answer: connection refused."),
    (stale, "no new data for 3 min"),
    (migrated, "no data yet"),
]


@pytest.mark.parametrize(("situation", "sentence"), SITUATIONS)
def test_the_overview_leads_with_the_verdict(folder: Path, situation, sentence) -> None:
    situation(folder)
    page = overview()
    assert not page.exception
    assert sentence in said(page)


@pytest.mark.parametrize(("situation", "sentence"), SITUATIONS)
@pytest.mark.parametrize("name", ["shop", "shop-pool"])
def test_a_target_page_leads_with_the_verdict(folder: Path, situation, sentence, name) -> None:
    situation(folder)
    page = target(target=name)
    assert not page.exception
    if name == "shop":
        assert sentence in said(page)
    assert page.get("bidi_component")


@pytest.mark.parametrize("page", [overview, target])
def test_hostile_names_are_never_html(folder: Path, page) -> None:
    on_fire(folder)
    assert "<img" not in said(page())


@pytest.mark.parametrize("page", [overview, target])
def test_before_the_first_run_a_page_says_which_command_to_start(folder: Path, page) -> None:
    found = page()
    assert not found.exception
    assert "python -m headroom run --config headroom.toml" in said(found)


@pytest.mark.parametrize("page", [overview, target])
def test_a_configuration_without_targets_shows_how_to_name_one(folder: Path, page) -> None:
    write_config(folder, CONFIG.split("[[target]]", maxsplit=1)[0])
    found = page()
    assert not found.exception
    assert "[[target]]" in said(found)


def test_a_configuration_that_is_wrong_is_said_with_its_line(folder: Path) -> None:
    write_config(folder, "[store]\nuri = 1\n")
    found = overview()
    assert not found.exception
    assert "headroom.toml:2" in said(found)
    write_config(folder)


def test_a_file_that_is_no_store_is_said(folder: Path) -> None:
    (folder / "headroom.db").write_bytes(b"not a database" * 100)
    found = overview()
    assert not found.exception
    assert "make demo" in said(found)


def test_without_a_target_in_the_url_the_worst_one_is_shown_and_named_there(folder: Path) -> None:
    healthy(folder)
    assert target().query_params["target"] == "shop"


def test_a_target_that_does_not_exist_is_said_and_the_others_are_listed(folder: Path) -> None:
    healthy(folder)
    found = target(target="<b>nobody</b>")
    assert not found.exception
    assert "shop-pool" in said(found)


def test_a_range_in_the_url_is_what_the_chart_asks_for(folder: Path) -> None:
    healthy(folder)
    board = target(target="shop", range="1h").get("bidi_component")[0].proto
    assert "range=1h" in board.json
    past = {"from_": "2030-01-01T03:00:00Z", "to": "2030-01-01T04:00:00Z"}
    board = target(target="shop", **past).get("bidi_component")[0].proto
    assert "from=2030-01-01T03%3A00%3A00Z" in board.json


def test_choosing_a_range_writes_it_into_the_url(folder: Path) -> None:
    healthy(folder)
    page = target(target="shop", from_="2030-01-01T03:00:00Z", to="2030-01-01T04:00:00Z")
    page.get("button_group")[0].set_value("6h").run()
    assert not page.exception
    assert page.query_params["range"] == "6h"
    assert "from" not in page.query_params


def test_a_range_that_cannot_be_read_is_said_and_the_page_goes_on(folder: Path) -> None:
    healthy(folder)
    page = target(target="shop", range="1y")
    assert "choose one of 5m" in said(page)
    assert page.get("bidi_component")


def test_a_moment_of_the_past_shows_who_was_connected_then(folder: Path) -> None:
    filler = healthy(folder)
    started = now().replace(microsecond=0) - timedelta(minutes=1)
    filler.session(77, started - 5 * SECOND)
    filler.end_sessions(started + 5 * SECOND)
    filler.store.close()
    span = {"from_": (started - 30 * SECOND).isoformat(), "to": now().isoformat()}
    there = target(target="shop", **span, at=started.isoformat())
    assert not there.exception
    assert 77 in there.dataframe[0].value["pid"].to_list()
    gone = target(target="shop", **span)
    assert not gone.exception
    assert not [table for table in gone.dataframe if "pid" in table.value.columns]


def test_the_table_shows_everybody_on_request(folder: Path) -> None:
    filler = healthy(folder)
    filler.session(9, now() - 9 * SECOND, state="idle", xact_start=None)
    filler.store.close()
    page = target(target="shop")
    assert page.dataframe[0].value["pid"].to_list() == [1]
    page.toggle(key="all-sessions").set_value(True).run()
    assert sorted(page.dataframe[0].value["pid"]) == [1, 9]


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("filled", [True, False])
def test_every_kind_of_target_has_its_pages(folder: Path, kind: str, filled: bool) -> None:
    name, text = "shop-pool", CONFIG.replace('"pgbouncer"', f'"{kind}"')
    if kind == "postgresql":
        name, text = "shop", CONFIG
    write_config(folder, text)
    if filled:
        on_fire(folder)
    else:
        migrated(folder)
    for page in (target(target=name), target(target="shop"), overview()):
        assert not page.exception
        assert not page.error
    assert target(target=name).get("bidi_component")


def pids(page: AppTest) -> list[int]:
    found = [table.value for table in page.dataframe if "blocked by" in table.value.columns]
    return found[0]["pid"].to_list() if found else []


def test_a_link_into_the_present_shows_who_is_connected_and_its_chart_moves(folder: Path) -> None:
    filler = healthy(folder)
    filler.session(77, now() - 50 * SECOND)
    filler.server(now())
    filler.store.close()
    span = {
        "from_": moment(now() - timedelta(minutes=5)),
        "to": moment(now() + timedelta(minutes=5)),
    }
    page = target(target="shop", **span)
    assert not page.exception
    assert pids(page) == [77, 1]
    assert page.slider[0].max / 1e6 <= now().timestamp()
    assert '"grows":true' in page.get("bidi_component")[0].proto.json.replace(" ", "")
    later = target(target="shop", **span, at=moment(now() + timedelta(minutes=5)))
    assert pids(later) == [77, 1]


@pytest.mark.parametrize(
    ("changed", "said_"),
    [
        ({"active": None, "degraded": "pg_monitor is missing"}, "Not known: pg_monitor is missing"),
        ({"active": None}, "Not known: the server does not show its sessions"),
    ],
)
def test_sessions_that_are_hidden_are_not_known(folder: Path, changed, said_) -> None:
    filler = Filler(folder)
    filler.server(now(), **changed)
    filler.store.close()
    page = target(target="shop")
    assert said_ in said(page)
    assert "No session." not in said(page)


def test_who_is_connected_to_a_server_that_was_never_reached_is_not_known(folder: Path) -> None:
    filler = Filler(folder)
    filler.server_down(now(), "password authentication failed; is it set?", "authentication")
    filler.store.close()
    page = target(target="shop")
    assert "Not known: password authentication failed; is it set?\n" in said(page)
    assert "No session." not in said(page)


def test_who_was_connected_when_nobody_looked_is_not_known(folder: Path) -> None:
    filler = Filler(folder)
    killed = now().replace(microsecond=0) - timedelta(minutes=50)
    filler.servers([(killed - i * SECOND, {}) for i in range(10)])
    filler.session(1, killed - 8 * SECOND)
    filler.store.close()
    span = {"from_": moment(killed - timedelta(minutes=5)), "to": moment(now())}
    page = target(target="shop", **span, at=moment(killed + timedelta(minutes=30)))
    assert "Not known: nobody had polled for 30 min" in said(page)
    assert "as last seen" in said(page)
    known = target(target="shop", **span, at=moment(killed))
    assert "Not known" not in said(known)
    assert pids(known) == [1]


def test_old_pools_are_said_to_be_old(folder: Path) -> None:
    filler = Filler(folder)
    filler.pooler(now() - timedelta(hours=2), 24, 6.1)
    filler.store.close()
    page = target(target="shop-pool")
    assert "**Pools as last seen" in said(page)
    assert "nobody has polled since" in said(page)


def test_fresh_waiters_do_not_make_an_old_server_look_fresh(folder: Path) -> None:
    filler = Filler(folder)
    filler.server(now() - timedelta(hours=2))
    filler.pooler(now(), 24, 6.1)
    filler.verdict(now(), "24 clients wait", Severity.CRITICAL, target_id=POOLER)
    filler.store.close()
    for page in (target(target="shop"), overview()):
        assert "24 clients wait" in said(page)
        assert "hd-old" in said(page)
        assert "data 2 h old" in said(page)


def test_each_page_says_that_the_store_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(folder)
    real, calls = Store.read, []

    def broken(self: Store) -> Any:
        calls.append(1)
        raise StoreError("the disk is gone")

    span = {"from_": moment(now() - timedelta(minutes=5)), "to": moment(now())}
    for page in (
        lambda: target(target="shop"),
        lambda: target(target="shop", **span),
        lambda: target(target="shop-pool"),
        target,
        overview,
    ):
        monkeypatch.setattr(Store, "read", broken)
        found = page()
        assert not found.exception
        assert any("the disk is gone" in error.value for error in found.error)
        monkeypatch.setattr(Store, "read", real)
    assert calls


@pytest.mark.parametrize(
    ("start", "end"),
    [
        # Clocks in Berlin went from 03:00 back to 02:00 at 01:00 UTC.
        ("2025-10-26T00:50:00Z", "2025-10-26T01:10:00Z"),
        ("2025-10-26T00:30:00Z", "2025-10-26T01:30:00Z"),
        ("2025-03-30T00:50:00Z", "2025-03-30T01:10:00Z"),
        ("2025-03-30T00:50:00Z", "2025-03-30T00:50:00.500Z"),
    ],
)
def test_a_range_in_which_clocks_change_has_its_sessions(
    folder: Path, monkeypatch: pytest.MonkeyPatch, start: str, end: str
) -> None:
    for module in (sessions, time_range, target_view):
        monkeypatch.setattr(module, "viewer_zone", lambda: ZoneInfo("Europe/Berlin"))
    healthy(folder)
    page = target(target="shop", from_=start, to=end)
    assert not page.exception
    if page.slider:
        first = datetime.fromtimestamp(page.slider[0].min / 1e6, UTC).replace(tzinfo=None)
        page.slider[0].set_value(first + timedelta(minutes=15)).run()
        assert not page.exception
        later = datetime.fromisoformat(start) + timedelta(minutes=15)
        assert page.query_params["at"] == moment(later)


class Clock(datetime):
    """The pages' clock, where a test sets it."""

    at: datetime

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.at


def test_what_was_typed_stays_while_the_page_moves_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy(folder)
    monkeypatch.setattr(target_view, "datetime", Clock)
    Clock.at = datetime(2026, 11, 22, 14, 7, 50, tzinfo=UTC)
    page = target(target="shop")
    before = [(field.proto.id, field.value) for field in page.text_input]
    assert [value for _, value in before] == ["2026-11-22 13:52:50", "2026-11-22 14:07:50"]
    # Until it is sent, what is typed is in the browser only; it stays there as long as the
    # field is the same one with the same content.
    Clock.at += timedelta(seconds=15)
    page.run()
    assert [(field.proto.id, field.value) for field in page.text_input] == before
    page.text_input[0].set_value("2026-11-22 03:00:07")
    page.button[0].click().run()
    assert page.query_params["from"] == "2026-11-22T03:00:07Z"
    assert page.query_params["to"] == "2026-11-22T14:07:50Z"


def test_the_tick_follows_its_session_when_the_order_changes(folder: Path) -> None:
    filler = healthy(folder)
    started = now() - 20 * SECOND
    filler.session(5, started, statement="SELECT '\u202e'")
    filler.server(now())
    page = AppTest.from_string(TARGET, default_timeout=20)
    page.query_params["target"] = "shop"
    page.session_state["chosen-session"] = f"5@{(started - timedelta(minutes=5)).isoformat()}"
    page.run()

    def place() -> tuple[int, str]:
        table = next(t for t in page.dataframe if "blocked by" in t.value.columns)
        return table.value["pid"].to_list().index(5), table.proto.id

    first, before = place()
    assert first == 0
    assert "SELECT '�'" in said(page)
    filler.session(6, now() - 90 * SECOND)  # is longer there, so it comes first
    filler.store.close()
    page.run()
    second, after = place()
    assert second == 1
    assert before != after, "the tick stays on a row that is another session's now"


def test_who_waits_for_whom_is_shown_only_when_somebody_waits(folder: Path) -> None:
    filler = on_fire(folder)
    assert "Who waits for whom" not in said(target(target="shop"))
    wait = {
        "target_id": SHOP,
        "started_at": now() - 9 * SECOND,
        "pid": 3,
        "backend_start": now() - timedelta(hours=1),
        "blocked_by": "2",
        "root": 2,
        "depth": 1,
        "soft": False,
        "lock_type": "relation",
        "mode": "AccessExclusiveLock",
        "relation": HOSTILE,
        "waited_seconds": 1.0,
    }
    with filler.store.write(durable=False) as c:
        c.execute(insert(tables.lock_wait).values(wait))
    filler.server(now())
    filler.store.close()
    page = target(target="shop")
    assert not page.exception
    assert "Who waits for whom" in said(page)
    tree = next(t.value for t in page.dataframe if "who" in t.value.columns)
    assert tree["who"].to_list() == ["2", "└ 3"]
    assert 9.5 < tree["waits"][1] < 13
    span = {"from_": moment(now() - timedelta(minutes=1)), "to": moment(now())}
    then = target(target="shop", **span, at=moment(now() - 20 * SECOND))
    assert "Who waits for whom" not in said(then)


@pytest.mark.parametrize("name", ["shop", "shop-pool"])
@pytest.mark.parametrize(
    ("server", "pooler", "said_"),
    [
        (0, 0, "as seen within the last seconds"),
        (600, 0, "as last seen; not known now"),
        (0, 600, "as last seen; not known now"),
    ],
)
def test_the_chain_is_shown_on_both_ends_when_there_are_links(
    folder: Path, name: str, server: int, pooler: int, said_: str
) -> None:
    filler = Filler(folder)
    filler.session(1, now() - 900 * SECOND)
    link = {
        "target_id": POOLER,
        "started_at": now() - 800 * SECOND,
        "client_id": "1",
        "client": "10.0.3.7:51512",
        "application": HOSTILE,
        "database": "shop",
        "user": "app",
        "state": "active",
        "backend_pid": 1,
    }
    assert "Client → pool → backend" not in said(target(target=name))
    with filler.store.write(durable=False) as c:
        c.execute(insert(tables.client_link).values(link))
    filler.server(now() - server * SECOND)
    filler.pooler(now() - pooler * SECOND)
    filler.store.close()
    page = target(target=name)
    assert not page.exception
    table = next(t.value for t in page.dataframe if "backend" in t.value.columns)
    assert table.iloc[0]["pool"] == "shop/app"
    assert table.iloc[0]["state"] == "active"
    assert said_ in said(page)


@pytest.mark.parametrize(("range_", "title"), [("5m", "last 1 d"), ("7d", "last 7 d")])
def test_the_title_of_the_alerts_says_their_range(folder: Path, range_: str, title: str) -> None:
    healthy(folder)
    assert f"**Alerts** :small[{title}]" in said(target(target="shop", range=range_))


def test_sessions_are_counted_by_group(folder: Path) -> None:
    on_fire(folder)
    page = target(target="shop")
    group = next(t.value for t in page.dataframe if "all" in t.value.columns)
    assert group["all"].sum() == 3


def test_the_overview_says_how_much_is_kept(folder: Path) -> None:
    filler = healthy(folder)
    filler.server(now() - timedelta(days=6))
    filler.store.close()
    page = overview()
    [line] = [c.value for c in page.caption if c.value.startswith("Store ")]
    assert "when samples begin to be forgotten" in line
    assert line.endswith("oldest sample 6 d ago")


def test_the_pools_of_a_pooler_that_is_down_are_those_last_seen_and_it_says_why(
    folder: Path,
) -> None:
    filler = healthy(folder)
    values = {"up": False, "failure": "unreachable", "reason": "refused", "poll_seconds": 1.0}
    with filler.store.write(durable=False) as c:
        c.execute(insert(tables.pooler_sample).values(target_id=POOLER, at=now(), **values))
    filler.store.close()
    page = target(target="shop-pool")
    assert "**Pools as last seen" in said(page)
    assert "Not known now: refused." in said(page)


def test_the_whole_text_of_a_ticked_alert_is_below_its_table(folder: Path) -> None:
    on_fire(folder)
    page = AppTest.from_string(TARGET, default_timeout=20)
    page.query_params["target"] = "shop"
    page.run()
    assert "Do first: Look at who holds" not in said(page)
    table = next(t.value for t in page.dataframe if "do first" in t.value.columns)
    page.session_state["chosen-alert"] = table["alert"].iloc[0]
    page.run()
    assert not page.exception
    assert "Do first: Look at who holds the pool's connections." in said(page)
