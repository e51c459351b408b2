"""TCP ports as people type them."""

from __future__ import annotations

import argparse


def port_argument(text: str) -> int:
    """A TCP port, for argparse. Raises ArgumentTypeError."""
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a TCP port (1 to 65535)")
    return int(text)
