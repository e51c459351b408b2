"""The web server: Streamlit's app with our routes, our door, and an end that comes at once."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dashboard.guard import Guard
from dashboard.live import assets
from dashboard.live.feed import Feed
from dashboard.live.series import Series
from dashboard.source import CONFIG_VARIABLE
from model.config import Config
from store.database import Store

_log = logging.getLogger(__name__)
_SCRIPT = Path(__file__).resolve().parent / "app.py"
DEFAULT_PORT = 8501
# Blue is the colour of choice and links; red and amber are kept for status.
_THEME = {
    "dark.primaryColor": "#56B4E9",
    "dark.backgroundColor": "#0e1117",
    "dark.secondaryBackgroundColor": "#181d26",
    "dark.textColor": "#e6e9ef",
    "dark.borderColor": "#2b3240",
    "light.primaryColor": "#0072B2",
    "light.backgroundColor": "#ffffff",
    "light.secondaryBackgroundColor": "#f3f5f8",
    "light.textColor": "#1b2230",
    "light.borderColor": "#d8dde6",
}


def make_app(config: Config) -> st.App:
    """The ASGI app. Its script finds the configuration by HEADROOM_CONFIG (dashboard.source)."""
    store = Store(config.store.url)
    feed = Feed(store)

    @asynccontextmanager
    async def lifespan(_app: st.App) -> AsyncIterator[None]:
        restore = _end_at_once(feed)
        warm = asyncio.create_task(asyncio.to_thread(assets.compressed, assets.PLOTLY))
        # What is loaded by now stays; the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            restore()
            await feed.stop()
            await asyncio.gather(warm, return_exceptions=True)
            store.close()

    return st.App(
        _SCRIPT,
        lifespan=lifespan,
        routes=[Route("/healthz", _healthz), *Series(config, store, feed).routes()],
        middleware=[Middleware(Guard, url=config.dashboard.url, preload=assets.PRELOAD)],
    )


def serve(config_path: Path, config: Config, port: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then return. Raises SystemExit when the port is taken."""
    os.environ[CONFIG_VARIABLE] = str(config_path.resolve())
    address = urlsplit(config.dashboard.url)
    chosen = port if port is not None else address.port or DEFAULT_PORT
    _refuse_taken(config.dashboard.listen, chosen)
    print(f"Headroom dashboard: {_opened_at(config, chosen)}", flush=True)
    # uvicorn ends gracefully on these signals and then raises them again, for whoever called.
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        make_app(config).run(config=settings(config, chosen))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def settings(config: Config, port: int) -> dict[str, object]:
    """Streamlit's settings. Given to App.run, which ignores STREAMLIT_* variables, so the
    dashboard is the same from whatever folder it is started."""
    return {
        "server.address": config.dashboard.listen,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "server.disconnectedSessionTTL": 60,
        "server.showEmailPrompt": False,
        # Also what Streamlit compares Origins with, before it would ask the internet.
        "browser.serverAddress": urlsplit(config.dashboard.url).hostname,
        "browser.gatherUsageStats": False,
        # Hidden option: without it every refresh collects garbage for some 100 ms.
        "runner.postScriptGC": False,
        "runner.magicEnabled": False,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "logger.hideWelcomeMessage": True,
        **{f"theme.{k}": v for k, v in _THEME.items()},
    }


def _refuse_taken(address: str, port: int) -> None:
    """Raise SystemExit, saying what to do, when nobody can listen there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise SystemExit(
                f"Cannot listen on {address} port {port}: {error.strerror}. "
                "Give another port with --port, or stop what listens there."
            ) from error


async def _healthz(_request: Request) -> Response:
    """The process answers. Whether data arrive is what the pages and /api/v1/status say."""
    return JSONResponse({"status": "ok"})


def _opened_at(config: Config, port: int) -> str:
    address = urlsplit(config.dashboard.url)
    return config.dashboard.url if address.port == port else f"http://{address.hostname}:{port}"


def _end_at_once(feed: Feed) -> Callable[[], None]:
    """Let the server's own signal handlers also send home the requests that are held open:
    it waits for them to end. Returns what puts the handlers back."""
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def close(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(feed.close)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    if threading.current_thread() is not threading.main_thread():
        return lambda: None  # signals belong to the main thread
    for number in before:
        signal.signal(number, close)
    return restore


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """For a signal that has already done its work."""
