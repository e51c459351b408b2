"""What `headroom run` answers over HTTP: /healthz, /metrics, /api/v1/status."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headroom.engine import Engine
from headroom.status import status
from model.moments import iso
from store import alert_log
from store.database import StoreError


def make_api(engine: Engine) -> Starlette:
    """The application that answers for *engine*."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_EngineMetrics(engine))
    ProcessCollector(registry=registry)

    async def healthz(_: Request) -> Response:
        now = datetime.now(UTC)
        health = engine.health(now)
        body = {
            "status": "unhealthy" if health.problems else "ok",
            "problems": list(health.problems),
            "last_sample_at": _iso(health.last_sample_at),
            "last_write_at": _iso(health.writer.written_at),
            "uptime_seconds": round((now - health.started_at).total_seconds(), 1),
        }
        return JSONResponse(body, 503 if health.problems else 200)

    async def metrics(_: Request) -> Response:
        text = await asyncio.to_thread(generate_latest, registry)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def api_status(_: Request) -> Response:
        try:
            body = await asyncio.to_thread(status, engine.store, engine.config, datetime.now(UTC))
        except StoreError as error:
            return JSONResponse({"error": str(error)}, 503)
        return JSONResponse(body)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/metrics", metrics),
            Route("/api/v1/status", api_status),
        ]
    )


class Server(uvicorn.Server):
    """Uvicorn without its own signal handling: `headroom run` decides when to stop.

    listening: set once it listens.
    """

    def __init__(self, engine: Engine) -> None:
        self.listening = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                make_api(engine),
                host=engine.config.http.host,
                port=engine.config.http.port,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind, and say so."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us."""
        yield


class _EngineMetrics(Collector):
    """Headroom about itself, in Prometheus' words; docs/metrics.md lists them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        engine = self._engine
        up = GaugeMetricFamily(
            "headroom_target_up",
            "Whether the last poll of the target succeeded.",
            labels=["target"],
        )
        took = GaugeMetricFamily(
            "headroom_poll_seconds", "How long the last poll took.", labels=["target"]
        )
        for name, sample in list(engine.latest.items()):
            up.add_metric([name], float(sample.up))
            took.add_metric([name], sample.poll_seconds)
        yield up
        yield took
        polls = engine.schedule.stats()
        for name, meaning, by_target in (
            ("headroom_polls", "Polls completed.", polls.polls_total),
            ("headroom_polls_failed", "Polls that failed.", polls.failures_total),
            ("headroom_polls_missed", "Polls due that did not happen.", polls.missed_total),
        ):
            counter = CounterMetricFamily(name, meaning, labels=["target"])
            for target, count in by_target.items():
                counter.add_metric([target], count)
            yield counter
        pace = GaugeMetricFamily(
            "headroom_poll_interval_seconds",
            "Seconds between two polls; more than configured when polls are costly.",
            labels=["target"],
        )
        for target, seconds in polls.interval_seconds.items():
            pace.add_metric([target], seconds)
        yield pace
        late = GaugeMetricFamily(
            "headroom_poll_lateness_seconds",
            "How long after its time the last poll began.",
            labels=["target"],
        )
        for target, seconds in polls.lateness_seconds.items():
            late.add_metric([target], seconds)
        yield late
        yield CounterMetricFamily(
            "headroom_judging_seconds", "Time spent judging samples.", engine.observe_seconds_total
        )
        yield CounterMetricFamily(
            "headroom_judging_failed",
            "Rules and verdicts that failed on a sample.",
            engine.judging_failures_total,
        )
        yield GaugeMetricFamily("headroom_alerts_firing", "Alerts that fire.", engine.firing())
        writer = engine.health(datetime.now(UTC)).writer
        yield GaugeMetricFamily(
            "headroom_store_waiting", "Samples and decisions not written yet.", writer.waiting
        )
        yield CounterMetricFamily(
            "headroom_store_dropped", "Samples lost because too many waited.", writer.dropped_total
        )
        yield GaugeMetricFamily(
            "headroom_spool_bytes", "Samples that wait on disk for the store.", writer.spool_bytes
        )
        try:
            with engine.store.read() as connection:
                counts = alert_log.outbox_counts(connection)
            size = engine.store_size()
        except StoreError:
            return  # the store's own metrics above tell
        yield GaugeMetricFamily("headroom_store_bytes", "Size of the store.", size.used_bytes)
        if size.forecast_bytes is not None:
            yield GaugeMetricFamily(
                "headroom_store_forecast_bytes",
                "Its size once the oldest samples begin to be forgotten.",
                size.forecast_bytes,
            )
        outbox = GaugeMetricFamily(
            "headroom_outbox_messages", "Messages by what became of them.", labels=["state"]
        )
        for state, count in counts.items():
            outbox.add_metric([state], count)
        yield outbox


def _iso(at: datetime | None) -> str | None:
    return None if at is None else iso(at)
