"""Every poll ends as a sample: what was seen, or why nothing was."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from time import monotonic

from collectors.connection import MARGIN
from collectors.errors import CollectError
from model.samples import Failure, Sample
from model.targets import Target

log = logging.getLogger("headroom.collectors")

_said: set[tuple[str, str]] = set()  # targets and mistakes of ours that the log already has


async def answered(
    target: Target, at: datetime, ask: Callable[[Sample, float], Awaitable[Sample]]
) -> Sample:
    """The sample that *ask* makes of an empty one, or one that says why it failed.

    ask: gets the sample to fill and the deadline (monotonic). Never raises itself.
    """
    t0 = monotonic()
    empty = Sample(target.name, target.kind, at, poll_seconds=0.0, up=False)
    try:
        sample = await ask(empty, t0 + target.deadline_seconds * (1 - MARGIN))
    except CollectError as error:
        sample = replace(empty, failure=error.failure, reason=error.reason)
    except Exception as error:
        kind = type(error).__name__
        if (target.name, kind) not in _said:
            _said.add((target.name, kind))
            log.exception("%s: a poll failed in an unforeseen way; said once", target.name)
        sample = replace(
            empty, failure=Failure.PROTOCOL, reason=f"the answer could not be read ({kind})"
        )
    return replace(sample, poll_seconds=monotonic() - t0)
