"""Who runs the servers when we are root, and what that user can reach.

PostgreSQL and PgBouncer refuse to run as root. As root they run as a user that exists on
every system; as anybody else they run as ourselves, and all of this does nothing.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

_USER = "nobody"


def as_server_user() -> dict[str, Any]:
    """Arguments of subprocess.Popen that make a program run unprivileged."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(_USER)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give_away(path: Path) -> None:
    """Make the servers' user the owner of *path* and of everything in it.

    The owner, and not the permissions for others: those depend on our umask, and what is
    copied keeps the permissions of its source.
    """
    if os.geteuid() != 0:
        return
    entry = pwd.getpwnam(_USER)
    for part in (path, *path.rglob("*")):
        os.chown(part, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def can_reach(path: Path) -> bool:
    """Whether the servers' user may enter every folder on the way to *path*, and enter or
    run *path* itself."""
    if os.geteuid() != 0:
        return True
    real = path.resolve()
    return all(_may_enter(part) for part in (real, *real.parents))


def _may_enter(path: Path) -> bool:
    entry, found = pwd.getpwnam(_USER), path.stat()
    if found.st_uid == entry.pw_uid:
        return bool(found.st_mode & 0o100)
    if found.st_gid == entry.pw_gid:
        return bool(found.st_mode & 0o010)
    return bool(found.st_mode & 0o001)
