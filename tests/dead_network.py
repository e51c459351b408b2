"""Polls over a network that goes dead. Run in a network and mount namespace of its own:

    unshare --net --mount python -m tests.dead_network

Prints one JSON object of what happened. Packets are dropped by nftables, so nobody is told
anything: neither a refusal nor a reset.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from collectors.registry import Collector, collector_for
from headroom.demo.servers import Postgres, new_folder
from model.targets import Target
from tests.servers import with_roles


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def nft(rule: str) -> None:
    run("nft", *rule.split())


async def polls(collector: Collector, seconds: float) -> dict[str, Any]:
    """Polls once a second; what they said."""
    failures, longest, reason = set(), 0.0, None
    end = monotonic() + seconds
    while monotonic() < end:
        t0 = monotonic()
        sample = await collector.poll(datetime.now(UTC))
        longest = max(longest, monotonic() - t0)
        failures.add(sample.failure or "up")
        reason = sample.reason
        await asyncio.sleep(max(1.0 - (monotonic() - t0), 0.0))
    return {"said": sorted(failures), "longest": longest, "reason": reason}


async def until_up(collector: Collector, seconds: float) -> float:
    """How many seconds it took until a poll was answered."""
    t0 = monotonic()
    while not (await collector.poll(datetime.now(UTC))).up:
        assert monotonic() - t0 < seconds
        await asyncio.sleep(0.1)
    return monotonic() - t0


async def half_open(server: Postgres) -> dict[str, Any]:
    """The packets of a connection that was well are dropped, for eight seconds."""
    dsn = server.dsn(user="headroom")
    collector = collector_for(Target(name="held", kind="postgresql", dsn=dsn))
    newcomer = collector_for(Target(name="new", kind="postgresql", dsn=dsn))
    assert (await collector.poll(datetime.now(UTC))).up
    for direction in ("dport", "sport"):
        nft(f"add rule inet lab drops tcp {direction} {server.port} drop")
    of_held, of_new = await asyncio.gather(polls(collector, 8), polls(newcomer, 8))
    nft("flush chain inet lab drops")
    back = await until_up(collector, 60)
    await collector.close()
    await newcomer.close()
    return {"held": of_held, "new": of_new, "back": back}


async def dead_dns(server: Postgres) -> dict[str, Any]:
    """The name server answers nothing."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as conf:
        conf.write("nameserver 127.0.0.53\noptions timeout:5 attempts:2\n")
        conf.flush()
        run("mount", "--bind", conf.name, "/etc/resolv.conf")
        nft("add rule inet lab drops udp dport 53 drop")
        dsn = f"host=db.example port={server.port} user=headroom dbname=postgres"
        collector = collector_for(Target(name="dns", kind="postgresql", dsn=dsn))
        seen = await polls(collector, 3)
        nft("flush chain inet lab drops")
        await collector.close()
        run("umount", "/etc/resolv.conf")
    return seen


def main() -> None:
    run("ip", "link", "set", "lo", "up")
    nft("add table inet lab")
    nft("add chain inet lab drops { type filter hook input priority 0 ; }")
    folder = new_folder("dead-network")
    try:
        with Postgres(folder) as server:
            with_roles(server)
            print(json.dumps({name.__name__: asyncio.run(name(server)) for name in CASES}))
    finally:
        shutil.rmtree(Path(folder), ignore_errors=True)


CASES = (half_open, dead_dns)

if __name__ == "__main__":
    main()
