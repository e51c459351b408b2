"""Host names are looked up without waiting longer than we want to."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from collectors.errors import TargetUnreachable
from collectors.resolve import Resolver, resolved
from model.samples import Failure

BOOK = {"db": ["10.0.0.1", "fd00::1"], "other": ["10.0.0.2"]}


def look_up(host: str) -> list[str]:
    try:
        return BOOK[host]
    except KeyError:
        raise OSError("Name or service not known") from None


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"host": "10.0.0.9"}, {}),
        ({"host": "::1"}, {}),
        ({"host": "/run/postgresql"}, {}),
        ({"host": "@abstract"}, {}),
        ({}, {}),
        ({"host": "db", "hostaddr": "10.0.0.9"}, {}),
        (
            {"host": "db"},
            {"host": "db,db", "hostaddr": "10.0.0.1,fd00::1", "port": "5432,5432"},
        ),
        (
            {"host": "other,10.0.0.9", "port": "1,2"},
            {"host": "other,10.0.0.9", "hostaddr": "10.0.0.2,10.0.0.9", "port": "1,2"},
        ),
        (
            {"host": "unheard-of,other", "port": "7"},
            {"host": "other", "hostaddr": "10.0.0.2", "port": "7"},
        ),
    ],
)
async def test_only_plain_host_names_are_looked_up(
    given: dict[str, str], expected: dict[str, str]
) -> None:
    assert await resolved(given, 1.0, Resolver(look_up)) == expected


async def test_the_environment_and_the_service_file_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PGHOST", "db")
    monkeypatch.setenv("PGPORT", "9")
    answer = await resolved({}, 1.0, Resolver(look_up))
    assert answer["port"] == "9,9"
    (tmp_path / ".pg_service.conf").write_text("# ours\n[shop]\nhost=other\nport=7\n")
    answer = await resolved({"service": "shop"}, 1.0, Resolver(look_up))
    assert answer == {"host": "other", "hostaddr": "10.0.0.2", "port": "7"}


async def test_a_name_that_nobody_knows_is_unreachable() -> None:
    with pytest.raises(TargetUnreachable, match="cannot be resolved") as caught:
        await resolved({"host": "unheard-of"}, 1.0, Resolver(look_up))
    assert caught.value.failure is Failure.UNREACHABLE


async def test_a_stalled_lookup_ends_in_time_and_is_not_repeated_beside_itself() -> None:
    stall = threading.Event()
    began: list[str] = []

    def stalled(host: str) -> list[str]:
        began.append(host)
        stall.wait(20)
        return BOOK[host]

    resolver = Resolver(stalled)
    try:
        for _ in range(3):
            with pytest.raises(TargetUnreachable) as caught:
                await resolver.addresses("db", 0.05)
            assert caught.value.failure is Failure.TIMEOUT
        assert began == ["db"]
    finally:
        stall.set()
    assert await resolver.addresses("db", 5.0) == BOOK["db"]


async def test_the_last_good_answer_serves_while_the_name_server_is_gone() -> None:
    stall = threading.Event()
    good = True

    def sometimes(host: str) -> list[str]:
        if not good:
            stall.wait(20)
            raise OSError("Temporary failure in name resolution")
        return BOOK[host]

    resolver = Resolver(sometimes)
    assert await resolver.addresses("db", 1.0) == BOOK["db"]
    good = False
    try:
        loop = asyncio.get_running_loop()
        t0 = loop.time()
        assert await resolver.addresses("db", 30.0) == BOOK["db"]
        assert loop.time() - t0 < 5.0
    finally:
        stall.set()
    assert await resolver.addresses("db", 5.0) == BOOK["db"]
