"""`headroom alerts`: what is pending or fires, from the store."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from typing import Any

from headroom.moments import moment_argument
from model.alerting import Alert, AlertState
from model.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--json", action="store_true", help="as JSON (docs/alerting.md)")
    parser.add_argument(
        "--since",
        type=moment_argument,
        metavar="10m|TIME",
        help="also alerts that were resolved since then",
    )


def command(args: argparse.Namespace, config: Config) -> int:
    """Print them, worst first. Returns 1 when there is no store yet."""
    from store import latest
    from store.database import Store, StoreError

    try:
        with Store(config.store.url) as store:
            store.require_current()
            with store.read() as connection:
                found = latest.alerts_now(connection)
                if args.since:
                    there = {alert.id for alert in found}
                    past = latest.alerts_between(connection, args.since, datetime.now(UTC))
                    found += [alert for alert in past if alert.id not in there]
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps([_entry(alert) for alert in found], indent=2))
        return 0
    if not found:
        print("No alerts.")
    for alert in found:
        print(
            f"{_state(alert)} {alert.severity.value} {alert.key.rule} on {alert.key.target} "
            f"since {alert.since:%Y-%m-%d %H:%M:%S}Z\n    {alert.finding.summary}"
        )
    return 0


def _state(alert: Alert) -> str:
    """The state in a person's words."""
    if alert.clear_since is not None:
        return "firing (over, but kept for a while)"
    return "resolved" if alert.state is AlertState.INACTIVE else alert.state.value


def _entry(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.id,
        "rule": alert.key.rule,
        "target": alert.key.target,
        "labels": dict(alert.key.labels),
        "state": alert.state.value,
        "since": _iso(alert.since),
        "clear_since": None if alert.clear_since is None else _iso(alert.clear_since),
        "resolved_at": None if alert.resolved_at is None else _iso(alert.resolved_at),
        "value": alert.finding.value,
        "limit": alert.finding.limit,
        "unit": alert.finding.unit,
        "severity": alert.severity.value,
        "summary": alert.finding.summary,
    }


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
