"""`headroom check`: is the configuration valid, do the targets answer, may we look?"""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from model.config import Config

if TYPE_CHECKING:
    from collectors.check import Remark

_MARKS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    parser.add_argument(
        "--offline", action="store_true", help="only validate the file; connect to nothing"
    )


def command(args: argparse.Namespace, config: Config) -> int:
    """Print what is found. Returns 0, or 1 when something has to be mended."""
    targets, channels = len(config.targets), len(config.channels)
    print(
        f"{args.config}: valid; {targets} target{'s' * (targets != 1)}, "
        f"{channels} channel{'s' * (channels != 1)}, "
        f"store {config.store.url.removeprefix('sqlite:///')}"
    )
    if not config.targets:
        print("ERROR   there is no [[target]]: nothing to watch")
        return 1
    if args.offline:
        return 0
    found = asyncio.run(_check_all(config))
    for name, remarks in found.items():
        for remark in remarks:
            print(f"{_MARKS[remark.level]} {name}: {remark.text}")
            if remark.fix:
                print(f"        to mend it: {remark.fix}")
    errors = any(remark.level == "error" for remarks in found.values() for remark in remarks)
    return 1 if errors else 0


async def _check_all(config: Config) -> dict[str, list[Remark]]:
    from collectors.check import check

    answers = await asyncio.gather(*(check(target) for target in config.targets))
    return {target.name: answer for target, answer in zip(config.targets, answers, strict=True)}
