"""`python -m bench [NAME...]`: all of them by default."""

from __future__ import annotations

import sys

from bench import cost, latency, peers, store, targets

BENCHES = {
    "latency": latency.main,
    "cost": cost.main,
    "targets": targets.main,
    "store": store.main,
    "peers": peers.main,
}


def main(names: list[str]) -> int:
    """Run the named benches, or all."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no such bench: {', '.join(unknown)}; there are: {', '.join(BENCHES)}")
        return 2
    for name in names or BENCHES:
        print(f"{name} …", flush=True)
        BENCHES[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
