"""Which collector asks which kind of target."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from collectors.pgbouncer import PgBouncerCollector
from collectors.pgpool import PgpoolCollector
from collectors.postgresql import PostgresqlCollector
from model.samples import Sample
from model.targets import Target


class Collector(Protocol):
    """Asks one target, again and again, over one connection."""

    async def poll(self, at: datetime) -> Sample:
        """Ask once. Never raises; ends by the target's deadline and half a second."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


def collector_for(target: Target) -> Collector:
    """The collector for *target*; it connects at its first poll."""
    if target.kind == "pgpool":
        return PgpoolCollector(target)
    if target.is_pooler:
        return PgBouncerCollector(target)
    return PostgresqlCollector(target)
