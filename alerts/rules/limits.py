"""Which of two limits a value has reached."""

from __future__ import annotations

from model.alerting import Severity


def graded(value: float, warning: float, critical: float) -> tuple[Severity, float] | None:
    """The severity and the limit that *value* has reached; None below both.

    >>> graded(0.9, 0.8, 0.95)
    (<Severity.WARNING: 'warning'>, 0.8)
    """
    if value >= critical:
        return Severity.CRITICAL, critical
    if value >= warning:
        return Severity.WARNING, warning
    return None
