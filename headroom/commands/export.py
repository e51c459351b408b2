"""`headroom export`: stored rows as CSV, JSON or Parquet."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

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
    from store.export import export_chunks

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
            with store.read() as connection, _output(args.output) as file:
                chunks = export_chunks(connection, args.table, args.target, args.since, args.until)
                rows = _WRITERS[args.format](chunks, file)
                file.flush()
    except StoreError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if args.output is None:
            raise
        print(f"{args.output}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    if args.output:
        print(f"{rows} rows written to {args.output}", file=sys.stderr)
    return 0


def _output(path: Path | None) -> contextlib.AbstractContextManager[BinaryIO]:
    return contextlib.nullcontext(sys.stdout.buffer) if path is None else path.open("wb")


# A week of many targets does not fit into memory: each writes one chunk after the other, and
# returns how many rows there were.


def _write_csv(chunks: Iterable[pd.DataFrame], file: BinaryIO) -> int:
    rows = 0
    for number, chunk in enumerate(chunks):
        for name in chunk.select_dtypes("object"):
            chunk[name] = [f"'{cell}" if _is_formula(cell) else cell for cell in chunk[name]]
        text = chunk.to_csv(index=False, header=number == 0, date_format="%Y-%m-%dT%H:%M:%S.%fZ")
        file.write(str(text).encode())
        rows += len(chunk)
    return rows


def _write_json(chunks: Iterable[pd.DataFrame], file: BinaryIO) -> int:
    rows = 0
    file.write(b"[")
    for chunk in chunks:
        text = chunk.to_json(orient="records", date_format="iso", date_unit="ms") or "[]"
        if rows and len(chunk):
            file.write(b",")
        file.write(text.strip()[1:-1].encode())
        rows += len(chunk)
    file.write(b"]\n")
    return rows


def _write_parquet(chunks: Iterable[pd.DataFrame], file: BinaryIO) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "Int64": pa.int64(),
        "boolean": pa.bool_(),
        "float64": pa.float64(),
        "object": pa.string(),  # said here: a chunk without any text would say "null"
    }
    rows, writer = 0, None
    for chunk in chunks:
        if writer is None:
            schema = pa.schema(
                [
                    (name, kinds.get(str(kind), pa.timestamp("us", tz="UTC")))
                    for name, kind in chunk.dtypes.items()
                ]
            )
            writer = pq.ParquetWriter(file, schema)
        writer.write_table(pa.Table.from_pandas(chunk, schema=schema, preserve_index=False))
        rows += len(chunk)
    if writer is not None:
        writer.close()
    return rows


_WRITERS: dict[str, Callable[[Iterable[pd.DataFrame], BinaryIO], int]] = {
    "csv": _write_csv,
    "json": _write_json,
    "parquet": _write_parquet,
}


def _is_formula(cell: object) -> bool:
    return isinstance(cell, str) and cell.startswith(_FORMULA)
