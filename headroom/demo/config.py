"""Headroom's configuration for the demo, as TOML text.

The limits of slow things are lower than the shipped defaults, so that a tour of minutes
shows what takes a real system longer. The waiters' limits are the shipped ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

KEEP_FIRING_FOR = "10s"  # shorter than the tour's healthy pauses, so that alerts resolve in them


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports on loopback. pooler is None without a pooler."""

    server: int
    pooler: int | None
    http: int
    dashboard: int
    receiver: int


def config_text(ports: Ports, store_file: str) -> str:
    """The whole file for servers and a receiver of messages at *ports*."""
    parts = [
        f"""\
# Written by `headroom demo`.
[store]
url = {_quoted(f"sqlite:///{store_file}")}

[http]
listen = "127.0.0.1:{ports.http}"

[dashboard]
url = "{dashboard_url(ports)}"

[[target]]
name = "shop"
kind = "postgresql"
dsn = "host=127.0.0.1 port={ports.server} user=headroom dbname=shop"
interval = "1s"
"""
    ]
    if ports.pooler is not None:
        parts.append(
            f"""
[[target]]
name = "shop-pool"
kind = "pgbouncer"
dsn = "host=127.0.0.1 port={ports.pooler} user=headroom dbname=pgbouncer"
interval = "1s"
serves = ["shop"]
"""
        )
    parts.append(
        f"""
[[channel]]
name = "terminal"
kind = "slack"
webhook_url = "http://127.0.0.1:{ports.receiver}/"

[rules.pool_waiters]
keep_firing_for = "{KEEP_FIRING_FOR}"

[rules.slots_low]
for = "3s"
keep_firing_for = "{KEEP_FIRING_FOR}"

[rules.slots_exhausted]
keep_firing_for = "{KEEP_FIRING_FOR}"

[rules.long_statement]
warning_seconds = 10
critical_seconds = 30
keep_firing_for = "{KEEP_FIRING_FOR}"

[rules.idle_in_transaction]
warning_seconds = 10
critical_seconds = 30
keep_firing_for = "{KEEP_FIRING_FOR}"
"""
    )
    return "".join(parts)


def dashboard_url(ports: Ports) -> str:
    """Where the dashboard is opened."""
    return f"http://localhost:{ports.dashboard}"


def _quoted(text: str) -> str:
    """A TOML basic string. JSON's escapes are a subset of TOML's."""
    return json.dumps(text)
