"""Which client of a pooler waits, and which session works for which client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from model.samples import Link, Pooler, Sample
from store.append import Appender
from store.database import Store
from store.links import chain, links_now
from tests.alert_samples import server_sample, session

T0 = datetime(2030, 1, 1, tzinfo=UTC)
BUSY = Link("10.0.3.7:5", "1", "checkout", "shop", "app", "active", None, T0, 4711)
WAITS = Link("10.0.3.7:6", "2", "checkout", "shop", "app", "waiting", 2.0, T0, None)
IDLE = Link("local", "3", "reports", "shop", "app", "idle", None, T0, None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'headroom.db'}")
    made.migrate()
    yield made
    made.close()


def seen(seconds: float, *links: Link, looked: bool = True) -> Sample:
    pooler = Pooler("1.18.0", 3, 0, 1, 100, 20, None)
    at = T0 + timedelta(seconds=seconds)
    return Sample(
        "pool", "pgbouncer", at, 0.001, True, pooler=pooler, links=links if looked else None
    )


def test_those_who_wait_come_first_and_have_waited_on(store: Store) -> None:
    Appender(store).append([seen(0, IDLE, BUSY, WAITS), seen(3, looked=False)])
    with store.read() as connection:
        found = links_now(connection, "pool")
    assert [(row.client_id, row.state) for row in found] == [
        ("2", "waiting"),
        ("1", "active"),
        ("3", "idle"),
    ]
    assert found[0].wait_seconds == 5.0  # two before it was seen, three since
    assert [row.wait_seconds for row in found[1:]] == [None, None]
    assert found[1].since == T0


def test_a_client_that_left_is_not_there_any_more(store: Store) -> None:
    Appender(store).append([seen(0, BUSY, WAITS), seen(1, BUSY)])
    with store.read() as connection:
        assert [row.client_id for row in links_now(connection, "pool")] == ["1"]
        assert links_now(connection, "nobody") == []


def test_a_chain_leads_from_the_client_to_who_blocks_it(store: Store) -> None:
    blocked = replace(session(4711, age=40.0), blocked_by=(4652,))
    samples = [seen(0, IDLE, WAITS, BUSY), server_sample(0, (blocked, session(4652, age=90.0)))]
    Appender(store).append(samples)
    with store.read() as connection:
        first, second, third = chain(connection, "pool", "shop")
    assert (first.link.state, first.session, first.blocked_by) == ("waiting", None, ())
    assert second.session is not None
    assert (second.link.client, second.pool) == ("10.0.3.7:5", "shop/app")
    assert (second.session.pid, second.session.state, second.blocked_by) == (
        4711,
        "active",
        (4652,),
    )
    assert second.session.statement == "UPDATE cart SET total = $1"
    assert (third.link.state, third.session) == ("idle", None)


def test_a_backend_that_is_not_seen_on_the_server_is_still_a_link(store: Store) -> None:
    Appender(store).append([seen(0, BUSY), server_sample(0, ())])
    with store.read() as connection:
        (row,) = chain(connection, "pool", "shop")
    assert (row.link.backend_pid, row.session) == (4711, None)


def test_the_clients_as_last_seen_are_still_there_after_a_clean_stop(store: Store) -> None:
    appender = Appender(store)
    appender.append([seen(0, BUSY, WAITS), seen(1, BUSY), seen(2, looked=False)])
    appender.end_all(T0 + timedelta(seconds=2.5))
    with store.read() as connection:
        assert [row.client_id for row in links_now(connection, "pool")] == ["1"]
