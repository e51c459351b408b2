"""`headroom demo` on the command line. Imports what is heavy only when it runs."""

from __future__ import annotations

import argparse

from headroom.demo.scenarios import CHOICES, SCENARIOS, TOUR
from headroom.ports import port_argument

DEFAULT_PORT = 8501


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `headroom demo` to *parser*."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = "Start a real PostgreSQL under real load and Headroom on top of it."
    parser.epilog = "scenarios:\n" + "\n".join(
        f"  {name:<11} {scenario.what}" for name, scenario in SCENARIOS.items()
    )
    parser.add_argument(
        "--scenario",
        choices=CHOICES,
        default=TOUR,
        help="the trouble to make (default: a tour that goes through all of them)",
    )
    parser.add_argument(
        "--port",
        type=port_argument,
        default=DEFAULT_PORT,
        metavar="P",
        help="the dashboard's TCP port (default: %(default)s, or the next free one)",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")


def command(args: argparse.Namespace) -> int:
    """Run the demo until Ctrl-C. Returns 0 then, and 1 when something failed."""
    from headroom.demo.stage import run_demo

    return run_demo(args.scenario, args.port, not args.no_browser)
