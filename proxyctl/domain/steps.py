"""The steps that a plan is made of. Pure data."""

from __future__ import annotations

from proxyctl.domain.record import Record
from proxyctl.domain.units import Seconds


class Weight(Record):
    """Give the candidate this share of traffic, and stay there for a while."""

    share: int  # hundredths of a percent
    dwell: Seconds | None = 0.0  # None: until the analysis passes


class Pause(Record):
    """Wait, watching."""

    window: Seconds | None = None  # None: until a person says how to go on


class Analysis(Record):
    """Wait until the analysis passes."""


class Approval(Record):
    """Wait for a person's yes."""


class Hook(Record):
    """Run this hook; it must succeed."""

    name: str


class Bake(Record):
    """The candidate has all traffic but a holdback, if there is one: watch it, the old release still warm."""

    window: Seconds


class Grow(Record):
    """So many replicas of the candidate have passed the gate, and serve."""

    to: int
    of: int  # in the end


class Shrink(Record):
    """So many replicas of the live release are left."""

    to: int
    of: int  # in the beginning


class Lookout(Record):
    """Watch the replicas that came."""

    window: Seconds


Step = Weight | Pause | Analysis | Approval | Hook | Bake | Grow | Shrink | Lookout
