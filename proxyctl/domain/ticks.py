"""What happens right now: told to whoever listens, never journaled. Pure data."""

from __future__ import annotations

from proxyctl.domain.model import Seconds
from proxyctl.domain.record import Record


class Probed(Record):
    """One probe of one replica, and how many in a row went the same way."""

    replica: str
    passed: bool
    reason: str
    streak: int
    needed: int


class Watched(Record):
    """The window runs: a bake, or a pause (then `window` is 0)."""

    elapsed: Seconds
    window: Seconds


class Judged(Record):
    """What nginx's log says of the candidate: the errors of this step, and the evidence that it is worse."""

    decision: str  # advance, wait, hold or rollback
    sentence: str
    evidence: float
    needed: float
    candidate_requests: int
    candidate_bad: int
    live_requests: int
    live_bad: int


class Drained(Record):
    replica: str
    connections: int
    left: Seconds  # until the drain deadline


class Waiting(Record):
    """A step could not be done and is tried again."""

    reason: str


Tick = Probed | Watched | Judged | Drained | Waiting
