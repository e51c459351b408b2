"""Which texts of a configuration must never be seen."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from model.config import Config


def secrets_of(config: Config) -> tuple[str, ...]:
    """Passwords, webhook URLs and connection strings, the longest first."""
    found = {text for text in _secrets(config) if len(text) >= 4}  # shorter ones are in every word
    return tuple(sorted(found, key=len, reverse=True))


def _secrets(config: Config) -> Iterator[str]:
    for section in (*config.targets, *config.channels):
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, SecretStr):
                yield value.get_secret_value()
    for target in config.targets:
        try:
            given = conninfo_to_dict(target.dsn.get_secret_value() if target.dsn else "")
        except psycopg.Error:
            continue  # the whole string is hidden
        yield from (str(given[key]) for key in ("password", "sslpassword") if given.get(key))
