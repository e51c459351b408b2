"""The status of a pooler: who waits and for how long, or that nobody knows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headroom.commands.once import _lines
from headroom.status import status
from model.config import Config, parse
from model.samples import Pooler, Sample
from store.append import Appender
from store.database import Store
from tests.alert_samples import pool, pool_sample

T0 = datetime(2030, 1, 1, tzinfo=UTC)
TARGET = '[[target]]\nname = "shop-pool"\nkind = "KIND"\ndsn = "host=db"\n'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path / 'headroom.db'}")
    made.migrate()
    yield made
    made.close()


def config(kind: str) -> Config:
    return parse(TARGET.replace("KIND", kind), {}, "/etc/headroom.toml")


def test_the_oldest_wait_is_that_of_clients_at_login_too(store: Store) -> None:
    whole = Pooler("1.18.0", 3, 1, 0, 100, 20, None, client_waiting=2, maxwait_seconds=7.5)
    Appender(store).append([replace(pool_sample(0, pool(2, 0.0)), pooler=whole)])
    (entry,) = status(store, config("pgbouncer"), T0)
    assert (entry["waiters"], entry["oldest_wait_seconds"]) == (2, 7.5)


@pytest.mark.parametrize("kind", ["pgpool", "odyssey"])
def test_what_a_pooler_does_not_report_is_null(store: Store, kind: str) -> None:
    whole = Pooler(
        "4.3.5", 3, None, None, 32, None, None, client_waiting=None, maxwait_seconds=None
    )
    sample = Sample("shop-pool", kind, T0, 0.001, True, pooler=whole, pools=())
    Appender(store).append([sample])
    (entry,) = status(store, config(kind), T0)
    assert entry["up"] is True
    assert (entry["waiters"], entry["oldest_wait_seconds"]) == (None, None)


def test_once_says_a_question_mark_for_what_is_not_reported() -> None:
    unknown = pool(client_waiting=None, maxwait_seconds=None, pool_size=None, server_used=None)
    whole = replace(pool_sample(0, unknown), pooler=Pooler("4.3.5", 3, None, None, 32, None, None))
    whole = replace(whole, pooler=replace(whole.pooler, client_waiting=None, product="Pgpool-II"))
    first, second = _lines(whole)
    assert first.startswith("shop-pool: up, Pgpool-II 4.3.5, 3 clients, ? waiting")
    assert second.endswith("20 of ? server connections in use, ? clients waiting, oldest ?")
