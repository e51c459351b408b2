"""What one minute of watching one PostgreSQL (20 sessions) and one PgBouncer at 1 s costs."""

from __future__ import annotations

import time

import httpx
import psutil
import psycopg

from bench.lab import Lab, clients, cpu_seconds, lab, report
from tests.lab import Run, write_config

SECONDS = 60


def main() -> None:
    """Measure and report."""
    with lab() as servers, clients(servers.postgres, 20):
        config = write_config(servers.folder, servers.postgres, servers.pgbouncer)
        with Run(config) as run:
            time.sleep(5)  # imports, first connections and caches are not what is measured
            backend = _our_backend(servers)
            ours, theirs, polls = cpu_seconds(run.pid), cpu_seconds(backend), _metric(run, "polls")
            time.sleep(SECONDS)
            ours = cpu_seconds(run.pid) - ours
            theirs = cpu_seconds(backend) - theirs
            polls = _metric(run, "polls") - polls
            rss = psutil.Process(run.pid).memory_info().rss
            missed = _metric(run, "polls_missed")
            failed = _metric(run, "polls_failed")
        size = sum(path.stat().st_size for path in servers.folder.glob("headroom.db*"))
    report(
        "cost",
        {
            "what": f"{SECONDS} s of one PostgreSQL (20 sessions) and one PgBouncer at 1 s",
            "polls": int(polls),
            "polls_missed": int(missed),
            "polls_failed": int(failed),
            "collector_cpu_percent_of_a_core": round(100 * ours / SECONDS, 2),
            "collector_cpu_ms_per_poll": round(1000 * ours / polls, 2),
            "collector_rss_mb": round(rss / 1e6),
            "server_cpu_ms_per_minute": round(1000 * theirs * 60 / SECONDS, 1),
            "store_kb": round(size / 1e3),
        },
    )


def _our_backend(servers: Lab) -> int:
    with psycopg.connect(servers.postgres.dsn(), autocommit=True) as admin:
        row = admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'headroom'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def _metric(run: Run, name: str) -> float:
    """A counter of `headroom run`, summed over its targets."""
    lines = httpx.get(f"{run.url}/metrics").text.splitlines()
    values = [float(x.split()[-1]) for x in lines if x.startswith(f"headroom_{name}_total{{")]
    if not values:
        raise LookupError(name)
    return sum(values)
