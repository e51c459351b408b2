"""The demo from nothing to nothing: starts all of it, plays, watches, stops all of it.

Everything listens on loopback. Each child runs in a session of its own, so Ctrl-C reaches
only this process, which stops the others in order: Headroom, the application, the servers.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal as signals
import socket
import sys
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Protocol

import psycopg

from headroom import ending
from headroom.demo.conductor import Conductor
from headroom.demo.config import Ports, config_text, dashboard_url
from headroom.demo.keeper import Keeper
from headroom.demo.pooler import find_or_install
from headroom.demo.receiver import Receiver
from headroom.demo.scenarios import SCENARIOS, scenes
from headroom.demo.servers import (
    PgBouncer,
    Postgres,
    Process,
    ServerError,
    free_port,
    new_folder,
)
from headroom.demo.terminal import Terminal

MAX_CONNECTIONS, SUPERUSER_RESERVED, RESERVED = 60, 3, 2
POOL_SIZE = 10
SERVER_SETTINGS: Mapping[str, str | int] = {
    "max_connections": MAX_CONNECTIONS,
    "superuser_reserved_connections": SUPERUSER_RESERVED,
    "reserved_connections": RESERVED,
    "shared_buffers": "64MB",
    "jit": "off",
    "synchronous_commit": "off",  # the laptop's disk is not what the demo is about
}
POOLER_SETTINGS: Mapping[str, str | int] = {
    "default_pool_size": POOL_SIZE,
    "max_client_conn": 300,
    "query_wait_timeout": 60,  # seconds
    "server_login_retry": 2,  # seconds; so that the pool recovers from a full server in a pause
    "server_idle_timeout": 10,  # seconds; a healthy pool is small again soon
    "stats_period": 10,  # seconds
}
_PORTS_TRIED = 100
_POLL_SECONDS = 0.25


class _Child(Protocol):
    """What is watched while the demo plays."""

    name: str
    on_start: Callable[[int], None] | None

    @property
    def running(self) -> bool: ...

    def last_lines(self) -> str: ...


def run_demo(scenario: str, port: int, open_browser: bool) -> int:
    """Play *scenario* until Ctrl-C, SIGTERM or SIGHUP. Returns 0 then, 1 if something failed.

    port: the dashboard's; the next free one if it is taken.
    """
    terminal = Terminal()
    stop = Event()
    with ending.set_by_signals(stop), contextlib.ExitStack() as stack:
        try:
            return _Demo(terminal, stop, stack).play(scenario, port, open_browser)
        except (ServerError, psycopg.Error, OSError) as error:
            terminal.say(f"The demo stops: {error}")
            return 1


class _Demo:
    """One run. What it starts is pushed to *stack*, which stops it in reverse order."""

    def __init__(self, terminal: Terminal, stop: Event, stack: contextlib.ExitStack) -> None:
        self._terminal = terminal
        self._stop = stop
        self._stack = stack
        self._base = new_folder("demo")
        stack.callback(shutil.rmtree, self._base, ignore_errors=True)
        self._keeper = Keeper(self._base)
        stack.callback(self._keeper.close)
        self._children: list[_Child] = []

    def play(self, scenario: str, wanted_port: int, open_browser: bool) -> int:
        """Start everything and play until it is stopped or something dies."""
        say = self._terminal.say
        say("Headroom demo: a real PostgreSQL, a real pooler, a real application in trouble.")
        program = find_or_install(say, self._stop)
        if self._stop.is_set():
            return 0
        server = self._start_server()
        pooler = self._start_pooler(program, server) if program else None
        application = Conductor(self._base, self._told)
        self._stack.callback(application.stop)
        self._keep(application, signals.SIGTERM)
        application.start(server.port, pooler.port if pooler else None)
        say("  application  checkout, catalog, reporting (SQLAlchemy, pool_size=8, max_overflow=4)")
        if self._stop.is_set():
            return 0
        url = self._start_headroom(server, pooler, wanted_port)
        if url is None:
            return 0 if self._stop.is_set() else 1
        say(f"  dashboard    {url}\n")
        say(f"Open {url}   Ctrl-C stops everything.\n")
        if open_browser and _has_display():
            webbrowser.open(url)
        return self._play_scenes(scenario, application, with_pooler=pooler is not None)

    def _start_server(self) -> Postgres:
        server = Postgres(self._base, settings=SERVER_SETTINGS)
        self._stack.callback(server.stop)
        self._keep(server, signals.SIGINT)
        server.__enter__()
        version = create_roles(server)
        ordinary = MAX_CONNECTIONS - SUPERUSER_RESERVED - RESERVED
        self._terminal.say(
            f"  PostgreSQL   {version} at 127.0.0.1:{server.port}, {ordinary} ordinary connections"
        )
        return server

    def _start_pooler(self, program: str, server: Postgres) -> PgBouncer:
        databases = {"shop": f"host=127.0.0.1 port={server.port} dbname=shop"}
        pooler = PgBouncer(self._base, databases, settings=POOLER_SETTINGS, program=program)
        self._stack.callback(pooler.stop)
        self._keep(pooler, signals.SIGINT)
        pooler.start_server()
        self._terminal.say(
            f"  PgBouncer    at 127.0.0.1:{pooler.port}, "
            f"{POOL_SIZE} server connections, transaction pooling"
        )
        return pooler

    def _start_headroom(
        self, server: Postgres, pooler: PgBouncer | None, wanted_port: int
    ) -> str | None:
        """The dashboard's URL once it answers; None if it does not or the demo is stopped."""
        receiver = self._stack.enter_context(
            Receiver(lambda text: self._terminal.tell("Slack", text))
        )
        port = port_from(wanted_port)
        if port != wanted_port:
            self._terminal.say(f"  Port {wanted_port} is taken; the dashboard takes {port}.")
        ports = Ports(
            server=server.port,
            pooler=pooler.port if pooler else None,
            http=free_port(),
            dashboard=port,
            receiver=receiver.port,
        )
        config = self._base / "headroom.toml"
        config.write_text(config_text(ports, str(self._base / "headroom.db")), encoding="utf-8")
        self._start_command("run", config)
        self._start_command("dashboard", config, "--port", str(port))
        while not _answers(port):
            if self._stop.wait(_POLL_SECONDS) or self._dead():
                return None
        return dashboard_url(ports)

    def _start_command(self, command: str, config: Path, *arguments: str) -> None:
        """Start `headroom` *command* as a child of ours, without waiting for it."""
        process = Process(f"headroom {command}", self._base, ours=True)
        self._stack.callback(process.stop, signals.SIGTERM)
        self._keep(process, signals.SIGTERM)
        process.start(
            [sys.executable, "-m", "headroom", command, "--config", str(config), *arguments],
            ready=lambda: True,
        )

    def _keep(self, child: _Child, signal: int) -> None:
        """Look after *child*, which is about to start; the keeper stops it with *signal* if
        we cannot."""

        def started(pid: int) -> None:
            self._children.append(child)
            self._keeper.watch(pid, signal)

        child.on_start = started

    def _play_scenes(self, choice: str, application: Conductor, *, with_pooler: bool) -> int:
        for scene in scenes(choice):
            application.play(scene.scenario.name)
            hint = scene.scenario.hint(with_pooler)
            self._terminal.tell(scene.scenario.name, f"{scene.scenario.what}\nLook at: {hint}.")
            deadline = None if scene.seconds is None else monotonic() + scene.seconds
            while deadline is None or monotonic() < deadline:
                if self._stop.wait(_POLL_SECONDS):
                    return 0
                if self._dead():
                    return 1
        return 0

    def _dead(self) -> bool:
        """Whether a child has died, after saying which and why."""
        for child in self._children:
            if not child.running:
                self._terminal.say(
                    f"{child.name} stopped, so the demo stops. Its last lines:\n"
                    f"{child.last_lines()}"
                )
                return True
        return False

    def _told(self, scenario: str, failures: Mapping[str, int]) -> None:
        """Say what the application was told during *scenario*, the two most frequent texts."""
        if scenario in SCENARIOS and failures and not self._stop.is_set():
            texts = [f"{count} × {text}" for text, count in list(failures.items())[:2]]
            self._terminal.tell("", "The application was told: " + "; ".join(texts))


def create_roles(server: Postgres) -> str:
    """Create the application's role and database, and Headroom's role as
    docs/permissions.md recommends it. Returns the server's version."""
    with psycopg.connect(server.dsn(), autocommit=True) as admin:
        admin.execute("CREATE ROLE app LOGIN")
        admin.execute("CREATE ROLE headroom LOGIN IN ROLE pg_monitor, pg_use_reserved_connections")
        admin.execute("CREATE DATABASE shop OWNER app")
        return (admin.info.parameter_status("server_version") or "unknown").split()[0]


def port_from(wanted: int) -> int:
    """*wanted* if nobody listens there on loopback, or the next free port. Raises ServerError."""
    for port in range(wanted, min(wanted + _PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            # As servers do: a port that was closed a moment ago is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except PermissionError as error:
                raise ServerError(
                    f"port {port} needs root; choose one above 1023 with --port"
                ) from error
            except OSError:
                continue
            return port
    raise ServerError(f"no free port from {wanted} on; choose another with --port")


def _answers(port: int) -> bool:
    """Whether an HTTP server on loopback answers at *port*."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _has_display() -> bool:
    """Whether a browser window could open."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
