"""What happens right now: told to whoever listens, never journaled. Pure data."""

from __future__ import annotations

from proxyctl.domain.model import Seconds
from proxyctl.domain.recent import Lately
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


class Measure(Record):
    """One metric of the candidate: the evidence that it is worse, and how far the proof is that it is good."""

    name: str  # errors or latency
    evidence: float  # takes the candidate back when it reaches
    needed: float
    requests: int  # of the candidate, since the step began
    more: int | None  # requests until they prove it good enough; None: they need not, or will not


class Judged(Record):
    """What is said of the candidate, by nginx's log and by sources beside it."""

    decision: str  # advance, wait, hold or rollback
    sentence: str
    measures: tuple[Measure, ...]
    lately: Lately | None  # None: nothing since the split is as it is


class Drained(Record):
    replica: str
    connections: int
    left: Seconds  # until the drain deadline


class Waiting(Record):
    """A step could not be done and is tried again."""

    reason: str


Tick = Probed | Watched | Judged | Drained | Waiting
