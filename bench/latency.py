"""A client begins to wait behind a full PgBouncer pool -> the webhook is called.

As shipped: 1 s polls, default limits. Ten tries, begun at moments spread over the second.
"""

from __future__ import annotations

import time

from bench.lab import lab, quantile, report
from tests.lab import Receiver, Run, full_pool, wait_until, write_config

TRIES = 10


def main() -> None:
    """Measure and report."""
    took = []
    with lab() as servers, Receiver().serve() as receiver:
        # Only so that one try does not have to wait half a minute for the one before.
        extra = '[rules.pool_waiters]\nkeep_firing_for = "0s"\n'
        config = write_config(servers.folder, servers.postgres, servers.pgbouncer, receiver, extra)
        with Run(config):
            for number in range(TRIES):
                receiver.received.clear()
                time.sleep(1.0 + number / TRIES)
                with full_pool(servers.pgbouncer, holders=2, waiters=3) as began:
                    wait_until(lambda: receiver.received)
                    took.append(receiver.received[0].at - began)
                    print(f"  try {number + 1}: {took[-1]:.2f} s", flush=True)
                wait_until(lambda: any(r.body["reason"] == "resolved" for r in receiver.received))
    report(
        "latency",
        {
            "what": "client begins to wait -> webhook called",
            "tries": TRIES,
            "median_seconds": round(quantile(took, 0.5), 2),
            "p95_seconds": round(quantile(took, 0.95), 2),
            "worst_seconds": round(max(took), 2),
        },
    )
