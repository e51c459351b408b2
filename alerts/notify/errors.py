"""Why a message did not get through."""

from __future__ import annotations


class NotifyError(Exception):
    """A channel did not take a message. The text says why, without URLs and passwords.

    permanent:   another try of the same message cannot help.
    retry_after: seconds that the receiver asked us to wait; None if it did not.
    """

    def __init__(
        self, message: str, permanent: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after = retry_after
