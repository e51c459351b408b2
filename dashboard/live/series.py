"""GET /live/series: what a live chart draws.

    target   name of a target                          panels  names, comma-separated
    range    5m 15m 1h 6h 24h 7d                        from, to  ISO 8601, instead of range
    width    of a panel, in pixels                      since  the last answer's cursor

With `since` the answer comes when there is something new, or after HOLD seconds with
nothing in it but the time. It then has only new and changed points: replace yours from the
first of them on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dashboard.live import assets
from dashboard.live.answer import Answer, Answers, Cursor, Wish, pause
from dashboard.live.feed import Feed
from dashboard.panels import choose
from dashboard.span import Span
from model.config import Config
from store.database import Store, StoreError
from store.windows import bucket_seconds

_log = logging.getLogger(__name__)
HOLD = 20.0  # seconds; shorter than the usual 60 s of proxies
MIN_WIDTH, MAX_WIDTH = 100, 4000  # pixels
MIN_POINTS = 900  # a quarter of an hour is always shown sample by sample


class Series:
    """The routes of the live chart.

    now: the clock, aware and UTC; only tests give another one.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        feed: Feed,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._config = config
        self._store = store
        self._feed = feed
        self._now = now
        self._answers = Answers(config)
        self._shared: dict[tuple[Wish, int], asyncio.Task[Answer | None]] = {}

    def routes(self) -> list[Route]:
        """The routes to mount."""
        return [Route("/live/series", self.series), *assets.routes()]

    async def series(self, request: Request) -> Response:
        """The route. 400 and 404 say what is allowed."""
        try:
            wish = self.wish(request)
            span = wish.span(self._now())
        except ValueError as error:
            return _json({"error": str(error)}, 400)
        except LookupError as error:
            return _json({"error": str(error)}, 404)
        if wish.cursor is not None and span.grows:
            return await self._wait(wish, span)
        return await self._answer(wish)

    def wish(self, request: Request) -> Wish:
        """What *request* asks for. Raises ValueError or LookupError."""
        params = request.query_params
        name = params.get("target", "")
        try:
            target = self._config.target(name)
        except KeyError:
            raise LookupError(f"no target is called {name[:60]!r}") from None
        pooled = target.is_pooler or bool(self._config.poolers_of(target.name))
        width = params.get("width", "600")
        if not width.isdigit() or not MIN_WIDTH <= int(width) <= MAX_WIDTH:
            raise ValueError(f"'width' must be a number of pixels, {MIN_WIDTH} to {MAX_WIDTH}")
        return Wish(
            target,
            choose(target.kind, params.get("panels"), pooled=pooled),
            tuple((k, params[k]) for k in ("range", "from", "to") if k in params),
            max(int(width), MIN_POINTS),
            Cursor.parse(params["since"]) if "since" in params else None,
        )

    async def _wait(self, wish: Wish, span: Span) -> Response:
        deadline = monotonic() + HOLD
        quiet = pause(bucket_seconds(span.start, span.end, wish.points))
        if quiet:
            await self._rest(quiet)
        while not self._feed.closed:
            seen = self._feed.changes
            response = await self._answer(wish)
            if response.status_code != 204:
                return response
            if not await self._feed.changed(seen, deadline - monotonic()):
                break
        if self._feed.closed:
            return _json({"error": "the dashboard is stopping"}, 503)
        return _json({"cursor": str(wish.cursor), "now": _ms(self._now()), "frames": []}, 200)

    async def _rest(self, seconds: float) -> None:
        """Wait, unless the server stops."""
        until = monotonic() + seconds
        while not self._feed.closed and (left := until - monotonic()) > 0:
            await self._feed.changed(self._feed.changes, left)

    async def _answer(self, wish: Wish) -> Response:
        """One answer, built once for all browsers that ask for the same at the same time.

        A build that began before the store's last change does not know of it, so it is not
        for those who come after.
        """
        same = (wish, self._feed.changes)
        task = self._shared.get(same)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self._build, wish))
            task.add_done_callback(lambda _: self._shared.pop(same, None))
            self._shared[same] = task
        try:
            answer = await asyncio.shield(task)
        except StoreError as error:
            return _json({"error": str(error)}, 503)
        return Response(status_code=204) if answer is None else _json(answer, 200)

    def _build(self, wish: Wish) -> Answer | None:
        now = self._now()
        if not self._store.path.exists():
            raise StoreError("there is no store yet; `headroom run` creates it")
        with self._store.read() as connection:
            return self._answers.build(connection, wish, now)


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _json(content: Answer, status: int) -> Response:
    return Response(
        orjson.dumps(content),
        status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
