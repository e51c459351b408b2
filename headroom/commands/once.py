"""`headroom once`: one poll of every target."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from model.config import Config
from model.samples import Pool, Sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--json", action="store_true", help="everything that was seen, as JSON")


def command(args: argparse.Namespace, config: Config) -> int:
    """Poll and print. Returns 0 when every target is up, else 1."""
    if not config.targets:
        print(f"{args.config}: there is no [[target]]; nothing to poll", file=sys.stderr)
        return 1
    samples = asyncio.run(_poll_all(config))
    if args.json:
        print(json.dumps([_plain(sample) for sample in samples], indent=2))
    else:
        for sample in samples:
            print("\n".join(_lines(sample)))
    return 0 if samples and all(sample.up for sample in samples) else 1


async def _poll_all(config: Config) -> list[Sample]:
    from collectors.registry import collector_for

    collectors = [collector_for(target) for target in config.targets]
    try:
        at = datetime.now(UTC)
        return list(await asyncio.gather(*(collector.poll(at) for collector in collectors)))
    finally:
        await asyncio.gather(*(collector.close() for collector in collectors))


def _lines(sample: Sample) -> list[str]:
    """One target for a person: what it is, how full, who waits."""
    took = f"{sample.poll_seconds * 1000:.0f} ms"
    if not sample.up:
        return [f"{sample.target}: DOWN ({sample.failure}): {sample.reason}"]
    lines = []
    if sample.server:
        server = sample.server
        used = _known(server.slots_used)
        lines.append(
            f"{sample.target}: up, PostgreSQL {server.version} {server.role}, "
            f"{used} of {server.ordinary_capacity} slots used "
            f"(max_connections {server.max_connections}), polled in {took}"
        )
        if server.states is not None:
            counts = ", ".join(f"{n} {state}" for state, n in server.states.items() if n)
            lines.append(f"    sessions: {counts or 'none'}")
    if sample.pooler:
        pooler = sample.pooler
        lines.append(
            f"{sample.target}: up, {pooler.product} {pooler.version}, "
            f"{_known(pooler.used_clients)} clients, {_known(pooler.client_waiting)} waiting, "
            f"polled in {took}"
        )
    lines.extend(
        f"    pool {pool.database}/{pool.user}: {pool.server_active} of "
        f"{_known(pool.pool_size)} server connections in use, "
        f"{_known(pool.client_waiting)} clients waiting, oldest {_seconds(pool)}"
        for pool in sample.pools or ()
    )
    if sample.degraded:
        lines.append(f"    degraded: {sample.degraded}")
    return lines


def _known(number: int | None) -> str:
    return "?" if number is None else str(number)


def _seconds(pool: Pool) -> str:
    wait = pool.maxwait_seconds if pool.oldest_wait_seconds is None else pool.oldest_wait_seconds
    return "?" if wait is None else f"{wait:.1f} s"


def _plain(value: Any) -> Any:
    """Nouns as plain JSON types."""
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
