"""Why a target could not be asked. The class answers "is it worth trying again?"."""

from __future__ import annotations

from typing import ClassVar

from model.samples import Failure


class CollectError(Exception):
    """A target could not be asked.

    failure: what kind of trouble it is.
    reason:  one line that may be shown; it never holds a password or a connection string.
    """

    worth_retrying: ClassVar[bool] = True

    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure
        self.reason = reason


class TargetUnreachable(CollectError):  # noqa: N818 - the class says what is the matter
    """No answer, a lost connection, or a server that starts or stops. Worth retrying."""


class NoWay(TargetUnreachable):
    """Nothing that we send arrives. Worth retrying soon: it costs the target nothing."""


class TargetFull(CollectError):  # noqa: N818 - the class says what is the matter
    """The target admits no more connections. Worth retrying: slots come free."""


class NotPermitted(CollectError):  # noqa: N818 - the class says what is the matter
    """Refused for who we are. Retrying does not help until somebody grants or mends it."""

    worth_retrying = False


class NotThisKind(CollectError):  # noqa: N818 - the class says what is the matter
    """It answered, but not like this kind of target. Retrying does not help."""

    worth_retrying = False


_CLASSES: dict[Failure, type[CollectError]] = {
    Failure.UNREACHABLE: TargetUnreachable,
    Failure.TIMEOUT: TargetUnreachable,
    Failure.NOT_AVAILABLE: TargetUnreachable,
    Failure.SLOTS_EXHAUSTED: TargetFull,
    Failure.ROLE_LIMIT: TargetFull,
    Failure.DATABASE_LIMIT: TargetFull,
    Failure.AUTHENTICATION: NotPermitted,
    Failure.PERMISSION: NotPermitted,
    Failure.PROTOCOL: NotThisKind,
}


def error_for(failure: Failure, reason: str) -> CollectError:
    """The error of the class that *failure* belongs to."""
    return _CLASSES[failure](failure, reason)
