"""`headroom status`: what is known of every target, from the store."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import Any

from model.config import Config
from model.durations import format_duration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--json", action="store_true", help="as JSON (docs/status.md)")


def command(args: argparse.Namespace, config: Config) -> int:
    """Print it. Returns 1 when there is no store yet."""
    from headroom.status import status
    from store.database import Store, StoreError

    try:
        with Store(config.store.url) as store:
            store.require_current()
            entries = status(store, config, datetime.now(UTC))
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(entries, indent=2))
        return 0
    for entry in entries:
        print(_line(entry))
    return 0


def _line(entry: dict[str, Any]) -> str:
    """One target in one line, the verdict first."""
    if entry["as_of"] is None:
        return f"{entry['name']}: not polled yet; is `headroom run` running?"
    state = "up" if entry["up"] else f"DOWN ({entry['reason']})"
    age = format_duration(entry["age_seconds"])
    facts = [f"{entry['name']}: {state}, {age} ago"]
    if entry["slots_used"] is not None:
        facts.append(f"{entry['slots_used']} of {entry['ordinary_capacity']} slots used")
    if entry["waiters"] is not None:
        facts.append(f"{entry['waiters']} waiting")
    if entry["stale"]:
        facts.append("STALE: is `headroom run` running?")
    sentence = entry["verdict"]["sentence"]
    return ", ".join(facts) + (f"\n    {sentence}" if sentence else "")
