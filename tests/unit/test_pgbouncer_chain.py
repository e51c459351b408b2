"""Who works for whom: client, server connection, backend; and who waits at login."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from collectors import pgbouncer_chain as chain
from collectors.dialects import dialect

ONE_18 = dialect("pgbouncer", "1.18.0")
CLIENT_118: dict[str, Any] = {
    "type": "C",
    "user": "app",
    "database": "shop",
    "state": "active",
    "addr": "10.0.3.7",
    "port": 51512,
    "local_addr": "10.0.0.1",
    "local_port": 6432,
    "connect_time": "2030-01-01 00:00:00 UTC",
    "request_time": "2030-01-01 00:00:09 UTC",
    "wait": 3,
    "wait_us": 250000,
    "close_needed": 0,
    "ptr": "0xc1",
    "link": "0x51",
    "remote_pid": 0,
    "tls": "",
    "application_name": "checkout",
}
CLIENT_125 = {**CLIENT_118, "prepared_statements": 0, "replication": "none", "id": 77}
SERVER: dict[str, Any] = {
    "type": "S",
    "user": "app",
    "database": "shop",
    "state": "active",
    "ptr": "0x51",
    "link": "0xc1",
    "remote_pid": 4711,
    "application_name": "checkout",
}
CONSOLE = {
    **CLIENT_118,
    "database": "pgbouncer",
    "ptr": "0xc0",
    "link": "",
    "request_time": "2030-01-01 00:00:10 UTC",
}


def linked(client: dict[str, Any], *servers: dict[str, Any]) -> chain.Link:
    [link] = chain.links([client, CONSOLE], servers, ONE_18, chain.LoginWaits(), 100.0)
    return link


@pytest.mark.parametrize(
    ("client", "identity"),
    [(CLIENT_118, "0xc1@2030-01-01 00:00:00 UTC"), (CLIENT_125, "77")],
    ids=["1.18", "1.25"],
)
def test_a_client_leads_to_the_backend_that_works_for_it(
    client: dict[str, Any], identity: str
) -> None:
    link = linked(client, SERVER, {**SERVER, "ptr": "0x52", "link": "0xc9", "remote_pid": 1})
    assert (link.client, link.client_id, link.application) == (
        "10.0.3.7:51512",
        identity,
        "checkout",
    )
    assert (link.database, link.user, link.state) == ("shop", "app", "active")
    assert link.backend_pid == 4711
    assert link.wait_seconds is None  # for an active client "wait" is the time of its query
    assert link.connected_at == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("what", "server"),
    [
        ("the server works for somebody else by now", {**SERVER, "link": "0xc2"}),
        ("the server works for nobody by now", {**SERVER, "link": "", "state": "idle"}),
        ("the server is gone by now", {**SERVER, "ptr": "0x59"}),
        ("the server has no backend yet", {**SERVER, "remote_pid": 0}),
    ],
)
def test_a_link_counts_only_when_both_sides_tell_it(what: str, server: dict[str, Any]) -> None:
    assert linked(CLIENT_118, server).backend_pid is None, what


def test_an_idle_server_s_application_is_nobody_s() -> None:
    idle = {**SERVER, "link": "", "state": "idle", "application_name": "reports"}
    link = linked({**CLIENT_118, "link": "", "application_name": ""}, idle)
    assert (link.application, link.backend_pid, link.state) == ("", None, "idle")


@pytest.mark.parametrize(
    ("addr", "port", "shown"),
    [
        ("10.0.3.7", 51512, "10.0.3.7:51512"),
        ("::1", 51512, "[::1]:51512"),
        ("unix", 6432, "local"),
        (None, None, "?"),
    ],
)
def test_a_client_s_address_is_as_people_write_it(addr: Any, port: Any, shown: str) -> None:
    assert linked({**CLIENT_118, "addr": addr, "port": port}).client == shown


WAITING = {**CLIENT_118, "state": "waiting", "link": ""}
AT_LOGIN = {**WAITING, "wait": 0, "wait_us": 0}


def test_a_waiting_client_says_how_long() -> None:
    assert linked(WAITING).wait_seconds == 3.25


def test_a_client_at_login_has_waited_since_it_connected_less_what_a_second_hides() -> None:
    waits = chain.LoginWaits()
    rows = [AT_LOGIN, CONSOLE]  # the console's request says that it is ten seconds later
    waits.look(rows, ONE_18, 100.0)
    assert waits.oldest(("shop", "app"), 1, 100.0) == 9.0
    assert waits.oldest(("shop", "app"), 1, 100.5) == 9.5  # between two looks
    [link] = chain.links(rows, (), ONE_18, waits, 100.0)
    assert link.wait_seconds == 9.0
    assert waits.oldest(("shop", "jobs"), 1, 100.5) is None
    assert waits.oldest(("shop", "app"), 0, 101.0) is None  # nobody waits any more
    assert waits.oldest(("shop", "app"), 1, 102.0) is None


def test_a_client_that_has_just_come_has_not_waited_a_second_over_the_full_second() -> None:
    waits = chain.LoginWaits()
    came = {**AT_LOGIN, "connect_time": "2030-01-01 00:00:09 UTC"}
    waits.look([came, CONSOLE], ONE_18, 100.0)
    assert waits.oldest(("shop", "app"), 1, 100.0) == 0.0
    waits.look([came, CONSOLE], ONE_18, 100.6)
    assert waits.oldest(("shop", "app"), 1, 100.6) == pytest.approx(0.6)  # by our own clock


def test_those_who_wait_come_first_and_idle_clients_are_the_first_to_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chain, "MOST_LINKS", 2)
    idle = {**CLIENT_118, "link": "", "ptr": "0xc7"}
    rows = [idle, CLIENT_118, {**WAITING, "ptr": "0xc8"}]
    links = chain.links(rows, [SERVER], ONE_18, chain.LoginWaits(), 100.0)
    assert [(link.state, link.backend_pid) for link in links] == [
        ("waiting", None),
        ("active", 4711),
    ]


def test_several_processes_clients_are_told_apart() -> None:
    [link] = chain.links([CLIENT_125], [SERVER], ONE_18, chain.LoginWaits(), 1.0, process="6433")
    assert (link.client_id, link.process) == ("6433/77", "6433")
