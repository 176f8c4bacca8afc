"""What happens right now: told to whoever listens, never journaled. Pure data."""

from __future__ import annotations

from proxyctl.domain.model import Colour, Seconds
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


class Grown(Record):
    """The evidence of one metric that the candidate is worse."""

    metric: str  # errors or latency
    evidence: float
    needed: float


class Lately(Record):
    """What one colour was asked in the last minute of the log, and how it answered."""

    colour: Colour
    share: float  # of the requests that were dealt, observed
    per_second: float
    bad: float  # the rate of bad answers, each counted
    half: Seconds | None = None  # of its answers came within this; None: there is no time to tell
    most: Seconds | None = None  # 95 % of them did


class Judged(Record):
    """What is said of the candidate, by which evidence, and how both colours did lately."""

    decision: str  # advance, wait, hold or rollback
    sentence: str
    grown: tuple[Grown, ...]
    lately: tuple[Lately, ...] = ()  # nothing while the log says nothing of this step


class Drained(Record):
    replica: str
    connections: int
    left: Seconds  # until the drain deadline


class Waiting(Record):
    """A step could not be done and is tried again."""

    reason: str


Tick = Probed | Watched | Judged | Drained | Waiting
