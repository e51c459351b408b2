"""`headroom export`: stored rows as CSV, JSON or Parquet."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from headroom.moments import moment_argument
from model.config import Config
from store.export import TABLES

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run a text cell that begins so


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this command."""
    moment = {"type": moment_argument, "metavar": "10m|TIME"}
    parser.add_argument("--table", required=True, choices=TABLES, help="what to export")
    parser.add_argument("--target", metavar="NAME", help="only this target (default: all)")
    parser.add_argument("--since", help="from this time on (default: everything)", **moment)  # type: ignore[arg-type]
    parser.add_argument("--until", help="before this time (default: now)", **moment)  # type: ignore[arg-type]
    parser.add_argument("--format", default="csv", choices=("csv", "json", "parquet"))
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write here (default: standard output)"
    )


def command(args: argparse.Namespace, config: Config) -> int:
    """Write the rows. Returns 1 when there is nothing to read from."""
    from store.database import Store, StoreError
    from store.export import export

    if args.since and args.until and args.since >= args.until:
        print("--since is not before --until; nothing lies between them", file=sys.stderr)
        return 1
    if args.target and args.target not in {target.name for target in config.targets}:
        known = ", ".join(target.name for target in config.targets)
        print(f"{args.target!r} is no target; known: {known}", file=sys.stderr)
        return 1
    try:
        with Store(config.store.url) as store:
            store.require_current()
            with store.read() as connection:
                frame = export(connection, args.table, args.target, args.since, args.until)
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    data = _encode(frame, args.format)
    if args.output:
        try:
            args.output.write_bytes(data)
        except OSError as error:
            print(f"{args.output}: cannot be written: {error.strerror}", file=sys.stderr)
            return 1
        print(f"{len(frame)} rows written to {args.output}", file=sys.stderr)
    else:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    return 0


def _encode(frame: pd.DataFrame, format_: str) -> bytes:
    if format_ == "parquet":
        return frame.to_parquet(index=False)
    if format_ == "json":
        text = frame.to_json(orient="records", date_format="iso", date_unit="ms") or "[]"
        return (text + "\n").encode()
    safe = frame.map(lambda cell: f"'{cell}" if _is_formula(cell) else cell)
    return str(safe.to_csv(index=False, date_format="%Y-%m-%dT%H:%M:%S.%fZ")).encode()


def _is_formula(cell: object) -> bool:
    return isinstance(cell, str) and cell.startswith(_FORMULA)
