"""`headroom run`: collect, alert and serve HTTP until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from typing import NoReturn

from headroom import log
from headroom.secrets_of import secrets_of
from model.config import Config

EXIT_WITHIN = 4.5  # seconds after a signal; whatever still hangs then is abandoned

_log = logging.getLogger("headroom.run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--verbose", action="store_true", help="log more")


def command(args: argparse.Namespace, config: Config) -> int:
    """Run until stopped. Returns 0 after a signal, 1 when it cannot start."""
    from headroom.engine import Engine, only_one
    from store.database import Store, StoreError

    log.configure(verbose=args.verbose, secrets=secrets_of(config))
    if not config.targets:
        print(f"{args.config}: there is no [[target]]; nothing to watch", file=sys.stderr)
        return 2
    try:
        with Store(config.store.url) as store, only_one(store):
            store.migrate()
            engine = Engine(config, store)
            asyncio.run(_run(engine))
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    except _CannotListenError as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if engine.failed else 0


class _CannotListenError(Exception):
    """The HTTP address is taken or not ours."""


async def _run(engine: object) -> None:
    from headroom.api import Server
    from headroom.engine import Engine

    assert isinstance(engine, Engine)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop, stop)
    server = Server(engine)
    http = asyncio.create_task(_serve(server))
    listen = engine.config.http.listen
    listening = asyncio.create_task(server.listening.wait())
    await asyncio.wait({http, listening}, return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    if http.done():
        raise _CannotListenError(
            f"cannot listen on {listen}: the address is taken or not this machine's; "
            "change [http] listen"
        )
    polling = asyncio.create_task(engine.run(stop))
    _log.info(
        "watching %d targets; http://%s answers /healthz, /metrics and /api/v1/status",
        len(engine.config.targets),
        listen,
    )
    await asyncio.wait({http, polling}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    await polling
    server.should_exit = True
    await http
    _log.info("stopped")


async def _serve(server: object) -> None:
    from headroom.api import Server

    assert isinstance(server, Server)
    with contextlib.suppress(SystemExit):  # uvicorn's way to say that it cannot bind
        await server.serve()


def _stop(stop: asyncio.Event) -> None:
    _log.info("stopping")
    stop.set()
    # A thread and not a task: it must fire even when the event loop hangs.
    timer = threading.Timer(EXIT_WITHIN, _abandon)
    timer.daemon = True
    timer.start()


def _abandon() -> NoReturn:
    _log.error("did not stop in %.1f s; leaving now", EXIT_WITHIN)
    os._exit(1)
