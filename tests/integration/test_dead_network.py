"""A network that drops everything: each poll ends at its deadline and says why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.lab import ROOT

NEEDED = ("unshare", "nft", "ip", "mount")


@pytest.fixture(scope="module")
def happened() -> dict[str, Any]:
    """What tests/dead_network.py saw, in namespaces of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root for namespaces of its own")
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    if missing := [name for name in NEEDED if shutil.which(name, path=path) is None]:
        pytest.skip(f"needs {', '.join(missing)}: apt-get install nftables iproute2")
    unshare = ["unshare", "--net", "--mount"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no namespaces of our own")
    done = subprocess.run(
        [*unshare, sys.executable, "-m", "tests.dead_network"],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_a_connection_whose_packets_are_dropped_costs_no_poll_more_than_its_deadline(
    happened: dict[str, Any],
) -> None:
    held = happened["half_open"]["held"]
    assert held["said"] == ["timeout"]
    assert held["longest"] < 1.5
    assert held["reason"]


def test_a_newcomer_to_a_dead_network_ends_its_polls_in_time_too(happened: dict[str, Any]) -> None:
    new = happened["half_open"]["new"]
    assert new["said"] == ["timeout"]
    assert new["longest"] < 1.5
    assert "no answer to the connection attempt" in new["reason"]


def test_it_is_back_when_the_network_is(happened: dict[str, Any]) -> None:
    assert happened["half_open"]["back"] < 3  # attempts that reach nobody cost nothing


def test_a_dead_name_server_ends_no_poll_late_and_is_named(happened: dict[str, Any]) -> None:
    assert happened["dead_dns"]["said"] == ["timeout"]
    assert happened["dead_dns"]["longest"] < 1.5
    assert "the look-up of the host name" in happened["dead_dns"]["reason"]
