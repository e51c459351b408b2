"""The process of the demo's application; started by conductor.py as a child.

It reads the name of a scenario from each line of its standard input, and ends when its
input ends: so it never outlives the demo, however the demo dies. It answers with one JSON
object a line: {"event": "ready"}, {"event": "started", "scenario": …} and
{"event": "ended", "scenario": …, "failures": {text: count}}.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from threading import Event, Thread

from headroom.demo.troubles import TROUBLES, Trouble
from headroom.demo.workload import Failures, Shop, Workload, create_schema

CLEAN_UP_SECONDS = 15.0  # after which a trouble that does not end is given up


class Application:
    """The workload and at most one trouble."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._failures = Failures()
        self._workload = Workload(shop, self._failures)
        self._scenario: str | None = None
        self._over = Event()
        self._trouble: Thread | None = None

    def start(self) -> None:
        """Create the schema and let the users come."""
        create_schema(self._shop)
        self._workload.start()
        _tell(event="ready")

    def play(self, scenario: str) -> None:
        """End the scenario that plays, and begin another one; "healthy" has no trouble."""
        trouble = TROUBLES.get(scenario)
        self._end()
        self._scenario, self._over = scenario, Event()
        if trouble is not None:
            self._trouble = Thread(target=self._run, args=(trouble, self._over), daemon=True)
            self._trouble.start()
        _tell(event="started", scenario=scenario)

    def stop(self) -> None:
        """End everything."""
        self._end()
        self._workload.stop()

    def _run(self, trouble: Trouble, over: Event) -> None:
        try:
            trouble(self._shop, over, self._failures)
        except Exception as error:
            # The scenario is lost, not the application; the terminal shall show why.
            self._failures.add(error)
            raise

    def _end(self) -> None:
        self._over.set()
        if self._trouble is not None:
            self._trouble.join(CLEAN_UP_SECONDS)
            if self._trouble.is_alive():
                # Better no application than one whose next scenario is not what it says.
                sys.exit(f"the scenario {self._scenario} did not end")
            self._trouble = None
        if self._scenario is not None:
            _tell(event="ended", scenario=self._scenario, failures=self._failures.take())


def main() -> None:
    """Play what standard input asks for until it ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server-port", type=int, required=True)
    parser.add_argument("--pooler-port", type=int)
    args = parser.parse_args()
    application = Application(Shop(args.server_port, args.pooler_port))
    application.start()
    for line in sys.stdin:
        application.play(line.strip())
    application.stop()


def _tell(**event: object) -> None:
    try:
        print(json.dumps(event), flush=True)
    except BrokenPipeError:
        # The demo is gone. Nobody reads on, and our input ends as well.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115


if __name__ == "__main__":
    main()
