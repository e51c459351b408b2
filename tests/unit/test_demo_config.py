"""The demo's configuration and what it says."""

from __future__ import annotations

import argparse
import socket
from itertools import islice
from pathlib import Path

import pytest

from headroom.demo.command import add_arguments
from headroom.demo.config import Ports, config_text, dashboard_url
from headroom.demo.receiver import readable
from headroom.demo.scenarios import CHOICES, HEALTHY, SCENARIOS, TOUR, scenes
from headroom.demo.servers import ROOT, ServerError, free_port
from headroom.demo.stage import port_from
from headroom.demo.terminal import printable
from headroom.demo.troubles import TROUBLES
from model.config import Config, parse

PORTS = Ports(server=5432, pooler=6432, http=4318, dashboard=8501, receiver=9000)


def parsed(ports: Ports, store_file: str = str(ROOT / "headroom.db")) -> Config:
    return parse(config_text(ports, store_file), {}, "/data/headroom.toml")


def test_the_demos_config_is_one_that_headroom_accepts() -> None:
    config = parsed(PORTS)
    assert [(t.name, t.kind, t.serves) for t in config.targets] == [
        ("shop", "postgresql", ()),
        ("shop-pool", "pgbouncer", ("shop",)),
    ]
    assert config.http.port == 4318
    assert config.dashboard.url == dashboard_url(PORTS)
    assert [(c.name, c.kind) for c in config.channels] == [("terminal", "slack")]


def test_without_a_pooler_the_server_is_the_only_target() -> None:
    config = parsed(Ports(server=1, pooler=None, http=2, dashboard=3, receiver=4))
    assert [t.name for t in config.targets] == ["shop"]


def test_a_folder_with_quotes_in_its_name_survives_the_toml(tmp_path: Path) -> None:
    file = tmp_path / 'a "b" \\ c.db'
    assert parsed(PORTS, str(file)).store.url == f"sqlite:///{file}"


def test_the_limits_of_slow_things_are_low_and_those_of_waiters_are_the_shipped_ones() -> None:
    rules = parsed(PORTS).rules
    for limits in (rules.long_statement, rules.idle_in_transaction):
        assert (limits.warning_seconds, limits.critical_seconds) == (10, 30)
    shipped = parse("", {}, "none").rules.pool_waiters
    assert rules.pool_waiters.warning_seconds == shipped.warning_seconds
    assert rules.pool_waiters.critical_seconds == shipped.critical_seconds


def test_every_pause_of_the_tour_is_long_enough_for_alerts_to_resolve() -> None:
    rules = parsed(PORTS).rules
    longest = max(rules.settings(name).keep_firing_for for name in type(rules).model_fields)
    assert SCENARIOS[HEALTHY].seconds > longest


def test_every_scenario_but_healthy_makes_trouble() -> None:
    assert set(TROUBLES) == set(SCENARIOS) - {HEALTHY}


def test_the_tour_goes_through_everything_with_healthy_pauses_and_begins_again() -> None:
    names = [scene.scenario.name for scene in islice(scenes(TOUR), 12)]
    assert names[::2] == [HEALTHY] * 6
    assert names[1::2] == [*TROUBLES, next(iter(TROUBLES))]
    assert all(scene.seconds for scene in islice(scenes(TOUR), 12))


@pytest.mark.parametrize("choice", [name for name in CHOICES if name != TOUR])
def test_a_chosen_scenario_begins_healthy_and_stays(choice: str) -> None:
    played = list(scenes(choice))
    assert played[0].scenario.name == HEALTHY
    assert (played[-1].scenario.name, played[-1].seconds) == (choice, None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (TOUR, 8501, False)),  # what `make demo` runs
        (["--scenario", "leak", "--port", "9001", "--no-browser"], ("leak", 9001, True)),
    ],
)
def test_the_command_line(arguments: list[str], expected: tuple[str, int, bool]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    args = parser.parse_args(arguments)
    assert (args.scenario, args.port, args.no_browser) == expected


@pytest.mark.parametrize("arguments", [["--port", "0"], ["--port", "http"], ["--scenario", "x"]])
def test_a_wrong_option_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert arguments[0] in capsys.readouterr().err


def test_a_taken_port_is_passed_over_for_the_next_free_one() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken: int = other.getsockname()[1]
        assert port_from(taken) > taken


def test_a_free_port_is_taken() -> None:
    port = free_port()
    assert port_from(port) == port


def test_no_port_left_is_an_error_that_says_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 65535))
        other.listen()
        with pytest.raises(ServerError, match="--port"):
            port_from(65535)


def test_a_message_cannot_send_escape_codes_to_the_terminal() -> None:
    assert "\x1b" not in printable("\x1b]0;owned\x07 \x1b[2J")


def test_what_the_blocks_repeat_is_said_once() -> None:
    message = {
        "text": "Clients wait\nDo first: look",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": "Clients wait"}},
            {"type": "section", "text": {"type": "mrkdwn", "text": "```UPDATE a SET b = $1```"}},
            {"type": "actions", "elements": [{"type": "button", "text": {"text": "Open"}}]},
        ],
    }
    assert readable(message).splitlines() == [
        "Clients wait",
        "Do first: look",
        "UPDATE a SET b = $1",
    ]
