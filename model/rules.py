"""The [rules.*] sections: the limits of every alert rule, with defaults a DBA would sign.

Every rule has a page in docs/rules/ that says why a limit is what it is.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.alerting import Severity
from model.durations import Duration


class RuleSettings(BaseModel):
    """What every rule has."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    enabled: bool = True
    severity: Severity | None = None
    """Overrides the severity that the rule found; None keeps the rule's own."""
    hold: Duration = Field(default=0.0, alias="for", ge=0.0)
    """Seconds that a finding must last before the alert fires."""
    keep_firing_for: Duration = Field(default=30.0, ge=0.0)
    """Seconds that the alert keeps firing after the finding ended, so that a flapping value
    is one alert and not twenty."""
    channels: tuple[str, ...] | None = None
    """Names of the channels to tell; None tells all of them."""


class _Graded(RuleSettings):
    """A rule whose two limits must be in order."""

    @model_validator(mode="after")
    def _warning_comes_first(self) -> _Graded:
        fields = type(self).model_fields
        warning = next((n for n in fields if n.startswith("warning_")), None)
        critical = next((n for n in fields if n.startswith("critical_")), None)
        if warning and critical and getattr(self, warning) > getattr(self, critical):
            raise ValueError(f"'{warning}' must not be above '{critical}'")
        return self


class PoolWaiters(_Graded):
    """Clients wait for a server connection of a pool."""

    warning_seconds: float = Field(default=0.5, gt=0.0)  # oldest wait
    critical_seconds: float = Field(default=5.0, gt=0.0)  # oldest wait


class SlotsLow(_Graded):
    """Few slots are left."""

    hold: Duration = Field(default=10.0, alias="for", ge=0.0)
    keep_firing_for: Duration = Field(default=60.0, ge=0.0)
    warning_ratio: float = Field(default=0.80, gt=0.0, le=1.0)  # slots used / ordinary capacity
    critical_ratio: float = Field(default=0.95, gt=0.0, le=1.0)  # slots used / ordinary capacity


class SlotsExhausted(RuleSettings):
    """No slot is left, or the server says so. Its only limit is the server's own."""


class LongStatement(_Graded):
    """A statement has run for long."""

    warning_seconds: float = Field(default=60.0, gt=0.0)
    critical_seconds: float = Field(default=300.0, gt=0.0)
    exclude_applications: tuple[str, ...] = ("pg_dump", "pg_dumpall", "pg_basebackup", "pg_restore")
    """application_name values whose long statements are expected."""


class IdleInTransaction(_Graded):
    """A session holds a transaction open and does nothing."""

    warning_seconds: float = Field(default=60.0, gt=0.0)
    critical_seconds: float = Field(default=300.0, gt=0.0)
    exclude_applications: tuple[str, ...] = ()


class TargetDown(RuleSettings):
    """A target does not answer."""

    hold: Duration = Field(default=3.0, alias="for", ge=0.0)
    keep_firing_for: Duration = Field(default=5.0, ge=0.0)


class Rules(BaseModel):
    """All rules. A rule's name in the file is the field's name here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pool_waiters: PoolWaiters = PoolWaiters()
    slots_low: SlotsLow = SlotsLow()
    slots_exhausted: SlotsExhausted = SlotsExhausted()
    long_statement: LongStatement = LongStatement()
    idle_in_transaction: IdleInTransaction = IdleInTransaction()
    target_down: TargetDown = TargetDown()

    def settings(self, rule: str) -> RuleSettings:
        """The settings of *rule*. Raises AttributeError for a rule that does not exist."""
        found = getattr(self, rule)
        assert isinstance(found, RuleSettings)
        return found
