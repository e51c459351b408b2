"""`headroom run` that is suspended for a while, as a laptop or a virtual machine is."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from itertools import pairwise
from pathlib import Path

from headroom.demo.servers import Postgres
from tests.lab import Run, wait_until, write_config

ASLEEP = 8.0  # seconds


def polls(store: Path) -> list[int]:
    """When the store's polls were, in ms, ascending."""
    connection = sqlite3.connect(store)
    try:
        return [at for (at,) in connection.execute("SELECT at FROM server_sample ORDER BY at")]
    finally:
        connection.close()


def test_after_eight_seconds_asleep_there_is_one_gap_and_no_burst(
    postgres: Postgres, tmp_path: Path
) -> None:
    store = tmp_path / "headroom.db"
    config = write_config(tmp_path, postgres, extra=f'\n[store]\nurl = "sqlite:///{store}"\n')
    with Run(config) as run:
        wait_until(lambda: len(polls(store)) >= 3)
        os.kill(run.pid, signal.SIGSTOP)
        time.sleep(ASLEEP)  # what is tested is the time itself
        os.kill(run.pid, signal.SIGCONT)
        awake = int(time.time() * 1000)
        wait_until(lambda: [at for at in polls(store) if at >= awake + 4000])
        seen = polls(store)
        apart = [(later - at) / 1000 for at, later in pairwise(seen)]
        gaps = [seconds for seconds in apart if seconds > 2.5]
        assert len(gaps) == 1
        assert ASLEEP - 1 < gaps[0] < ASLEEP + 2
        after = [at for at in seen if at >= awake - 100]
        assert 4 <= len([at for at in after if at < awake + 4000]) <= 6
        assert run.terminate() < 5.0
