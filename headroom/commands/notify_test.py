"""`headroom notify-test`: does a message reach the channels?"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import UTC, datetime

from model.channels import Channel
from model.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument("--channel", metavar="NAME", help="only this channel (default: all)")


def command(args: argparse.Namespace, config: Config) -> int:
    """Send, and say of each channel what became of it. Returns 1 when one refused."""
    chosen = [c for c in config.channels if args.channel in (None, c.name)]
    if not chosen:
        known = ", ".join(channel.name for channel in config.channels) or "none"
        wanted = f"{args.channel!r} is no channel" if args.channel else "there is no [[channel]]"
        print(f"{wanted}; known: {known}", file=sys.stderr)
        return 1
    failed = False
    for channel, problem in zip(chosen, asyncio.run(_send_all(chosen, config)), strict=True):
        print(f"{channel.name} ({channel.kind}): {problem or 'delivered'}")
        failed = failed or problem is not None
    return 1 if failed else 0


async def _send_all(channels: list[Channel], config: Config) -> list[str | None]:
    return list(await asyncio.gather(*(_send(channel, config) for channel in channels)))


async def _send(channel: Channel, config: Config) -> str | None:
    from alerts.notify.channels import send_test
    from alerts.notify.errors import NotifyError

    try:
        await send_test(channel, config.dashboard.url, datetime.now(UTC))
    except NotifyError as error:
        return f"FAILED: {error}"
    return None
