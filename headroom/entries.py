"""What the writer keeps: samples and decisions, and their form in the spool."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import TypeAdapter

from alerts.evaluate import Decision
from model.samples import Sample


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and its time."""

    decision: Decision
    at: datetime


Entry = Sample | Decided

_SAMPLE = TypeAdapter(Sample)
_DECIDED = TypeAdapter(Decided)


def to_bytes(entry: Entry) -> bytes:
    """*entry* as one line: a letter for its kind, and JSON."""
    if isinstance(entry, Sample):
        return b"S" + _SAMPLE.dump_json(entry)
    return b"D" + _DECIDED.dump_json(entry)


def from_bytes(line: bytes) -> Entry:
    """The inverse of to_bytes. Raises ValueError (pydantic's) for what cannot be read."""
    if line[:1] == b"S":
        return _SAMPLE.validate_json(line[1:])
    return _DECIDED.validate_json(line[1:])
