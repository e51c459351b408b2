"""`headroom up`: run and dashboard together, as two processes that live and die together."""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from pathlib import Path

from headroom import ending
from headroom.commands import dashboard
from model.config import Config

ROOT = Path(__file__).resolve().parents[2]
STOP_WITHIN = 6.0  # seconds; `run` needs 5 at most


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command: the dashboard's."""
    dashboard.add_arguments(parser)


def command(args: argparse.Namespace, config: Config) -> int:  # noqa: ARG001  it is valid: that is enough
    """Run both until a signal comes or one of them ends. Returns its status then."""
    file = ["--config", str(args.config.resolve())]
    port = [] if args.port is None else ["--port", str(args.port)]
    stop = threading.Event()
    children: dict[str, subprocess.Popen[bytes]] = {}
    with ending.set_by_signals(stop):
        try:
            for name, extra in (("run", []), ("dashboard", port)):
                # Sessions of their own: Ctrl-C reaches only us, and we stop them in order.
                children[name] = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "headroom", name, *file, *extra],
                    cwd=ROOT,
                    start_new_session=True,
                    **ending.with_us(),
                )
            return _watch(children, stop)
        finally:
            _stop(children)


def _watch(children: dict[str, subprocess.Popen[bytes]], stop: threading.Event) -> int:
    """Wait for *stop*, or for a child that ends. Returns 0, or the child's status."""
    while not stop.wait(0.2):
        for name, child in children.items():
            if child.poll() is not None:
                print(f"headroom {name} ended with status {child.returncode}", file=sys.stderr)
                return child.returncode or 1
    return 0


def _stop(children: dict[str, subprocess.Popen[bytes]]) -> None:
    for child in children.values():
        child.terminate()
    for child in children.values():
        try:
            child.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
