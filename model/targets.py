"""The [[target]] section: what we poll."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from model.durations import Duration

Kind = Literal["postgresql", "pgbouncer", "pgpool", "pgcat", "odyssey"]
POOLERS: tuple[Kind, ...] = ("pgbouncer", "pgpool", "pgcat", "odyssey")
PRODUCTS: dict[Kind, str] = {
    "postgresql": "PostgreSQL",
    "pgbouncer": "PgBouncer",
    "pgpool": "Pgpool-II",
    "pgcat": "PgCat",
    "odyssey": "Odyssey",
}
"""What people call each kind."""
CONSOLES: dict[Kind, frozenset[str]] = {
    "pgbouncer": frozenset({"pgbouncer"}),
    "pgcat": frozenset({"pgcat", "pgbouncer"}),
    "odyssey": frozenset({"console"}),
}
"""The databases of a pooler where Headroom itself asks; nobody's work."""


class Target(BaseModel):
    """One server or pooler that we poll.

    The connection string comes from exactly one of `dsn`, `dsn_file` and `dsn_env`;
    after parsing it is always in `dsn`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")
    kind: Kind
    dsn: SecretStr | None = None
    dsn_file: str | None = None
    dsn_env: str | None = None
    interval: Duration = Field(default=1.0, ge=0.2, le=3600.0)  # seconds between polls
    timeout: Duration | None = Field(default=None, gt=0.0, le=60.0)
    """Seconds until a poll is given up; by default the interval, at least 1 s and at most 5 s."""
    serves: tuple[str, ...] = ()
    """Poolers only: the names of the postgresql targets behind it."""

    processes: tuple[SecretStr, ...] = ()
    """PgBouncer only: how each of several processes behind one port (so_reuseport) is reached,
    as libpq parameters that win over those of `dsn`: "host=/run/pgbouncer/1"."""
    canary: SecretStr | None = None
    """Poolers with a console: a query is sent through the pooler to see whether clients get an
    answer. libpq parameters that win over those of `dsn`: "dbname=shop user=app"."""
    canary_file: str | None = None
    canary_env: str | None = None

    @property
    def is_pooler(self) -> bool:
        """Whether it stands between clients and servers."""
        return self.kind in POOLERS

    @property
    def product(self) -> str:
        """What people call it: "PgBouncer"."""
        return PRODUCTS[self.kind]

    @property
    def stale_after_seconds(self) -> float:
        """The age at which its newest data are old: three polls missed, and a while."""
        return max(5.0, 3 * self.interval + self.deadline_seconds)

    @property
    def deadline_seconds(self) -> float:
        """Seconds after which a poll is given up, whatever the server does."""
        return self.timeout if self.timeout is not None else min(max(self.interval, 1.0), 5.0)

    @field_validator("dsn")
    @classmethod
    def _url_is_unambiguous(cls, dsn: SecretStr | None) -> SecretStr | None:
        text = dsn.get_secret_value() if dsn else ""
        # libpq would take a part of such a password for the host, and name it in its errors.
        if text.startswith(("postgres://", "postgresql://")) and text.count("@") > 1:
            raise ValueError("has more than one @; write @ as %40 and / as %2F in the password")
        return dsn

    @model_validator(mode="after")
    def _only_poolers_serve(self) -> Target:
        if self.serves and not self.is_pooler:
            raise ValueError(f"'serves' belongs to a pooler (kind = {', '.join(POOLERS)})")
        return self

    @model_validator(mode="after")
    def _only_consoles_have(self) -> Target:
        if self.processes and self.kind != "pgbouncer":
            raise ValueError("'processes' belongs to a pgbouncer target")
        if self.canary is not None and (not self.is_pooler or self.kind == "pgpool"):
            raise ValueError("'canary' belongs to a pgbouncer, pgcat or odyssey target")
        return self
