"""Connections that were given up, and whether the server has noticed.

A backend that is stopped, or waits for a locked catalog, does not see that its client has
gone. It stays, and keeps its slot, until it runs again. So we keep our end of the socket,
shut down in both directions, and the kernel tells when the other end is closed or dead.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from time import monotonic

import psycopg
from psycopg import AsyncConnection

FORGET = 600.0  # seconds after which we no longer believe that a backend is still there
FORGET_BLINDLY = 60.0  # the same where the kernel does not tell
_ENDED = frozenset({6, 7, 11})  # TIME_WAIT, CLOSE, CLOSING of Linux' tcp_states.h


class LeftBehind:
    """The sockets of one target's connections that were given up."""

    def __init__(self) -> None:
        self._sockets: list[tuple[socket.socket, float]] = []  # with the moment, monotonic

    def add(self, connection: AsyncConnection) -> None:
        """End both directions of its socket, so that whoever waits for it wakes up."""
        left = shut_down(connection)
        if left is not None:
            self._sockets.append((left, monotonic()))

    def count(self) -> int:
        """How many of them the server still has, as far as can be told."""
        still = []
        for left, since in self._sockets:
            if _ended(left, monotonic() - since):
                left.close()
            else:
                still.append((left, since))
        self._sockets = still
        return len(still)

    def close(self) -> None:
        """Forget them."""
        for left, _ in self._sockets:
            left.close()
        self._sockets.clear()


def shut_down(connection: AsyncConnection) -> socket.socket | None:
    """End both directions of the socket; a handle on it, or None when it is closed."""
    # A duplicate, because closing this socket object must not close libpq's.
    with contextlib.suppress(OSError, psycopg.Error, ValueError):
        duplicate = socket.socket(fileno=os.dup(connection.fileno()))
        with contextlib.suppress(OSError):
            duplicate.shutdown(socket.SHUT_RDWR)
        return duplicate
    return None


def _ended(left: socket.socket, seconds: float) -> bool:
    """Whether the other end is closed or dead, *seconds* after we gave it up."""
    if left.family == socket.AF_UNIX or sys.platform != "linux":
        return seconds > FORGET_BLINDLY
    try:
        state = left.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]  # its first byte
    except OSError:
        return True
    return state in _ENDED or seconds > FORGET
