"""The route that feeds the live charts."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from dashboard.guard import Guard
from dashboard.live import assets, series
from dashboard.live.answer import Cursor
from dashboard.live.feed import Feed
from dashboard.live.frames import Source, read
from dashboard.live.series import Series
from dashboard.panels import Rows
from model.alerting import Severity
from model.targets import POOLERS
from store import tables
from tests.filled_store import BILLING, CONFIG, HOSTILE, OTHERS, Filler, loaded

T0 = datetime(2030, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


class Chart:
    """A browser's chart: asks, and keeps its cursor."""

    def __init__(self, client: httpx.AsyncClient, store: Filler, feed: Feed) -> None:
        self.client = client
        self.store = store
        self.feed = feed
        self.query = "target=shop"
        self.now = T0
        self.routes: list[Route] = []
        self.cursor: str | None = None

    async def ask(self) -> dict[str, Any]:
        since = f"&since={self.cursor}" if self.cursor else ""
        response = await self.client.get(f"/live/series?{self.query}{since}")
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        self.cursor = answer["cursor"]
        return answer


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8501")


@pytest.fixture
async def chart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Chart]:
    """A chart over two minutes of samples, one a second."""
    monkeypatch.setattr(series, "HOLD", 0.3)
    filler = Filler(tmp_path)
    filler.servers([(T0 - i * SECOND, {"active": i}) for i in range(120, 0, -1)])
    filler.poolers([(T0 - i * SECOND, 0, 0.0) for i in range(120, 0, -1)])
    feed = Feed(filler.store)
    box: list[Chart] = []
    routes = Series(loaded(tmp_path), filler.store, feed, lambda: box[0].now).routes()
    async with client_of(Starlette(routes=routes)) as client:
        box.append(Chart(client, filler, feed))
        box[0].routes = routes
        yield box[0]
    await feed.stop()
    filler.store.close()


def panel(answer: dict[str, Any], name: str) -> dict[str, Any]:
    return next(p for p in answer["panels"] if p["name"] == name)


def values(answer: dict[str, Any], name: str, trace: str) -> list[float | None]:
    found = next(t for t in panel(answer, name)["traces"] if t["name"] == trace)
    frame, place = found["place"]
    return answer["frames"][frame]["y"][place]


async def test_the_first_answer_is_the_whole_range_with_its_limits(chart: Chart) -> None:
    answer = await chart.ask()
    assert answer["full"]
    assert values(answer, "connections", "active") == list(range(120, 0, -1))
    assert answer["limits"]["connections"]["lines"][0]["y"] == 97
    assert answer["limits"]["connections"]["band"] == [97, 100]
    assert answer["frames"][0]["x"][-1] == int((T0 - SECOND).timestamp() * 1000)


async def test_the_next_answer_has_only_what_is_new_and_is_small(chart: Chart) -> None:
    await chart.ask()
    chart.now += SECOND
    chart.store.server(T0, active=7)
    answer = await chart.ask()
    assert "full" not in answer
    fresh = [frame for frame in answer["frames"] if frame]
    assert len(fresh) == 1
    assert fresh[0]["x"] == [int((T0 - SECOND).timestamp() * 1000), int(T0.timestamp() * 1000)]
    assert fresh[0]["y"][0] == [1, 7]  # the last point again, and the new one
    assert len(json.dumps(answer)) < 600


async def test_a_request_is_held_until_there_is_something_new(
    chart: Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "HOLD", 10.0)
    await chart.ask()
    chart.now += SECOND
    asking = asyncio.create_task(chart.ask())
    done, _ = await asyncio.wait([asking], timeout=0.3)
    assert not done
    chart.store.server(T0, active=9)
    answer = await asyncio.wait_for(asking, 2)
    assert [frame["y"][0][-1] for frame in answer["frames"] if frame] == [9]


async def test_a_request_without_news_ends_with_the_time_alone(chart: Chart) -> None:
    before = (await chart.ask())["cursor"]
    answer = await chart.ask()
    assert answer["frames"] == []
    assert answer["cursor"] == before


@pytest.mark.parametrize(
    "cursor", ["nonsense", "1-2-3", "deadbeef-0-1_2_3", "", "a-b-c-d", "x-y-1_99999999999999999999"]
)
async def test_a_cursor_that_is_not_known_is_answered_in_full(chart: Chart, cursor: str) -> None:
    await chart.ask()
    chart.cursor = cursor
    assert (await chart.ask())["full"]


async def test_after_a_restart_a_chart_is_answered_in_full_and_goes_on(
    chart: Chart, tmp_path: Path
) -> None:
    await chart.ask()
    feed = Feed(chart.store.store)
    routes = Series(loaded(tmp_path), chart.store.store, feed, lambda: chart.now).routes()
    async with client_of(Starlette(routes=routes)) as other:
        chart.client = other
        assert (await chart.ask())["full"]
        chart.store.server(T0)
        chart.now += SECOND
        assert "full" not in (await chart.ask())
    await feed.stop()


async def test_a_chart_that_slept_longer_than_its_range_is_answered_in_full(chart: Chart) -> None:
    await chart.ask()
    chart.now += timedelta(hours=1)
    chart.store.server(chart.now - SECOND)
    assert (await chart.ask())["full"]


async def test_a_hole_between_two_answers_is_a_hole(chart: Chart) -> None:
    await chart.ask()
    later = T0 + timedelta(seconds=30)
    chart.now = later + SECOND
    chart.store.server(later, active=5)
    frame = next(f for f in (await chart.ask())["frames"] if f)
    assert frame["y"][0] == [1, None, 5]


async def test_a_poll_that_failed_is_no_value_and_keeps_the_limit(chart: Chart) -> None:
    await chart.ask()
    chart.now += 2 * SECOND
    chart.store.server_down(T0, "refused")
    answer = await chart.ask()
    frame = next(f for f in answer["frames"] if f)
    assert frame["y"][0] == [1, None]
    # That the limit is no longer known is said once; the chart keeps the one that it has.
    chart.store.server_down(T0 + SECOND, "refused")
    assert (await chart.ask())["limits"]["connections"] == {"lines": []}
    chart.now += SECOND
    chart.store.server_down(T0 + 2 * SECOND, "refused")
    assert "limits" not in await chart.ask()


async def test_a_new_pool_brings_a_new_line(chart: Chart) -> None:
    first = await chart.ask()
    names = [t["name"] for t in panel(first, "waiters")["traces"]]
    assert names == ["shop/app", "shop/reports"]
    from sqlalchemy import insert  # noqa: PLC0415

    from store import tables  # noqa: PLC0415

    with chart.store.store.write(durable=False) as c:
        c.execute(insert(tables.pool).values(id=3, target_id=2, database="shop", user=HOSTILE))
        row = {"target_id": 2, "pool_id": 3, "at": T0, "client_waiting": 2, "maxwait_seconds": 1.0}
        c.execute(insert(tables.pool_sample).values(row))
    chart.now += SECOND
    answer = await chart.ask()
    assert answer["full"]
    names = [t["name"] for t in panel(answer, "waiters")["traces"]]
    assert len(names) == 3
    assert not any("\u202e" in name for name in names)


async def test_an_alert_is_a_mark_and_comes_without_asking_again(chart: Chart) -> None:
    await chart.ask()
    chart.store.alert(T0 - SECOND, "24 clients wait", Severity.CRITICAL)
    answer = await chart.ask()
    assert [mark["text"] for mark in answer["marks"]] == ["pool_waiters: 24 clients wait"]


async def test_a_fixed_range_is_answered_at_once_and_does_not_move(chart: Chart) -> None:
    chart.query = "target=shop&from=2030-01-01T11:59:00Z&to=2030-01-01T11:59:10Z"
    answer = await chart.ask()
    assert (answer["live"], len(answer["frames"][0]["x"])) == (False, 10)
    assert (await chart.ask())["full"]


async def test_a_long_range_is_folded_to_the_width_of_the_chart(chart: Chart) -> None:
    rows = [(T0 - timedelta(seconds=i), {"active": i % 7}) for i in range(121, 7200)]
    chart.store.servers(rows)
    chart.query = "target=shop&range=6h&width=600&panels=connections"
    answer = await chart.ask()
    assert answer["bucket"] == 30
    assert len(answer["frames"][0]["x"]) <= 242


async def test_the_last_bucket_is_sent_again_while_it_grows(
    chart: Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "pause", lambda bucket: 0.0)
    chart.query = "target=shop&range=6h&panels=connections"
    bucket_start = (await chart.ask())["frames"][0]["x"][-1]
    chart.now += SECOND
    chart.store.server(T0 - timedelta(milliseconds=500), active=1000)
    frame = (await chart.ask())["frames"][0]
    assert frame["x"] == [bucket_start]
    assert frame["y"][0][0] > 20


async def test_a_pooler_has_its_own_panels(chart: Chart) -> None:
    chart.query = "target=shop-pool"
    answer = await chart.ask()
    assert [p["name"] for p in answer["panels"]] == ["waiters", "oldest_wait", "clients"]
    assert values(answer, "clients", "servers free")[-1] == 5


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("target=nobody", 404, "no target is called"),
        ("", 404, "no target is called"),
        ("target=shop&panels=nonsense", 400, "choose from connections"),
        ("target=shop&range=2m", 400, "choose one of 5m"),
        ("target=shop&from=x", 400, "write it like"),
        ("target=shop&width=7", 400, "100 to 4000"),
        ("target=shop&width=wide", 400, "100 to 4000"),
    ],
)
async def test_a_wrong_request_says_what_is_allowed(chart: Chart, query, status, said) -> None:
    response = await chart.client.get(f"/live/series?{query}")
    assert response.status_code == status
    assert said in response.json()["error"]


async def test_without_a_store_it_says_what_creates_one(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    from store.database import Store  # noqa: PLC0415

    store = Store(config.store.url)
    app = Starlette(routes=Series(config, store, Feed(store)).routes())
    async with client_of(app) as client:
        response = await client.get("/live/series?target=shop")
    assert response.status_code == 503
    assert "headroom run" in response.json()["error"]
    assert not store.path.exists()


async def test_closing_the_feed_sends_home_who_waits(
    chart: Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "HOLD", 60.0)
    await chart.ask()
    url = f"/live/series?target=shop&since={chart.cursor}"
    waiting = asyncio.create_task(chart.client.get(url))
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    chart.feed.close()
    assert (await asyncio.wait_for(waiting, 2)).status_code == 503


@pytest.mark.parametrize("path", [assets.SCRIPT, assets.STYLE, assets.PLOTLY])
async def test_the_files_of_the_chart_are_ours_compressed_and_kept_for_ever(chart, path) -> None:
    response = await chart.client.get(path, headers={"Accept-Encoding": "gzip"})
    assert response.status_code == 200
    assert response.headers["content-encoding"] == "gzip"
    assert "immutable" in response.headers["cache-control"]
    plain = await chart.client.get(path, headers={"Accept-Encoding": "identity"})
    assert plain.content == gzip.decompress(assets.compressed(path))


def test_the_script_names_no_other_host() -> None:
    folder = Path(assets.__file__).parent
    for file in (*folder.glob("*.js"), *folder.glob("*.css")):
        text = file.read_text(encoding="utf-8")
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text


@pytest.mark.parametrize(
    ("text", "newest"),
    [("a-b-1_2", (1, 2)), ("a-b-_2", (None, 2)), ("a-b-", (None,))],
)
def test_a_cursor_survives_its_url(text, newest) -> None:
    cursor = Cursor.parse(text)
    assert cursor is not None
    assert cursor.newest == newest
    assert str(cursor) == text


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/live/series?target=shop", {}, 200),
        ("GET", "/live/series?target=shop", {"Host": "10.0.0.5:8501"}, 200),
        ("GET", "/live/series?target=shop", {"Host": "headroom.example.internal"}, 200),
        # A name of somebody else that points to us: DNS rebinding.
        ("GET", "/live/series?target=shop", {"Host": "evil.example"}, 421),
        ("POST", "/live/series", {"Origin": "http://evil.example"}, 403),
        ("POST", "/live/series", {"Origin": "https://headroom.example.internal"}, 405),
        ("POST", "/live/series", {"Origin": "http://localhost:8501"}, 405),
        ("POST", "/live/series", {"Origin": "null"}, 403),
        ("POST", "/live/series", {"Origin": "http://[::1"}, 403),
    ],
)
async def test_only_our_own_pages_get_in(chart: Chart, method, path, headers, status) -> None:
    app = Guard(Starlette(routes=chart.routes), "https://headroom.example.internal")
    async with client_of(app) as client:
        response = await client.request(method, path, headers=headers)
    assert response.status_code == status
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "frame-ancestors 'self'"


async def test_two_servers_that_look_alike_get_their_own_samples(
    chart: Chart, tmp_path: Path
) -> None:
    chart.store.target(BILLING, "billing", "postgresql")
    rows = [(T0 - i * SECOND, {"active": 77, "target_id": BILLING}) for i in range(120, 0, -1)]
    chart.store.servers(rows)
    feed = Feed(chart.store.store)
    config = loaded(tmp_path, CONFIG + OTHERS)
    routes = Series(config, chart.store.store, feed, lambda: chart.now).routes()
    async with client_of(Starlette(routes=routes)) as client:
        charts = []
        for name in ("shop", "billing"):
            one = Chart(client, chart.store, feed)
            one.query = f"target={name}&panels=connections"
            await one.ask()
            charts.append(one)
        assert charts[0].cursor != charts[1].cursor
        chart.now += SECOND
        chart.store.server(T0, active=1)
        chart.store.server(T0, active=77, target_id=BILLING)
        answers = [await one.ask() for one in charts]
    await feed.stop()
    assert [answer["frames"][0]["y"][0][-1] for answer in answers] == [1, 77]


@pytest.mark.parametrize("kind", POOLERS)
async def test_every_kind_of_pooler_has_charts_without_its_console(
    chart: Chart, tmp_path: Path, kind: str
) -> None:
    console = {"pgbouncer": "pgbouncer", "pgcat": "pgcat", "odyssey": "console"}.get(kind)
    with chart.store.store.write(durable=False) as c:
        if console is not None:
            renamed = update(tables.pool).where(tables.pool.c.id == 2)
            c.execute(renamed.values(database=console))
    config = loaded(tmp_path, CONFIG.replace('"pgbouncer"', f'"{kind}"'))
    feed = Feed(chart.store.store)
    routes = Series(config, chart.store.store, feed, lambda: chart.now).routes()
    async with client_of(Starlette(routes=routes)) as client:
        for name in ("shop-pool", "shop"):
            response = await client.get(f"/live/series?target={name}")
            assert response.status_code == 200
            names = [t["name"] for t in panel(response.json(), "waiters")["traces"]]
            assert names == (["shop/app"] if console else ["shop/app", "shop/reports"])
    await feed.stop()


async def test_the_oldest_wait_includes_clients_that_wait_at_login(chart: Chart) -> None:
    with chart.store.store.write(durable=False) as c:
        mine = update(tables.pool_sample).where(tables.pool_sample.c.pool_id == 1)
        c.execute(mine.values(oldest_wait_seconds=6.1))
    answer = await chart.ask()
    assert values(answer, "oldest_wait", "shop/app")[-1] == 6.1
    assert values(answer, "oldest_wait", "shop/reports")[-1] == 0


async def test_a_pooler_that_does_not_report_its_queue_has_no_values_and_says_so(
    chart: Chart,
) -> None:
    with chart.store.store.write(durable=False) as c:
        c.execute(update(tables.pool_sample).values(client_waiting=None))
    answer = await chart.ask()
    assert set(values(answer, "waiters", "shop/app")) == {None}
    assert panel(answer, "waiters")["nothing"] == "not reported"


async def test_the_clients_of_a_pooler_are_drawn_with_their_limit(chart: Chart) -> None:
    chart.query = "target=shop-pool&panels=clients"
    answer = await chart.ask()
    assert values(answer, "clients", "clients connected")[-1] == 20
    [limit] = answer["limits"]["clients"]["lines"]
    assert (limit["label"], limit["y"]) == ("max_client_conn", 100)


async def test_who_asks_after_a_change_does_not_get_the_answer_from_before_it(
    chart: Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "HOLD", 5.0)
    await chart.ask()
    chart.now += SECOND
    began, go_on = threading.Event(), threading.Event()
    real = series.Answers.build

    def slow(self: Any, connection: Any, wish: Any, now: Any) -> Any:
        connection.exec_driver_sql("SELECT count(*) FROM server_sample").scalar()
        if not began.is_set():  # the first build sees the store as it is now, and takes long
            began.set()
            assert go_on.wait(10)
        return real(self, connection, wish, now)

    monkeypatch.setattr(series.Answers, "build", slow)
    url = f"/live/series?target=shop&since={chart.cursor}"
    watching = asyncio.create_task(chart.feed.changed(-1, 5))
    await watching
    first = asyncio.create_task(chart.client.get(url))
    await asyncio.to_thread(began.wait, 10)
    before = chart.feed.changes
    watching = asyncio.create_task(chart.feed.changed(before, 5))
    chart.store.server(T0, active=9)
    assert await watching
    second = asyncio.create_task(chart.client.get(url))
    done, _ = await asyncio.wait([second], timeout=2)
    go_on.set()
    await asyncio.wait([first, second], timeout=10)
    assert done, "it waits for the answer from before the change"
    assert [f["y"][0][-1] for f in second.result().json()["frames"] if f] == [9]


async def test_throughput_that_grows_live_is_as_dense_as_when_it_is_asked_for_anew(
    chart: Chart, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(series, "pause", lambda bucket: 0.0)
    chart.query = "target=shop&panels=throughput&range=6h"
    chart.store.counters([(T0 - i * 5 * SECOND, 10**6 - i * 50) for i in range(720, 0, -1)])
    x = (await chart.ask())["frames"][0]["x"]
    for i in range(12):
        chart.now = T0 + (i * 5 + 1) * SECOND
        chart.store.counters([(T0 + i * 5 * SECOND, 10**6 + i * 50)])
        for frame in (await chart.ask())["frames"]:
            x = [at for at in x if at < frame["x"][0]] + frame["x"]
    chart.cursor = None
    assert x == (await chart.ask())["frames"][0]["x"]


def test_raw_rates_keep_the_times_of_their_samples(tmp_path: Path) -> None:
    filler = Filler(tmp_path)
    at = T0 - timedelta(milliseconds=333)
    filler.counters([(at - 5 * SECOND, 0), (at, 100)])
    with filler.store.read() as connection:
        source = Source(Rows.RATES, "shop", (), 90.0)
        _, frame = read(connection, source, T0 - 60 * SECOND, T0, 900)
    filler.store.close()
    assert frame.x == [int(at.timestamp() * 1000)]
    assert frame.columns["xact_commit_per_second"] == [20]


async def test_a_range_that_has_not_ended_fills_until_it_has(chart: Chart) -> None:
    chart.query = "target=shop&panels=connections&from=2030-01-01T11:55:00Z&to=2030-01-01T12:00:05Z"
    answer = await chart.ask()
    assert answer["live"]
    chart.now = T0 + SECOND
    chart.store.server(T0, active=7)
    answer = await chart.ask()
    assert "full" not in answer
    assert answer["frames"][0]["y"][0][-1] == 7
    chart.now = T0 + 6 * SECOND
    answer = await chart.ask()
    assert (answer["full"], answer["live"]) == (True, False)
