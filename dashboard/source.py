"""Where pages get the configuration and the store from.

The server puts the path of the configuration into the environment (HEADROOM_CONFIG),
because Streamlit runs the page's script by itself, with no arguments of ours.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from model.config import Config, ConfigError, load
from store.database import Store, StoreError

CONFIG_VARIABLE = "HEADROOM_CONFIG"


@dataclass(slots=True)
class Source:
    """What every page reads from."""

    path: Path
    config: Config
    store: Store
    _checked: bool = False

    def ready(self) -> None:
        """Raise StoreError when there is nothing to read yet; it says what to do."""
        if not self.store.path.exists():
            self._checked = False
            raise StoreError(f"{self.store.path.name}: no such store yet")
        if not self._checked:
            self.store.require_current()
            self._checked = True


def opened() -> Source:
    """The source of this process. Raises ConfigError."""
    path = os.environ.get(CONFIG_VARIABLE)
    if not path:
        raise ConfigError(
            "The dashboard was started without its configuration; "
            "start it with `python -m headroom dashboard --config headroom.toml`."
        )
    file = Path(path)
    return _opened(file, file.stat().st_mtime_ns if file.exists() else 0)


@lru_cache(maxsize=8)
def _opened(path: Path, _changed_at: int) -> Source:
    config = load(path, os.environ)
    return Source(path, config, Store(config.store.url))
