"""`headroom dashboard`: serve the dashboard."""

from __future__ import annotations

import argparse

from headroom import log
from headroom.ports import port_argument
from model.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "--port",
        type=port_argument,
        metavar="PORT",
        help="TCP port (default: that of [dashboard] url, or 8501)",
    )


def command(args: argparse.Namespace, config: Config) -> int:
    """Serve until stopped."""
    from dashboard.server import serve

    log.configure(verbose=False)
    serve(args.config, config, args.port)
    return 0
