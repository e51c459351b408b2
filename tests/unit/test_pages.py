"""Every page in every situation: no exception, and the right sentence."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboard import source
from model.alerting import Severity
from tests.filled_store import CONFIG, HOSTILE, Filler, write_config

APP = Path(__file__).resolve().parents[2] / "dashboard" / "app.py"
TARGET = "from dashboard.views import target\ntarget.show()\n"
SECOND = timedelta(seconds=1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a configuration that the pages read."""
    monkeypatch.setenv(source.CONFIG_VARIABLE, str(write_config(tmp_path)))
    yield tmp_path
    source.opened().store.close()


def now() -> datetime:
    return datetime.now(UTC)


def healthy(folder: Path) -> Filler:
    """Two minutes of calm."""
    filler = Filler(folder)
    filler.servers([(now() - i * SECOND, {}) for i in range(120, 0, -1)])
    filler.poolers([(now() - i * SECOND, 0, 0.0) for i in range(120, 0, -1)])
    filler.session(1, now() - 2 * SECOND)
    filler.verdict(now() - timedelta(minutes=1), "Nobody waits.", None)
    filler.store.close()
    return filler


def on_fire(folder: Path) -> Filler:
    """A full pool behind an idle transaction, with names that try to be more than names."""
    filler = healthy(folder)
    filler.pooler(now(), 24, 6.1)
    filler.server(now(), slots_used=95, longest_statement_seconds=171.0, blocked=3)
    filler.session(2, now() - 192 * SECOND, state="idle in transaction", application=HOSTILE)
    filler.session(3, now() - 171 * SECOND, blocked_by="2", wait_event_type="Lock", role=HOSTILE)
    filler.verdict(now(), f"24 clients wait behind {HOSTILE}", Severity.CRITICAL)
    filler.alert(now() - 9 * SECOND, f"24 clients wait {HOSTILE}", Severity.CRITICAL)
    filler.store.close()
    return filler


def down(folder: Path) -> Filler:
    filler = healthy(folder)
    filler.server_down(now(), "connection refused")
    filler.store.close()
    return filler


def stale(folder: Path) -> Filler:
    filler = Filler(folder)
    filler.server(now() - timedelta(minutes=3))
    filler.pooler(now() - timedelta(minutes=3))
    filler.store.close()
    return filler


def migrated(folder: Path) -> Filler:
    """`headroom run` has started, and no poll has come back yet."""
    filler = Filler(folder)
    filler.store.close()
    return filler


SITUATIONS = [
    (healthy, "Nobody waits."),
    (on_fire, "24 clients wait"),
    (down, "shop does not answer: connection refused."),
    (stale, "no new data for 3 min"),
    (migrated, "no data yet"),
]


def overview() -> AppTest:
    return AppTest.from_file(str(APP), default_timeout=20).run()


def target(**params: str) -> AppTest:
    page = AppTest.from_string(TARGET, default_timeout=20)
    for name, value in params.items():
        page.query_params[name.rstrip("_")] = value
    return page.run()


def said(page: AppTest) -> str:
    """All HTML and text of a page."""
    parts = [element.proto.body for element in page.get("html")]
    for kind in ("info", "warning", "error", "code", "caption", "text", "markdown"):
        parts += [element.value for element in page.get(kind)]
    return "\n".join(parts)


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
    assert "choose one of 5m" in said(page).replace("\\", "")
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
