"""The command line. Each command's file imports what it needs when it is called, so that
`--help` answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from headroom import ending
from headroom.commands import alerts, check, dashboard, export, notify_test, once, run, status, up
from headroom.demo import command as demo
from model.config import Config, ConfigError, load

CONFIG_ERROR = 2  # exit status for a configuration that cannot be used

_WITH_CONFIG: dict[str, tuple[str, Callable[..., None], Callable[..., int]]] = {
    "run": ("collect, alert and serve HTTP until stopped", run.add_arguments, run.command),
    "dashboard": ("serve the dashboard", dashboard.add_arguments, dashboard.command),
    "up": ("run and dashboard together", up.add_arguments, up.command),
    "once": ("poll every target once and print what was seen", once.add_arguments, once.command),
    "check": (
        "validate the configuration, the connections and the privileges",
        check.add_arguments,
        check.command,
    ),
    "status": (
        "what is known of every target, from the store",
        status.add_arguments,
        status.command,
    ),
    "alerts": (
        "alerts that are pending or firing, from the store",
        alerts.add_arguments,
        alerts.command,
    ),
    "export": ("stored rows as CSV, JSON or Parquet", export.add_arguments, export.command),
    "notify-test": (
        "send a test message to the channels",
        notify_test.add_arguments,
        notify_test.command,
    ),
}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="headroom",
        description="Live monitoring of PostgreSQL connections and connection pools: "
        "where is the queue, because of whom, and what to do.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (help_, add_arguments, _) in _WITH_CONFIG.items():
        one = commands.add_parser(name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.")
        one.add_argument(
            "--config",
            type=Path,
            default=Path("headroom.toml"),
            metavar="FILE",
            help="the configuration (default: %(default)s; headroom.example.toml shows all of it)",
        )
        add_arguments(one)
    help_ = "watch a real database under real load, with nothing set up beforehand"
    one = commands.add_parser("demo", help=help_, description=f"{help_[0].upper()}{help_[1:]}.")
    demo.add_arguments(one)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit status."""
    ending.end_with_parent()
    args = parser().parse_args(arguments)
    try:
        if args.command == "demo":
            return demo.command(args)
        config: Config = load(args.config, os.environ)
        return _WITH_CONFIG[args.command][2](args, config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return CONFIG_ERROR
    except BrokenPipeError:  # `headroom export … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
