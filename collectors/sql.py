"""Picks the question that fits the server.

`name.sql` runs on PostgreSQL 13 and newer; `name_140000.sql` on servers whose
server_version_num is at least 140000.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)


@lru_cache(maxsize=256)
def sql(name: str, version_num: int) -> bytes:
    """The newest *name* that a server of *version_num* can run, without its comments."""
    newest = FOLDER / f"{name}.sql"
    for file in sorted(FOLDER.glob(f"{name}_[0-9]*.sql")):
        if int(file.stem.rpartition("_")[2]) <= version_num:
            newest = file
    text = _COMMENT.sub("", newest.read_text(encoding="utf-8"))
    return " ".join(text.split()).encode()
